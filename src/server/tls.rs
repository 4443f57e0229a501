//! Certificates for clients: selected by name and replaced at run time.
//!
//! Pingora cannot set versions, suites and groups of its rustls listener, so the configuration is built here, and the
//! handshake runs on the accepted stream.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest;
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::runtime::listen::{ClientRoots, ServerTls, TlsVersion};
use crate::server::client_auth::ClientAuth;
use crate::server::tickets::Tickets;
use crate::upstream::{PemError, Staple, certificate_pair, certificates_in, read_ocsp_response};

/// Why a TLS configuration is not usable. The text names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("no certificate is configured: `tls.keys` needs a public and a private key")]
    NoKeys,
    #[error(transparent)]
    File(#[from] PemError),
    #[error("none of the configured {what} is supported")]
    NothingLeft { what: &'static str },
    #[error("`min_version` is above `max_version`")]
    Versions,
    #[error("{0}")]
    Rustls(String),
}

/// The listener's certificates and rules. Each handshake uses the current ones.
pub(crate) struct Certificates {
    definition: ServerTls,
    tickets: Arc<Tickets>,
    current: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files of `definition`.
    ///
    /// # Errors
    /// A file is not readable or usable, or the rules leave nothing to negotiate.
    pub(crate) fn load(definition: ServerTls) -> Result<Certificates, TlsError> {
        Certificates::take_over(definition, None)
    }

    /// Reads the files, and takes the ticket keys of the previous process. Those of a file take precedence.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub(crate) fn take_over(
        definition: ServerTls,
        tickets: Option<Tickets>,
    ) -> Result<Certificates, TlsError> {
        let tickets = match &definition.ticket_keys {
            Some(path) => Tickets::of_file(path)?,
            None => tickets.unwrap_or_else(Tickets::own),
        };
        let tickets = match &definition.shared_tickets {
            Some(secrets) => tickets.shared_by(secrets.clone()),
            None => tickets,
        };
        let tickets = Arc::new(tickets);
        let current = ArcSwap::from_pointee(build(&definition, &tickets)?);
        Ok(Certificates {
            definition,
            tickets,
            current,
        })
    }

    /// The session ticket keys, for the process that takes over.
    pub(crate) fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Reads the files again, without applying them.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub(crate) fn renewed(&self) -> Result<Renewed, TlsError> {
        let tickets = match &self.definition.ticket_keys {
            Some(path) => Some(Tickets::of_file(path)?),
            None => None,
        };
        let config = build(&self.definition, &self.tickets)?;
        Ok(Renewed {
            config: Arc::new(config),
            tickets,
        })
    }

    /// Uses `renewed` from the next handshake on. Existing connections are not affected.
    pub(crate) fn put_to_use(&self, renewed: Renewed) {
        if let Some(tickets) = &renewed.tickets {
            self.tickets.renew(tickets);
        }
        self.current.store(renewed.config);
    }

    /// The configuration for the next handshake.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The files to watch for renewals.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.definition
            .keys
            .iter()
            .flat_map(|files| {
                let both = [files.certificate.as_path(), files.private_key.as_path()];
                both.into_iter().chain(files.ocsp_response.as_deref())
            })
            .chain(self.definition.ticket_keys.as_deref())
            .chain(
                self.definition
                    .mtls
                    .iter()
                    .flat_map(|mtls| mtls.ca_files.iter().map(PathBuf::as_path)),
            )
    }
}

/// Certificates that were read again and are valid.
pub(crate) struct Renewed {
    config: Arc<ServerConfig>,
    tickets: Option<Tickets>,
}

fn build(definition: &ServerTls, tickets: &Arc<Tickets>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(definition)?);
    let versions = versions(definition)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| TlsError::Rustls(error.to_string()))?;
    let mut demands = [0; 32];
    let builder = match &definition.mtls {
        None => builder.with_no_client_auth(),
        Some(mtls) => {
            let (auth, authorities) = client_auth(definition, mtls, &provider)?;
            demands = authorities;
            builder.with_client_cert_verifier(Arc::new(auth))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(by_name(definition)?));
    config.alpn_protocols = if definition.offers_http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    config.ticketer = tickets.bound(demands);
    Ok(config)
}

fn provider(definition: &ServerTls) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if !definition.cipher_suites.is_empty() {
        // As in KrakenD, the list applies only to TLS 1.2; the suites of 1.3 are fixed.
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || definition.cipher_suites.contains(&u16::from(suite.suite()))
        });
        let needs_12 = definition.max_version == TlsVersion::Tls12;
        if needs_12
            && !provider
                .cipher_suites
                .iter()
                .any(|suite| suite.tls13().is_none())
        {
            return Err(TlsError::NothingLeft {
                what: "cipher suites",
            });
        }
    }
    if !definition.curves.is_empty() {
        let all = std::mem::take(&mut provider.kx_groups);
        for wanted in &definition.curves {
            provider.kx_groups.extend(
                all.iter()
                    .copied()
                    .filter(|group| u16::from(group.name()) == *wanted),
            );
        }
        if provider.kx_groups.is_empty() {
            return Err(TlsError::NothingLeft { what: "curves" });
        }
    }
    Ok(provider)
}

fn versions(definition: &ServerTls) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let wanted = |version| definition.min_version <= version && version <= definition.max_version;
    let mut versions = Vec::new();
    if wanted(TlsVersion::Tls13) {
        versions.push(&TLS13);
    }
    if wanted(TlsVersion::Tls12) {
        versions.push(&TLS12);
    }
    if versions.is_empty() {
        Err(TlsError::Versions)
    } else {
        Ok(versions)
    }
}

/// The verifier of client certificates, and a digest of its requirements.
fn client_auth(
    definition: &ServerTls,
    mtls: &ClientRoots,
    provider: &Arc<CryptoProvider>,
) -> Result<(ClientAuth, [u8; 32]), TlsError> {
    let mut roots = RootCertStore::empty();
    if mtls.system_roots {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let mut listed = Vec::new();
    for path in &mtls.ca_files {
        listed.extend(certificates_in(path)?);
    }
    // As with KrakenD, but not the rest of the gateway's own chain: everyone with a certificate of the same public
    // authority would get in.
    for files in &definition.keys {
        listed.extend(certificates_in(&files.certificate)?.into_iter().next());
    }
    roots.add_parsable_certificates(listed.iter().cloned());
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Rustls(error.to_string()))?;
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&[1, u8::from(mtls.system_roots)]);
    for certificate in &listed {
        digest.update(certificate);
    }
    let mut demands = [0; 32];
    demands.copy_from_slice(digest.finish().as_ref());
    let auth = ClientAuth {
        listed: listed.into_iter().collect(),
        chain,
        algorithms: provider.signature_verification_algorithms,
    };
    Ok((auth, demands))
}

/// Selects a certificate by the name that the client requested. The first configured one is the default.
#[derive(Debug)]
struct ByName {
    names: HashMap<String, Arc<Stapled>>,
    default: Arc<Stapled>,
}

/// A certificate with its key, and the OCSP response for as long as clients accept it.
#[derive(Debug)]
struct Stapled {
    bare: Arc<CertifiedKey>,
    stapled: Option<(Staple, Arc<CertifiedKey>)>,
}

impl Stapled {
    fn new(bare: CertifiedKey, staple: Option<Staple>) -> Stapled {
        let stapled = staple.map(|staple| {
            let mut certified = bare.clone();
            certified.ocsp = Some(staple.der.clone());
            (staple, Arc::new(certified))
        });
        Stapled {
            bare: Arc::new(bare),
            stapled,
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let current = self.stapled.as_ref();
        let current = current.filter(|(staple, _)| staple.is_current());
        Arc::clone(current.map_or(&self.bare, |(_, stapled)| stapled))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.names.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.names.get(&format!("*.{parent}"))
            })
        });
        Some(found.unwrap_or(&self.default).current())
    }
}

fn by_name(definition: &ServerTls) -> Result<ByName, TlsError> {
    let mut names = HashMap::new();
    let mut default = None;
    for files in &definition.keys {
        let certified = certificate_pair(&files.certificate, &files.private_key)?;
        let own_names = certified.cert.first().map(dns_names).unwrap_or_default();
        let response = files.ocsp_response.as_deref().map(read_ocsp_response);
        // Why a response is not stapled is said when the configuration is compiled.
        let response = response.transpose()?;
        let staple = response.and_then(|response| response.staple(&certified.cert).ok());
        let certified = Arc::new(Stapled::new(certified, staple));
        for name in own_names {
            names.entry(name).or_insert_with(|| Arc::clone(&certified));
        }
        default.get_or_insert(certified);
    }
    Ok(ByName {
        names,
        default: default.ok_or(TlsError::NoKeys)?,
    })
}

/// The DNS names in a certificate's subjectAltName, in lower case.
fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::runtime::listen::KeyFiles;

    fn pair(folder: &Path, name: &str) -> KeyFiles {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (chain, key) = (
            folder.join(format!("{name}.crt")),
            folder.join(format!("{name}.key")),
        );
        fs::write(&chain, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        KeyFiles {
            certificate: chain,
            private_key: key,
            ocsp_response: None,
        }
    }

    fn definition(keys: Vec<KeyFiles>) -> ServerTls {
        ServerTls {
            keys,
            min_version: TlsVersion::Tls13,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
            ticket_keys: None,
            shared_tickets: None,
            offers_http2: true,
            mtls: None,
        }
    }

    #[test]
    fn certificates_are_selected_by_name_and_the_first_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let keys = vec![
            pair(folder.path(), "a.test"),
            pair(folder.path(), "*.b.test"),
        ];
        let store = by_name(&definition(keys)).unwrap();
        assert!(store.names.contains_key("a.test") && store.names.contains_key("*.b.test"));
        assert!(Arc::ptr_eq(&store.default, &store.names["a.test"]));
    }

    #[test]
    fn a_missing_or_mismatched_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), "a.test");
        let other = pair(folder.path(), "b.test");
        let missing = KeyFiles {
            private_key: folder.path().join("none.key"),
            ..files.clone()
        };
        let missing = Certificates::load(definition(vec![missing]));
        assert!(missing.unwrap_err().to_string().contains("none.key"));
        let foreign = KeyFiles {
            private_key: other.private_key,
            ..files
        };
        let foreign = Certificates::load(definition(vec![foreign])).unwrap_err();
        assert!(
            foreign.to_string().contains("b.test.key: does not match"),
            "{foreign}"
        );
        assert!(matches!(
            Certificates::load(definition(Vec::new())),
            Err(TlsError::NoKeys)
        ));
    }

    #[test]
    fn a_reload_that_fails_keeps_the_old_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let keys = pair(folder.path(), "a.test");
        let certificates = Certificates::load(definition(vec![keys.clone()])).unwrap();
        let before = certificates.server_config();
        fs::write(&keys.certificate, "garbage").unwrap();
        assert!(certificates.renewed().is_err());
        assert!(Arc::ptr_eq(&before, &certificates.server_config()));
        pair(folder.path(), "a.test");
        certificates.put_to_use(certificates.renewed().unwrap());
        assert!(!Arc::ptr_eq(&before, &certificates.server_config()));
    }
}
