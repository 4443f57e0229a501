//! Tokens that we issue, for `auth/signer`.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair,
    PqdsaSigningAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use num_bigint::BigUint;
use serde_json::{Map, Value};

use crate::jose::algorithm::{Algorithm, install_crypto};
use crate::jose::key::{KeyFault, check_purpose, declared_algorithm};
use crate::jose::key_set::{KeySetError, raw_keys};
use crate::jose::material::{PublicMaterial, member, required, without_leading_zeros};
use crate::jose::strict_json;

/// The two serializations of a signed token (RFC 7515 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serialization {
    /// `header.payload.signature`
    Compact,
    /// The text `{"payload":…,"protected":…,"signature":…}`.
    FlattenedJson,
}

/// A private key, with the header of the tokens that it signs.
///
/// The key signs once when it is loaded, so that a key that does not fit is found at start and not by a client.
#[derive(Debug)]
pub struct Signer {
    key: PrivateKey,
    algorithm: Algorithm,
    /// The encoded protected header. It is the same for every token.
    protected: Box<str>,
    serialization: Serialization,
}

/// Why no signer or no signature can be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Set(#[from] KeySetError),
    #[error("no Keys have been found")]
    UnknownKey,
    #[error("the key cannot be used: {0}")]
    Key(#[from] KeyFault),
    #[error("the key has no private part")]
    PublicOnly,
    #[error("the key does not match the algorithm {0}")]
    Algorithm(Algorithm),
    #[error("the parts of the private key do not match")]
    Inconsistent,
    #[error("go-jose/go-jose: error in cryptographic primitive")]
    Failed,
}

impl Signer {
    /// Creates a signer from the private key `kid` of a JWK set. The other keys are not parsed.
    pub fn from_key_set(
        document: &[u8],
        kid: &str,
        algorithm: Algorithm,
        typ: &str,
        serialization: Serialization,
    ) -> Result<Signer, SignError> {
        install_crypto();
        // As in validation, the last of several keys with the same id wins.
        let jwk = raw_keys(document)?
            .into_iter()
            .filter_map(|raw| strict_json::object(raw.get().as_bytes()).ok())
            .rfind(|jwk| jwk.get("kid").and_then(Value::as_str).unwrap_or_default() == kid)
            .ok_or(SignError::UnknownKey)?;
        let signer = Signer {
            key: PrivateKey::from_jwk(&jwk, algorithm)?,
            algorithm,
            protected: protected_header(algorithm, kid, typ).into(),
            serialization,
        };
        signer.sign(b"{}")?;
        Ok(signer)
    }

    /// Signs a payload without changes: no claims are added.
    pub fn sign(&self, payload: &[u8]) -> Result<String, SignError> {
        let mut text = String::from(&*self.protected);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = self.key.sign(self.algorithm, text.as_bytes())?;
        Ok(match self.serialization {
            Serialization::Compact => {
                text.push('.');
                text.push_str(&signature);
                text
            }
            // All three are base64url, so nothing needs escaping.
            Serialization::FlattenedJson => {
                let payload = text.get(self.protected.len() + 1..).unwrap_or_default();
                format!(
                    r#"{{"payload":"{payload}","protected":"{}","signature":"{signature}"}}"#,
                    self.protected
                )
            }
        })
    }
}

#[cfg(test)]
impl Signer {
    /// Signs with another header, in the compact serialization.
    pub(crate) fn sign_with_header(
        &self,
        header: &str,
        payload: &[u8],
    ) -> Result<String, SignError> {
        let mut text = URL_SAFE_NO_PAD.encode(header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = self.key.sign(self.algorithm, text.as_bytes())?;
        Ok(format!("{text}.{signature}"))
    }
}

/// Exactly `alg`, `kid` and `typ`, in this order. `kid` is omitted for a key without an id.
fn protected_header(algorithm: Algorithm, kid: &str, typ: &str) -> String {
    let text = |value: &str| Value::from(value).to_string();
    let kid = match kid {
        "" => String::new(),
        kid => format!(r#""kid":{},"#, text(kid)),
    };
    URL_SAFE_NO_PAD.encode(format!(
        r#"{{"alg":"{algorithm}",{kid}"typ":{}}}"#,
        text(typ)
    ))
}

/// `jsonwebtoken` signs with every algorithm except ES512 and ML-DSA. It prepares the key again for each signature. Next to the
/// cost of the private operation this is negligible, unlike in verification (see [`Key`](crate::jose::key::Key)).
enum PrivateKey {
    JsonWebToken(jsonwebtoken::Algorithm, EncodingKey),
    P521(EcdsaKeyPair),
    MlDsa(Box<PqdsaKeyPair>),
}

impl PrivateKey {
    fn from_jwk(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<PrivateKey, SignError> {
        check_purpose(jwk, "sign")?;
        let public = PublicMaterial::from_jwk(jwk)?;
        let declared = declared_algorithm(jwk)?;
        if !public.fits(algorithm) || declared.is_some_and(|declared| !declared.means(algorithm)) {
            return Err(SignError::Algorithm(algorithm));
        }
        let private = match public {
            PublicMaterial::Secret(_) => Vec::new(),
            PublicMaterial::MlDsa { .. } if member(jwk, "priv").is_none() => {
                return Err(SignError::PublicOnly);
            }
            PublicMaterial::MlDsa { .. } => required(jwk, "priv")?,
            _ if member(jwk, "d").is_none() => return Err(SignError::PublicOnly),
            _ => required(jwk, "d")?,
        };
        let key = match &public {
            PublicMaterial::Secret(secret) => {
                let shortest = algorithm
                    .hmac()
                    .map_or(0, |hash| hash.digest_algorithm().output_len());
                if secret.len() < shortest {
                    return Err(KeyFault::ShortSecret(secret.len()).into());
                }
                EncodingKey::from_secret(secret)
            }
            PublicMaterial::Rsa { n, e } => {
                EncodingKey::from_rsa_der(&rsa_der(jwk, n, e, private)?)
            }
            PublicMaterial::Ec { point, .. } => {
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    curve(algorithm)?,
                    &private,
                    point,
                )
                .map_err(|_| SignError::Inconsistent)?;
                if algorithm == Algorithm::Es512 {
                    return Ok(PrivateKey::P521(pair));
                }
                let document = pair.to_pkcs8v1().map_err(|_| SignError::Inconsistent)?;
                EncodingKey::from_ec_der(document.as_ref())
            }
            // `priv` is the seed (RFC 9964 §4).
            PublicMaterial::MlDsa { key, .. } => {
                let pair = PqdsaKeyPair::from_seed(ml_dsa(algorithm)?, &private)
                    .map_err(|_| SignError::Inconsistent)?;
                if pair.public_key().as_ref() != key.as_slice() {
                    return Err(SignError::Inconsistent);
                }
                return Ok(PrivateKey::MlDsa(Box::new(pair)));
            }
            PublicMaterial::Ed25519(point) => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&private, point)
                    .map_err(|_| SignError::Inconsistent)?;
                let document = pair.to_pkcs8v1().map_err(|_| SignError::Inconsistent)?;
                EncodingKey::from_ed_der(document.as_ref())
            }
        };
        let theirs = algorithm
            .jsonwebtoken()
            .ok_or(SignError::Algorithm(algorithm))?;
        Ok(PrivateKey::JsonWebToken(theirs, key))
    }

    /// The signature in base64url.
    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<String, SignError> {
        match self {
            PrivateKey::JsonWebToken(theirs, key) => {
                debug_assert_eq!(algorithm.jsonwebtoken(), Some(*theirs));
                jsonwebtoken::crypto::sign(message, key, *theirs).map_err(|_| SignError::Failed)
            }
            PrivateKey::P521(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| URL_SAFE_NO_PAD.encode(signature))
                .map_err(|_| SignError::Failed),
            PrivateKey::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                pair.sign(message, &mut signature)
                    .map(|_| URL_SAFE_NO_PAD.encode(signature))
                    .map_err(|_| SignError::Failed)
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn curve(algorithm: Algorithm) -> Result<&'static EcdsaSigningAlgorithm, SignError> {
    match algorithm {
        Algorithm::Es256 => Ok(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => Ok(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::Es512 => Ok(&ECDSA_P521_SHA512_FIXED_SIGNING),
        other => Err(SignError::Algorithm(other)),
    }
}

fn ml_dsa(algorithm: Algorithm) -> Result<&'static PqdsaSigningAlgorithm, SignError> {
    match algorithm {
        Algorithm::MlDsa44 => Ok(&ML_DSA_44_SIGNING),
        Algorithm::MlDsa65 => Ok(&ML_DSA_65_SIGNING),
        Algorithm::MlDsa87 => Ok(&ML_DSA_87_SIGNING),
        other => Err(SignError::Algorithm(other)),
    }
}

/// An `RSAPrivateKey` (RFC 8017 §A.1.2), after a check that its numbers are consistent.
fn rsa_der(jwk: &Map<String, Value>, n: &[u8], e: &[u8], d: Vec<u8>) -> Result<Vec<u8>, SignError> {
    let (p, q) = (required(jwk, "p")?, required(jwk, "q")?);
    let has = |name: &str| member(jwk, name).is_some();
    let [dp, dq, qi] = if has("dp") || has("dq") || has("qi") {
        [
            required(jwk, "dp")?,
            required(jwk, "dq")?,
            required(jwk, "qi")?,
        ]
    } else {
        derived(&d, &p, &q).ok_or(SignError::Inconsistent)?
    };
    let private = [d, p, q, dp, dq, qi].map(without_leading_zeros);
    let [d, p, q, dp, dq, qi] = &private;
    rsa::KeyPair::from_components(&rsa::KeyPairComponents {
        public_key: rsa::PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: dp,
        dQ: dq,
        qInv: qi,
    })
    .map_err(|_| SignError::Inconsistent)?;
    let mut body = vec![0x02, 0x01, 0x00];
    for number in [n, e, d, p, q, dp, dq, qi] {
        // DER integers are signed: a leading one bit would make the number negative.
        let sign = match number.first() {
            Some(top) if *top < 0x80 => &[][..],
            _ => &[0][..],
        };
        write_der(&mut body, 0x02, &[sign, number].concat());
    }
    let mut document = Vec::new();
    write_der(&mut document, 0x30, &body);
    Ok(document)
}

/// `dp`, `dq` and `qi`, which speed up an RSA key and follow from the other numbers (RFC 7518 §6.3.2). They are
/// computed once, when the key is loaded, and checked with the rest of the key.
fn derived(d: &[u8], p: &[u8], q: &[u8]) -> Option<[Vec<u8>; 3]> {
    let [d, p, q] = [d, p, q].map(BigUint::from_bytes_be);
    let two = BigUint::from(2_u8);
    if p <= two || q <= two {
        return None;
    }
    let one = BigUint::from(1_u8);
    // By Fermat's little theorem, as p is a prime.
    let qi = q.modpow(&(&p - &two), &p);
    Some([&d % (&p - &one), &d % (&q - &one), qi].map(|number| number.to_bytes_be()))
}

/// Writes tag, length in the shortest form, and content (X.690 §8.1).
fn write_der(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length: Vec<u8> = without_leading_zeros(content.len().to_be_bytes().to_vec());
    match length.as_slice() {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        // A usize has at most eight bytes.
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests;
