//! Verification of the peer of a side call: CAs, pins, cipher suites.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::upstream::certificate::{certificate_pair, certificates_in};
use crate::upstream::client::ClientError;
use crate::upstream::listed::{ListedCertificates, ShownBy};
use crate::upstream::proof::{self, Signed, explained};
use crate::upstream::tls::{CertificatePair, TlsPolicy, Versions, system_certificates};

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
        SYSTEM.get((), |()| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(system_certificates());
            Ok::<_, ClientError>(Arc::new(roots))
        })?
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

/// The usual verification, unless it is disabled, followed by the pins.
#[derive(Debug)]
struct Verifier {
    /// The CAs of the configuration: a server may also present one of them as its own certificate.
    listed: ListedCertificates,
    /// `None`: with `insecure` nothing is verified; otherwise there are no roots and every server is rejected.
    chain: Option<Arc<WebPkiServerVerifier>>,
    insecure: bool,
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        use x509_parser::prelude::FromDer;
        let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(certificate)
        else {
            return false;
        };
        let hash = digest::digest(&digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
        self.pins.iter().any(|pin| pin == hash.as_ref())
    }
}

impl Verifier {
    /// If certificates are not verified, a key that we do not support is accepted as well: an attacker in the middle
    /// could present a supported one anyway.
    fn signature(
        &self,
        signed: Signed<'_>,
        certificate: &CertificateDer<'_>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match proof::verify(signed, certificate, algorithms) {
            Err(_)
                if self.insecure
                    && self.pins.is_empty()
                    && !proof::is_usable(certificate, algorithms) =>
            {
                Ok(HandshakeSignatureValid::assertion())
            }
            outcome => outcome.map_err(|error| explained(error, certificate)),
        }
    }

    fn certificate(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown_by = ShownBy::Server(server_name);
        let listed = if self.insecure {
            None
        } else {
            self.listed.verify(end_entity, shown_by, now)
        };
        // If only the server's own certificate is trusted, only its own pin counts.
        let alone = self.insecure || listed.is_some();
        match (listed, &self.chain) {
            (Some(verdict), _) => verdict?,
            (None, Some(chain)) => {
                chain.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                )?;
            }
            (None, None) if self.insecure => {}
            (None, None) => return Err(CertificateError::UnknownIssuer.into()),
        }
        let pinned = self.pins.is_empty()
            || self.is_pinned(end_entity)
            || !alone && intermediates.iter().any(|one| self.is_pinned(one));
        if pinned {
            Ok(ServerCertVerified::assertion())
        } else {
            // KrakenD's message.
            Err(rustls::Error::General(
                "JWK client did not find a pinned key".to_owned(),
            ))
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.certificate(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| explained(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(Signed::Tls12(message, dss), cert)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(Signed::Tls13(message, dss), cert)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    /// A server for `keys.test` with a certificate like that of `openssl req -x509`, and that certificate as PEM.
    fn server() -> (ServerConnection, String) {
        let mut params = CertificateParams::new(vec!["keys.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        (connection, certificate.pem())
    }

    /// Performs a handshake in memory.
    fn handshake(tls: &SideTls, mut server: ServerConnection, name: &str) -> Result<(), String> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let config = client_config(tls).map_err(|error| error.to_string())?;
        let mut client = ClientConnection::new(config, name).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client
                .process_new_packets()
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn a_listed_self_signed_certificate_is_accepted_from_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let listed = SideTls {
            ca_certs: vec![path.clone()],
            ..SideTls::default()
        };
        let (ours, pem) = server();
        std::fs::write(&path, pem).unwrap();
        assert_eq!(handshake(&listed, ours, "keys.test"), Ok(()));
        let (stranger, _) = server();
        handshake(&listed, stranger, "keys.test").expect_err("not on the list");
        let (ours, pem) = server();
        std::fs::write(&path, pem).unwrap();
        handshake(&listed, ours, "other.test").expect_err("another name");
    }

    #[test]
    fn a_server_without_a_pinned_key_is_rejected() {
        let (server, _) = server();
        let pinned = SideTls {
            insecure: true,
            pins: vec![[0; 32]],
            ..SideTls::default()
        };
        let why = handshake(&pinned, server, "keys.test").unwrap_err();
        assert!(
            why.ends_with("JWK client did not find a pinned key"),
            "{why}"
        );
    }

    /// The pair in a file of `tests/data/tls`.
    fn pair(name: &str) -> CertifiedKey {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        certificate_pair(&file("crt"), &file("key")).unwrap()
    }

    #[test]
    fn a_version_1_certificate_passes_with_insecure_and_by_its_pin() {
        use rustls::version::{TLS12, TLS13};
        let v1 = pair("v1");
        let (_, parsed) = x509_parser::parse_x509_certificate(&v1.cert[0]).unwrap();
        let hash = digest::digest(&digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
        let pin: [u8; 32] = hash.as_ref().try_into().unwrap();
        let tls = |insecure: bool, pins: &[[u8; 32]]| SideTls {
            insecure,
            pins: pins.to_vec(),
            ..SideTls::default()
        };
        for version in [&TLS12, &TLS13] {
            let shake = |tls: SideTls, key: &CertifiedKey| {
                let provider = Arc::new(provider::default_provider());
                let config = ServerConfig::builder_with_provider(provider)
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
                let server = ServerConnection::new(Arc::new(config)).unwrap();
                handshake(&tls, server, "localhost")
            };
            assert_eq!(shake(tls(true, &[]), &v1), Ok(()));
            assert_eq!(shake(tls(true, &[pin]), &v1), Ok(()));
            shake(tls(true, &[[0; 32]]), &v1).expect_err("another pin");
            let why = shake(tls(false, &[]), &v1).unwrap_err();
            assert!(why.contains("it is an X.509 v1 certificate"), "{why}");
            // A peer presents a certificate without having its key.
            let thief = CertifiedKey::new(v1.cert.clone(), pair("p521").key);
            shake(tls(true, &[]), &thief).expect_err("the signature is by another key");
            shake(tls(true, &[pin]), &thief).expect_err("the signature is by another key");
        }
    }

    #[test]
    fn only_supported_suites_are_offered() {
        let tls = SideTls {
            cipher_suites: vec![5, 49199],
            ..SideTls::default()
        };
        assert_eq!(tls.unsupported_suites(), [5]);
        let suites = crypto_provider(&tls).unwrap().cipher_suites;
        let old = |suite: &&SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls12(_));
        assert_eq!(suites.iter().filter(old).count(), 1);
        assert!(suites.len() > 1, "those of TLS 1.3 stay");
    }

    #[test]
    fn a_list_without_any_supported_suite_is_rejected() {
        let tls = SideTls {
            cipher_suites: vec![5, 10],
            ..SideTls::default()
        };
        assert!(crypto_provider(&tls).is_err());
    }
}
