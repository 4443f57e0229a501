//! Signed tokens inside a body, compared opened: their bytes may differ, what they say may not.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::support::Json;

/// The value with every signed token replaced by header, payload, and whether its signature holds.
pub fn open(value: &Json, keys: &[Json]) -> Json {
    match value {
        Json::Object(members) => Json::Object(
            members
                .iter()
                .map(|(k, v)| (k.clone(), open(v, keys)))
                .collect(),
        ),
        Json::Array(items) => Json::Array(items.iter().map(|v| open(v, keys)).collect()),
        Json::String(s) => token(s, keys).unwrap_or_else(|| value.clone()),
        other => other.clone(),
    }
}

fn token(text: &str, keys: &[Json]) -> Option<Json> {
    let json = |form: Option<Json>, key| form?.field(key)?.text().map(str::to_owned);
    let (form, parts) = if text.starts_with("{\"") {
        let form = Json::parse(text).ok();
        let part = |key| json(form.clone(), key);
        (
            "full",
            vec![part("protected")?, part("payload")?, part("signature")?],
        )
    } else {
        ("compact", text.split('.').map(str::to_owned).collect())
    };
    let [protected, payload, signature] = parts.as_slice() else {
        return None;
    };
    if !protected.starts_with("eyJ") {
        return None;
    }
    let header = Json::parse(&String::from_utf8(decode(protected)?).ok()?).ok()?;
    let claims = Json::parse(&String::from_utf8(decode(payload)?).ok()?).ok()?;
    let holds = holds(
        &header,
        format!("{protected}.{payload}").as_bytes(),
        &decode(signature)?,
        keys,
    )?;
    Some(Json::Object(vec![
        ("form".into(), form.into()),
        ("header".into(), header),
        ("payload".into(), claims),
        ("signature_ok".into(), Json::Bool(holds)),
    ]))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// Whether one of the keys of the case made this signature.
fn holds(header: &Json, signed: &[u8], signature: &[u8], keys: &[Json]) -> Option<bool> {
    let alg = header.field("alg")?.text()?;
    let same_kid = |key: &&Json| key.field("kid") == header.field("kid");
    Some(
        keys.iter()
            .filter(same_kid)
            .any(|key| verify(key, alg, signed, signature) == Some(true)),
    )
}

fn verify(key: &Json, alg: &str, signed: &[u8], signature: &[u8]) -> Option<bool> {
    let part = |name: &str| key.field(name).and_then(Json::text).and_then(decode);
    let kind = key.field("kty")?.text()?;
    let mac = match (kind, alg) {
        ("oct", "HS256") => hmac::HMAC_SHA256,
        ("oct", "HS384") => hmac::HMAC_SHA384,
        ("oct", "HS512") => hmac::HMAC_SHA512,
        ("RSA", _) => {
            let rsa = match alg {
                "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                "RS512" => &RSA_PKCS1_2048_8192_SHA512,
                _ => return None,
            };
            let key = RsaPublicKeyComponents {
                n: part("n")?,
                e: part("e")?,
            };
            return Some(key.verify(rsa, signed, signature).is_ok());
        }
        _ => return None,
    };
    Some(hmac::verify(&hmac::Key::new(mac, &part("k")?), signed, signature).is_ok())
}
