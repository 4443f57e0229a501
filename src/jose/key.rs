//! One public key of a key set, ready to verify.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::jose::algorithm::{Algorithm, KeyKind};
use crate::jose::reason::Refusal;
use crate::jose::thumbprint::{self, Thumbprints};

/// A key that may verify, with everything that can be computed beforehand.
///
/// Verification goes to aws-lc-rs directly and not through `jsonwebtoken`: that one builds its verifier anew for each
/// token (for RSA the key itself, for ECDSA a check that the point is on the curve) and has no ES512. Which key is used,
/// for which algorithm, and what its JWK says about that, is settled here once, when the set is loaded.
#[derive(Debug)]
pub struct Key {
    kid: Box<str>,
    thumbprints: Thumbprints,
    /// One entry for each algorithm this key may verify; never empty.
    prepared: SmallVec<[(Algorithm, Prepared); 1]>,
}

enum Prepared {
    Hmac(hmac::Key),
    Public(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// Why a key of a set is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("it is not a JSON object, or has duplicate members")]
    NotAnObject,
    #[error("its `kty` is unknown")]
    UnknownType,
    #[error("its curve is unknown")]
    UnknownCurve,
    #[error("its `{0}` is missing or malformed")]
    Member(&'static str),
    #[error("it is a private key")]
    Private,
    #[error("an RSA key of {0} bits: 2048 to 8192 are allowed")]
    RsaSize(usize),
    #[error("an RSA key with a public exponent below 3 or above 2^33, or an even one")]
    RsaExponent,
    #[error("a secret of {0} bytes is shorter than the hash")]
    ShortSecret(usize),
    #[error("it is no valid point of its curve")]
    NotOnCurve,
    #[error("its `use` is not `sig`")]
    OtherUse,
    #[error("its `key_ops` lack `{0}`")]
    OtherOperations(&'static str),
    #[error("its `alg` does not fit the key, or is no signature algorithm we know")]
    OtherAlgorithm,
    #[error("its certificate or thumbprint is malformed, or belongs to another key")]
    Certificate,
}

impl Key {
    /// Makes a key of the members of a JWK (RFC 7517 §4).
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Key, KeyFault> {
        let kid = text_member(jwk, "kid")?.unwrap_or_default();
        if kid.len() > MAX_KID_BYTES {
            return Err(KeyFault::Member("kid"));
        }
        check_purpose(jwk, "verify")?;
        let material = PublicMaterial::from_jwk(jwk)?;
        // `oct` keys are secret by nature; any other key with a `d` was published by mistake and must not be trusted.
        if jwk.contains_key("d") {
            return Err(KeyFault::Private);
        }
        let thumbprints = thumbprint::read(jwk, &material)?;
        Ok(Key {
            kid: kid.into(),
            thumbprints,
            prepared: material.prepare(declared_algorithm(jwk)?)?,
        })
    }

    /// `kid`, empty when the JWK has none.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn thumbprints(&self) -> &Thumbprints {
        &self.thumbprints
    }

    /// The algorithms this key may verify.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.prepared.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Verifies `signature` over `message` with exactly this algorithm.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let (_, prepared) = self
            .prepared
            .iter()
            .find(|(known, _)| *known == algorithm)
            .ok_or_else(Refusal::unusable_key)?;
        match prepared {
            Prepared::Hmac(key) => hmac::verify(key, message, signature),
            Prepared::Public(key) => key.verify_sig(message, signature),
            Prepared::Ed25519(_) if has_small_order(signature) => {
                return Err(Refusal::bad_signature());
            }
            Prepared::Ed25519(key) => key.verify_sig(message, signature),
        }
        .map_err(|_| Refusal::bad_signature())
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

/// Longest `kid` that is kept, in bytes; a token with a longer one is refused before the lookup.
const MAX_KID_BYTES: usize = 1024;

/// The public part of a JWK, decoded and checked as far as its numbers go.
pub(super) enum PublicMaterial {
    Secret(Vec<u8>),
    /// Big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point uncompressed: 4, x, y.
    Ec {
        kind: KeyKind,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

impl PublicMaterial {
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
        match text_member(jwk, "kty")? {
            Some("oct") => Ok(PublicMaterial::Secret(required(jwk, "k")?)),
            Some("RSA") => rsa(jwk),
            Some("EC") => ec(jwk),
            Some("OKP") => okp(jwk),
            _ => Err(KeyFault::UnknownType),
        }
    }

    /// Whether a key of this kind can ever be used with `algorithm`.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match self {
            PublicMaterial::Secret(_) => KeyKind::Secret,
            PublicMaterial::Rsa { .. } => KeyKind::Rsa,
            PublicMaterial::Ec { kind, .. } => *kind,
            PublicMaterial::Ed25519(_) => KeyKind::Ed25519,
        };
        algorithm.key_kind() == kind
    }

    /// Prepares the key for its declared algorithm, or for all that fit if it declares none.
    fn prepare(
        &self,
        declared: Option<Algorithm>,
    ) -> Result<SmallVec<[(Algorithm, Prepared); 1]>, KeyFault> {
        if declared.is_some_and(|algorithm| !self.fits(algorithm)) {
            return Err(KeyFault::OtherAlgorithm);
        }
        let mut prepared = SmallVec::new();
        let mut fault = KeyFault::OtherAlgorithm;
        for algorithm in Algorithm::ALL.into_iter().filter(|a| self.fits(*a)) {
            if declared.is_some_and(|declared| declared != algorithm) {
                continue;
            }
            match self.prepare_for(algorithm) {
                Ok(ready) => prepared.push((algorithm, ready)),
                Err(why) => fault = why,
            }
        }
        match prepared.is_empty() {
            false => Ok(prepared),
            true => Err(fault),
        }
    }

    fn prepare_for(&self, algorithm: Algorithm) -> Result<Prepared, KeyFault> {
        match self {
            PublicMaterial::Secret(secret) => {
                let hash = algorithm.hmac().ok_or(KeyFault::OtherAlgorithm)?;
                if secret.len() < hash.digest_algorithm().output_len() {
                    return Err(KeyFault::ShortSecret(secret.len()));
                }
                Ok(Prepared::Hmac(hmac::Key::new(hash, secret)))
            }
            PublicMaterial::Rsa { n, e } => {
                let parameters = algorithm.rsa().ok_or(KeyFault::OtherAlgorithm)?;
                RsaPublicKeyComponents { n, e }
                    .to_parsed_public_key(parameters)
                    .map(Prepared::Public)
                    .map_err(|_| KeyFault::Member("n"))
            }
            PublicMaterial::Ec { point, .. } => {
                let parameters = algorithm.ecdsa().ok_or(KeyFault::OtherAlgorithm)?;
                ParsedPublicKey::new(parameters, point)
                    .map(Prepared::Public)
                    .map_err(|_| KeyFault::NotOnCurve)
            }
            PublicMaterial::Ed25519(point) => ParsedPublicKey::new(&ED25519, point)
                .map(Prepared::Ed25519)
                .map_err(|_| KeyFault::NotOnCurve),
        }
    }
}

fn rsa(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
    let n = without_leading_zeros(required(jwk, "n")?);
    let e = without_leading_zeros(required(jwk, "e")?);
    let bits = n.len() * 8 - n.first().map_or(0, |top| top.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyFault::RsaSize(bits));
    }
    if n.last().is_none_or(|low| low % 2 == 0) {
        return Err(KeyFault::Member("n"));
    }
    // With e = 1 every text is its own signature; a huge e makes verification a burden (RFC 8017 §3.1).
    let exponent = match e.len() {
        1..=8 => e
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)),
        _ => 0,
    };
    if exponent < 3 || exponent % 2 == 0 || exponent >= 1 << 33 {
        return Err(KeyFault::RsaExponent);
    }
    Ok(PublicMaterial::Rsa { n, e })
}

fn ec(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
    let (kind, width) = match text_member(jwk, "crv")? {
        Some("P-256") => (KeyKind::P256, 32),
        Some("P-384") => (KeyKind::P384, 48),
        Some("P-521") => (KeyKind::P521, 66),
        _ => return Err(KeyFault::UnknownCurve),
    };
    let (x, y) = (required(jwk, "x")?, required(jwk, "y")?);
    if x.len() != width {
        return Err(KeyFault::Member("x"));
    }
    if y.len() != width {
        return Err(KeyFault::Member("y"));
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    Ok(PublicMaterial::Ec { kind, point })
}

fn okp(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
    if text_member(jwk, "crv")? != Some("Ed25519") {
        return Err(KeyFault::UnknownCurve);
    }
    let point = required(jwk, "x")?;
    if point.len() != 32 {
        return Err(KeyFault::Member("x"));
    }
    if has_small_order(&point) || !is_canonical(&point) {
        return Err(KeyFault::NotOnCurve);
    }
    Ok(PublicMaterial::Ed25519(point))
}

/// Refuses keys that say they are for something else (RFC 7517 §4.2, §4.3).
pub(super) fn check_purpose(
    jwk: &Map<String, Value>,
    operation: &'static str,
) -> Result<(), KeyFault> {
    if jwk.get("use").is_some_and(|wanted| wanted != "sig") {
        return Err(KeyFault::OtherUse);
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|one| one == operation) => Ok(()),
        Some(_) => Err(KeyFault::OtherOperations(operation)),
    }
}

/// The JWK's `alg`: the only one the key may be used with (RFC 7517 §4.4).
pub(super) fn declared_algorithm(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, KeyFault> {
    match jwk.get("alg") {
        None => Ok(None),
        Some(name) => name
            .as_str()
            .and_then(Algorithm::parse)
            .map(Some)
            .ok_or(KeyFault::OtherAlgorithm),
    }
}

pub(super) fn text_member<'j>(
    jwk: &'j Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'j str>, KeyFault> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyFault::Member(name)),
    }
}

pub(super) fn required(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, KeyFault> {
    text_member(jwk, name)?
        .and_then(|text| LENIENT.decode(text).ok())
        .ok_or(KeyFault::Member(name))
}

/// As KrakenD does, unlike in tokens: padding and unused bits are tolerated in what the operator's provider publishes.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    PAD_INDIFFERENT.with_decode_allow_trailing_bits(true),
);

pub(super) fn without_leading_zeros(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.iter().position(|byte| *byte != 0) {
        Some(0) => bytes,
        Some(first) => bytes.get(first..).unwrap_or_default().to_vec(),
        None => Vec::new(),
    }
}

/// Whether the first 32 bytes are a point of order 1, 2, 4 or 8, under which one signature fits many texts
/// (RFC 8032 §5.1.7 leaves that to us). The sign bit is ignored; spellings with y ≥ p are no canonical points anyway.
fn has_small_order(bytes: &[u8]) -> bool {
    let Some(point) = bytes.first_chunk::<32>() else {
        return false;
    };
    let mut y = *point;
    y[31] &= 0x7f;
    SMALL_ORDER.contains(&y) || !is_canonical(&y)
}

/// Whether y < p = 2^255 - 19, little-endian, sign bit ignored.
fn is_canonical(point: &[u8]) -> bool {
    let Some(point) = point.first_chunk::<32>() else {
        return false;
    };
    let [low, middle @ .., high] = point;
    !(high & 0x7f == 0x7f && middle.iter().all(|byte| *byte == 0xff) && *low >= 0xed)
}

/// The y coordinates of the eight points of small order on edwards25519, little-endian: those with 8·P = identity.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
];

/// A name for logs: cut, and free of control characters.
pub(super) fn for_log(name: &str) -> Cow<'_, str> {
    const MOST: usize = 64;
    if name.len() <= MOST && !name.contains(char::is_control) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.escape_debug().take(MOST).collect())
}
