//! The configured TLS towards upstreams, loaded from disk.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

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
///
/// # Errors
/// What `SSL_CERT_FILE` or `SSL_CERT_DIR` names cannot be read.
pub(super) fn system_roots() -> Result<RootCertStore, ClientError> {
    let loaded = rustls_native_certs::load_native_certs();
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|variable| std::env::var_os(variable).is_some());
    if let (true, Some(error)) = (named, loaded.errors.first()) {
        return Err(ClientError::SystemCertificates {
            reason: error.to_string(),
        });
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    Ok(roots)
}

/// A file without certificates, for the TLS of Pingora's own connectors, which no connection uses. Without it, each of
/// them would read and keep all certificates of the system, and end the process if one is invalid. `None` if there is no
/// such file.
pub(crate) fn no_certificates() -> Option<String> {
    const EMPTY: &str = "/dev/null";
    let is_there = File::open(EMPTY).is_ok();
    is_there.then(|| EMPTY.to_owned())
}
