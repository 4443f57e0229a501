//! The certificate members of a JWK: `x5c`, `x5t`, `x5t#S256` (RFC 7517 §4.7 to §4.9).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

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
