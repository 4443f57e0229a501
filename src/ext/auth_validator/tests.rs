//! Tests of the validator as a whole: blocks, requests, and providers that fail.

mod credentials;
mod explain;
mod files;
mod key_sets;
mod provider;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;

use super::ENDPOINT;
use crate::ext::extension::EndpointPart;
use crate::ext::identity::{Revocation, Revoker};
use crate::ext::testing::{File, head};
use crate::jose::testing::{jwk, public_document, token};
use crate::jose::{Algorithm, Claims};
use crate::runtime::request::Notes;
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};

/// The public keys in a file that lives as long as the test.
fn key_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), public_document()).unwrap();
    file
}

/// A block with the local keys; `more` adds members.
fn block(keys: &tempfile::NamedTempFile, more: &str) -> String {
    format!(
        r#"{{"alg": "EdDSA", "jwk_local_path": {:?}{more}}}"#,
        keys.path().display().to_string()
    )
}

fn steps(part: EndpointPart) -> Vec<Box<dyn EndpointStep>> {
    match part {
        EndpointPart::Steps(steps) | EndpointPart::Setting { steps, .. } => steps,
        other => panic!("no steps: {other:?}"),
    }
}

fn compiled(text: &str) -> Vec<Box<dyn EndpointStep>> {
    let mut file = File::new(text);
    let part = file.endpoint(&ENDPOINT, "/x");
    assert_eq!(file.config_errors(), 0, "{text}");
    steps(part)
}

/// Errors and warnings.
fn findings(text: &str) -> (usize, usize) {
    let mut file = File::new(text);
    file.endpoint(&ENDPOINT, "/x");
    (
        file.config_errors(),
        file.findings().matches("severity: Warning").count(),
    )
}

fn fields(list: &[(HeaderName, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in list {
        fields.append(name, HeaderValue::try_from(*value).unwrap());
    }
    fields
}

fn with_token(token: &str) -> HeaderMap {
    fields(&[(AUTHORIZATION, &format!("Bearer {token}"))])
}

/// Does with a step what the server does.
async fn ask(steps: &[Box<dyn EndpointStep>], fields: &HeaderMap) -> (Option<Response>, Notes) {
    let mut notes = Notes::default();
    for step in steps {
        let head = head(&Method::GET, "/x", fields);
        let mut gate = step.check(&head, &mut notes);
        let mut waits = 0;
        loop {
            gate = match gate {
                Gate::Pass => break,
                Gate::Reject(response) => return (Some(response), notes),
                Gate::Wait(mut wait) => {
                    wait.done().await;
                    wait.decide(&head, &mut notes)
                }
            };
            waits += 1;
            assert!(waits < 2, "a step waits once");
        }
    }
    (None, notes)
}

/// `None` if the request passes, otherwise status and reason.
async fn verdict(
    steps: &[Box<dyn EndpointStep>],
    fields: &HeaderMap,
) -> Option<(u16, &'static str)> {
    let (response, notes) = ask(steps, fields).await;
    response.map(|response| {
        assert!(notes.token_rejected);
        (response.status.as_u16(), notes.rejected.unwrap())
    })
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn ed(payload: &str) -> String {
    token(Algorithm::EdDsa, payload)
}

#[tokio::test]
async fn a_good_token_passes_and_its_claims_are_forwarded() {
    let keys = key_file();
    let steps = compiled(&block(
        &keys,
        r#", "propagate_claims": [["sub", "X-User"], ["absent", "x-absent"], ["n", "x-n"]]"#,
    ));
    let mut sent = with_token(&ed(r#"{"sub":"alice","n":42}"#));
    sent.insert("x-user", HeaderValue::from_static("mallory"));
    sent.insert("x-absent", HeaderValue::from_static("mallory"));
    let (rejected, notes) = ask(&steps, &sent).await;
    assert!(rejected.is_none());
    assert_eq!(notes.claims.as_ref().unwrap().subject(), Some("alice"));
    let request = head(&Method::GET, "/x", &sent);
    for (name, value) in [("x-user", "alice"), ("x-absent", ""), ("x-n", "42")] {
        let name = HeaderName::from_static(name);
        let values: Vec<_> = notes.header_values(&request, &name).collect();
        assert_eq!(values, [value], "{name}");
    }
}

#[tokio::test]
async fn a_signature_that_was_computed_is_noted_for_the_server() {
    let keys = key_file();
    let steps = compiled(&block(&keys, ""));
    let (good, bad) = (ed("{}"), format!("{}AAAA", ed("{}")));
    for (token, computed) in [(&good, true), (&good, false), (&bad, true), (&bad, true)] {
        let (_, notes) = ask(&steps, &with_token(token)).await;
        assert_eq!(notes.computed, computed);
    }
    assert!(!ask(&steps, &HeaderMap::new()).await.1.computed);
}

#[tokio::test]
async fn each_rejection_has_its_status_reason_and_challenge() {
    let keys = key_file();
    let steps = compiled(&block(
        &keys,
        r#", "issuer": "https://i", "audience": ["a"], "roles": ["admin"], "scopes": ["read", "write"],
            "scopes_key": "scope", "scopes_matcher": "all", "propagate_claims": [["sub", "x-user"]]"#,
    ));
    let claims = |change: serde_json::Value| {
        let mut all = json!({"iss": "https://i", "aud": "a", "roles": ["admin"], "scope": "read write", "sub": "s"});
        for (name, value) in change.as_object().unwrap() {
            all[name] = value.clone();
        }
        ed(&all.to_string())
    };
    assert_eq!(verdict(&steps, &with_token(&claims(json!({})))).await, None);
    let (past, ahead) = (now() - 60, now() + 60);
    let good = claims(json!({}));
    let tampered = good.replacen(&good[good.len() - 20..], &"A".repeat(20), 1);
    for (token, status, reason) in [
        ("x".to_owned(), 401, "malformed"),
        (token(Algorithm::Rs256, "{}"), 401, "alg_not_allowed"),
        (tampered, 401, "bad_signature"),
        (claims(json!({"exp": past})), 401, "expired"),
        (claims(json!({"nbf": ahead})), 401, "not_yet_valid"),
        (claims(json!({"iat": ahead})), 401, "not_yet_valid"),
        (claims(json!({"iss": "https://i/"})), 401, "wrong_issuer"),
        (claims(json!({"aud": ["b"]})), 401, "wrong_audience"),
        (claims(json!({"exp": "soon"})), 401, "bad_claim"),
        (claims(json!({"sub": "a\r\nb"})), 401, "bad_claim"),
        (claims(json!({"roles": [1, null, {}]})), 403, "missing_role"),
        (claims(json!({"scope": "read"})), 403, "missing_scope"),
    ] {
        assert_eq!(
            verdict(&steps, &with_token(&token)).await,
            Some((status, reason))
        );
    }
    for (token, challenge) in [
        (
            claims(json!({"exp": past})),
            r#"Bearer error="invalid_token", error_description="the token is expired""#,
        ),
        (
            claims(json!({"scope": "read"})),
            r#"Bearer error="insufficient_scope", error_description="a scope is missing", scope="read write""#,
        ),
    ] {
        let (response, _) = ask(&steps, &with_token(&token)).await;
        let response = response.unwrap();
        assert!(response.body.is_empty());
        assert_eq!(
            response.fields.as_slice(),
            [(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]
        );
    }
}

#[tokio::test]
async fn a_missing_token_is_in_the_access_log() {
    let keys = key_file();
    let steps = compiled(&block(&keys, ""));
    let (response, notes) = ask(&steps, &HeaderMap::new()).await;
    assert_eq!(notes.errors.as_slice(), ["Token not found"]);
    assert_eq!(notes.rejected, Some("missing"));
    assert_eq!(
        response.unwrap().fields.as_slice(),
        [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))]
    );
}

#[tokio::test]
async fn the_named_provider_of_several_applies_its_own_rules() {
    let keys = key_file();
    let path = keys.path().display().to_string();
    let steps = compiled(&format!(
        r#"{{"alg": "EdDSA", "providers": [
            {{"issuer": "https://a", "audience": ["x"], "jwk_local_path": {path:?}}},
            {{"issuer": "https://b", "alg": "RS256", "jwk_local_path": {path:?}}}]}}"#
    ));
    for (token, expected) in [
        (ed(r#"{"iss":"https://a","aud":"x"}"#), None),
        (token(Algorithm::Rs256, r#"{"iss":"https://b"}"#), None),
        (
            ed(r#"{"iss":"https://a","aud":"y"}"#),
            Some((401, "wrong_audience")),
        ),
        (ed(r#"{"iss":"https://b"}"#), Some((401, "alg_not_allowed"))),
        (ed(r#"{"iss":"https://c"}"#), Some((401, "wrong_issuer"))),
        (ed("{}"), Some((401, "wrong_issuer"))),
    ] {
        for _ in ["verified", "remembered"] {
            assert_eq!(verdict(&steps, &with_token(&token)).await, expected);
        }
    }
}

#[tokio::test]
async fn a_known_token_finds_its_provider_without_being_parsed() {
    let keys = key_file();
    let path = keys.path().display().to_string();
    // Both share the key set and its cached tokens; only the second requires a role.
    let steps = compiled(&format!(
        r#"{{"alg": "EdDSA", "roles": ["admin"], "roles_key": "roles", "providers": [
            {{"issuer": "https://a", "jwk_local_path": {path:?}}},
            {{"issuer": "https://b", "audience": ["b"], "jwk_local_path": {path:?}}}]}}"#
    ));
    let a = ed(r#"{"iss":"https://a","roles":["admin"]}"#);
    let b = ed(r#"{"iss":"https://b","roles":["admin"]}"#);
    for round in 0..3 {
        let (rejected, notes) = ask(&steps, &with_token(&a)).await;
        assert!(rejected.is_none());
        assert_eq!(notes.computed, round == 0, "verified once");
        let found = verdict(&steps, &with_token(&b)).await;
        assert_eq!(found, Some((401, "wrong_audience")), "round {round}");
    }
}

#[tokio::test]
async fn an_invalid_optional_token_is_still_rejected() {
    let keys = key_file();
    let steps = compiled(&block(
        &keys,
        r#", "optional": true, "propagate_claims": [["sub", "x-user"]]"#,
    ));
    let name = HeaderName::from_static("x-user");
    let sent = fields(&[(name.clone(), "mallory")]);
    let (rejected, notes) = ask(&steps, &sent).await;
    assert!(rejected.is_none() && notes.claims.is_none());
    assert_eq!(
        notes
            .header_values(&head(&Method::GET, "/x", &sent), &name)
            .count(),
        0
    );
    let old = ed(&json!({ "exp": now() - 60 }).to_string());
    assert_eq!(
        verdict(&steps, &with_token(&old)).await,
        Some((401, "expired"))
    );
}

#[tokio::test]
async fn a_rejection_can_have_a_body() {
    let keys = key_file();
    let steps = compiled(&block(&keys, r#", "error_body": "problem+json""#));
    let (response, _) = ask(&steps, &HeaderMap::new()).await;
    let body: serde_json::Value = serde_json::from_slice(&response.unwrap().body).unwrap();
    assert_eq!(body["status"], 401);
    assert_eq!(body["reason"], "missing");
}

#[tokio::test]
async fn tokens_without_an_expiry_are_rejected_if_configured() {
    let keys = key_file();
    let steps = compiled(&block(&keys, r#", "require_exp": true"#));
    assert_eq!(
        verdict(&steps, &with_token(&ed("{}"))).await,
        Some((401, "bad_claim"))
    );
    let ends = ed(&json!({ "exp": now() + 60 }).to_string());
    assert_eq!(verdict(&steps, &with_token(&ends)).await, None);
}

#[derive(Debug, Default)]
struct Revoked(std::sync::atomic::AtomicBool);

impl Revocation for Revoked {
    fn is_revoked(&self, claims: &Claims) -> bool {
        claims.token_id() == Some("bad") && self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test]
async fn revocation_is_also_checked_for_cached_tokens() {
    let (keys, revoked) = (key_file(), Arc::new(Revoked::default()));
    let mut file = File::new(&block(&keys, r#", "roles": ["none"]"#));
    let open = block(&keys, "");
    file.set_fact(Revoker(revoked.clone()));
    let strict = steps(file.endpoint(&ENDPOINT, "/strict"));
    let open = steps(file.endpoint_with(&ENDPOINT, &open, "/open", Method::GET));
    let bad = with_token(&ed(r#"{"jti":"bad"}"#));
    assert_eq!(verdict(&open, &bad).await, None);
    revoked.0.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(verdict(&open, &bad).await, Some((401, "revoked")));
    assert_eq!(
        verdict(&strict, &bad).await,
        Some((401, "revoked")),
        "asked before roles"
    );
    assert_eq!(
        verdict(&open, &with_token(&ed(r#"{"jti":"ok"}"#))).await,
        None
    );
}

#[tokio::test]
async fn a_reload_reads_a_key_file_again() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    let before = steps(file.endpoint(&ENDPOINT, "/x"));
    let good = with_token(&ed("{}"));
    assert_eq!(verdict(&before, &good).await, None);
    let kept = file.finish();
    std::fs::write(
        keys.path(),
        json!({"keys": [jwk("rsa", false)]}).to_string(),
    )
    .unwrap();
    let after = steps(File::after(&block(&keys, ""), kept).endpoint(&ENDPOINT, "/x"));
    let withdrawn = verdict(&after, &good).await.map(|(_, reason)| reason);
    assert_eq!(
        withdrawn,
        Some("unknown_key"),
        "the cache forgot it with the key"
    );
    std::fs::write(keys.path(), "nonsense").unwrap();
    let mut broken = File::after(&block(&keys, ""), kept);
    broken.endpoint(&ENDPOINT, "/x");
    assert_eq!(broken.config_errors(), 1);
}

#[tokio::test]
async fn with_nested_roles_only_the_path_is_used() {
    let keys = key_file();
    let roles = r#", "roles": ["admin"], "roles_key": "a.b""#;
    let nested = compiled(&block(
        &keys,
        &format!(r#"{roles}, "roles_key_is_nested": true"#),
    ));
    let literal = compiled(&block(&keys, roles));
    let flat = with_token(&ed(r#"{"a.b":["admin"]}"#));
    let path = with_token(&ed(r#"{"a":{"b":["admin"]}}"#));
    assert_eq!(verdict(&nested, &flat).await, Some((403, "missing_role")));
    assert_eq!(verdict(&nested, &path).await, None);
    assert_eq!(verdict(&literal, &flat).await, None);
    assert_eq!(verdict(&literal, &path).await, Some((403, "missing_role")));
}

/// One validator for all examples of the property below.
static SHARED: std::sync::LazyLock<Vec<Box<dyn EndpointStep>>> = std::sync::LazyLock::new(|| {
    let keys = key_file();
    compiled(&block(&keys, ""))
});

proptest::proptest! {
    #[test]
    fn any_bytes_of_a_client_are_rejected_without_a_panic(
        header in proptest::collection::vec(0x20_u8..=0xff, 0..80),
        cookie in proptest::collection::vec(0x20_u8..=0xff, 0..80),
    ) {
        let mut sent = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&header) {
            sent.append(AUTHORIZATION, value);
        }
        if let Ok(value) = HeaderValue::from_bytes(&[b"access_token=", &cookie[..]].concat()) {
            sent.append(COOKIE, value);
        }
        let rejected = futures::executor::block_on(verdict(&SHARED, &sent));
        proptest::prop_assert!(rejected.is_some());
    }
}
