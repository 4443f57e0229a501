//! Verifies the signature of a TLS handshake, which proves that the peer has the key of its certificate.
//!
//! The library parses the whole certificate for this and rejects forms that it does not know: X.509 v1 and unknown
//! critical extensions. The key in such a certificate is as good as any other, so it is extracted and used here.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved};
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificate::{MIN_RSA_BITS, oddity, rsa_bits};

/// The signed data and its signature.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signed<'a> {
    Tls12(&'a [u8], &'a DigitallySignedStruct),
    Tls13(&'a [u8], &'a DigitallySignedStruct),
}

/// Verifies the signature with the key of `certificate`, whatever the form of the certificate.
///
/// # Errors
/// The signature was not made with that key, or the kind of key is not supported.
pub(crate) fn verify(
    signed: Signed<'_>,
    certificate: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if ParsedCertificate::try_from(certificate).is_err() {
        return by_key(signed, certificate, algorithms);
    }
    match signed {
        Signed::Tls12(message, dss) => {
            verify_tls12_signature(message, certificate, dss, algorithms)
        }
        Signed::Tls13(message, dss) => {
            verify_tls13_signature(message, certificate, dss, algorithms)
        }
    }
}

fn by_key(
    signed: Signed<'_>,
    certificate: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let key = &parsed.tbs_certificate.subject_pki;
    let (message, dss) = match signed {
        Signed::Tls13(message, dss) => {
            let key = SubjectPublicKeyInfoDer::from(key.raw);
            return verify_tls13_signature_with_raw_key(message, &key, dss, algorithms);
        }
        Signed::Tls12(message, dss) => (message, dss),
    };
    let kind = kind_of(key.raw).ok_or(CertificateError::BadEncoding)?;
    let candidates = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == dss.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?
        .1;
    let public = &key.subject_public_key.data;
    candidates
        .iter()
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind)
        .find_map(|algorithm| {
            let verified = algorithm.verify_signature(public, message, dss.signature());
            verified.ok().map(|()| HandshakeSignatureValid::assertion())
        })
        .ok_or_else(|| CertificateError::BadSignature.into())
}

/// Whether signatures by the key of `certificate` can be verified at all.
pub(super) fn is_usable(
    certificate: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Some(kind) = kind_of(parsed.tbs_certificate.subject_pki.raw) else {
        return false;
    };
    let mut known = algorithms.all.iter();
    known.any(|algorithm| algorithm.public_key_alg_id().as_ref() == kind)
        && rsa_bits(certificate).is_none_or(|bits| bits >= MIN_RSA_BITS)
}

/// The contents of the AlgorithmIdentifier in a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), both in DER.
fn kind_of(key: &[u8]) -> Option<&[u8]> {
    let (_, outer) = Any::from_der(key).ok()?;
    let (_, algorithm) = Any::from_der(outer.data).ok()?;
    Some(algorithm.data)
}

/// Replaces the library's error by a description of what is unusual about the certificate, if the error is not
/// informative.
pub(crate) fn explained(error: Error, certificate: &CertificateDer<'_>) -> Error {
    use CertificateError as Why;
    let Error::InvalidCertificate(why) = &error else {
        return error;
    };
    let tells = matches!(
        why,
        Why::Expired
            | Why::ExpiredContext { .. }
            | Why::NotValidYet
            | Why::NotValidYetContext { .. }
            | Why::Revoked
            | Why::UnknownIssuer
            | Why::NotValidForName
            | Why::NotValidForNameContext { .. }
            | Why::InvalidPurpose
            | Why::InvalidPurposeContext { .. }
    );
    match oddity(certificate) {
        Some(text) if !tells => {
            Error::InvalidCertificate(Why::Other(OtherError(Arc::new(Oddity(text)))))
        }
        _ => error,
    }
}

/// What is unusual about a certificate. `Debug` prints the plain text too, because the library uses it.
#[derive(thiserror::Error)]
#[error("{0}")]
struct Oddity(String);

impl fmt::Debug for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The library's text about a certificate, without the wrapping around our description.
pub(crate) fn words(certificate: &str) -> &str {
    match certificate.strip_prefix("Other(OtherError(") {
        Some(text) => text.strip_suffix("))").unwrap_or(text),
        None => certificate,
    }
}
