use proptest::prelude::*;

use super::*;
use crate::jose::testing::{hs256_with_header, kid, public_set, token};
use crate::jose::verifier::Verifier;

const CLAIMS: &str = r#"{"exp":4102444800,"iss":"https://issuer.example.com/","sub":"u1"}"#;

fn hs256() -> Verifier {
    Verifier::new(Algorithm::Hs256, KeyIdStrategy::Kid)
}

fn rejected(text: &str) -> Reason {
    hs256()
        .verify(text, &public_set())
        .expect_err("must be refused")
        .reason
}

fn rejected_header(header: &str) -> Reason {
    rejected(&hs256_with_header(header, CLAIMS))
}

#[test]
fn a_token_of_every_algorithm_verifies_and_only_as_that_algorithm() {
    let keys = public_set();
    for algorithm in Algorithm::ALL {
        let text = token(algorithm, CLAIMS);
        for tried in Algorithm::ALL {
            let verifier = Verifier::new(tried, KeyIdStrategy::Kid);
            match verifier.verify(&text, &keys) {
                Ok(claims) => {
                    assert!(tried.means(algorithm));
                    assert_eq!(claims.subject(), Some("u1"));
                }
                Err(rejection) => {
                    assert!(!tried.means(algorithm), "{rejection}");
                    assert_eq!(rejection.reason, Reason::AlgNotAllowed);
                }
            }
        }
    }
}

#[test]
fn jsonwebtoken_verifies_our_signatures() {
    for algorithm in Algorithm::ALL {
        // `jsonwebtoken` does not know the name of RFC 9864.
        if algorithm == Algorithm::Ed25519 {
            continue;
        }
        let Some(theirs) = algorithm.jsonwebtoken() else {
            continue;
        };
        let jwk = serde_json::from_value(crate::jose::testing::jwk(kid(algorithm), false)).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let mut validation = jsonwebtoken::Validation::new(theirs);
        validation.validate_aud = false;
        let text = token(algorithm, CLAIMS);
        let read = jsonwebtoken::decode::<Value>(&text, &key, &validation).unwrap();
        assert_eq!(read.claims["sub"], "u1", "{algorithm}");
    }
}

#[test]
fn the_algorithm_is_compared_byte_for_byte() {
    for header in [
        r#"{"alg":"none","kid":"oct"}"#,
        r#"{"alg":"NONE","kid":"oct"}"#,
        r#"{"alg":"hs256","kid":"oct"}"#,
        r#"{"alg":"HS256 ","kid":"oct"}"#,
        r#"{"alg":"HS512","kid":"oct"}"#,
        r#"{"alg":"RS256","kid":"rsa"}"#,
        r#"{"alg":["HS256"],"kid":"oct"}"#,
        r#"{"alg":null,"kid":"oct"}"#,
        r#"{"Alg":"HS256","kid":"oct"}"#,
        r#"{"kid":"oct"}"#,
    ] {
        assert_eq!(rejected_header(header), Reason::AlgNotAllowed, "{header}");
    }
}

#[test]
fn a_public_key_used_as_a_secret_is_rejected() {
    assert_eq!(
        rejected_header(r#"{"alg":"HS256","kid":"rsa"}"#),
        Reason::UnusableKey
    );
}

#[test]
fn extensions_are_rejected_with_any_value() {
    for crit in [
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":["b64"]"#,
        r#""crit":["exp"]"#,
        r#""crit":"exp""#,
        r#""b64":false"#,
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":"oct",{crit}}}"#);
        assert_eq!(rejected_header(&header), Reason::CriticalHeader, "{crit}");
    }
}

#[test]
fn keys_inside_the_token_are_ignored() {
    let header = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"jku":"https://evil.example","x5u":"https://evil.example","x5c":["x"]}"#;
    assert_eq!(rejected_header(header), Reason::UnknownKey);
}

#[test]
fn a_key_id_is_a_short_string_or_absent() {
    for (id, reason) in [
        ("5".to_owned(), Reason::Malformed),
        ("null".to_owned(), Reason::Malformed),
        ("[\"oct\"]".to_owned(), Reason::Malformed),
        (format!("\"{}\"", "k".repeat(1025)), Reason::Malformed),
        (format!("\"{}\"", "k".repeat(1024)), Reason::UnknownKey),
        ("\"../../etc/passwd\"".to_owned(), Reason::UnknownKey),
        ("\"oct\\u0000\"".to_owned(), Reason::UnknownKey),
        ("\"' OR 1=1 --\"".to_owned(), Reason::UnknownKey),
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":{id}}}"#);
        assert_eq!(rejected_header(&header), reason, "{id}");
    }
    assert_eq!(rejected_header(r#"{"alg":"HS256"}"#), Reason::UnknownKey);
}

#[test]
fn a_rejected_key_id_is_named_with_its_type() {
    for (strategy, member) in [
        (KeyIdStrategy::Kid, "kid"),
        (KeyIdStrategy::X5t, "x5t"),
        (KeyIdStrategy::X5tS256, "x5t#S256"),
    ] {
        let header = format!(r#"{{"alg":"HS256",{member:?}:12345}}"#);
        let text = hs256_with_header(&header, "{}");
        let rejection = Token::parse(&text).unwrap().key_id(strategy).unwrap_err();
        let told = format!("header member {member:?} must be a string, but is a number");
        assert!(rejection.to_string().ends_with(&told), "{rejection}");
    }
}

#[test]
fn header_json_is_parsed_strictly() {
    let deep = format!(
        r#"{{"alg":"HS256","kid":"oct","x":{}1{}}}"#,
        "[".repeat(64),
        "]".repeat(64)
    );
    for header in [
        r#"{"alg":"HS256","alg":"HS256","kid":"oct"}"#,
        r#"{"alg":"HS256","kid":"oct","kid":"oct"}"#,
        r#"["HS256"]"#,
        r#"{"alg":"HS256","kid":"oct"} "x""#,
        "",
        &deep,
    ] {
        assert_eq!(rejected_header(header), Reason::Malformed, "{header}");
    }
}

#[test]
fn one_token_has_one_spelling() {
    let good = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, r#"{"a":1}"#);
    hs256().verify(&good, &public_set()).unwrap();
    let (head, tail) = good.split_at(10);
    for odd in [
        format!("{good}="),
        format!("{good}=="),
        format!(" {good}"),
        format!("{good} "),
        format!("{head} {tail}"),
        format!("{head}\n{tail}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.x.y"),
        good.replace('.', ".."),
        good.replace('.', ""),
        "..".to_owned(),
        String::new(),
        format!(r#"{{"protected":"x","payload":"y","signature":"{good}"}}"#),
        "a".repeat(MAX_TOKEN_BYTES + 1),
        ".".repeat(MAX_TOKEN_BYTES),
    ] {
        assert_eq!(rejected(&odd), Reason::Malformed);
    }
}

#[test]
fn unused_bits_of_the_last_character_must_be_zero() {
    let good = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, r#"{"a":1}"#);
    // 32 bytes leave two unused bits in the last of 43 characters.
    let last = good.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    assert_eq!(at % 4, 0);
    let twin = format!("{}{}", &good[..good.len() - 1], &alphabet[at + 1..at + 2]);
    assert_eq!(rejected(&twin), Reason::Malformed);
}

#[test]
fn the_scheme_is_optional_and_case_insensitive() {
    for (value, token) in [
        ("Bearer x", Some("x")),
        ("bEaReR x", Some("x")),
        ("Bearer   x", Some("x")),
        ("x.y.z", Some("x.y.z")),
        ("Bearer", Some("Bearer")),
        ("Bearer ", Some("Bearer ")),
        ("Bearer  ", Some("")),
        ("Basic eDp5", Some("Basic eDp5")),
        ("Bearer\tx", Some("Bearer\tx")),
        ("", None),
    ] {
        assert_eq!(bearer(value.as_bytes()), Ok(token), "{value}");
    }
    assert_eq!(
        bearer(b"Bearer \xff").unwrap_err().reason,
        Reason::Malformed
    );
    assert!(bearer("Ünïcödé".as_bytes()).is_ok());
}

#[test]
fn rejections_and_debug_output_contain_no_text_of_the_token() {
    let text = token(Algorithm::Es256, CLAIMS);
    let parsed = Token::parse(&text).unwrap();
    assert_eq!(format!("{parsed:?}"), "[redacted token]");
    let secret = hs256_with_header(r#"{"alg":"secret-alg","kid":"secret-kid"}"#, "{}");
    for text in [secret.as_str(), "secret.secret.secret", "secret"] {
        let rejection = hs256().verify(text, &public_set()).unwrap_err();
        assert!(!format!("{rejection:?}").contains("secret"));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_rejected_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse_anything(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert!(hs256().verify(text, &public_set()).is_err());
        }
    }

    #[test]
    fn arbitrary_three_parts_are_rejected_without_a_panic(text in r#"[A-Za-z0-9_\-]{0,60}\.[A-Za-z0-9_\-]{0,60}\.[A-Za-z0-9_\-]{0,60}"#) {
        parse_anything(text.as_bytes());
        prop_assert!(hs256().verify(&text, &public_set()).is_err());
    }

    #[test]
    fn arbitrary_headers_do_not_panic(header in r#"\{("(alg|kid|crit|x5t|b64)":("HS256"|"oct"|null|1|\[\]|true),?){0,4}\}"#) {
        let _ = hs256().verify(&hs256_with_header(&header, CLAIMS), &public_set());
    }

    #[test]
    fn a_token_changed_in_one_place_is_rejected(at in 0_usize..1000, byte in any::<u8>(), kind in 0..3) {
        static TOKENS: std::sync::OnceLock<Vec<(Algorithm, String)>> = std::sync::OnceLock::new();
        let tokens = TOKENS.get_or_init(|| {
            [Algorithm::Hs256, Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa]
                .map(|algorithm| (algorithm, token(algorithm, CLAIMS)))
                .into()
        });
        let keys = public_set();
        for (algorithm, text) in tokens {
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let verifier = Verifier::new(*algorithm, KeyIdStrategy::Kid);
            prop_assert_eq!(verifier.verify(&changed, &keys).is_ok(), changed == *text);
        }
    }
}
