//! Post-quantum keys, and tokens without a key id.

use serde_json::json;

use super::*;

#[test]
fn an_ml_dsa_key_belongs_to_the_algorithm_that_it_declares() {
    for (kid, other) in [
        ("mldsa44", "ML-DSA-65"),
        ("mldsa65", "ML-DSA-87"),
        ("mldsa87", "ES256"),
    ] {
        assert_eq!(fault(jwk(kid, false)), None);
        assert_eq!(fault(jwk(kid, true)), Some(KeyFault::Private));
        assert!(
            fault(with(jwk(kid, false), json!({"alg": other}))).is_some(),
            "{kid}"
        );
        assert_eq!(
            fault(with(jwk(kid, false), json!({"alg": null}))),
            Some(KeyFault::OtherAlgorithm)
        );
    }
}

/// Made by another implementation, dilithium-py.
#[test]
fn ml_dsa_tokens_of_another_implementation_verify() {
    let tokens: Value = serde_json::from_slice(include_bytes!(
        "../../../../tests/data/keys/ml-dsa-tokens.json"
    ))
    .unwrap();
    for (name, text) in tokens.as_object().unwrap() {
        let (algorithm, text) = (Algorithm::parse(name).unwrap(), text.as_str().unwrap());
        let key = [jwk(
            &name.to_lowercase().replacen('-', "", 2).replace('-', ""),
            false,
        )];
        assert_eq!(verdict(&key, algorithm, text), Ok(()), "{name}");
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let changed = format!("{signed}.{first}{}", &signature[1..]);
        assert_eq!(
            verdict(&key, algorithm, &changed),
            Err(Reason::BadSignature)
        );
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes.pop();
        let short = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(verdict(&key, algorithm, &short), Err(Reason::BadSignature));
        let long = format!("{signed}.{}", "A".repeat(9000));
        assert_eq!(verdict(&key, algorithm, &long), Err(Reason::Malformed));
    }
}

#[test]
fn a_token_without_a_key_id_may_use_the_only_key() {
    let find = |keys: &[Value], header: &str, lone_key: bool| {
        let keys = KeySet::parse(&set(keys)).unwrap().set;
        let verifier = Verifier {
            lone_key,
            ..Verifier::new(Algorithm::Hs256, KeyIdStrategy::Kid)
        };
        let text = hs256_with_header(header, "{}");
        verifier
            .verify(&text, &keys)
            .map(drop)
            .map_err(|rejection| rejection.reason)
    };
    let (oct, other) = (jwk("oct", false), jwk("rsa", false));
    let encryption = with(jwk("ec256", false), json!({"use": "enc"}));
    let bare = r#"{"alg":"HS256"}"#;
    assert_eq!(find(std::slice::from_ref(&oct), bare, true), Ok(()));
    assert_eq!(find(&[oct.clone(), encryption], bare, true), Ok(()));
    assert_eq!(
        find(std::slice::from_ref(&oct), bare, false),
        Err(Reason::UnknownKey)
    );
    assert_eq!(
        find(&[oct.clone(), other.clone()], bare, true),
        Ok(()),
        "the other one is of no use for this algorithm"
    );
    let second = with(oct.clone(), json!({"kid": "second"}));
    assert_eq!(
        find(&[oct.clone(), second], bare, true),
        Err(Reason::UnknownKey)
    );
    assert_eq!(find(&[other], bare, true), Err(Reason::UnusableKey));
    for named in [
        r#"{"alg":"HS256","kid":""}"#,
        r#"{"alg":"HS256","kid":"x"}"#,
        r#"{"alg":"HS256","x5t":"x"}"#,
    ] {
        assert_eq!(
            find(std::slice::from_ref(&oct), named, true),
            Err(Reason::UnknownKey),
            "{named}"
        );
    }
}

#[test]
fn the_key_that_fits_is_used_among_keys_with_the_same_id() {
    let twins = [
        jwk("oct", false),
        with(jwk("rsa", false), json!({"kid": "oct"})),
    ];
    for keys in [twins.clone(), [twins[1].clone(), twins[0].clone()]] {
        let keys = KeySet::parse(&set(&keys)).unwrap().set;
        let verifier = Verifier::new(Algorithm::Hs256, KeyIdStrategy::Kid);
        let text = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, "{}");
        assert!(verifier.verify(&text, &keys).is_ok());
    }
}
