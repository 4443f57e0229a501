//! What the file says of TLS towards upstreams, loaded from disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::client::ClientError;

/// How upstreams prove who they are, and how we do (`client_tls`).
///
/// Pingora's connector takes neither protocol versions nor cipher suites nor curves for one connection: TLS 1.2 and
/// 1.3 are offered, with the suites of the process.
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

/// A [`TlsPolicy`] with its files read, in Pingora's types.
#[derive(Debug, Default, Clone)]
pub(super) struct LoadedTls {
    pub(super) insecure: bool,
    /// `None`: the connector's own store, which holds the system's certificates.
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) client_cert: Option<Arc<CertKey>>,
}

/// A certificate whose key was thrown away. Pingora cannot switch verification off without an authority to start
/// from, and the system may have none; nothing is ever verified against this one.
const PLACEHOLDER: &[u8] = include_bytes!("placeholder.der");

impl TlsPolicy {
    /// Reads every file the policy names.
    ///
    /// # Errors
    /// A file that cannot be read or holds no usable certificate: the reference ignores those, which leaves an
    /// operator believing in a trust that is not there.
    pub(super) fn load(&self) -> Result<LoadedTls, ClientError> {
        let client_cert = match self.client_certs.first() {
            Some(pair) => Some(Arc::new(certificate_pair(pair)?)),
            None => None,
        };
        Ok(LoadedTls {
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
            let found = certificates_in(path)?;
            // A certificate that cannot anchor trust would fail every handshake later: refuse it now.
            let mut anchors = RootCertStore::empty();
            for certificate in &found {
                anchors
                    .add(certificate.clone())
                    .map_err(|error| ClientError::file(path, error))?;
            }
            certificates.extend(found);
        }
        if !self.disable_system_ca_pool {
            certificates.extend(system_certificates());
        }
        let wrapped: Vec<WrappedX509> = certificates.iter().filter_map(wrapped).collect();
        Ok(Some(wrapped.into()))
    }
}

/// The certificates of a PEM file, at least one.
pub(super) fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| ClientError::file(path, error))?;
    if found.is_empty() {
        return Err(ClientError::file(path, "no certificate in it"));
    }
    Ok(found)
}

/// Whether a PEM file holds what `openssl req -x509` makes for a server: an authority (`CA:TRUE`) with names of its own.
/// The TLS library refuses a server that shows it, and Pingora's connector takes no verifier that could know better.
pub fn holds_an_authority_with_names(path: &Path) -> bool {
    let found = certificates_in(path).unwrap_or_default();
    found.iter().any(|certificate| {
        use x509_parser::prelude::FromDer;
        let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(certificate)
        else {
            return false;
        };
        parsed.is_ca() && matches!(parsed.subject_alternative_name(), Ok(Some(_)))
    })
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

fn certificate_pair(pair: &CertificatePair) -> Result<CertKey, ClientError> {
    use x509_parser::prelude::FromDer;
    let chain = certificates_in(&pair.certificate)?;
    for certificate in &chain {
        x509_parser::certificate::X509Certificate::from_der(certificate.as_ref())
            .map_err(|error| ClientError::file(&pair.certificate, error))?;
    }
    let key = PrivateKeyDer::from_pem_file(&pair.private_key)
        .map_err(|error| ClientError::file(&pair.private_key, error))?;
    // Pingora guesses the kind of key from its bytes and panics when it cannot.
    let bytes = key.secret_der().to_vec();
    PrivateKeyDer::try_from(bytes.clone())
        .map_err(|error| ClientError::file(&pair.private_key, error))?;
    let chain = chain.iter().map(|der| der.as_ref().to_vec()).collect();
    Ok(CertKey::new(chain, bytes))
}
