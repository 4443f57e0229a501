//! Hints show what to write, and what they show is right.

use serde_json::{Value, json};

use super::{backend, endpoint, extra, service};
use crate::config::compiled_in;

/// The first finding with these words and its hint.
#[track_caller]
fn hinted(text: &str, words: &str) -> String {
    let findings = compiled_in(text, &[]).findings;
    let found = findings
        .iter()
        .find(|finding| finding.config_error.to_string().contains(words));
    let found = found.unwrap_or_else(|| panic!("{text}: {words:?} is not in {findings:#?}"));
    found.hint.clone().unwrap_or_default().into_owned()
}

fn validator(more: Value) -> Value {
    let mut block = json!({"alg": "RS256", "audience": ["a"], "issuer": "i"});
    super::merge(&mut block, more);
    block
}

#[test]
fn a_block_at_the_wrong_level_belongs_to_the_level_around_it() {
    let block = validator(json!({"jwk_url": "https://idp/keys"}));
    for (text, place) in [
        (extra(backend, "auth/validator", block), "an endpoint"),
        (
            extra(endpoint, "qos/ratelimit/proxy", json!({"max_rate": 1})),
            "a backend",
        ),
    ] {
        let hint = hinted(
            &text,
            "It may guard something, so the gateway does not start",
        );
        assert_eq!(hint, format!("it belongs in the extra_config of {place}"));
    }
}

#[test]
fn a_validator_without_keys_lacks_an_address() {
    let text = extra(endpoint, "auth/validator", validator(json!({})));
    let hint = hinted(&text, "there is neither jwk_url nor jwk_local_path");
    assert!(hint.contains("\"jwk_url\""), "{hint}");
    assert!(!hint.contains("disable_jwk_security"), "{hint}");
}

#[test]
fn claims_to_propagate_are_pairs_in_a_list() {
    let of = |claims: Value| {
        let more = json!({"jwk_url": "https://idp/keys", "propagate_claims": claims});
        extra(endpoint, "auth/validator", validator(more))
    };
    let pair = hinted(&of(json!(["sub", "x-user"])), "must be a list in the list");
    assert_eq!(pair, r#"[["sub", "x-user"]]"#);
    let names = [
        ("email", r#"["email", "x-email"]"#),
        ("x-role", r#"["x-role", "x-role"]"#),
    ];
    for (claim, want) in names {
        let hint = hinted(
            &of(json!([claim])),
            "a pair of claim and header is expected",
        );
        assert_eq!(hint, want);
    }
}

#[test]
fn a_propagated_header_that_no_backend_gets_is_reported() {
    let with = |headers: Value, more: Value| {
        let claims =
            json!({"jwk_url": "https://idp/keys", "propagate_claims": [["sub", "X-User"]]});
        let mut extra = json!({"auth/validator": validator(claims)});
        super::merge(&mut extra, more);
        endpoint(json!({"input_headers": headers, "extra_config": extra}))
    };
    let hint = hinted(
        &with(json!(["X-Other"]), json!({})),
        "no backend gets the header \"X-User\"",
    );
    assert_eq!(hint, r#"add it to "input_headers": ["X-User"]"#);
    let limit = json!({"qos/ratelimit/router": {"client_max_rate": 1, "strategy": "header", "key": "X-User"}});
    for used in [
        with(json!(["x-user"]), json!({})),
        with(json!(["*"]), json!({})),
        with(json!([]), limit),
    ] {
        let findings = compiled_in(&used, &[]).findings;
        assert!(findings.is_empty(), "{used}: {findings:#?}");
    }
}

#[test]
fn a_number_for_a_duration_was_meant_in_another_unit() {
    let hint = |timeout: u64| hinted(&service(json!({"timeout": timeout})), "counts nanoseconds");
    assert_eq!(hint(3000), r#"write the unit: "3000ms" or "3000s""#);
    assert_eq!(hint(2_000_000_000), r#"write the unit: "2s""#);
}

#[test]
fn a_header_without_a_name_is_missing() {
    let block = json!({"client_max_rate": 1, "strategy": "header"});
    let text = extra(endpoint, "qos/ratelimit/router", block);
    hinted(&text, "the name of the header is missing");
}
