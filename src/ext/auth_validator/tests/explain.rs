//! `token explain`, and the documents that say where tokens come from.

use std::sync::Arc;

use http::{HeaderMap, Method};
use serde_json::json;

use super::{Revoked, ask, block, ed, key_file, steps};
use crate::ext::auth_validator::{ENDPOINT, SERVICE, Validators};
use crate::ext::extension::ServicePart;
use crate::ext::identity::Revoker;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;

#[tokio::test]
async fn clients_can_read_where_tokens_come_from() {
    let keys = key_file();
    let text = r#"{"resource_metadata": {"resource": "https://api.example.com/"}}"#;
    let mut file = File::new(text);
    let ServicePart::Step(step) = file.service(&SERVICE) else {
        panic!("no step");
    };
    let orders = block(
        &keys,
        r#", "issuer": "https://i", "scopes": ["read"], "scopes_key": "scope""#,
    );
    let guarded = steps(file.endpoint_with(&ENDPOINT, &orders, "/orders", Method::GET));
    let (response, _) = ask(&guarded, &HeaderMap::new()).await;
    assert_eq!(
        response.unwrap().fields[0].1,
        r#"Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/orders""#
    );
    let none = HeaderMap::new();
    let read = |path: &str| {
        let response = step.request(&head(&Method::GET, path, &none), &mut Notes::default())?;
        Some(serde_json::from_slice::<serde_json::Value>(&response.body).unwrap())
    };
    assert_eq!(
        read("/.well-known/oauth-protected-resource/orders").unwrap(),
        json!({
            "resource": "https://api.example.com/orders",
            "authorization_servers": ["https://i"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["read"],
        })
    );
    assert_eq!(
        read("/.well-known/oauth-protected-resource").unwrap()["resource"],
        "https://api.example.com"
    );
    let bound = block(
        &keys,
        r#", "issuer": "https://i", "binding": {"dpop": "required", "dpop_algs": ["ES256"], "certificate": "optional"}"#,
    );
    file.endpoint_with(&ENDPOINT, &bound, "/bound", Method::GET);
    let document = read("/.well-known/oauth-protected-resource/bound").unwrap();
    assert_eq!(
        document["dpop_signing_alg_values_supported"],
        json!(["ES256"])
    );
    assert_eq!(document["dpop_bound_access_tokens_required"], true);
    assert_eq!(document["tls_client_certificate_bound_access_tokens"], true);
    // Another endpoint requires no proof.
    let whole = read("/.well-known/oauth-protected-resource").unwrap();
    assert_eq!(whole.get("dpop_bound_access_tokens_required"), None);
    assert_eq!(read("/.well-known/oauth-protected-resource/other"), None);
    assert_eq!(read("/orders"), None);
}

/// RFC 9728 §1.2, RFC 8707 §2: no fragment.
#[test]
fn a_resource_is_an_address_without_path_query_and_fragment() {
    for (resource, errors) in [
        ("https://api.example.com", 0),
        ("https://api.example.com:8443/", 0),
        ("api.example.com", 1),
        ("https://api.example.com/x", 1),
        ("https://api.example.com?x", 1),
        ("https://api.example.com#x", 1),
    ] {
        let text = json!({"resource_metadata": {"resource": resource}}).to_string();
        let mut file = File::new(&text);
        file.service(&SERVICE);
        assert_eq!(file.config_errors(), errors, "{resource}");
    }
}

#[test]
fn all_methods_of_a_path_share_its_document() {
    let keys = key_file();
    let mut file = File::new(r#"{"resource_metadata": {"resource": "https://api.example.com"}}"#);
    let ServicePart::Step(step) = file.service(&SERVICE) else {
        panic!("no step");
    };
    for (method, more) in [
        (
            Method::GET,
            r#", "issuer": "https://a/", "scopes": ["read"], "scopes_key": "scope""#,
        ),
        (
            Method::POST,
            r#", "issuer": "https://b/", "scopes": ["write", "read"], "scopes_key": "scope""#,
        ),
    ] {
        file.endpoint_with(&ENDPOINT, &block(&keys, more), "/mcp", method);
    }
    let none = HeaderMap::new();
    for path in ["", "/mcp"] {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        let response = step.request(&head(&Method::GET, &path, &none), &mut Notes::default());
        let body = response.unwrap().body;
        let document = serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        assert_eq!(
            document["authorization_servers"],
            json!(["https://a/", "https://b/"])
        );
        assert_eq!(document["scopes_supported"], json!(["read", "write"]));
    }
}

#[test]
fn a_document_of_many_endpoints_names_each_scope_once_in_the_order_of_the_file() {
    let keys = key_file();
    let mut file = File::new(r#"{"resource_metadata": {"resource": "https://api.example.com"}}"#);
    let ServicePart::Step(step) = file.service(&SERVICE) else {
        panic!("no step");
    };
    for index in 0..500 {
        let more = format!(
            r#", "scopes": ["s{}", "all"], "scopes_key": "scope""#,
            index % 250
        );
        let path = format!("/e{index}");
        file.endpoint_with(&ENDPOINT, &block(&keys, &more), &path, Method::GET);
    }
    let document = |path: &str| {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        let none = HeaderMap::new();
        let head = head(&Method::GET, &path, &none);
        let response = step.request(&head, &mut Notes::default());
        serde_json::from_slice::<serde_json::Value>(&response.unwrap().body).unwrap()
    };
    let whole = document("");
    let scopes = whole["scopes_supported"].as_array().unwrap();
    assert_eq!(scopes.len(), 251);
    assert_eq!(scopes[..3], [json!("s0"), json!("all"), json!("s1")]);
    assert_eq!(
        document("/e499")["scopes_supported"],
        json!(["s249", "all"])
    );
}

#[test]
fn equal_requirements_share_their_responses_and_a_validator_is_small() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.endpoint(&ENDPOINT, "/x");
    file.endpoint(&ENDPOINT, "/y");
    let other = block(&keys, r#", "scopes": ["read"], "scopes_key": "scope""#);
    file.endpoint_with(&ENDPOINT, &other, "/z", Method::GET);
    let validators = file.fact::<Validators>().unwrap().list();
    let shares = |one: usize, other: usize| {
        let of = |index: usize| &validators[index].validator.challenges;
        std::sync::Arc::ptr_eq(of(one), of(other))
    };
    assert!(shares(0, 1) && !shares(0, 2));
    let bytes = size_of_val(&*validators[0].validator);
    assert!(bytes <= 1664, "{bytes}");
}

#[test]
fn explaining_names_the_claim_that_is_wrong() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.fact::<Validators>().unwrap();
    let told = validators.list()[0]
        .validator
        .explain(&ed(r#"{"sub":12345}"#))
        .to_string();
    let sentence = r#"claim "sub": expected a string, found a number"#;
    assert_eq!(told.matches(sentence).count(), 2, "{told}");
    assert!(told.contains("=> 401 bad_claim: "), "{told}");
    assert!(!told.contains("12345"), "{told}");
}

#[test]
fn explaining_walks_the_same_checks() {
    let keys = key_file();
    let mut file = File::new(&block(
        &keys,
        r#", "issuer": "https://i", "roles": ["admin"]"#,
    ));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.fact::<Validators>().unwrap().list();
    let told = validators[0]
        .validator
        .explain(&ed(r#"{"iss":"https://i"}"#));
    let checks: Vec<_> = told
        .lines
        .iter()
        .map(|line| (line.check.as_str(), line.passed))
        .collect();
    assert_eq!(checks.last(), Some(&("roles", Some(false))));
    assert!(
        checks.contains(&("signature", Some(true))) && checks.contains(&("issuer", Some(true)))
    );
    assert!(told.to_string().contains("=> 403 missing_role"));
    let good = validators[0]
        .validator
        .explain(&ed(r#"{"iss":"https://i","roles":["admin"]}"#));
    assert!(good.rejection.is_none(), "{good}");
    let bad = validators[0].validator.explain("x");
    assert!(bad.to_string().contains("FAIL form"), "{bad}");
}

#[test]
fn a_text_that_is_not_a_signed_token_is_described() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.fact::<Validators>().unwrap().list();
    for (token, words) in [
        ("opaque", "an opaque token"),
        ("a.b.c.d.e", "an encrypted token"),
        ("a.b", "2 parts; a signed token has 3"),
        ("a.b.c.d", "4 parts; a signed token has 3"),
    ] {
        let told = validators[0].validator.explain(token).to_string();
        let line = told.lines().find(|line| line.starts_with("FAIL form"));
        assert!(line.is_some_and(|line| line.contains(words)), "{told}");
        assert!(told.contains("=> 401 malformed"), "{told}");
    }
    let good = ed("{}");
    for (text, start) in [
        (format!("\"{good}\""), "\"\\\"\""),
        (format!("Authorization: Bearer {good}"), "\"Authorization\""),
        (format!("Bearer {good}"), "\"Bearer\""),
    ] {
        let told = validators[0].validator.explain(&text).to_string();
        let want = format!("it begins with {start}, which is not part of a token");
        assert!(told.contains(&want), "{told}");
        assert!(told.contains("=> 401 malformed"), "{told}");
    }
    // {"alg":"EdDSA","kid":"zz"}
    let stranger = validators[0]
        .validator
        .explain("eyJhbGciOiJFZERTQSIsImtpZCI6Inp6In0.e30.AA");
    let stranger = stranger.to_string();
    assert!(
        stranger.contains("kid \"zz\", the set has \""),
        "{stranger}"
    );
    // {"alg":"none"}
    let unsigned = validators[0].validator.explain("eyJhbGciOiJub25lIn0.e30.");
    let unsigned = unsigned.to_string();
    assert!(
        unsigned.contains("found \"none\": the token is not signed"),
        "{unsigned}"
    );
    let told = validators[0].validator.explain("!.b.c").to_string();
    assert!(!told.contains("parts"), "{told}");
}

#[test]
fn times_are_told_relative_to_now() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.fact::<Validators>().unwrap().list();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let told = |claims: String| validators[0].validator.explain(&ed(&claims)).to_string();
    // A whole minute before the next unit, so that a slow machine does not change the text.
    let text = told(format!(r#"{{"exp":{}}}"#, now - 3601));
    assert!(text.contains(" (expired 60 min ago), now "), "{text}");
    let text = told(format!(
        r#"{{"exp":{},"iat":{}}}"#,
        now + 3 * 86_400 + 600,
        now - 7300
    ));
    assert!(text.contains(" (expires in 3 days), now "), "{text}");
    assert!(text.contains(" (issued 2 h ago), now "), "{text}");
    let text = told(format!(r#"{{"nbf":{}}}"#, now + 7200 + 600));
    assert!(text.contains(" (2 h in the future), now "), "{text}");
    assert!(told("{}".to_owned()).contains("exp absent, now "));
}

#[test]
fn explaining_does_not_check_revocation() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.set_fact(Revoker(Arc::new(Revoked::default())));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.fact::<Validators>().unwrap().list();
    let told = validators[0].validator.explain(&ed(r#"{"jti":"bad"}"#));
    assert!(told.rejection.is_none(), "{told}");
    assert!(
        told.to_string()
            .contains("?    revocation   not known here"),
        "{told}"
    );
}

#[test]
fn explaining_shows_failures_that_no_proof_can_change() {
    let keys = key_file();
    let explained = |binding: &str, claims: &str| {
        let mut file = File::new(&block(&keys, &format!(r#", "binding": {binding}"#)));
        file.endpoint(&ENDPOINT, "/x");
        let validators = file.fact::<Validators>().unwrap().list();
        let told = validators[0].validator.explain(&ed(claims));
        told.rejection.map(|rejection| rejection.reason.as_str())
    };
    let wrong = Some("wrong_binding");
    for (binding, claims, expected) in [
        (r#"{"dpop": "required"}"#, "{}", wrong),
        (r#"{"dpop": "required"}"#, r#"{"cnf":{"jkt":5}}"#, wrong),
        (r#"{"dpop": "required"}"#, r#"{"cnf":{"jkt":"x"}}"#, None),
        (
            r#"{"dpop": "required"}"#,
            r#"{"cnf":{"x5t#S256":"x"}}"#,
            wrong,
        ),
        (r#"{"dpop": "optional"}"#, "{}", None),
        (r#"{"dpop": "optional"}"#, r#"{"cnf":{"jkt":5}}"#, wrong),
        (r#"{"dpop": "optional"}"#, r#"{"cnf":"x"}"#, wrong),
        (
            r#"{"certificate": "required"}"#,
            r#"{"cnf":{"jkt":"x"}}"#,
            wrong,
        ),
        (
            r#"{"certificate": "optional"}"#,
            r#"{"cnf":{"x5t#S256":[]}}"#,
            wrong,
        ),
        (r#"{"certificate": "optional"}"#, "{}", None),
    ] {
        assert_eq!(explained(binding, claims), expected, "{binding} {claims}");
    }
}

#[test]
fn a_binding_without_effect_or_that_rejects_all_clients_is_reported() {
    let keys = key_file();
    for (binding, doubts) in [
        (r#"{"dpop": "required", "dpop_nonce": true}"#, 0),
        (r#"{"dpop_nonce": true}"#, 1),
        (
            r#"{"dpop": "off", "dpop_origins": ["https://a"], "dpop_max_age": "5s"}"#,
            2,
        ),
        (r#"{"certificate": "required"}"#, 1),
        (r#"{"certificate": "optional"}"#, 1),
        (r#"{}"#, 0),
    ] {
        let told = super::findings(&block(&keys, &format!(r#", "binding": {binding}"#)));
        let plain = super::findings(&block(&keys, ""));
        assert_eq!(told, (0, plain.1 + doubts), "{binding}");
    }
}
