//! What the file says of TLS towards upstreams, loaded from disk.

use std::path::PathBuf;
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::{PemError, certificate_pair, certificates_in, private_key_in};
use super::client::ClientError;
use super::side::{SideTls, client_config};

/// How upstreams prove who they are, and how we do (`client_tls`).
///
/// TLS 1.2 and 1.3 are offered, with all suites and groups of the library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Accept any certificate (`allow_insecure_connections`).
    pub insecure: bool,
    /// PEM files whose certificates are trusted besides the system's.
    pub ca_certs: Vec<PathBuf>,
    /// Trust only `ca_certs`.
    pub disable_system_ca_pool: bool,
    /// The first pair is shown to whoever asks for a client certificate.
    pub client_certs: Vec<CertificatePair>,
}

/// PEM files of a certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificatePair {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// A [`TlsPolicy`] with its files read.
#[derive(Debug, Clone)]
pub(super) struct LoadedTls {
    /// For the connections that we make ourselves.
    pub(super) config: Arc<ClientConfig>,
    /// For those that Pingora's connector makes.
    pub(super) pingora: PingoraTls,
}

/// The same in Pingora's types. Its connector takes authorities, but no verifier of ours: a certificate that the library
/// cannot read (X.509 v1) is refused there even by an insecure policy.
#[derive(Debug, Default, Clone)]
pub(super) struct PingoraTls {
    pub(super) insecure: bool,
    /// `None`: the connector's own store, which holds the system's certificates.
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) client_cert: Option<Arc<CertKey>>,
}

/// A certificate whose key was thrown away. Pingora cannot switch verification off without an authority to start
/// from, and the system may have none; nothing is ever verified against this one.
const PLACEHOLDER: &[u8] = include_bytes!("placeholder.der");

impl TlsPolicy {
    /// Reads every file the policy names; `by_pingora`: its connector will need them, too.
    ///
    /// # Errors
    /// A file that cannot be read or holds no usable certificate: the reference ignores those, which leaves an
    /// operator believing in a trust that is not there.
    pub(super) fn load(&self, by_pingora: bool) -> Result<LoadedTls, ClientError> {
        // Only the first pair is shown, but a mistake in any is one.
        for pair in &self.client_certs {
            certificate_pair(&pair.certificate, &pair.private_key)?;
        }
        let config = client_config(&SideTls::from(self))?;
        let pingora = match by_pingora {
            true => self.for_pingora()?,
            false => PingoraTls::default(),
        };
        Ok(LoadedTls { config, pingora })
    }

    fn for_pingora(&self) -> Result<PingoraTls, ClientError> {
        let client_cert = match self.client_certs.first() {
            Some(pair) => Some(Arc::new(pingoras(pair)?)),
            None => None,
        };
        Ok(PingoraTls {
            insecure: self.insecure,
            ca: self.authorities()?,
            client_cert,
        })
    }

    fn authorities(&self) -> Result<Option<Arc<CaType>>, ClientError> {
        if self.insecure {
            let placeholder = wrapped(&CertificateDer::from(PLACEHOLDER));
            return Ok(Some(placeholder.into_iter().collect()));
        }
        if self.ca_certs.is_empty() && !self.disable_system_ca_pool {
            return Ok(None);
        }
        let mut certificates = Vec::new();
        for path in &self.ca_certs {
            certificates.extend(certificates_in(path)?);
        }
        if !self.disable_system_ca_pool {
            certificates.extend(system_certificates());
        }
        let wrapped: Vec<WrappedX509> = certificates.iter().filter_map(wrapped).collect();
        Ok(Some(wrapped.into()))
    }
}

/// What the operating system trusts, without the certificates that cannot be anchors.
pub(super) fn system_certificates() -> Vec<CertificateDer<'static>> {
    let mut anchors = RootCertStore::empty();
    rustls_native_certs::load_native_certs()
        .certs
        .into_iter()
        .filter(|certificate| anchors.add(certificate.clone()).is_ok())
        .collect()
}

/// Pingora's form of a certificate. Its constructor panics on what is not X.509, hence the check before.
fn wrapped(certificate: &CertificateDer<'static>) -> Option<WrappedX509> {
    use x509_parser::prelude::FromDer;
    x509_parser::certificate::X509Certificate::from_der(certificate.as_ref()).ok()?;
    Some(WrappedX509::new(certificate.as_ref().to_vec(), parse_x509))
}

/// Pingora guesses the kind of key from its bytes and panics when it cannot, and so does the library when it cannot read
/// the certificate: both are looked at before.
fn pingoras(pair: &CertificatePair) -> Result<CertKey, ClientError> {
    use rustls::pki_types::PrivateKeyDer;
    let read = certificate_pair(&pair.certificate, &pair.private_key)?;
    if let Some(oddity) = read.cert.first().and_then(super::certificate::oddity) {
        let reason = format!("{oddity}: it cannot be shown with \"http_version\" h2 or auto");
        return Err(PemError::new(&pair.certificate, reason).into());
    }
    let key = private_key_in(&pair.private_key)?.secret_der().to_vec();
    PrivateKeyDer::try_from(key.clone())
        .map_err(|error| PemError::new(&pair.private_key, error))?;
    let chain = read.cert.iter().map(|der| der.as_ref().to_vec()).collect();
    Ok(CertKey::new(chain, key))
}
