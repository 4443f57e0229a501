//! Tests of the validator as a whole: blocks, requests, and providers that fail.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;

use super::{ENDPOINT, SERVICE, Validators};
use crate::ext::EndpointPart;
use crate::ext::extension::ServicePart;
use crate::ext::identity::{Revocation, Revoker};
use crate::ext::testing::{File, head};
use crate::jose::testing::{hs256_with_header, jwk, public_document, token};
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
async fn a_good_token_passes_and_its_claims_go_on() {
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
async fn each_refusal_has_its_status_its_word_and_its_challenge() {
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
async fn a_missing_token_is_told_in_the_access_log() {
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
async fn one_request_has_one_credential() {
    let keys = key_file();
    let steps = compiled(&block(&keys, ""));
    let good = ed("{}");
    let cookie = format!("a=b; access_token={good}; c=d");
    let quoted = format!("access_token=\"{good}\"");
    let twice = format!("access_token={good}; access_token=x");
    let twice_the_same = format!("access_token={good}; access_token={good}");
    for (sent, expected) in [
        (fields(&[(AUTHORIZATION, &good)]), None),
        (fields(&[(COOKIE, &cookie)]), None),
        (fields(&[(COOKIE, &quoted)]), None),
        (fields(&[(COOKIE, &twice_the_same)]), None),
        (fields(&[(AUTHORIZATION, ""), (COOKIE, &cookie)]), None),
        (fields(&[(COOKIE, "access_token=")]), Some((401, "missing"))),
        (
            fields(&[(COOKIE, &twice)]),
            Some((401, "ambiguous_credentials")),
        ),
        (
            fields(&[(AUTHORIZATION, "Basic x"), (COOKIE, &cookie)]),
            Some((401, "malformed")),
        ),
        (
            fields(&[(AUTHORIZATION, &good), (AUTHORIZATION, &good)]),
            Some((401, "ambiguous_credentials")),
        ),
        (
            fields(&[(AUTHORIZATION, "Bearer"), (COOKIE, &cookie)]),
            Some((401, "malformed")),
        ),
    ] {
        assert_eq!(verdict(&steps, &sent).await, expected, "{sent:?}");
    }
}

/// Steps, the headers of a request, and the `Authorization` and `Cookie` that are passed on.
type Case<'c> = (
    &'c [Box<dyn EndpointStep>],
    Vec<(HeaderName, &'c str)>,
    &'c str,
    &'c str,
);

#[tokio::test]
async fn no_second_token_goes_on_beside_the_verified_one() {
    let keys = key_file();
    let usual = compiled(&block(&keys, ""));
    let other_header = compiled(&block(&keys, r#", "auth_header_name": "X-Token""#));
    let optional = compiled(&block(
        &keys,
        r#", "auth_header_name": "X-Token", "optional": true"#,
    ));
    let token = ed(r#"{"sub":"alice"}"#);
    let bearer = format!("Bearer {token}");
    let x_token = HeaderName::from_static("x-token");
    let own_cookie = format!("a=1; access_token={token}; b=2");
    let behind_tab = "bearer\tforged.by.me";
    let cases: [Case<'_>; 13] = [
        (
            &other_header,
            vec![(x_token.clone(), &token), (AUTHORIZATION, behind_tab)],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "JWT eyJhbGciOiJub25lIn0.e30."),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "Token token=\"eyJhbGciOiJub25lIn0.e30.\""),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "Basic ZXlKZXlKOmV5SmV5Sg=="),
            ],
            "Basic ZXlKZXlKOmV5SmV5Sg==",
            "",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "a=1; access_token =forged; b=2"),
            ],
            &bearer,
            "a=1; b=2",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "a=1; access_token=forged; b=2"),
                (COOKIE, "access_token=forged"),
            ],
            &bearer,
            "a=1; b=2",
        ),
        (
            &usual,
            vec![(AUTHORIZATION, &bearer), (COOKIE, &own_cookie)],
            &bearer,
            &own_cookie,
        ),
        (&usual, vec![(COOKIE, &own_cookie)], "", &own_cookie),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "bearer forged"),
                (COOKIE, "access_token=\"forged\""),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "eyJhbGciOiJub25lIn0.e30."),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![(x_token.clone(), &token), (AUTHORIZATION, "Basic YTpi")],
            "Basic YTpi",
            "",
        ),
        (
            &other_header,
            vec![(x_token.clone(), &token), (AUTHORIZATION, &bearer)],
            &bearer,
            "",
        ),
        (&optional, vec![(AUTHORIZATION, "Bearer forged")], "", ""),
    ];
    for (steps, sent, authorization, cookie) in cases {
        let sent = fields(&sent);
        let (rejected, notes) = ask(steps, &sent).await;
        assert!(rejected.is_none(), "{sent:?}");
        let request = head(&Method::GET, "/x", &sent);
        for (name, want) in [(AUTHORIZATION, authorization), (COOKIE, cookie)] {
            let seen: Vec<&str> = notes
                .header_values(&request, &name)
                .map(|value| value.to_str().unwrap())
                .collect();
            assert_eq!(seen.join("; "), want, "{name} of {sent:?}");
        }
    }
}

#[test]
fn a_block_that_would_not_protect_is_refused() {
    let keys = key_file();
    let path = keys.path().display().to_string();
    for text in [
        r#"{"jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": "none", "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_local_path": "/does/not/exist"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "jwk_local_ca": "/does/not/exist"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "jwk_fingerprints": ["%"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "jwk_fingerprints": ["AAAA"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "cipher_suites": [5, 10]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "scopes": ["a"], "scopes_key": "s", "scopes_matcher": "most"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": ["sub", "x-user"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "key_identify_strategy": "x"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [["sub"]]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": ["sub"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [["sub", "a b"]]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "audience": true}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "cache": true, "cache_duration": "5m"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "cache": true, "cache_duration": -1}"#.to_owned(),
        r#"{"alg": "RS256", "openid_configuration": true}"#.to_owned(),
        r#"{"alg": "RS256", "openid_configuration": "https://a", "issuer": "https://b"}"#.to_owned(),
        r#"{"alg": "RS256", "providers": []}"#.to_owned(),
        r#"{"alg": "RS256", "providers": [{"jwk_url": "https://k"}]}"#.to_owned(),
        r#"{"alg": "RS256", "providers": [{"issuer": "a", "jwk_url": "http://k"}]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "providers": [{"issuer": "a", "jwk_url": "https://k"}]}"#.to_owned(),
        format!(r#"{{"alg": "RS256", "jwk_local_path": {path:?}, "cache": true}}"#),
        format!(r#"{{"alg": "RS256", "jwk_local_path": {path:?}, "secret_url": "awskms://x", "cypher_key": "x"}}"#),
    ] {
        let (config_errors, _) = findings(&text);
        assert!(config_errors > 0, "{text}");
    }
}

#[test]
fn a_block_whose_meaning_is_plain_is_taken_at_it() {
    for (text, words) in [
        (r#""audience": "a""#, "taken as"),
        (r#""issuer": ["https://i"]"#, "taken as"),
        (r#""scopes": ["a"]"#, "in the claim"),
        (r#""scopes": "a", "scopes_key": "scope""#, "taken as"),
        (
            r#""scopes": ["a"], "scopes_key": "scope", "scopes_matcher": "ALL""#,
            "taken as",
        ),
        (r#""roles": "admin""#, "taken as"),
        (r#""Roles": ["admin"]"#, "KeyTaken"),
        (r#""disable_jwk_security": "false""#, "false"),
        (r#""cache": "true", "cache_duration": "900""#, "900"),
        (r#""key_identify_strategy": "KID""#, "taken as"),
    ] {
        let text = format!(r#"{{"alg": "RS256", "jwk_url": "https://k", {text}}}"#);
        let mut file = File::new(&text);
        file.endpoint(&ENDPOINT, "/m");
        let found = file.findings();
        assert_eq!(file.config_errors(), 0, "{text}: {found}");
        assert!(
            found.contains(words) || words == "taken as" && found.contains("Taken"),
            "{text}: {found}"
        );
    }
    let (config_errors, _) = findings(r#"{"alg": "rs256 ", "jwk_url": "https://k"}"#);
    assert_eq!(config_errors, 0);
}

/// A hint must lead to a configuration that starts, not to the next error.
#[test]
fn the_hint_for_a_claim_alone_is_a_pair_that_is_taken() {
    for claim in ["user_id", "realm.user id", "https://a.example/tenant"] {
        let text = json!({"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [claim]});
        let mut file = File::new(&text.to_string());
        file.endpoint(&ENDPOINT, "/m");
        let hints = file.hints();
        let hint = hints.iter().find(|hint| hint.starts_with('[')).unwrap();
        let text =
            format!(r#"{{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [{hint}]}}"#);
        assert_eq!(findings(&text).0, 0, "{text}");
    }
}

#[test]
fn one_fault_is_told_once_and_with_its_reason() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    let private = json!({"keys": [jwk("ed25519", true)]}).to_string();
    std::fs::write(keys.path(), private).unwrap();
    let lines = |text: &str| {
        let mut file = File::new(text);
        file.endpoint(&ENDPOINT, "/x");
        file.config_error_lines()
    };
    let found = lines(&block(&keys, ""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].ends_with("no key of the set can be used: it is a private key"),
        "{found:?}"
    );
    let path = keys.path().display().to_string();
    let found = lines(&format!(
        r#"{{"alg": "EdDSA", "providers": [{{"issuer": "https://i", "jwk_local_path": {path:?}}}]}}"#
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    let found = lines(r#"{"alg": "EdDSA", "providers": []}"#);
    assert!(found[0].contains("has none"), "{found:?}");
}

#[tokio::test]
async fn keys_over_an_insecure_connection_close_the_endpoint() {
    for text in [
        r#"{"alg": "RS256", "jwk_url": "http://k", "optional": true}"#,
        r#"{"alg": "RS256", "jwk_url": "HTTPS://k"}"#,
        r#"{"alg": "RS256"}"#,
    ] {
        let steps = compiled(text);
        assert_eq!(
            verdict(&steps, &HeaderMap::new()).await,
            Some((401, "missing"))
        );
        let token = token(Algorithm::Rs256, "{}");
        assert_eq!(
            verdict(&steps, &with_token(&token)).await,
            Some((401, "keys_unavailable"))
        );
    }
}

#[test]
fn a_file_that_demands_little_is_told_so_in_one_line() {
    let keys = key_file();
    for (more, warnings) in [
        ("", 1),
        (r#", "audience": ["a"]"#, 1),
        (r#", "audience": ["a"], "issuer": "i""#, 0),
        (r#", "audience": ["a"], "issuer": "i", "leeway": "1ms""#, 1),
    ] {
        assert_eq!(findings(&block(&keys, more)), (0, warnings), "{more}");
    }
}

#[tokio::test]
async fn of_several_providers_the_named_one_judges_by_its_own_rules() {
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
async fn where_a_token_is_optional_a_bad_one_is_still_refused() {
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
async fn a_refusal_can_have_a_body() {
    let keys = key_file();
    let steps = compiled(&block(&keys, r#", "error_body": "problem+json""#));
    let (response, _) = ask(&steps, &HeaderMap::new()).await;
    let body: serde_json::Value = serde_json::from_slice(&response.unwrap().body).unwrap();
    assert_eq!(body["status"], 401);
    assert_eq!(body["reason"], "missing");
}

#[tokio::test]
async fn a_token_can_have_to_end() {
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
async fn revocation_is_asked_also_for_remembered_tokens() {
    let (keys, revoked) = (key_file(), Arc::new(Revoked::default()));
    let mut file = File::new(&block(&keys, r#", "roles": ["none"]"#));
    let open = block(&keys, "");
    file.leave(Revoker(revoked.clone()));
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
    assert_eq!(read("/.well-known/oauth-protected-resource/other"), None);
    assert_eq!(read("/orders"), None);
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
async fn with_nested_roles_only_the_path_counts() {
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

#[test]
fn explaining_names_the_claim_that_is_wrong() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.left::<Validators>().unwrap();
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
    let validators = file.left::<Validators>().unwrap().list();
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
fn explaining_does_not_know_who_is_revoked_elsewhere() {
    let keys = key_file();
    let mut file = File::new(&block(&keys, ""));
    file.leave(Revoker(Arc::new(Revoked::default())));
    file.endpoint(&ENDPOINT, "/x");
    let validators = file.left::<Validators>().unwrap().list();
    let told = validators[0].validator.explain(&ed(r#"{"jti":"bad"}"#));
    assert!(told.rejection.is_none(), "{told}");
    assert!(
        told.to_string()
            .contains("?    revocation   not known here"),
        "{told}"
    );
}

/// One validator for all examples of the property below.
static SHARED: std::sync::LazyLock<Vec<Box<dyn EndpointStep>>> = std::sync::LazyLock::new(|| {
    let keys = key_file();
    compiled(&block(&keys, ""))
});

proptest::proptest! {
    #[test]
    fn whatever_a_client_sends_is_refused_without_a_panic(
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

mod provider {
    //! A provider on a real socket that can fail.

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[derive(Clone)]
    pub enum Mood {
        Responses(Vec<u8>),
        HangsUp,
        Hangs,
    }

    pub struct Stub {
        pub url: String,
        pub mood: Arc<Mutex<Mood>>,
        calls: Arc<AtomicUsize>,
    }

    impl Stub {
        pub async fn start(mood: Mood) -> Stub {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stub = Stub {
                url: format!("http://{}/keys", listener.local_addr().unwrap()),
                mood: Arc::new(Mutex::new(mood)),
                calls: Arc::default(),
            };
            let (mood, calls) = (Arc::clone(&stub.mood), Arc::clone(&stub.calls));
            tokio::spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let (mood, calls) = (Arc::clone(&mood), Arc::clone(&calls));
                    tokio::spawn(async move {
                        let mut head = [0_u8; 4096];
                        if !matches!(socket.read(&mut head).await, Ok(1..)) {
                            return;
                        }
                        calls.fetch_add(1, Ordering::SeqCst);
                        let mood = mood.lock().unwrap().clone();
                        match mood {
                            Mood::HangsUp => {}
                            Mood::Hangs => std::future::pending().await,
                            Mood::Responses(body) => {
                                let head = format!(
                                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
                                     Content-Length: {}\r\n\r\n",
                                    body.len()
                                );
                                let _ = socket.write_all(head.as_bytes()).await;
                                let _ = socket.write_all(&body).await;
                            }
                        }
                    });
                }
            });
            stub
        }

        pub fn turns(&self, mood: Mood) {
            *self.mood.lock().unwrap() = mood;
        }

        pub fn calls(&self) -> usize {
            self.calls.load(Ordering::SeqCst)
        }
    }
}

use provider::{Mood, Stub};

fn keys_of(kids: &[&str]) -> Mood {
    let keys: Vec<_> = kids.iter().map(|kid| jwk(kid, false)).collect();
    Mood::Responses(json!({ "keys": keys }).to_string().into_bytes())
}

fn text_for(stub: &Stub, more: &str) -> String {
    format!(
        r#"{{"alg": "HS256", "jwk_url": {:?}, "disable_jwk_security": true{more}}}"#,
        stub.url
    )
}

/// A validator that uses `stub`, with running background work.
fn tended(stub: &Stub, more: &str) -> (Vec<Box<dyn EndpointStep>>, crate::ext::Carry) {
    let text = text_for(stub, more);
    let mut file = File::new(&text);
    let part = file.endpoint(&ENDPOINT, "/x");
    assert_eq!(file.config_errors(), 0);
    let (carry, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    (steps(part), carry)
}

fn hs(kid: &str) -> HeaderMap {
    let header = json!({"alg": "HS256", "kid": kid}).to_string();
    with_token(&hs256_with_header(&header, "{}"))
}

#[tokio::test]
async fn the_first_request_waits_for_the_keys() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    assert_eq!(stub.calls(), 1);
}

#[tokio::test]
async fn a_key_that_was_rotated_in_works_at_once() {
    let stub = Stub::start(keys_of(&["rsa"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(
        verdict(&steps, &hs("rsa")).await,
        Some((401, "unusable_key"))
    );
    stub.turns(keys_of(&["rsa", "oct"]));
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    assert_eq!(stub.calls(), 2);
}

#[tokio::test]
async fn a_storm_of_key_ids_costs_the_provider_one_call() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, r#", "failed_jwk_key_cooldown": "60s""#);
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    let requests: Vec<_> = (0..200).map(|index| hs(&format!("kid-{index}"))).collect();
    let storm = requests.iter().map(|request| verdict(&steps, request));
    for rejected in futures::future::join_all(storm).await {
        assert_eq!(rejected, Some((401, "unknown_key")));
    }
    assert_eq!(stub.calls(), 2);
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
}

#[tokio::test]
async fn a_key_id_is_held_to_be_missing_only_after_somebody_has_looked() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let mut file = File::new(&text_for(&stub, r#", "failed_jwk_key_cooldown": "60s""#));
    let steps = steps(file.endpoint(&ENDPOINT, "/x"));
    let validators = file.left::<Validators>().unwrap().list();
    let (_kept, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    for id in ["looked-for", "too-soon-after"] {
        let rejected = verdict(&steps, &hs(id)).await;
        assert_eq!(rejected, Some((401, "unknown_key")));
    }
    assert_eq!(stub.calls(), 2);
    let failed = validators[0].validator.providers()[0].failed.as_ref();
    let failed = failed.unwrap();
    assert!(failed.contains("looked-for") && !failed.contains("too-soon-after"));
}

#[tokio::test]
async fn a_reload_keeps_the_keys() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    stub.turns(Mood::HangsUp);
    let text = text_for(&stub, r#", "roles": []"#);
    let mut next = File::after(&text, Box::leak(Box::new(kept)));
    let reloaded = self::steps(next.endpoint(&ENDPOINT, "/x"));
    let (_kept, tasks) = next.work();
    let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(
        names,
        ["key set schedules"],
        "the task of the file before goes on"
    );
    assert_eq!(verdict(&reloaded, &hs("oct")).await, None);
    assert_eq!(stub.calls(), 1);
}

#[tokio::test]
async fn a_reload_can_make_a_key_set_live_shorter_and_longer() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (before, kept) = tended(&stub, r#", "cache": true, "cache_duration": 1"#);
    assert_eq!(verdict(&before, &hs("oct")).await, None);
    calls_reach(&stub, 3).await;
    let long = text_for(&stub, r#", "cache": true, "cache_duration": 900"#);
    let kept: &'static crate::ext::Carry = Box::leak(Box::new(kept));
    // A rejected reload leaves no trace: its background work is never started.
    drop(File::after(&long, kept).endpoint(&ENDPOINT, "/x"));
    let calls = stub.calls();
    calls_reach(&stub, calls + 2).await;
    let mut next = File::after(&long, kept);
    // If two endpoints share a source, the stricter one decides.
    let after = steps(next.endpoint(&ENDPOINT, "/x"));
    let longer = text_for(&stub, r#", "cache": true, "cache_duration": 3600"#);
    next.endpoint_with(&ENDPOINT, &longer, "/y", Method::GET);
    let (kept, tasks) = next.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let calls = stub.calls();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(stub.calls(), calls);
    assert_eq!(verdict(&after, &hs("oct")).await, None);
    let short = text_for(&stub, r#", "cache": true, "cache_duration": 1"#);
    let mut last = File::after(&short, Box::leak(Box::new(kept)));
    let _steps = last.endpoint(&ENDPOINT, "/x");
    let (_kept, tasks) = last.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    calls_reach(&stub, calls + 2).await;
}

async fn calls_reach(stub: &Stub, number: usize) {
    let reached = async {
        while stub.calls() < number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(15), reached).await;
    waited.expect("more calls");
}

#[tokio::test]
async fn sources_that_differ_in_anything_share_no_key() {
    let (good, evil) = (
        Stub::start(keys_of(&["rsa"])).await,
        Stub::start(keys_of(&["oct"])).await,
    );
    let mut file = File::new(&text_for(&good, ""));
    let good = steps(file.endpoint(&ENDPOINT, "/good"));
    let evil = text_for(&evil, "");
    let evil = steps(file.endpoint_with(&ENDPOINT, &evil, "/evil", Method::GET));
    let (_kept, tasks) = file.work();
    for task in tasks {
        tokio::spawn(task.run);
    }
    let token = hs("oct");
    assert_eq!(verdict(&evil, &token).await, None);
    assert_eq!(verdict(&evil, &token).await, None, "remembered");
    assert_eq!(verdict(&good, &token).await, Some((401, "unknown_key")));
}

#[tokio::test]
async fn a_provider_that_was_down_is_asked_again() {
    let stub = Stub::start(Mood::HangsUp).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(
        verdict(&steps, &hs("oct")).await,
        Some((401, "keys_unavailable"))
    );
    stub.turns(keys_of(&["oct"]));
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
}

#[tokio::test]
async fn a_provider_that_goes_down_takes_no_key_along() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    stub.turns(Mood::HangsUp);
    assert_eq!(
        verdict(&steps, &hs("new")).await,
        Some((401, "unknown_key"))
    );
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
}

#[tokio::test]
async fn a_provider_that_hangs_holds_up_only_those_who_need_it() {
    let stub = Stub::start(keys_of(&["oct"])).await;
    let (steps, _kept) = tended(&stub, "");
    assert_eq!(verdict(&steps, &hs("oct")).await, None);
    stub.turns(Mood::Hangs);
    let (stranger, known) = (hs("new"), hs("oct"));
    let slow = verdict(&steps, &stranger);
    let quick = async {
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_secs(1), verdict(&steps, &known)).await
    };
    let (slow, quick) = tokio::join!(tokio::time::timeout(Duration::from_secs(4), slow), quick);
    assert_eq!(quick, Ok(None));
    assert_eq!(
        slow,
        Ok(Some((401, "unknown_key"))),
        "bounded by the endpoint's timeout, 2 s here"
    );
}
