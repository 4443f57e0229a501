//! What the file says of TLS towards upstreams, loaded from disk.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::certificate_pair;
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

impl TlsPolicy {
    /// Reads every file the policy names.
    ///
    /// # Errors
    /// A file that cannot be read or holds no usable certificate: the reference ignores those, which leaves an
    /// operator believing in a trust that is not there.
    pub(super) fn load(&self) -> Result<Arc<ClientConfig>, ClientError> {
        // Only the first pair is shown, but a mistake in any is one.
        for pair in &self.client_certs {
            certificate_pair(&pair.certificate, &pair.private_key)?;
        }
        client_config(&SideTls::from(self))
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
