//! The certificate members of a JWK: `x5c`, `x5t`, `x5t#S256` (RFC 7517 §4.7 to §4.9), and the thumbprint of a JWK
//! itself (RFC 7638).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::jose::algorithm::KeyKind;
use crate::jose::key::KeyFault;
use crate::jose::material::{LENIENT, PublicMaterial, member, text_member, without_leading_zeros};

/// Thumbprints of a JWK in the form that tokens use. Empty if the JWK has none.
///
/// As in KrakenD they are never derived from `x5c`: a provider that wants lookups by thumbprint must publish it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Thumbprints {
    pub(super) sha1: Box<str>,
    pub(super) sha256: Box<str>,
}

/// Reads the three members and checks them against the key and against each other.
pub(super) fn read(
    jwk: &Map<String, Value>,
    key: &PublicMaterial,
) -> Result<Thumbprints, KeyFault> {
    let sha1 = thumbprint::<20>(text_member(jwk, "x5t")?)?;
    let sha256 = thumbprint::<32>(text_member(jwk, "x5t#S256")?)?;
    if let Some(chain) = member(jwk, "x5c") {
        let leaf = leaf(chain)?;
        if !belongs_to(&leaf, key)
            || differs(
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
                &leaf,
                sha1.as_ref().map(<[u8; 20]>::as_slice),
            )
            || differs(
                &digest::SHA256,
                &leaf,
                sha256.as_ref().map(<[u8; 32]>::as_slice),
            )
        {
            return Err(KeyFault::Certificate);
        }
    }
    Ok(Thumbprints {
        sha1: spelled(sha1.as_ref().map(<[u8; 20]>::as_slice)),
        sha256: spelled(sha256.as_ref().map(<[u8; 32]>::as_slice)),
    })
}

/// The SHA-256 thumbprint of a public key (RFC 7638 §3), in base64url. `None` for a secret and for anything that is not a key.
///
/// The numbers are encoded anew, so that a key has one thumbprint, however it is written.
pub(super) fn jwk_thumbprint(jwk: &Map<String, Value>) -> Option<String> {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    // Exactly the required members, in lexicographic order.
    let text = match PublicMaterial::from_jwk(jwk).ok()? {
        PublicMaterial::Secret(_) => return None,
        PublicMaterial::Rsa { n, e } => {
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(&e), b64(&n))
        }
        PublicMaterial::Ec { kind, point } => {
            let curve = match kind {
                KeyKind::P256 => "P-256",
                KeyKind::P384 => "P-384",
                _ => "P-521",
            };
            let (x, y) = point.get(1..)?.split_at((point.len() - 1) / 2);
            format!(
                r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#,
                b64(x),
                b64(y)
            )
        }
        PublicMaterial::Ed25519(x) => {
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(&x))
        }
        PublicMaterial::MlDsa { key, .. } => {
            let algorithm = text_member(jwk, "alg").ok()??;
            format!(
                r#"{{"alg":"{algorithm}","kty":"AKP","pub":"{}"}}"#,
                b64(&key)
            )
        }
    };
    Some(b64(
        digest::digest(&digest::SHA256, text.as_bytes()).as_ref()
    ))
}

/// The bytes of a thumbprint. Some providers write it as the base64url of its hexadecimal text.
fn thumbprint<const N: usize>(text: Option<&str>) -> Result<Option<[u8; N]>, KeyFault> {
    let Some(text) = text else {
        return Ok(None);
    };
    let bytes = LENIENT.decode(text).map_err(|_| KeyFault::Certificate)?;
    let bytes = if bytes.len() == 2 * N {
        hex::decode(&bytes).map_err(|_| KeyFault::Certificate)?
    } else {
        bytes
    };
    <[u8; N]>::try_from(bytes)
        .map(Some)
        .map_err(|_| KeyFault::Certificate)
}

fn spelled(bytes: Option<&[u8]>) -> Box<str> {
    bytes.map_or_else(Box::default, |bytes| URL_SAFE_NO_PAD.encode(bytes).into())
}

fn differs(hash: &'static digest::Algorithm, leaf: &[u8], stated: Option<&[u8]>) -> bool {
    stated.is_some_and(|stated| digest::digest(hash, leaf).as_ref() != stated)
}

/// The first certificate. The others must at least be valid base64, as RFC 7517 §4.7 requires.
fn leaf(chain: &Value) -> Result<Vec<u8>, KeyFault> {
    let texts = chain.as_array().ok_or(KeyFault::Certificate)?;
    let mut certificates = texts.iter().map(|text| {
        let text = text.as_str().ok_or(KeyFault::Certificate)?;
        STANDARD.decode(text).map_err(|_| KeyFault::Certificate)
    });
    let leaf = certificates.next().ok_or(KeyFault::Certificate)??;
    for other in certificates {
        other?;
    }
    Ok(leaf)
}

/// Whether the certificate contains exactly this public key. Its validity and its issuer are not checked.
fn belongs_to(leaf: &[u8], key: &PublicMaterial) -> bool {
    let Ok((rest, certificate)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    if !rest.is_empty() {
        return false;
    }
    let info = certificate.public_key();
    match (key, info.parsed()) {
        (PublicMaterial::Rsa { n, e }, Ok(PublicKey::RSA(theirs))) => {
            without_leading_zeros(theirs.modulus.to_vec()) == *n
                && without_leading_zeros(theirs.exponent.to_vec()) == *e
        }
        (PublicMaterial::Ec { point, .. }, Ok(PublicKey::EC(theirs))) => theirs.data() == point,
        (PublicMaterial::Ed25519(point), _) => {
            info.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519
                && *info.subject_public_key.data == **point
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638 §3.1.
    #[test]
    fn the_thumbprint_of_a_key_is_that_of_the_rfc() {
        let jwk = serde_json::json!({
            "kty": "RSA", "alg": "RS256", "kid": "2011-04-29", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        });
        assert_eq!(
            jwk_thumbprint(jwk.as_object().unwrap()).as_deref(),
            Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
        );
    }

    #[test]
    fn a_thumbprint_may_be_encoded_hexadecimal_text() {
        let bytes: Vec<u8> = (0..20).collect();
        let hex = hex::encode(&bytes);
        let plain = thumbprint::<20>(Some(&URL_SAFE_NO_PAD.encode(&bytes))).unwrap();
        let spelled_out = thumbprint::<20>(Some(&URL_SAFE_NO_PAD.encode(hex))).unwrap();
        assert_eq!(plain.unwrap().as_slice(), bytes);
        assert_eq!(plain, spelled_out);
        assert_eq!(thumbprint::<20>(Some("AAAA")), Err(KeyFault::Certificate));
        assert_eq!(thumbprint::<20>(None), Ok(None));
    }
}
