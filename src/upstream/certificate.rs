//! Certificates and private keys in PEM files: reads, checks and describes them.

mod ocsp;

use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use crate::named_file;

pub(crate) use ocsp::{Staple, read_ocsp_response};

/// Our TLS library verifies no signatures of RSA keys with fewer bits.
pub(super) const MIN_RSA_BITS: usize = 2048;

/// Critical extensions that chain verification handles (RFC 5280 §4.2).
const UNDERSTOOD: [&str; 6] = [
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.37",
];

/// The TLS feature extension (RFC 7633). If it contains status_request, clients require a stapled OCSP response.
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";

/// A file that is not usable as a certificate or key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PemError {
    pub path: PathBuf,
    pub reason: String,
}

impl PemError {
    pub(super) fn new(path: &Path, reason: impl ToString) -> PemError {
        PemError {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Facts about a certificate, for warnings and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The distinguished name, such as `CN=a.example`.
    pub subject: String,
    /// Hexadecimal digits, separated by colons.
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// Clients require a stapled OCSP response with this certificate (RFC 7633).
    pub must_staple: bool,
    /// Why our TLS library rejects the certificate when a peer presents it.
    pub oddity: Option<String>,
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// The file cannot be read, contains no certificate, or contains an invalid one.
pub(crate) fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates_of(&read(path)?).map_err(|reason| PemError::new(path, reason))
}

fn certificates_of(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if !contains(text, b"-----BEGIN CERTIFICATE-----") {
        return Err(format!("it has no certificate{}", instead(text)));
    }
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot be read as PEM: {error}"))?;
    if found.is_empty() {
        return Err("it has no certificate".to_owned());
    }
    for (index, certificate) in found.iter().enumerate() {
        X509Certificate::from_der(certificate)
            .map_err(|error| format!("certificate {} is not X.509: {error}", index + 1))?;
    }
    Ok(found)
}

/// The private key of a PEM file.
///
/// # Errors
/// The file cannot be read, contains no private key, or contains an encrypted one.
fn private_key_in(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    private_key_of(&read(path)?).map_err(|reason| PemError::new(path, reason))
}

fn private_key_of(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if is_encrypted(text) {
        return Err(
            "the private key is encrypted, and the gateway cannot ask for its passphrase; store it decrypted (openssl pkey -in KEY -out PLAIN)"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            format!("it has no private key{}", instead(text))
        }
        error => format!("cannot be read as PEM: {error}"),
    })
}

/// A certificate chain and the private key of its first certificate.
///
/// # Errors
/// A file is not usable, or the key does not belong to the certificate. An X.509 v1 certificate is accepted: the peer
/// decides about it.
pub(crate) fn certificate_pair(
    certificate: &Path,
    private_key: &Path,
) -> Result<CertifiedKey, PemError> {
    let chain = certificates_in(certificate)?;
    let der = private_key_in(private_key)?;
    let provider = provider::default_provider();
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| {
            let weak = chain.first().and_then(rsa_bits);
            let why = match weak.filter(|bits| *bits < MIN_RSA_BITS) {
                Some(bits) => too_small(bits),
                None => format!("this kind of private key cannot be used: {error}"),
            };
            PemError::new(private_key, why)
        })?;
    fits(&chain, &*key, certificate).map_err(|reason| PemError::new(private_key, reason))?;
    Ok(CertifiedKey::new(chain, key))
}

/// The library's own check rejects certificates of version 1.
fn fits(chain: &[CertificateDer<'_>], key: &dyn SigningKey, path: &Path) -> Result<(), String> {
    let Some(public) = key.public_key() else {
        return Ok(());
    };
    let owner = chain.iter().position(|certificate| {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, parsed)| parsed.tbs_certificate.subject_pki.raw == public.as_ref())
    });
    match owner {
        Some(0) => Ok(()),
        Some(index) => Err(format!(
            "does not match the first certificate of {}, but number {}: the certificate of the owner must be first, followed by those that signed it",
            path.display(),
            index + 1
        )),
        None => Err(format!(
            "does not match the certificate in {}",
            path.display()
        )),
    }
}

/// The facts about `certificate`. `None` if it is not X.509.
pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some(CertificateFacts {
        subject: parsed.subject().to_string(),
        serial: parsed.raw_serial_as_string(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        must_staple: must_staple(&parsed),
        oddity: oddity(certificate),
    })
}

/// The feature list is a SEQUENCE of INTEGERs; 5 is status_request.
fn must_staple(parsed: &X509Certificate<'_>) -> bool {
    let feature = parsed
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == TLS_FEATURE);
    feature.is_some_and(|extension| {
        let list = extension.value.get(2..).unwrap_or_default();
        list.windows(3).any(|integer| integer == [2, 1, 5])
    })
}

/// Why our TLS library rejects a certificate, regardless of its issuer. `None` if it accepts it.
pub(super) fn oddity(certificate: &CertificateDer<'_>) -> Option<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Some("it is not X.509".to_owned());
    };
    if parsed.version() != X509Version::V3 {
        return Some(format!(
            "it is an X.509 v{} certificate, which has no extensions and so names no host (openssl x509 -req makes those without -extfile)",
            parsed.version().0.saturating_add(1)
        ));
    }
    let unknown = parsed.extensions().iter().find(|extension| {
        extension.critical && !UNDERSTOOD.contains(&extension.oid.to_id_string().as_str())
    });
    if let Some(extension) = unknown {
        let oid = extension.oid.to_id_string();
        return Some(format!("its extension {oid} is critical and not supported"));
    }
    rsa_bits(certificate)
        .filter(|bits| *bits < MIN_RSA_BITS)
        .map(too_small)
}

fn too_small(bits: usize) -> String {
    format!("its RSA key has {bits} bits, and at least {MIN_RSA_BITS} are needed")
}

/// The size of an RSA key, without leading zeros.
pub(super) fn rsa_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    named_file::read(path, named_file::SMALL).map_err(|error| PemError::new(path, error))
}

fn is_encrypted(text: &[u8]) -> bool {
    contains(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || contains(text, b"Proc-Type: 4,ENCRYPTED")
}

/// What a file contains instead of the expected content, as the end of a message.
fn instead(text: &[u8]) -> String {
    if is_encrypted(text) {
        return "; it contains an encrypted private key".to_owned();
    }
    let found = [
        ("PRIVATE KEY-----", "a private key: are the files swapped?"),
        (
            "BEGIN CERTIFICATE-----",
            "a certificate: are the files swapped?",
        ),
        (
            "CERTIFICATE REQUEST-----",
            "a certificate request that no authority has signed",
        ),
        ("PUBLIC KEY-----", "a public key"),
    ];
    let found = found
        .iter()
        .find(|(label, _)| contains(text, label.as_bytes()));
    match found {
        Some((_, words)) => format!("; it contains {words}"),
        None if contains(text, b"-----BEGIN ") => String::new(),
        None => "; it is not PEM".to_owned(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests;
