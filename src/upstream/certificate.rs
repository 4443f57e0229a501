//! Certificates and private keys in PEM files: reads, checks and describes them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

/// Our TLS library verifies no signatures of RSA keys with fewer bits.
pub(super) const LEAST_RSA_BITS: usize = 2048;

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
pub fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates_of(&read(path)?).map_err(|reason| PemError::new(path, reason))
}

fn certificates_of(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if !contains(text, b"-----BEGIN CERTIFICATE-----") {
        return Err(format!("no certificate in it{}", instead(text)));
    }
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot be read as PEM: {error}"))?;
    if found.is_empty() {
        return Err("no certificate in it".to_owned());
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
pub fn private_key_in(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    private_key_of(&read(path)?).map_err(|reason| PemError::new(path, reason))
}

fn private_key_of(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if is_encrypted(text) {
        return Err(
            "the private key is encrypted and nobody is here to type its passphrase; store it decrypted (openssl pkey -in KEY -out PLAIN)"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            format!("no private key in it{}", instead(text))
        }
        error => format!("cannot be read as PEM: {error}"),
    })
}

/// A certificate chain and the private key of its first certificate.
///
/// # Errors
/// A file is not usable, or the key does not belong to the certificate. An X.509 v1 certificate is accepted: the peer
/// decides about it.
pub fn certificate_pair(certificate: &Path, private_key: &Path) -> Result<CertifiedKey, PemError> {
    let chain = certificates_in(certificate)?;
    let der = private_key_in(private_key)?;
    let provider = provider::default_provider();
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| {
            let weak = chain.first().and_then(rsa_bits);
            let why = match weak.filter(|bits| *bits < LEAST_RSA_BITS) {
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
            "does not fit the first certificate of {}, but number {}: the owner's certificate comes first, those that signed it behind",
            path.display(),
            index + 1
        )),
        None => Err(format!(
            "does not fit the certificate in {}",
            path.display()
        )),
    }
}

/// The facts about `certificate`. `None` if it is not X.509.
pub fn facts(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
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
            "it is an X.509 v{} certificate, which has no extensions and so names nobody (openssl x509 -req makes those without -extfile)",
            parsed.version().0.saturating_add(1)
        ));
    }
    let unknown = parsed.extensions().iter().find(|extension| {
        extension.critical && !UNDERSTOOD.contains(&extension.oid.to_id_string().as_str())
    });
    if let Some(extension) = unknown {
        let oid = extension.oid.to_id_string();
        return Some(format!(
            "its extension {oid} is critical and not understood here"
        ));
    }
    rsa_bits(certificate)
        .filter(|bits| *bits < LEAST_RSA_BITS)
        .map(too_small)
}

fn too_small(bits: usize) -> String {
    format!("its RSA key has {bits} bits, and at least {LEAST_RSA_BITS} are needed")
}

/// The size of an RSA key, without leading zeros.
pub(super) fn rsa_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    }
}

/// An OCSP response in a file (RFC 6960 §4.2.1).
#[derive(Debug)]
pub struct OcspResponse {
    pub der: Vec<u8>,
    /// Its nextUpdate in seconds since 1970. After this time clients reject it.
    pub until: Option<i64>,
}

impl OcspResponse {
    /// Whether clients accept it now.
    pub fn is_current(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.is_current_at(now.map_or(0, |now| now.as_secs() as i64))
    }

    fn is_current_at(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Reads an OCSP response, as DER or PEM.
///
/// # Errors
/// The file cannot be read, is not an OCSP response, or contains a response that reports an error of the server.
pub fn read_ocsp_response(path: &Path) -> Result<OcspResponse, PemError> {
    let rejected = |reason: &str| PemError::new(path, reason);
    let text = read(path)?;
    let der = if contains(&text, b"-----BEGIN OCSP RESPONSE-----") {
        ocsp_der(&text).ok_or_else(|| rejected("cannot be read as PEM"))?
    } else {
        text
    };
    // An OCSPResponse is a SEQUENCE of an ENUMERATED status, where 0 is success, and the response.
    let outer = Any::from_der(&der).ok().filter(|(rest, _)| rest.is_empty());
    let status = outer
        .as_ref()
        .and_then(|(_, outer)| Any::from_der(outer.data).ok());
    match status.map(|(_, status)| (status.tag(), status.data)) {
        Some((Tag::Enumerated, [0])) => Ok(OcspResponse {
            until: next_update(&der),
            der,
        }),
        Some((Tag::Enumerated, _)) => Err(rejected("the OCSP server answered with a failure")),
        _ => Err(rejected("is no OCSP response (DER or PEM)")),
    }
}

/// The nextUpdate of the first SingleResponse (RFC 6960 §4.2.1).
fn next_update(der: &[u8]) -> Option<i64> {
    // OCSPResponse { status, [0] { ResponseBytes { type, OCTET STRING { BasicOCSPResponse { ResponseData …
    let [_, bytes] = elements::<2>(inside(der)?)?;
    let [_, octets] = elements::<2>(inside(bytes.data)?)?;
    let data = inside(inside(octets.data)?)?;
    // ResponseData: [0] version (optional), responder, producedAt, responses.
    let responses = find(data, Tag::Sequence)?;
    // SingleResponse: certID, certStatus, thisUpdate, [0] nextUpdate (optional), …
    let this_update = find(inside(responses.data)?, Tag::GeneralizedTime)?;
    let (_, next) = Any::from_der(this_update.after).ok()?;
    let is_next = next.class() == Class::ContextSpecific && next.tag() == Tag(0);
    let (_, time) = is_next.then(|| ASN1Time::from_der(next.data).ok())??;
    Some(time.timestamp())
}

/// The contents of the first element.
fn inside(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, element)| element.data)
}

fn elements<const N: usize>(mut der: &[u8]) -> Option<[Any<'_>; N]> {
    let mut found = Vec::with_capacity(N);
    for _ in 0..N {
        let (rest, element) = Any::from_der(der).ok()?;
        found.push(element);
        der = rest;
    }
    found.try_into().ok()
}

struct Element<'d> {
    data: &'d [u8],
    after: &'d [u8],
}

/// The first universal element with this tag.
fn find(mut der: &[u8], tag: Tag) -> Option<Element<'_>> {
    loop {
        let (after, element) = Any::from_der(der).ok()?;
        if element.class() == Class::Universal && element.tag() == tag {
            let data = element.data;
            return Some(Element { data, after });
        }
        der = after;
    }
}

fn ocsp_der(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN OCSP RESPONSE-----")?;
    let (base64, _) = rest.split_once("-----END OCSP RESPONSE-----")?;
    let base64: String = base64.split_ascii_whitespace().collect();
    STANDARD.decode(base64).ok()
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(path).map_err(|error| PemError::new(path, error))
}

fn is_encrypted(text: &[u8]) -> bool {
    contains(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || contains(text, b"Proc-Type: 4,ENCRYPTED")
}

/// What a file contains instead of the expected content, as the end of a message.
fn instead(text: &[u8]) -> String {
    if is_encrypted(text) {
        return "; it holds an encrypted private key".to_owned();
    }
    let found = [
        ("PRIVATE KEY-----", "a private key: are the files swapped?"),
        (
            "BEGIN CERTIFICATE-----",
            "a certificate: are the files swapped?",
        ),
        (
            "CERTIFICATE REQUEST-----",
            "a certificate request, which an authority has yet to sign",
        ),
        ("PUBLIC KEY-----", "a public key"),
    ];
    let found = found
        .iter()
        .find(|(label, _)| contains(text, label.as_bytes()));
    match found {
        Some((_, words)) => format!("; it holds {words}"),
        None if contains(text, b"-----BEGIN ") => String::new(),
        None => "; it is not PEM".to_owned(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn pair(certificate: &str, key: &str) -> Result<CertifiedKey, String> {
        let folder = tempfile::tempdir().unwrap();
        let paths = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&paths.0, certificate).unwrap();
        std::fs::write(&paths.1, key).unwrap();
        certificate_pair(&paths.0, &paths.1).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn rejected(certificate: &str, key: &str, words: &str) {
        let error = pair(certificate, key).unwrap_err();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn errors_of_a_pair_are_reported() {
        let ((certificate, key), (other, other_key)) = (made(), made());
        pair(&certificate, &key).unwrap();
        pair(&format!("{certificate}{other}"), &key).unwrap();
        rejected(
            &certificate,
            &other_key,
            "k.pem: does not fit the certificate in ",
        );
        rejected(&format!("{other}{certificate}"), &key, "but number 2");
        rejected(
            &key,
            &certificate,
            "c.pem: no certificate in it; it holds a private key: are",
        );
        rejected(
            &certificate,
            &certificate,
            "k.pem: no private key in it; it holds a certificate",
        );
        rejected(
            "garbage",
            &key,
            "c.pem: no certificate in it; it is not PEM",
        );
        rejected(
            &certificate,
            "",
            "k.pem: no private key in it; it is not PEM",
        );
        let cut = certificate.lines().take(3).collect::<Vec<_>>().join("\n");
        rejected(&cut, &key, "c.pem: cannot be read as PEM");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        rejected(broken, &key, "certificate 1 is not X.509");
        let request =
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        rejected(request, &key, "a certificate request");
    }

    #[test]
    fn an_encrypted_key_is_reported_as_encrypted() {
        let (certificate, _) = made();
        for key in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            rejected(&certificate, key, "k.pem: the private key is encrypted");
            rejected(
                key,
                key,
                "c.pem: no certificate in it; it holds an encrypted private key",
            );
        }
    }

    #[test]
    fn a_version_1_pair_is_accepted() {
        let certificate = include_str!("../../tests/data/tls/v1.crt");
        let key = include_str!("../../tests/data/tls/v1.key");
        let pair = pair(certificate, key).unwrap();
        let oddity = oddity(pair.end_entity_cert().unwrap()).unwrap();
        assert!(
            oddity.starts_with("it is an X.509 v1 certificate"),
            "{oddity}"
        );
    }

    #[test]
    fn reasons_of_the_library_are_named() {
        let small = include_str!("../../tests/data/tls/rsa1024.crt");
        let small = certificates_of(small.as_bytes()).unwrap();
        let told = oddity(&small[0]).unwrap();
        assert!(told.starts_with("its RSA key has 1024 bits"), "{told}");
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
        let key = KeyPair::generate().unwrap();
        let told = oddity(params.self_signed(&key).unwrap().der()).unwrap();
        assert!(told.contains("1.2.3.4 is critical"), "{told}");
        let large = include_str!("../../tests/data/tls/p521.crt");
        let large = certificates_of(large.as_bytes()).unwrap();
        assert_eq!(oddity(&large[0]), None);
    }

    #[test]
    fn an_ocsp_response_is_current_until_its_next_update() {
        fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
            let data = parts.concat();
            [&[tag, u8::try_from(data.len()).unwrap()], &*data].concat()
        }
        let response = |next: &[u8]| {
            let time = tlv(0x18, &[b"20260101000000Z"]);
            let single = tlv(0x30, &[&tlv(0x30, &[]), &tlv(0x80, &[]), &time, next]);
            let responder = tlv(0xa1, &[&tlv(0x30, &[])]);
            let data = tlv(0x30, &[&responder, &time, &tlv(0x30, &[&single])]);
            let octets = tlv(0x04, &[&tlv(0x30, &[&data])]);
            let bytes = tlv(0x30, &[&tlv(0x06, &[&[43]]), &octets]);
            tlv(0x30, &[&tlv(0x0a, &[&[0]]), &tlv(0xa0, &[&bytes])])
        };
        let folder = tempfile::tempdir().unwrap();
        let read = |der: Vec<u8>| {
            let path = folder.path().join("ocsp");
            std::fs::write(&path, der).unwrap();
            read_ocsp_response(&path).unwrap()
        };
        let next = tlv(0xa0, &[&tlv(0x18, &[b"20260108000000Z"])]);
        let found = read(response(&next));
        assert_eq!(found.until, Some(1_767_830_400));
        assert!(found.is_current_at(1_767_830_399) && !found.is_current_at(1_767_830_400));
        let open = read(response(&[]));
        assert_eq!(open.until, None);
        assert!(open.is_current_at(i64::MAX));
    }

    #[test]
    fn other_files_are_not_ocsp_responses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ocsp");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_ocsp_response(&path)
                .map(|response| response.der)
                .map_err(|error| error.reason)
        };
        let good = [0x30, 3, 10, 1, 0];
        assert_eq!(read(&good).as_deref(), Ok(&good[..]));
        let pem = "-----BEGIN OCSP RESPONSE-----\nMAMK\nAQA=\n-----END OCSP RESPONSE-----\n";
        assert_eq!(read(pem.as_bytes()).as_deref(), Ok(&good[..]));
        let failed = read(&[0x30, 3, 10, 1, 6]).unwrap_err();
        assert!(failed.contains("failure"), "{failed}");
        for bad in [
            &b""[..],
            b"garbage",
            &[0x30, 3, 2, 1, 0],
            &[0x30, 9, 10, 1, 0],
        ] {
            assert!(read(bad).unwrap_err().contains("is no OCSP response"));
        }
    }

    #[test]
    fn a_certificate_that_requires_a_staple_is_recognised() {
        let with = |content: Vec<u8>| {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(&oid, content));
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            facts(certificate.der()).unwrap().must_staple
        };
        assert!(with(vec![0x30, 3, 2, 1, 5]));
        assert!(with(vec![0x30, 6, 2, 1, 17, 2, 1, 5]));
        assert!(!with(vec![0x30, 3, 2, 1, 17]));
    }
}
