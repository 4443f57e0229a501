//! The numbers of a JWK: decoded, checked against the limits of a safe key, and prepared for verification.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::jose::algorithm::{Algorithm, KeyKind};
use crate::jose::edwards;
use crate::jose::key::{KeyFault, Prepared};

/// The public part of a JWK, decoded, with its numbers checked.
pub(super) enum PublicMaterial {
    Secret(Vec<u8>),
    /// Big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point: 4, x, y.
    Ec {
        kind: KeyKind,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    /// The public key of FIPS 204.
    MlDsa {
        kind: KeyKind,
        key: Vec<u8>,
    },
}

impl PublicMaterial {
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
        match text_member(jwk, "kty")? {
            Some("oct") => Ok(PublicMaterial::Secret(required(jwk, "k")?)),
            Some("RSA") => rsa(jwk),
            Some("EC") => ec(jwk),
            Some("OKP") => okp(jwk),
            Some("AKP") => akp(jwk),
            _ => Err(KeyFault::UnknownType),
        }
    }

    /// Whether a key of this kind can ever be used with `algorithm`.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match self {
            PublicMaterial::Secret(_) => KeyKind::Secret,
            PublicMaterial::Rsa { .. } => KeyKind::Rsa,
            PublicMaterial::Ec { kind, .. } | PublicMaterial::MlDsa { kind, .. } => *kind,
            PublicMaterial::Ed25519(_) => KeyKind::Ed25519,
        };
        algorithm.key_kind() == kind
    }

    /// Prepares the key for its declared algorithm, or for every algorithm that fits if it declares none.
    pub(super) fn prepare(
        &self,
        declared: Option<Algorithm>,
    ) -> Result<SmallVec<[(Algorithm, Prepared); 1]>, KeyFault> {
        if declared.is_some_and(|algorithm| !self.fits(algorithm)) {
            return Err(KeyFault::OtherAlgorithm);
        }
        let mut prepared = SmallVec::new();
        let mut fault = KeyFault::OtherAlgorithm;
        for algorithm in Algorithm::ALL.into_iter().filter(|a| self.fits(*a)) {
            if declared.is_some_and(|declared| !declared.means(algorithm)) {
                continue;
            }
            match self.prepare_for(algorithm) {
                Ok(ready) => prepared.push((algorithm, ready)),
                Err(why) => fault = why,
            }
        }
        if prepared.is_empty() {
            Err(fault)
        } else {
            Ok(prepared)
        }
    }

    fn prepare_for(&self, algorithm: Algorithm) -> Result<Prepared, KeyFault> {
        match self {
            PublicMaterial::Secret(secret) => {
                let hash = algorithm.hmac().ok_or(KeyFault::OtherAlgorithm)?;
                if secret.len() < hash.digest_algorithm().output_len() {
                    return Err(KeyFault::ShortSecret(secret.len()));
                }
                Ok(Prepared::Hmac(Box::new(hmac::Key::new(hash, secret))))
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
            PublicMaterial::MlDsa { key, .. } => {
                let parameters = algorithm.ml_dsa().ok_or(KeyFault::OtherAlgorithm)?;
                ParsedPublicKey::new(parameters, key)
                    .map(Prepared::Public)
                    .map_err(|_| KeyFault::Member("pub"))
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
    if has_roca_fingerprint(&n) {
        return Err(KeyFault::Roca);
    }
    // With e = 1 every message is its own signature. A huge e makes verification expensive (RFC 8017 §3.1).
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

/// Whether the modulus has the fingerprint of the flawed (ROCA) generator: modulo every small prime it is a power of
/// 65537 (Nemec et al., "The Return of Coppersmith's Attack", 2017). About one in 2^27 sound keys has it by chance.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.into_iter().all(|prime| {
        let rest = n
            .iter()
            .fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        // The powers repeat after fewer than `prime` steps.
        (0..prime).any(|_| {
            power = power * 65537 % prime;
            power == rest
        })
    })
}

fn ec(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
    let (kind, width) = match text_member(jwk, "crv")? {
        Some("P-256") => (KeyKind::P256, 32),
        Some("P-384") => (KeyKind::P384, 48),
        Some("P-521") => (KeyKind::P521, 66),
        Some("secp256k1") => return Err(KeyFault::Secp256k1),
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
    if edwards::is_weak(&point) {
        return Err(KeyFault::NotOnCurve);
    }
    Ok(PublicMaterial::Ed25519(point))
}

/// An `AKP` key says by `alg` which algorithm it is for (RFC 9964 §4).
fn akp(jwk: &Map<String, Value>) -> Result<PublicMaterial, KeyFault> {
    let (kind, length) = match text_member(jwk, "alg")?.and_then(Algorithm::parse) {
        Some(Algorithm::MlDsa44) => (KeyKind::MlDsa44, 1312),
        Some(Algorithm::MlDsa65) => (KeyKind::MlDsa65, 1952),
        Some(Algorithm::MlDsa87) => (KeyKind::MlDsa87, 2592),
        _ => return Err(KeyFault::OtherAlgorithm),
    };
    let key = required(jwk, "pub")?;
    if key.len() != length {
        return Err(KeyFault::Member("pub"));
    }
    Ok(PublicMaterial::MlDsa { kind, key })
}

/// A member with a value. `null` and empty values count as absent, because some providers write every member that
/// they know. A required member that is absent is still rejected.
pub(super) fn member<'j>(jwk: &'j Map<String, Value>, name: &str) -> Option<&'j Value> {
    jwk.get(name).filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    })
}

pub(super) fn text_member<'j>(
    jwk: &'j Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'j str>, KeyFault> {
    match member(jwk, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyFault::Member(name)),
    }
}

pub(super) fn required(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, KeyFault> {
    jwk.get(name)
        .and_then(Value::as_str)
        .and_then(|text| LENIENT.decode(text).ok())
        .ok_or(KeyFault::Member(name))
}

/// As in KrakenD, and unlike in tokens, padding and unused bits are tolerated in a provider's document.
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
