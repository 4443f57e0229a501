//! OCSP responses in files.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{PemError, contains, read};

/// An OCSP response in a file (RFC 6960 §4.2.1).
#[derive(Debug)]
pub(crate) struct OcspResponse {
    pub der: Vec<u8>,
    /// Its nextUpdate in seconds since 1970. After this time clients reject it.
    pub until: Option<i64>,
    /// The certificate that it is about. `None` if it cannot be read.
    about: Option<CertId>,
}

/// The identifier of a certificate (RFC 6960 §4.1.1), without the hash of the issuer's key.
#[derive(Debug)]
struct CertId {
    /// SHA-1 or SHA-256 of the issuer's name.
    issuer: Vec<u8>,
    serial: Vec<u8>,
}

impl OcspResponse {
    /// Whether clients accept it now.
    pub(crate) fn is_current(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.is_current_at(now.map_or(0, |now| now.as_secs() as i64))
    }

    /// Whether it is about this certificate. Clients reject a response about another one.
    pub(crate) fn is_for(&self, certificate: &CertificateDer<'_>) -> bool {
        let parsed = X509Certificate::from_der(certificate).ok();
        let Some((about, (_, certificate))) = self.about.as_ref().zip(parsed) else {
            return true;
        };
        let hash = match about.issuer.len() {
            20 => &SHA1_FOR_LEGACY_USE_ONLY,
            32 => &SHA256,
            _ => return true,
        };
        let issuer = digest(hash, certificate.issuer().as_raw());
        issuer.as_ref() == about.issuer
            && significant(certificate.raw_serial()) == significant(&about.serial)
    }

    pub(super) fn is_current_at(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Reads an OCSP response, as DER or PEM.
///
/// # Errors
/// The file cannot be read, is not an OCSP response, or contains a response that reports an error of the server.
pub(crate) fn read_ocsp_response(path: &Path) -> Result<OcspResponse, PemError> {
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
            until: single_response(&der).and_then(next_update),
            about: single_response(&der).and_then(cert_id),
            der,
        }),
        Some((Tag::Enumerated, _)) => Err(rejected("the OCSP server responded with a failure")),
        _ => Err(rejected("is not an OCSP response (DER or PEM)")),
    }
}

/// The contents of the first SingleResponse (RFC 6960 §4.2.1).
fn single_response(der: &[u8]) -> Option<&[u8]> {
    // OCSPResponse { status, [0] { ResponseBytes { type, OCTET STRING { BasicOCSPResponse { ResponseData …
    let [_, bytes] = elements::<2>(inside(der)?)?;
    let [_, octets] = elements::<2>(inside(bytes.data)?)?;
    let data = inside(inside(octets.data)?)?;
    // ResponseData: [0] version (optional), responder, producedAt, responses.
    let responses = find(data, Tag::Sequence)?;
    inside(responses.data)
}

/// SingleResponse: certID, certStatus, thisUpdate, [0] nextUpdate (optional), …
fn next_update(single: &[u8]) -> Option<i64> {
    let this_update = find(single, Tag::GeneralizedTime)?;
    let (_, next) = Any::from_der(this_update.after).ok()?;
    let is_next = next.class() == Class::ContextSpecific && next.tag() == Tag(0);
    let (_, time) = is_next.then(|| ASN1Time::from_der(next.data).ok())??;
    Some(time.timestamp())
}

/// CertID: hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber.
fn cert_id(single: &[u8]) -> Option<CertId> {
    let [_, issuer, _, serial] = elements::<4>(inside(single)?)?;
    Some(CertId {
        issuer: issuer.data.to_vec(),
        serial: serial.data.to_vec(),
    })
}

/// A number without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
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
