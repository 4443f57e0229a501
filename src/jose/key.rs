//! One public key of a key set, prepared for verification.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::jose::algorithm::Algorithm;
use crate::jose::edwards;
use crate::jose::material::{PublicMaterial, member, text_member};
use crate::jose::reason::Rejection;
use crate::jose::thumbprint::{self, Thumbprints};

/// A key that can verify signatures, with everything precomputed.
///
/// Signatures are verified with aws-lc-rs directly and not through `jsonwebtoken`, which builds its verifier again
/// for each token (for RSA the key itself, for ECDSA a check that the point is on the curve) and has no ES512. The
/// algorithms of a key and the restrictions in its JWK are resolved once, when the set is loaded.
#[derive(Debug)]
pub struct Key {
    kid: Box<str>,
    thumbprints: Thumbprints,
    /// One entry for each algorithm that this key may verify. Never empty.
    prepared: SmallVec<[(Algorithm, Prepared); 1]>,
}

/// A key prepared for one algorithm.
pub(super) enum Prepared {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// Why a key of a set is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("it is not a JSON object, or has duplicate members")]
    NotAnObject,
    #[error("its `kty` is unknown")]
    UnknownType,
    #[error("its curve is unknown")]
    UnknownCurve,
    #[error("its curve is secp256k1, and ES256K is not supported")]
    Secp256k1,
    #[error("its `{0}` is missing or malformed")]
    Member(&'static str),
    #[error("it is a private key")]
    Private,
    #[error("an RSA key of {0} bits: 2048 to 8192 are allowed")]
    RsaSize(usize),
    #[error("an RSA key with a public exponent below 3 or above 2^33, or an even one")]
    RsaExponent,
    #[error("an RSA key of a generator whose keys can be factored (ROCA, CVE-2017-15361)")]
    Roca,
    #[error("a secret of {0} bytes is shorter than the hash")]
    ShortSecret(usize),
    #[error("it is not a valid point of its curve")]
    NotOnCurve,
    #[error("its `use` is not `sig`")]
    OtherUse,
    #[error("its `key_ops` lack `{0}`")]
    OtherOperations(&'static str),
    #[error("its `alg` does not match the key, or is not a known signature algorithm")]
    OtherAlgorithm,
    #[error("its certificate or thumbprint is malformed, or belongs to another key")]
    Certificate,
}

impl Key {
    /// Creates a key from the members of a JWK (RFC 7517 §4).
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Key, KeyFault> {
        let kid = text_member(jwk, "kid")?.unwrap_or_default();
        if kid.len() > MAX_KID_BYTES {
            return Err(KeyFault::Member("kid"));
        }
        check_purpose(jwk, "verify")?;
        let material = PublicMaterial::from_jwk(jwk)?;
        // An `oct` key is always secret. Any other key with a `d` or `priv` was published accidentally and must not be trusted.
        if member(jwk, "d").is_some() || member(jwk, "priv").is_some() {
            return Err(KeyFault::Private);
        }
        let thumbprints = thumbprint::read(jwk, &material)?;
        Ok(Key {
            kid: kid.into(),
            thumbprints,
            prepared: material.prepare(declared_algorithm(jwk)?)?,
        })
    }

    /// The `kid`. Empty if the JWK has none.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn thumbprints(&self) -> &Thumbprints {
        &self.thumbprints
    }

    /// The algorithms that this key may verify.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.prepared.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether the key may verify a signature of this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms().any(|known| known == algorithm)
    }

    /// Verifies `signature` over `message` with exactly this algorithm.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Rejection> {
        let (_, prepared) = self
            .prepared
            .iter()
            .find(|(known, _)| *known == algorithm)
            .ok_or_else(Rejection::unusable_key)?;
        match prepared {
            Prepared::Hmac(key) => hmac::verify(key, message, signature),
            Prepared::Public(key) => key.verify_sig(message, signature),
            Prepared::Ed25519(_) if edwards::is_weak(signature) => {
                return Err(Rejection::bad_signature());
            }
            Prepared::Ed25519(key) => key.verify_sig(message, signature),
        }
        .map_err(|_| Rejection::bad_signature())
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Prepared::Hmac(_) => "[redacted]",
            Prepared::Public(_) => "public key",
            Prepared::Ed25519(_) => "Ed25519 public key",
        })
    }
}

/// Maximum length of a `kid` in bytes. A token with a longer one is rejected before the lookup.
const MAX_KID_BYTES: usize = 1024;

/// Rejects keys that are declared for another purpose (RFC 7517 §4.2, §4.3).
pub(super) fn check_purpose(
    jwk: &Map<String, Value>,
    operation: &'static str,
) -> Result<(), KeyFault> {
    if member(jwk, "use").is_some_and(|wanted| wanted != "sig") {
        return Err(KeyFault::OtherUse);
    }
    match member(jwk, "key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|one| one == operation) => Ok(()),
        Some(_) => Err(KeyFault::OtherOperations(operation)),
    }
}

/// The `alg` of the JWK: the only algorithm that the key may be used with (RFC 7517 §4.4).
pub(super) fn declared_algorithm(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, KeyFault> {
    match member(jwk, "alg") {
        None => Ok(None),
        Some(name) => name
            .as_str()
            .and_then(Algorithm::parse)
            .map(Some)
            .ok_or(KeyFault::OtherAlgorithm),
    }
}

/// A name for logs: truncated, and without control characters.
pub(super) fn for_log(name: &str) -> Cow<'_, str> {
    const MOST: usize = 64;
    if name.len() <= MOST && !name.contains(char::is_control) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.escape_debug().take(MOST).collect())
}
