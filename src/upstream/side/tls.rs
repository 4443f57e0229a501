//! Verification of the peer of a side call: CAs, pins, cipher suites.

mod verifier;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};

use crate::upstream::certificate::{certificate_pair, certificates_in};
use crate::upstream::client::ClientError;
use crate::upstream::tls::{CertificatePair, TlsPolicy, Versions, system_roots};
use verifier::Verifier;

/// How long a configuration is cached for sources that need the same one: as long as a start or a reload takes, which
/// create many similar sources.
const FRESH: Duration = Duration::from_secs(10);

/// How the peer of a side call is verified, and our own certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SideTls {
    /// Accepts any certificate. Pins are still checked, but only against the server's own certificate, because the
    /// rest of the chain is not verified.
    pub insecure: bool,
    /// PEM files that are trusted in addition to the system's certificates.
    pub ca_certs: Vec<PathBuf>,
    /// Trusts only `ca_certs`.
    pub disable_system_ca_pool: bool,
    /// SHA-256 of public keys (DER `SubjectPublicKeyInfo`), one of which must be in the chain. Empty allows any.
    pub pins: Vec<[u8; 32]>,
    /// IANA numbers of the TLS 1.2 suites. Empty allows all that we support. Those of TLS 1.3 are always enabled.
    pub cipher_suites: Vec<u16>,
    /// IANA numbers of the key exchange groups, in order of preference. Empty allows all that we support.
    pub curves: Vec<u16>,
    pub versions: Versions,
    /// Presented to servers that request a certificate.
    pub client_cert: Option<CertificatePair>,
}

impl SideTls {
    /// The configuration of a client that is not of HTTP.
    ///
    /// # Errors
    /// A file is not usable, or none of the cipher suites is supported.
    pub fn config(&self) -> Result<ClientConfig, ClientError> {
        client_config(self).map(|config| (*config).clone())
    }

    /// The numbers in `cipher_suites` that this TLS stack does not support: RC4, 3DES, CBC, static RSA.
    pub fn unsupported_suites(&self) -> Vec<u16> {
        let known = provider::default_provider().cipher_suites;
        self.cipher_suites
            .iter()
            .copied()
            .filter(|number| !known.iter().any(|suite| is_tls12(suite, *number)))
            .collect()
    }
}

impl From<&TlsPolicy> for SideTls {
    fn from(policy: &TlsPolicy) -> SideTls {
        SideTls {
            insecure: policy.insecure,
            ca_certs: policy.ca_certs.clone(),
            disable_system_ca_pool: policy.disable_system_ca_pool,
            client_cert: policy.client_certs.first().cloned(),
            cipher_suites: policy.cipher_suites.clone(),
            curves: policy.curves.clone(),
            versions: policy.versions,
            ..SideTls::default()
        }
    }
}

/// A client configuration that verifies as `tls` requires. Equal requirements share one configuration.
///
/// # Errors
/// A file is not usable, or none of the cipher suites is supported.
pub(in crate::upstream) fn client_config(tls: &SideTls) -> Result<Arc<ClientConfig>, ClientError> {
    static MADE: Recent<Kind, Arc<ClientConfig>> = Recent::new();
    let mut own = Vec::new();
    for path in &tls.ca_certs {
        own.extend(certificates_in(path)?);
    }
    let shown = match &tls.client_cert {
        Some(pair) => Some(certificate_pair(&pair.certificate, &pair.private_key)?),
        None => None,
    };
    let kind = Kind {
        tls: tls.clone(),
        own,
        shown: shown.iter().flat_map(|pair| pair.cert.clone()).collect(),
    };
    MADE.get(kind, |kind| made(tls, &kind.own, shown).map(Arc::new))
}

/// The key of the cache. It includes the content of the files, which may have changed.
#[derive(PartialEq)]
struct Kind {
    tls: SideTls,
    own: Vec<CertificateDer<'static>>,
    shown: Vec<CertificateDer<'static>>,
}

fn made(
    tls: &SideTls,
    own: &[CertificateDer<'static>],
    shown: Option<CertifiedKey>,
) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(crypto_provider(tls)?);
    let failed = |reason: String| ClientError::Side { reason };
    let roots = roots(tls, own)?;
    let chain = if tls.insecure || roots.is_empty() {
        None
    } else {
        let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        Some(builder.build().map_err(|error| failed(error.to_string()))?)
    };
    let verifier = Verifier {
        listed: own.iter().cloned().collect(),
        chain,
        insecure: tls.insecure,
        pins: tls.pins.clone(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(offered(tls.versions))
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
    })
}

fn offered(versions: Versions) -> &'static [&'static SupportedProtocolVersion] {
    static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];
    static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
    match versions {
        Versions::All => rustls::ALL_VERSIONS,
        Versions::Only12 => &ONLY_12,
        Versions::Only13 => &ONLY_13,
    }
}

/// The CAs of the configuration and, unless disabled, those of the system, which are parsed once.
fn roots(
    tls: &SideTls,
    own: &[CertificateDer<'static>],
) -> Result<Arc<RootCertStore>, ClientError> {
    static SYSTEM: Recent<(), Arc<RootCertStore>> = Recent::new();
    let mut roots = if tls.disable_system_ca_pool {
        Arc::new(RootCertStore::empty())
    } else {
        SYSTEM.get((), |()| system_roots().map(Arc::new))?
    };
    if !own.is_empty() {
        let mut all = Arc::unwrap_or_clone(roots);
        for certificate in own {
            all.add(certificate.clone())
                .map_err(|error| ClientError::Side {
                    reason: format!("a certificate of the CA file cannot be trusted: {error}"),
                })?;
        }
        roots = Arc::new(all);
    }
    Ok(roots)
}

/// A cache of the last seconds.
struct Recent<K, V>(Mutex<Vec<(K, Instant, V)>>);

impl<K: PartialEq, V: Clone> Recent<K, V> {
    const fn new() -> Recent<K, V> {
        Recent(Mutex::new(Vec::new()))
    }

    fn get<E>(&self, key: K, make: impl FnOnce(&K) -> Result<V, E>) -> Result<V, E> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, made, _)| made.elapsed() < FRESH);
        if let Some((_, _, value)) = known.iter().find(|(its, _, _)| *its == key) {
            return Ok(value.clone());
        }
        let value = make(&key)?;
        known.push((key, Instant::now(), value.clone()));
        Ok(value)
    }
}

/// aws-lc-rs, selected explicitly: Pingora links ring too, so the process has no unambiguous default.
fn crypto_provider(tls: &SideTls) -> Result<CryptoProvider, ClientError> {
    let mut provider = provider::default_provider();
    if !tls.cipher_suites.is_empty() {
        let wanted = |suite: &SupportedCipherSuite| {
            tls.cipher_suites
                .iter()
                .any(|number| is_tls12(suite, *number))
        };
        if tls.versions != Versions::Only13
            && !provider.cipher_suites.iter().any(wanted)
            && tls.unsupported_suites().len() == tls.cipher_suites.len()
        {
            return Err(ClientError::Side {
                reason: "none of the cipher suites is supported".to_owned(),
            });
        }
        provider
            .cipher_suites
            .retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)) || wanted(suite));
    }
    if !tls.curves.is_empty() {
        let known = std::mem::take(&mut provider.kx_groups);
        let group = |number: &u16| {
            let group = known
                .iter()
                .find(|group| u16::from(group.name()) == *number);
            group.copied()
        };
        provider.kx_groups = tls.curves.iter().filter_map(group).collect();
        if provider.kx_groups.is_empty() {
            return Err(ClientError::Side {
                reason: "none of the curves is supported".to_owned(),
            });
        }
    }
    Ok(provider)
}

fn is_tls12(suite: &SupportedCipherSuite, number: u16) -> bool {
    matches!(suite, SupportedCipherSuite::Tls12(_)) && u16::from(suite.suite()) == number
}

#[cfg(test)]
mod tests;
