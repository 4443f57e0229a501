//! OCSP responses in files: which of them clients accept.
//!
//! A client that receives a response which it does not accept ends the connection, while most clients need none. So a
//! response is only stapled after the checks that clients make (RFC 6960 §3.2).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{PemError, contains, read};

/// How far the clock of the responder may be ahead, in seconds. Clients allow as much.
const SKEW: i64 = 300;

/// An OCSP response in a file (RFC 6960 §4.2.1).
#[derive(Debug)]
pub(crate) struct OcspResponse {
    der: Vec<u8>,
    /// The certificates that it is about, or why it is about none.
    about: Result<Vec<Single>, OcspProblem>,
}

/// A response that clients accept, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staple {
    pub der: Vec<u8>,
    /// Until when clients accept it, in seconds since 1970.
    pub until: Option<i64>,
    /// At this time a certificate ends with which it is verified. It has no nextUpdate, or a later one.
    pub ends_with_signer: bool,
    /// Whether its signature was verified. The issuer may not be in the file of the certificate.
    pub is_verified: bool,
}

/// Why clients reject a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OcspProblem {
    #[error("is not an OCSP response (DER or PEM)")]
    NoResponse,
    #[error("cannot be read as PEM")]
    Pem,
    #[error("is not a basic OCSP response (RFC 6960 §4.2.1)")]
    NotBasic,
    #[error("is an error of the OCSP server: it has no response now")]
    Failure,
    #[error("is about another certificate")]
    OtherCertificate,
    #[error("says that the certificate is revoked")]
    Revoked,
    #[error("says that the certificate is unknown")]
    Unknown,
    #[error("has a thisUpdate in the future")]
    Early,
    #[error("is past its nextUpdate")]
    Late,
    #[error("is signed with a certificate that has ended")]
    SignerEnded,
    #[error("is signed neither by the issuer of the certificate nor by a responder of this issuer")]
    Stranger,
}

/// The status of one certificate (RFC 6960 §4.2.1, SingleResponse).
#[derive(Debug)]
struct Single {
    id: CertId,
    status: Result<(), OcspProblem>,
    this_update: i64,
    next_update: Option<i64>,
}

/// The identifier of a certificate (RFC 6960 §4.1.1). The length of a hash says which one it is.
#[derive(Debug)]
struct CertId {
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    serial: Vec<u8>,
}

impl Staple {
    /// Whether clients accept it now.
    pub(crate) fn is_current(&self) -> bool {
        self.until.is_none_or(|until| now() < until)
    }
}

impl OcspResponse {
    /// The response for the first certificate of `chain`, if clients accept it now.
    ///
    /// # Errors
    /// Why they reject it.
    pub(crate) fn staple(&self, chain: &[CertificateDer<'_>]) -> Result<Staple, OcspProblem> {
        self.staple_at(chain, now())
    }

    pub(super) fn staple_at(
        &self,
        chain: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Staple, OcspProblem> {
        let der = chain.first().map(|leaf| &**leaf);
        let chain: Vec<X509Certificate<'_>> = chain
            .iter()
            .filter_map(|der| X509Certificate::from_der(der).ok())
            .map(|(_, parsed)| parsed)
            .collect();
        let leaf = chain.first().ok_or(OcspProblem::OtherCertificate)?;
        let content = der.and_then(|der| items(der)?.first().map(|item| item.data));
        let own = content.and_then(Signed::read);
        let is_issuer = |other: &&X509Certificate<'_>| {
            let has_signed =
                |key: PublicKey<'_>| own.as_ref().is_some_and(|(own, _)| own.is_by(&key));
            other.subject().as_raw() == leaf.issuer().as_raw()
                && PublicKey::of(other).is_some_and(has_signed)
        };
        let issuers: Vec<&X509Certificate<'_>> = chain.iter().filter(is_issuer).collect();
        let about = self.about.as_ref().map_err(|problem| *problem)?;
        let about = about
            .iter()
            .find(|single| single.id.is_for(leaf, &issuers))
            .ok_or(OcspProblem::OtherCertificate)?;
        about.status?;
        if about.this_update > now + SKEW {
            return Err(OcspProblem::Early);
        }
        if about.next_update.is_some_and(|until| until <= now) {
            return Err(OcspProblem::Late);
        }
        let is_verified = !issuers.is_empty();
        let signer_ends = signer_ends(&self.der, &issuers, now);
        if is_verified && signer_ends.is_none() {
            return Err(OcspProblem::Stranger);
        }
        if signer_ends.is_some_and(|end| end <= now) {
            return Err(OcspProblem::SignerEnded);
        }
        let next_update = about.next_update;
        let ends_with_signer =
            signer_ends.is_some_and(|end| next_update.is_none_or(|next| end < next));
        Ok(Staple {
            der: self.der.clone(),
            until: if ends_with_signer {
                signer_ends
            } else {
                next_update
            },
            ends_with_signer,
            is_verified,
        })
    }
}

impl CertId {
    fn is_for(&self, leaf: &X509Certificate<'_>, issuers: &[&X509Certificate<'_>]) -> bool {
        let has_key = |issuer: &&X509Certificate<'_>| {
            PublicKey::of(issuer).is_some_and(|key| is_hash(&self.issuer_key, key.bits))
        };
        significant(leaf.raw_serial()) == significant(&self.serial)
            && is_hash(&self.issuer_name, leaf.issuer().as_raw())
            && (issuers.is_empty() || issuers.iter().any(has_key))
    }
}

/// Whether `hash` is a hash of `text`.
fn is_hash(hash: &[u8], text: &[u8]) -> bool {
    let algorithm: &Algorithm = match hash.len() {
        20 => &SHA1_FOR_LEGACY_USE_ONLY,
        32 => &SHA256,
        48 => &SHA384,
        64 => &SHA512,
        _ => return false,
    };
    digest(algorithm, text).as_ref() == hash
}

/// When a client can no longer verify the response: the end of the issuer that has signed it, or that of the responder to
/// which an issuer delegates this (RFC 6960 §4.2.2.2), or of this issuer. `None` if neither has signed it. Without an
/// issuer any responder whose certificate is attached may be the right one.
fn signer_ends(der: &[u8], issuers: &[&X509Certificate<'_>], now: i64) -> Option<i64> {
    let basic = basic_response(der)?;
    let (response, rest) = Signed::read(basic)?;
    let is_by = |certificate: &X509Certificate<'_>| {
        PublicKey::of(certificate).is_some_and(|key| response.is_by(&key))
    };
    let end = |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp();
    // Of certificates with the same key the one that ends last counts.
    let signers = issuers.iter().filter(|issuer| is_by(issuer));
    if let Some(last) = signers.map(|issuer| end(issuer)).max() {
        return Some(last);
    }
    // [0] EXPLICIT SEQUENCE OF Certificate
    let attached = rest.first()?;
    let attached = items(items(attached.data)?.first()?.data)?;
    let responder_ends = |item: &Item<'_>| {
        let (_, parsed) = X509Certificate::from_der(item.raw).ok()?;
        let usage = parsed.extended_key_usage().ok()??;
        let validity = parsed.validity();
        let has_begun = validity.not_before.timestamp() <= now + SKEW;
        if !usage.value.ocsp_signing || !has_begun || !is_by(&parsed) {
            return None;
        }
        if issuers.is_empty() {
            return Some(end(&parsed));
        }
        let (own, _) = Signed::read(item.data)?;
        let issuers = issuers.iter().filter(|issuer| {
            issuer.subject().as_raw() == parsed.issuer().as_raw()
                && PublicKey::of(issuer).is_some_and(|key| own.is_by(&key))
        });
        let last = issuers.map(|issuer| end(issuer)).max()?;
        Some(last.min(end(&parsed)))
    };
    attached.iter().filter_map(responder_ends).max()
}

/// A public key as it is used to verify: its algorithm, and its bits.
struct PublicKey<'d> {
    algorithm: &'d [u8],
    bits: &'d [u8],
}

impl<'d> PublicKey<'d> {
    fn of(certificate: &X509Certificate<'d>) -> Option<PublicKey<'d>> {
        let info = items(certificate.tbs_certificate.subject_pki.raw)?;
        let [algorithm, bits] = first::<2>(&items(info.first()?.data)?)?;
        Some(PublicKey {
            algorithm: algorithm.data,
            bits: bits.data.get(1..)?,
        })
    }
}

/// What a certificate and a basic response have in common: the signed data, the algorithm, the signature.
struct Signed<'d> {
    data: &'d [u8],
    algorithm: &'d [u8],
    signature: &'d [u8],
}

impl<'d> Signed<'d> {
    /// Reads the content of the outer sequence. Returns also what follows the signature.
    fn read(content: &'d [u8]) -> Option<(Signed<'d>, Vec<Item<'d>>)> {
        let mut all = items(content)?;
        let [data, algorithm, signature] = first::<3>(&all)?;
        let signed = Signed {
            data: data.raw,
            algorithm: algorithm.data,
            // The first byte counts unused bits.
            signature: signature.data.get(1..)?,
        };
        Some((signed, all.split_off(3)))
    }

    fn is_by(&self, key: &PublicKey<'_>) -> bool {
        let supported = default_provider().signature_verification_algorithms.all;
        supported.iter().any(|one| {
            *one.signature_alg_id() == *self.algorithm
                && *one.public_key_alg_id() == *key.algorithm
                && one
                    .verify_signature(key.bits, self.data, self.signature)
                    .is_ok()
        })
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() as i64)
}

/// Reads an OCSP response, as DER or PEM. A file with something else, or with an error of the server, has no staple: a job
/// that renews it may have written a part, or what a server without a response has sent.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_ocsp_response(path: &Path) -> Result<OcspResponse, PemError> {
    let text = read(path)?;
    let der = if contains(&text, b"-----BEGIN OCSP RESPONSE-----") {
        ocsp_der(&text).ok_or(OcspProblem::Pem)
    } else {
        Ok(text)
    };
    let about = der.as_ref().map_err(|problem| *problem);
    let about = about.and_then(|der| certificates_in_question(der));
    Ok(OcspResponse {
        der: der.unwrap_or_default(),
        about,
    })
}

/// The certificates that a response is about.
fn certificates_in_question(der: &[u8]) -> Result<Vec<Single>, OcspProblem> {
    // An OCSPResponse is a SEQUENCE of an ENUMERATED status, where 0 is success, and the response.
    let outer = Any::from_der(der).ok().filter(|(rest, _)| rest.is_empty());
    let status = outer
        .as_ref()
        .and_then(|(_, outer)| Any::from_der(outer.data).ok());
    match status.map(|(_, status)| (status.tag(), status.data)) {
        Some((Tag::Enumerated, [0])) => {}
        Some((Tag::Enumerated, _)) => return Err(OcspProblem::Failure),
        _ => return Err(OcspProblem::NoResponse),
    }
    singles(der).ok_or(OcspProblem::NotBasic)
}

/// The content of the BasicOCSPResponse.
fn basic_response(der: &[u8]) -> Option<&[u8]> {
    // OCSPResponse { status, [0] { ResponseBytes { type, OCTET STRING { BasicOCSPResponse
    let outer = items(items(der)?.first()?.data)?;
    let [_, bytes] = first::<2>(&outer)?;
    let bytes = items(items(bytes.data)?.first()?.data)?;
    let [_, octets] = first::<2>(&bytes)?;
    Some(items(octets.data)?.first()?.data)
}

/// The SingleResponses.
fn singles(der: &[u8]) -> Option<Vec<Single>> {
    let (signed, _) = Signed::read(basic_response(der)?)?;
    let data = items(items(signed.data)?.first()?.data)?;
    // ResponseData: [0] version (optional), responder, producedAt, responses.
    let responses = data.iter().find(|item| item.is(Tag::Sequence))?;
    items(responses.data)?.iter().map(single).collect()
}

/// SingleResponse: certID, certStatus, thisUpdate, [0] nextUpdate (optional), …
fn single(item: &Item<'_>) -> Option<Single> {
    let parts = items(item.data)?;
    let [id, status, this_update] = first::<3>(&parts)?;
    let [_, issuer_name, issuer_key, serial] = first::<4>(&items(id.data)?)?;
    let next = parts.get(3).filter(|next| next.context == Some(0));
    let next_update = match next {
        Some(next) => Some(time(next.data)?),
        None => None,
    };
    Some(Single {
        id: CertId {
            issuer_name: issuer_name.data.to_vec(),
            issuer_key: issuer_key.data.to_vec(),
            serial: serial.data.to_vec(),
        },
        status: match status.context? {
            0 => Ok(()),
            1 => Err(OcspProblem::Revoked),
            _ => Err(OcspProblem::Unknown),
        },
        this_update: time(this_update.raw)?,
        next_update,
    })
}

fn time(der: &[u8]) -> Option<i64> {
    let (_, time) = ASN1Time::from_der(der).ok()?;
    Some(time.timestamp())
}

/// A number without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// An element of DER.
#[derive(Clone, Copy)]
struct Item<'d> {
    /// With its header.
    raw: &'d [u8],
    data: &'d [u8],
    universal: Option<Tag>,
    /// The number of a context-specific tag.
    context: Option<u32>,
}

impl Item<'_> {
    fn is(&self, tag: Tag) -> bool {
        self.universal == Some(tag)
    }
}

/// The elements, one after another.
fn items(mut der: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, element) = Any::from_der(der).ok()?;
        let (class, tag) = (element.class(), element.tag());
        found.push(Item {
            raw: der.get(..der.len() - rest.len())?,
            data: element.data,
            universal: (class == Class::Universal).then_some(tag),
            context: (class == Class::ContextSpecific).then_some(tag.0),
        });
        der = rest;
    }
    Some(found)
}

fn first<'d, const N: usize>(items: &[Item<'d>]) -> Option<[Item<'d>; N]> {
    items.first_chunk::<N>().copied()
}

fn ocsp_der(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN OCSP RESPONSE-----")?;
    let (base64, _) = rest.split_once("-----END OCSP RESPONSE-----")?;
    let base64: String = base64.split_ascii_whitespace().collect();
    STANDARD.decode(base64).ok()
}

#[cfg(test)]
mod tests;
