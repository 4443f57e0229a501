//! Keys and tokens for tests.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::jose::{Algorithm, KeySet, Serialization, Signer};

#[path = "../../tests/it/support/sealed.rs"]
mod sealed;

pub(crate) use sealed::{seal, seal_box};

pub(crate) const PRIVATE: &[u8] = include_bytes!("../../tests/data/keys/private.json");

/// The id of the key that signs with this algorithm.
pub(crate) fn kid(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => "oct",
        Algorithm::Es256 => "ec256",
        Algorithm::Es384 => "ec384",
        Algorithm::Es512 => "ec521",
        Algorithm::EdDsa | Algorithm::Ed25519 => "ed25519",
        Algorithm::MlDsa44 => "mldsa44",
        Algorithm::MlDsa65 => "mldsa65",
        Algorithm::MlDsa87 => "mldsa87",
        _ => "rsa",
    }
}

/// The JWK with this id, with or without its private members.
pub(crate) fn jwk(kid: &str, private: bool) -> Value {
    let mut set: Value = serde_json::from_slice(PRIVATE).unwrap();
    let mut key = set["keys"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|key| key["kid"] == kid)
        .unwrap()
        .take();
    if !private {
        let members = key.as_object_mut().unwrap();
        for name in ["d", "p", "q", "dp", "dq", "qi", "priv"] {
            members.remove(name);
        }
    }
    key
}

/// The public half of every test key.
pub(crate) fn public_document() -> Vec<u8> {
    let kids = [
        "rsa", "rsa2", "ec256", "ec384", "ec521", "ed25519", "oct", "mldsa44", "mldsa65", "mldsa87",
    ];
    let keys: Vec<_> = kids.iter().map(|kid| jwk(kid, false)).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

pub(crate) fn public_set() -> KeySet {
    KeySet::parse(&public_document()).unwrap().set
}

pub(crate) fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

pub(crate) fn signer(algorithm: Algorithm) -> Signer {
    Signer::from_key_set(
        PRIVATE,
        kid(algorithm),
        algorithm,
        "JWT",
        Serialization::Compact,
    )
    .unwrap()
}

/// A token with this payload, signed with the test key for the algorithm.
pub(crate) fn token(algorithm: Algorithm, payload: &str) -> String {
    signer(algorithm).sign(payload.as_bytes()).unwrap()
}

/// A proof of possession with this key in its header (RFC 9449 §4.2), signed with the test key for the algorithm.
pub(crate) fn proof(algorithm: Algorithm, jwk: &Value, typ: &str, claims: &Value) -> String {
    let header = json!({"typ": typ, "alg": algorithm.as_str(), "jwk": jwk});
    signer(algorithm)
        .sign_with_header(&header.to_string(), claims.to_string().as_bytes())
        .unwrap()
}

/// A token with a custom header, signed with the `oct` key as HS256.
pub(crate) fn hs256_with_header(header: &str, payload: &str) -> String {
    use aws_lc_rs::hmac;
    let secret = URL_SAFE_NO_PAD
        .decode(jwk("oct", true)["k"].as_str().unwrap())
        .unwrap();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &secret),
        signed.as_bytes(),
    );
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}
