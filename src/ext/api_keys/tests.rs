use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::{ENDPOINT, SERVICE};
use crate::ext::extension::EndpointPart;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::step::{EndpointStep, Gate};

const KEYS: &str = r#"{
    "keys": [
        {"key": "alice", "roles": ["user", "admin"], "@owner": "A"},
        {"key": "bob", "roles": ["user"]},
        {"key": "carol", "roles": ["admin"], "enabled": false}
    ],
    "propagate_role": "X-Role"
}"#;

fn step(service: &str, endpoint: &str) -> Box<dyn EndpointStep> {
    let mut file = File::new(service);
    file.service(&SERVICE);
    match file.endpoint_with(&ENDPOINT, endpoint, "/e", Method::GET) {
        EndpointPart::Setting { mut steps, .. } => steps.pop().unwrap(),
        other => panic!("{other:?}: {}", file.findings()),
    }
}

/// Status and reason. 200 for a request that passes.
fn ask(step: &dyn EndpointStep, path: &str, fields: &[(&str, &str)]) -> (u16, &'static str) {
    let (status, notes) = ask_for_notes(step, path, fields);
    (status, notes.rejected.unwrap_or(""))
}

fn ask_for_notes(step: &dyn EndpointStep, path: &str, fields: &[(&str, &str)]) -> (u16, Notes) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let mut notes = Notes::default();
    let status = match step.check(&head(&Method::GET, path, &headers), &mut notes) {
        Gate::Pass => 200,
        Gate::Reject(response) => {
            assert_eq!(
                response.status == 429,
                response.fields.iter().any(|(name, _)| name == RETRY_AFTER)
            );
            response.status.as_u16()
        }
        Gate::Wait(_) => panic!("nothing to wait for"),
    };
    (status, notes)
}

#[test]
fn a_key_with_a_role_passes_with_and_without_the_scheme() {
    let step = step(KEYS, r#"{"roles": ["admin"]}"#);
    for value in ["alice", "Bearer alice", "bearer alice"] {
        assert_eq!(
            ask(&*step, "/e", &[("Authorization", value)]).0,
            200,
            "{value}"
        );
    }
    for (fields, why) in [
        (&[][..], "missing_api_key"),
        (&[("Authorization", "")], "missing_api_key"),
        (&[("Authorization", "Basic alice")], "unknown_api_key"),
        (&[("Authorization", "Alice")], "unknown_api_key"),
        (&[("Authorization", "bob")], "missing_role"),
        (&[("Authorization", "carol")], "missing_role"),
        (
            &[("Authorization", "alice"), ("Authorization", "bob")],
            "ambiguous_credentials",
        ),
        (&[("X-Key", "alice")], "missing_api_key"),
    ] {
        assert_eq!(ask(&*step, "/e", fields), (401, why), "{fields:?}");
    }
}

#[test]
fn the_matching_role_is_sent_on_and_the_clients_header_is_not() {
    let step = step(KEYS, r#"{"roles": ["admin", "user"]}"#);
    let fields = [("Authorization", "alice"), ("X-Role", "root")];
    let (status, notes) = ask_for_notes(&*step, "/e", &fields);
    assert_eq!(status, 200);
    let (name, values) = &notes.overrides[0];
    assert_eq!(
        (name.as_str(), values[0].as_bytes()),
        ("x-role", &b"user"[..])
    );
}

#[test]
fn an_endpoint_may_use_another_place_than_the_service() {
    let step = step(
        KEYS,
        r#"{"roles": ["user"], "strategy": "query_string", "identifier": "api key"}"#,
    );
    assert_eq!(ask(&*step, "/e?api+key=b%6fb", &[]).0, 200);
    assert_eq!(ask(&*step, "/e?a=1&api%20key=bob&b", &[]).0, 200);
    assert_eq!(ask(&*step, "/e?api+key=", &[]), (401, "missing_api_key"));
    assert_eq!(
        ask(&*step, "/e?api+key=bob&api+key=bob", &[]),
        (401, "ambiguous_credentials")
    );
    assert_eq!(
        ask(&*step, "/e", &[("Authorization", "bob")]),
        (401, "missing_api_key")
    );
}

#[test]
fn each_key_has_its_own_rate() {
    let step = step(KEYS, r#"{"roles": ["user"], "client_max_rate": 0.001}"#);
    assert_eq!(ask(&*step, "/e", &[("Authorization", "bob")]).0, 200);
    assert_eq!(
        ask(&*step, "/e", &[("Authorization", "bob")]),
        (429, "rate_limited")
    );
    assert_eq!(ask(&*step, "/e", &[("Authorization", "alice")]).0, 200);
}

#[test]
fn blocks_that_do_not_protect_stop_the_start() {
    let service = |block: &str| {
        let mut file = File::new(block);
        file.service(&SERVICE);
        file.config_errors()
    };
    assert_eq!(service(KEYS), 0);
    for bad in [
        "{}",
        r#"{"keys": []}"#,
        r#"{"keys": [{"roles": ["a"]}]}"#,
        r#"{"keys": [{"key": "", "roles": ["a"]}]}"#,
        r#"{"keys": [{"key": "a"}, {"key": "a"}]}"#,
        r#"{"keys": [{"key": "a"}], "hash": "sha256"}"#,
        r#"{"keys": [{"key": "a"}], "hash": "md5"}"#,
        r#"{"keys": [{"key": "a"}], "propagate_role": "X Y"}"#,
    ] {
        assert!(service(bad) > 0, "{bad}");
    }
    let endpoint = |service: &str, block: &str| {
        let mut file = File::new(service);
        if service != "{}" {
            file.service(&SERVICE);
        }
        file.endpoint_with(&ENDPOINT, block, "/e", Method::GET);
        file.config_errors()
    };
    assert_eq!(endpoint(KEYS, r#"{"roles": ["nobody"]}"#), 0);
    for (service, bad) in [
        ("{}", r#"{"roles": ["user"]}"#),
        (KEYS, "{}"),
        (KEYS, r#"{"roles": []}"#),
        (KEYS, r#"{"roles": ["user"], "client_max_rate": -1}"#),
        (KEYS, r#"{"roles": ["user"], "identifier": "not a header"}"#),
    ] {
        assert!(endpoint(service, bad) > 0, "{bad}");
    }
}

proptest! {
    #[test]
    fn unknown_keys_never_pass(key in "[ -~]{0,40}", in_query: bool) {
        prop_assume!(!["alice", "bob"].contains(&key.trim_start_matches("earer ").trim()));
        let strategy = if in_query { "query_string" } else { "header" };
        let step = step(KEYS, &format!(r#"{{"roles": ["user"], "strategy": "{strategy}", "identifier": "k"}}"#));
        let path = format!("/e?k={}", key.replace('%', "%25").replace('&', "%26").replace('#', ""));
        prop_assert_eq!(ask(&*step, &path, &[("k", &key)]).0, 401);
    }
}
