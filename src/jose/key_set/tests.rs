use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::testing::{hs256_with_header, jwk, public_document, set, token};
use crate::jose::verifier::Verifier;

mod newer;

fn with(mut jwk: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

/// Why a single key is skipped. `None` if it is usable.
fn fault(jwk: Value) -> Option<KeyFault> {
    let parsed = KeySet::parse(&set(&[jwk])).unwrap();
    parsed.skipped.into_iter().next().map(|skipped| skipped.why)
}

fn verdict(keys: &[Value], algorithm: Algorithm, text: &str) -> Result<(), Reason> {
    let keys = KeySet::parse(&set(keys)).unwrap().set;
    let verifier = Verifier::new(algorithm, KeyIdStrategy::Kid);
    verifier
        .verify(text, &keys)
        .map(|_| ())
        .map_err(|rejection| rejection.reason)
}

#[test]
fn every_kind_of_key_is_parsed() {
    let parsed = KeySet::parse(&public_document()).unwrap();
    assert_eq!(parsed.skipped, []);
    assert_eq!(parsed.set.len(), 10);
    let rsa: Vec<_> = parsed
        .set
        .by_id(KeyIdStrategy::Kid, "rsa")
        .unwrap()
        .algorithms()
        .collect();
    assert_eq!(rsa.len(), 6);
}

#[test]
fn ids_of_several_sets_are_found() {
    let parsed = |keys: &[Value]| KeySet::parse(&set(keys)).unwrap().set;
    let named = |kid: &str| with(jwk("ec256", false), json!({ "kid": kid }));
    let one = parsed(&[named("a"), named("a"), named("b"), named("")]);
    let other = parsed(&[named("c"), named("b"), named("")]);
    assert_eq!(KeySet::repeated([&one].into_iter()).len(), 0);
    let repeated = KeySet::repeated([&one, &other].into_iter());
    assert!(repeated.into_iter().eq(["b"]));
}

#[test]
fn an_unknown_type_of_key_does_not_affect_other_keys() {
    let keys = [
        json!({"kty": "AKP", "kid": "tomorrow", "alg": "ML-DSA-65", "pub": "AAAA"}),
        json!({"kty": "OKP", "kid": "x", "crv": "X25519", "x": "AAAA"}),
        json!({"kty": "EC", "kid": "k1", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}),
        json!("not even an object"),
        jwk("ec256", false),
    ];
    let parsed = KeySet::parse(&set(&keys)).unwrap();
    let why: Vec<_> = parsed
        .skipped
        .iter()
        .map(|skipped| (&*skipped.kid, skipped.why.clone()))
        .collect();
    assert_eq!(
        why,
        [
            ("tomorrow", KeyFault::Member("pub")),
            ("x", KeyFault::UnknownCurve),
            ("k1", KeyFault::Secp256k1),
            ("", KeyFault::NotAnObject),
        ]
    );
    assert_eq!(
        verdict(&keys, Algorithm::Es256, &token(Algorithm::Es256, "{}")),
        Ok(())
    );
}

#[test]
fn weak_keys_are_skipped() {
    let ones = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
    let rsa = |members| fault(with(jwk("rsa", false), members));
    assert_eq!(rsa(json!({"n": ones(128)})), Some(KeyFault::RsaSize(1024)));
    assert_eq!(rsa(json!({"n": ones(1025)})), Some(KeyFault::RsaSize(8200)));
    assert_eq!(rsa(json!({"e": "AQ"})), Some(KeyFault::RsaExponent));
    assert_eq!(rsa(json!({"e": "Ag"})), Some(KeyFault::RsaExponent));
    assert_eq!(rsa(json!({"e": ""})), Some(KeyFault::RsaExponent));
    assert_eq!(rsa(json!({"e": ones(9)})), Some(KeyFault::RsaExponent));
    assert_eq!(rsa(json!({"e": "Aw"})), None);
    let oct = |bytes| fault(json!({"kty": "oct", "k": ones(bytes)}));
    assert_eq!(oct(0), Some(KeyFault::ShortSecret(0)));
    assert_eq!(oct(31), Some(KeyFault::ShortSecret(31)));
    assert_eq!(oct(32), None);
    assert_eq!(
        fault(json!({"kty": "oct", "k": ones(40), "alg": "HS512"})),
        Some(KeyFault::ShortSecret(40))
    );
}

#[test]
fn a_secret_is_used_only_with_hashes_that_are_not_longer() {
    let set = KeySet::parse(&set(&[
        json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 50])}),
    ]))
    .unwrap()
    .set;
    let algorithms: Vec<_> = set.keys().next().unwrap().algorithms().collect();
    assert_eq!(algorithms, [Algorithm::Hs256, Algorithm::Hs384]);
}

#[test]
fn points_must_be_on_their_curve_and_have_its_width() {
    let ec = |members| fault(with(jwk("ec256", false), members));
    assert_eq!(
        ec(json!({"x": jwk("ec256", false)["y"]})),
        Some(KeyFault::NotOnCurve)
    );
    assert_eq!(ec(json!({"x": "AAAA"})), Some(KeyFault::Member("x")));
    assert_eq!(ec(json!({"crv": "P-384"})), Some(KeyFault::Member("x")));
    assert_eq!(ec(json!({"y": null})), Some(KeyFault::Member("y")));
}

#[test]
fn ed25519_points_of_small_order_are_skipped() {
    let okp = |bytes: [u8; 32]| {
        fault(with(
            jwk("ed25519", false),
            json!({"x": URL_SAFE_NO_PAD.encode(bytes)}),
        ))
    };
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut not_canonical = minus_one;
    not_canonical[0] = 0xee;
    for mut point in [[0; 32], one, minus_one, not_canonical] {
        assert_eq!(okp(point), Some(KeyFault::NotOnCurve));
        point[31] |= 0x80;
        assert_eq!(okp(point), Some(KeyFault::NotOnCurve));
    }
}

#[test]
fn keys_for_another_purpose_are_skipped() {
    let ec = |members| fault(with(jwk("ec256", false), members));
    assert_eq!(ec(json!({"use": "enc"})), Some(KeyFault::OtherUse));
    assert_eq!(
        ec(json!({"key_ops": ["encrypt"]})),
        Some(KeyFault::OtherOperations("verify"))
    );
    assert_eq!(
        ec(json!({"key_ops": "verify"})),
        Some(KeyFault::OtherOperations("verify"))
    );
    assert_eq!(
        ec(json!({"use": "sig", "key_ops": ["sign", "verify"], "alg": "ES256", "x-extra": 1})),
        None
    );
    assert_eq!(
        fault(with(jwk("oct", false), json!({"alg": "A256GCM"}))),
        Some(KeyFault::OtherAlgorithm)
    );
    assert_eq!(
        fault(with(jwk("rsa", false), json!({"alg": "ES256"}))),
        Some(KeyFault::OtherAlgorithm)
    );
    assert_eq!(fault(jwk("ec256", true)), Some(KeyFault::Private));
}

#[test]
fn empty_optional_members_count_as_absent() {
    for name in [
        "use", "key_ops", "alg", "x5c", "x5t", "x5t#S256", "x5u", "d", "kid", "ext",
    ] {
        for nothing in [json!(null), json!(""), json!([])] {
            for kid in ["rsa", "ec256", "ed25519", "oct"] {
                let key = with(jwk(kid, false), json!({ name: nothing }));
                assert_eq!(fault(key.clone()), None, "{kid}: {name} {nothing}");
                assert_eq!(
                    fault(with(key, json!({"use": "enc"}))),
                    Some(KeyFault::OtherUse)
                );
            }
        }
    }
    for (kid, name) in [("ec256", "x"), ("rsa", "n"), ("rsa", "e"), ("oct", "k")] {
        for nothing in [json!(null), json!(""), json!([])] {
            let key = with(jwk(kid, false), json!({ name: nothing }));
            assert!(fault(key).is_some(), "{kid} needs {name}");
        }
    }
}

#[test]
fn both_names_of_ed25519_are_one_algorithm() {
    for declared in [json!(null), json!("EdDSA"), json!("Ed25519")] {
        let key = with(jwk("ed25519", false), json!({"alg": declared}));
        for named in [Algorithm::EdDsa, Algorithm::Ed25519] {
            for configured in [Algorithm::EdDsa, Algorithm::Ed25519] {
                let text = token(named, "{}");
                assert_eq!(
                    verdict(std::slice::from_ref(&key), configured, &text),
                    Ok(()),
                    "key {declared}, token {named}, file {configured}"
                );
            }
        }
    }
    for other in ["Ed448", "ed25519", "ES256"] {
        let key = with(jwk("ed25519", false), json!({"alg": other}));
        assert_eq!(fault(key), Some(KeyFault::OtherAlgorithm), "{other}");
    }
}

#[test]
fn a_key_is_used_only_with_the_algorithm_it_declares() {
    let key = with(jwk("rsa", false), json!({"alg": "PS256"}));
    assert_eq!(
        verdict(
            std::slice::from_ref(&key),
            Algorithm::Ps256,
            &token(Algorithm::Ps256, "{}")
        ),
        Ok(())
    );
    assert_eq!(
        verdict(&[key], Algorithm::Rs256, &token(Algorithm::Rs256, "{}")),
        Err(Reason::UnusableKey)
    );
}

#[test]
fn a_token_for_a_skipped_key_is_rejected_with_that_reason() {
    let key = with(jwk("ec256", false), json!({"use": "enc"}));
    let text = token(Algorithm::Es256, "{}");
    assert_eq!(
        verdict(&[key], Algorithm::Es256, &text),
        Err(Reason::UnusableKey)
    );
    assert_eq!(
        verdict(&[jwk("rsa", false)], Algorithm::Es256, &text),
        Err(Reason::UnknownKey)
    );
}

#[test]
fn duplicate_members_reject_the_key_and_not_the_set() {
    let good = jwk("ec256", false).to_string();
    let twice = r#"{"kty":"oct","kid":"a","k":"AAAA","k":"BBBB"}"#;
    let parsed = KeySet::parse(format!(r#"{{"keys":[{twice},{good}]}}"#).as_bytes()).unwrap();
    assert_eq!(parsed.skipped[0].why, KeyFault::NotAnObject);
    assert_eq!(parsed.set.len(), 1);
    let sets_twice = format!(r#"{{"keys":[{good}],"keys":[{good}]}}"#);
    assert!(matches!(
        KeySet::parse(sets_twice.as_bytes()),
        Err(KeySetError::Syntax { .. })
    ));
}

#[test]
fn the_last_of_several_keys_with_one_id_wins() {
    let (first, last) = (
        jwk("rsa", false),
        with(jwk("rsa2", false), json!({"kid": "rsa"})),
    );
    let text = token(Algorithm::Rs256, "{}");
    assert_eq!(
        verdict(&[last.clone(), first.clone()], Algorithm::Rs256, &text),
        Ok(())
    );
    assert_eq!(
        verdict(&[first, last], Algorithm::Rs256, &text),
        Err(Reason::BadSignature)
    );
}

#[test]
fn a_token_without_kid_matches_only_a_key_without_kid() {
    let mut key = jwk("oct", false);
    let text = hs256_with_header(r#"{"alg":"HS256"}"#, "{}");
    assert_eq!(
        verdict(&[key.clone()], Algorithm::Hs256, &text),
        Err(Reason::UnknownKey)
    );
    key.as_object_mut().unwrap().remove("kid");
    assert_eq!(verdict(&[key.clone()], Algorithm::Hs256, &text), Ok(()));
    let named = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, "{}");
    assert_eq!(
        verdict(&[key], Algorithm::Hs256, &named),
        Err(Reason::UnknownKey)
    );
}

#[test]
fn thumbprints_find_keys_if_the_strategy_uses_them() {
    let sha1 = URL_SAFE_NO_PAD.encode((0..20).collect::<Vec<u8>>());
    let sha256 = URL_SAFE_NO_PAD.encode((0..32).collect::<Vec<u8>>());
    let key = with(jwk("oct", false), json!({"x5t": sha1, "x5t#S256": sha256}));
    let keys = KeySet::parse(&set(&[key])).unwrap().set;
    let found = |strategy, members: &str| {
        let text = hs256_with_header(&format!(r#"{{"alg":"HS256"{members}}}"#), "{}");
        keys.find(&Token::parse(&text).unwrap(), strategy, false)
            .is_ok()
    };
    let x5t = format!(r#","x5t":"{sha1}""#);
    assert!(found(KeyIdStrategy::X5t, &x5t));
    assert!(
        found(KeyIdStrategy::X5t, &format!(r#","kid":"{sha1}""#)),
        "kid stands in for x5t"
    );
    assert!(!found(KeyIdStrategy::X5t, r#","kid":"oct""#));
    assert!(found(
        KeyIdStrategy::X5tS256,
        &format!(r#","x5t#S256":"{sha256}""#)
    ));
    assert!(found(
        KeyIdStrategy::KidX5t,
        &format!(r#","kid":"oct"{x5t}"#)
    ));
    assert!(!found(
        KeyIdStrategy::KidX5t,
        &format!(r#","kid":"no"{x5t}"#)
    ));
    assert!(!found(KeyIdStrategy::KidX5t, r#","kid":"oct""#));
    assert!(!found(KeyIdStrategy::Kid, &x5t));
    for strategy in KeyIdStrategy::ALL {
        assert_eq!(KeyIdStrategy::parse(strategy.as_str()), Some(strategy));
    }
}

#[test]
fn a_certificate_must_belong_to_its_key_and_its_thumbprints() {
    for (algorithm, crv) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256"),
        (&rcgen::PKCS_ED25519, "Ed25519"),
    ] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&pair)
            .unwrap();
        let der = certificate.der().as_ref();
        let raw = pair.public_key_raw();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = match crv {
            "P-256" => {
                json!({"kty": "EC", "crv": crv, "x": text(&raw[1..33]), "y": text(&raw[33..])})
            }
            _ => json!({"kty": "OKP", "crv": crv, "x": text(raw)}),
        };
        let own = with(key.clone(), json!({"x5c": [STANDARD.encode(der)]}));
        let thumbprint = text(digest::digest(&digest::SHA256, der).as_ref());
        assert_eq!(fault(own.clone()), None);
        assert_eq!(
            fault(with(own.clone(), json!({"x5t#S256": thumbprint}))),
            None
        );
        for members in [
            json!({"x5t#S256": text(&[1; 32])}),
            json!({"x5t": text(&[1; 20])}),
            json!({"x5c": "x"}),
            json!({"x5c": [STANDARD.encode(der), 5]}),
            json!({"x5c": [STANDARD.encode([1, 2, 3])]}),
        ] {
            assert_eq!(
                fault(with(own.clone(), members)),
                Some(KeyFault::Certificate)
            );
        }
        let other = with(jwk("ec256", false), json!({"x5c": own["x5c"]}));
        assert_eq!(fault(other), Some(KeyFault::Certificate));
        let oct = with(jwk("oct", false), json!({"x5c": own["x5c"]}));
        assert_eq!(
            fault(oct),
            Some(KeyFault::Certificate),
            "a secret has no certificate"
        );
    }
}

#[test]
fn a_single_key_is_a_set_of_one() {
    let key = jwk("ed25519", false);
    let alone = KeySet::parse(key.to_string().as_bytes()).unwrap();
    assert!(alone.skipped.is_empty());
    assert_eq!(alone.set.len(), 1);
    // An error in it belongs to the key, as in a set.
    let bad = KeySet::parse(br#"{"kty":"oct","k":"AAAA"}"#).unwrap();
    assert_eq!((bad.skipped.len(), bad.set.len()), (1, 0));
}

#[test]
fn a_document_that_is_not_a_key_set_is_an_error() {
    for (document, error) in [
        (r#"{"keys":[]}"#, "no Keys has been found"),
        ("{}", "no Keys has been found"),
        (
            r#"{"kty":"oct","k":"AAAA","keys":[]}"#,
            "no Keys has been found",
        ),
        (r#"{"k":"AAAA"}"#, "no Keys has been found"),
    ] {
        assert_eq!(
            KeySet::parse(document.as_bytes()).unwrap_err().to_string(),
            error
        );
    }
    for document in [
        "",
        "<html>",
        "null",
        "[]",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":[}"#,
        r#"{"keys":[{}]} x"#,
    ] {
        assert!(
            matches!(
                KeySet::parse(document.as_bytes()),
                Err(KeySetError::Syntax { .. })
            ),
            "{document}"
        );
    }
    let error = KeySet::parse(br#"{"keys":"secret"}"#).unwrap_err();
    assert!(!error.to_string().contains("secret"));
    let huge = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert_eq!(KeySet::parse(&huge).unwrap_err(), KeySetError::TooLarge);
    let many = set(&vec![json!({}); MAX_KEYS + 1]);
    assert_eq!(KeySet::parse(&many).unwrap_err(), KeySetError::TooMany);
}

#[test]
fn deep_nesting_within_keys_and_next_to_them_is_handled() {
    let good = jwk("ec256", false);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let beside = format!(r#"{{"x":{deep},"keys":[{good}]}}"#);
    let inside = format!(r#"{{"keys":[{{"kty":{deep}}},{good}]}}"#);
    for document in [beside, inside] {
        if let Ok(parsed) = KeySet::parse(document.as_bytes()) {
            assert_eq!(parsed.set.len(), 1);
        }
    }
}

#[test]
fn names_of_skipped_keys_are_safe_for_a_log_line() {
    let parsed = KeySet::parse(&set(&[
        json!({"kty": "x", "kid": format!("\n\u{1b}[31m{}", "k".repeat(500))}),
    ]))
    .unwrap();
    let kid = &parsed.skipped[0].kid;
    assert!(!kid.contains(char::is_control) && kid.len() <= 64, "{kid}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_as_a_key_set_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse_anything(&bytes);
    }

    #[test]
    fn arbitrary_members_do_not_panic(
        kty in "oct|RSA|EC|OKP|x", crv in "P-256|P-521|Ed25519|x",
        texts in proptest::collection::vec("[A-Za-z0-9_=-]{0,100}", 8),
    ) {
        let [n, e, x, y, k, x5t, kid, alg] = &texts[..] else { unreachable!() };
        parse_anything(&set(&[json!({
            "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y, "k": k, "x5t": x5t, "kid": kid, "alg": alg,
        })]));
    }

    #[test]
    fn a_truncated_or_changed_set_does_not_panic(at in 0_usize..4000, byte in any::<u8>()) {
        let mut document = public_document();
        let at = at % document.len();
        parse_anything(&document[..at]);
        document[at] = byte;
        parse_anything(&document);
    }
}
