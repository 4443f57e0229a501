//! The configured TLS towards upstreams, loaded from disk.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::certificate_pair;
use super::client::ClientError;
use super::side::{SideTls, client_config};

/// How upstreams are verified, our own certificate, and what is offered to them (`client_tls`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Accepts any certificate (`allow_insecure_connections`).
    pub insecure: bool,
    /// PEM files whose certificates are trusted in addition to the system's.
    pub ca_certs: Vec<PathBuf>,
    /// Trusts only `ca_certs`.
    pub disable_system_ca_pool: bool,
    /// The first pair is presented to any server that requests a client certificate.
    pub client_certs: Vec<CertificatePair>,
    pub versions: Versions,
    /// IANA numbers of the TLS 1.2 suites. Empty allows all that we support. Those of TLS 1.3 are always enabled.
    pub cipher_suites: Vec<u16>,
    /// IANA numbers of the key exchange groups, in order of preference. Empty allows all that we support.
    pub curves: Vec<u16>,
}

/// The TLS versions that are offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Versions {
    #[default]
    All,
    Only12,
    Only13,
}

/// PEM files of a certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificatePair {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

impl TlsPolicy {
    /// Reads every file of the policy.
    ///
    /// # Errors
    /// A file cannot be read or contains no usable certificate. KrakenD ignores such files, so the configured CA would
    /// silently not be trusted.
    pub(super) fn load(&self) -> Result<Arc<ClientConfig>, ClientError> {
        // Only the first pair is presented, but an error in any of them is reported.
        for pair in &self.client_certs {
            certificate_pair(&pair.certificate, &pair.private_key)?;
        }
        client_config(&SideTls::from(self))
    }
}

/// The certificates that the operating system trusts, without those that cannot be trust anchors.
pub(super) fn system_certificates() -> Vec<CertificateDer<'static>> {
    let mut anchors = RootCertStore::empty();
    rustls_native_certs::load_native_certs()
        .certs
        .into_iter()
        .filter(|certificate| anchors.add(certificate.clone()).is_ok())
        .collect()
}
