use serde_json::json;

use super::*;
use crate::jose::testing::{PRIVATE, jwk, kid, set, signer};

fn load(jwk: Value, algorithm: Algorithm) -> Result<Signer, SignError> {
    let kid = jwk["kid"].as_str().unwrap_or_default().to_owned();
    Signer::from_key_set(&set(&[jwk]), &kid, algorithm, "JWT", Serialization::Compact)
}

fn without(mut jwk: Value, name: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(name);
    jwk
}

fn decoded(part: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn the_header_is_alg_kid_and_typ_and_the_payload_is_unchanged() {
    let text = signer(Algorithm::Es256)
        .sign(br#"{"b":1.0,"a":"<"}"#)
        .unwrap();
    let parts: Vec<_> = text.split('.').collect();
    assert_eq!(
        decoded(parts[0]),
        r#"{"alg":"ES256","kid":"ec256","typ":"JWT"}"#
    );
    assert_eq!(decoded(parts[1]), r#"{"b":1.0,"a":"<"}"#);
    assert_eq!(parts.len(), 3);
}

#[test]
fn missing_rsa_parameters_are_computed() {
    let whole = load(jwk("rsa", true), Algorithm::Rs256).unwrap();
    let bare = ["dp", "dq", "qi"]
        .iter()
        .fold(jwk("rsa", true), |key, name| without(key, name));
    let bare_signer = load(bare.clone(), Algorithm::Rs256).unwrap();
    assert_eq!(bare_signer.sign(b"{}").unwrap(), whole.sign(b"{}").unwrap());
    // A key that lacks only one of the three is rejected, and so are inconsistent numbers.
    load(without(jwk("rsa", true), "dq"), Algorithm::Rs256).unwrap_err();
    for (name, value) in [("p", "AQ"), ("q", "AA"), ("p", "Aw"), ("d", "Aw")] {
        let mut wrong = bare.clone();
        wrong[name] = json!(value);
        let error = load(wrong, Algorithm::Rs256).unwrap_err();
        assert_eq!(error, SignError::Inconsistent, "{name}");
    }
}

#[test]
fn a_token_names_the_algorithm_as_configured() {
    for (named, declared) in [("Ed25519", "EdDSA"), ("EdDSA", "Ed25519")] {
        let mut key = jwk("ed25519", true);
        key["alg"] = json!(declared);
        let algorithm = Algorithm::parse(named).unwrap();
        let text = load(key, algorithm).unwrap().sign(b"{}").unwrap();
        let header = decoded(text.split('.').next().unwrap());
        assert!(header.contains(&format!(r#""alg":"{named}""#)), "{header}");
    }
}

#[test]
fn empty_members_of_a_private_key_count_as_absent() {
    for nothing in [json!(null), json!(""), json!([])] {
        let mut key = jwk("rsa", true);
        for name in ["dp", "dq", "qi", "use", "key_ops", "alg", "x5c", "x5t"] {
            key[name] = nothing.clone();
        }
        load(key.clone(), Algorithm::Rs256).unwrap();
        key["d"] = nothing;
        assert_eq!(
            load(key, Algorithm::Rs256).unwrap_err(),
            SignError::PublicOnly
        );
    }
}

#[test]
fn a_key_without_an_id_is_named_by_an_empty_one() {
    let key = without(jwk("ec256", true), "kid");
    let text = load(key, Algorithm::Es256).unwrap().sign(b"{}").unwrap();
    assert_eq!(
        decoded(text.split('.').next().unwrap()),
        r#"{"alg":"ES256","typ":"JWT"}"#
    );
}

#[test]
fn the_flattened_form_is_the_same_token_in_json() {
    let compact = signer(Algorithm::Hs256).sign(b"{}").unwrap();
    let full = Signer::from_key_set(
        PRIVATE,
        "oct",
        Algorithm::Hs256,
        "JWT",
        Serialization::FlattenedJson,
    )
    .unwrap()
    .sign(b"{}")
    .unwrap();
    let parts: Vec<_> = compact.split('.').collect();
    assert_eq!(
        full,
        format!(
            r#"{{"payload":"{}","protected":"{}","signature":"{}"}}"#,
            parts[1], parts[0], parts[2]
        )
    );
}

#[test]
fn ids_and_types_are_escaped() {
    let mut key = jwk("oct", true);
    key["kid"] = json!("a\"b\n");
    let signer = Signer::from_key_set(
        &set(&[key]),
        "a\"b\n",
        Algorithm::Hs256,
        "\\",
        Serialization::Compact,
    )
    .unwrap();
    let text = signer.sign(b"{}").unwrap();
    let header: Value = serde_json::from_str(&decoded(text.split('.').next().unwrap())).unwrap();
    assert_eq!(
        header,
        json!({"alg": "HS256", "kid": "a\"b\n", "typ": "\\"})
    );
}

#[test]
fn a_key_that_does_not_fit_is_rejected_at_load() {
    let err = |jwk, algorithm| load(jwk, algorithm).expect_err("must not load");
    for algorithm in Algorithm::ALL {
        assert!(
            load(jwk(kid(algorithm), true), algorithm).is_ok(),
            "{algorithm}"
        );
    }
    assert_eq!(
        err(jwk("rsa", true), Algorithm::Es256),
        SignError::Algorithm(Algorithm::Es256)
    );
    assert_eq!(
        err(jwk("ec256", true), Algorithm::Es384),
        SignError::Algorithm(Algorithm::Es384)
    );
    assert_eq!(
        err(jwk("oct", true), Algorithm::Rs256),
        SignError::Algorithm(Algorithm::Rs256)
    );
    assert_eq!(
        err(jwk("ec256", false), Algorithm::Es256),
        SignError::PublicOnly
    );
    assert_eq!(
        err(jwk("rsa", false), Algorithm::Rs256),
        SignError::PublicOnly
    );
    assert_eq!(
        err(without(jwk("rsa", true), "p"), Algorithm::Rs256),
        SignError::Key(KeyFault::Member("p"))
    );
    let mut mixed = jwk("rsa", true);
    mixed["n"] = jwk("rsa2", true)["n"].clone();
    assert_eq!(err(mixed, Algorithm::Rs256), SignError::Inconsistent);
    let mut mixed = jwk("ec256", true);
    mixed["d"] = jwk("ed25519", true)["d"].clone();
    assert_eq!(err(mixed, Algorithm::Es256), SignError::Inconsistent);
    let mut encrypting = jwk("rsa", true);
    encrypting["use"] = json!("enc");
    assert_eq!(
        err(encrypting, Algorithm::Rs256),
        SignError::Key(KeyFault::OtherUse)
    );
    let mut declared = jwk("rsa", true);
    declared["alg"] = json!("PS256");
    assert_eq!(
        err(declared, Algorithm::Rs256),
        SignError::Algorithm(Algorithm::Rs256)
    );
    assert_eq!(
        err(json!({"kty": "oct", "k": "AAAA"}), Algorithm::Hs256),
        SignError::Key(KeyFault::ShortSecret(3))
    );
    assert_eq!(
        Signer::from_key_set(
            PRIVATE,
            "nope",
            Algorithm::Hs256,
            "JWT",
            Serialization::Compact
        )
        .unwrap_err(),
        SignError::UnknownKey
    );
}

#[test]
fn debug_output_shows_no_key() {
    let secret = jwk("oct", true)["k"].as_str().unwrap().to_owned();
    let shown = format!("{:?}", signer(Algorithm::Hs256));
    assert!(shown.contains("[redacted]") && !shown.contains(&secret));
}
