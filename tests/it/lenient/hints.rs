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
fn values_that_are_nearly_right_get_the_right_one_as_a_hint() {
    let limit = json!({"client_max_rate": 1, "strategy": "headers", "key": "X"});
    for (text, words, hint) in [
        (
            extra(
                service,
                "telemetry/logging",
                json!({"level": "WARN", "stdout": true}),
            ),
            "invalid log level",
            "did you mean \"WARNING\"?",
        ),
        (
            extra(endpoint, "qos/ratelimit/router", limit),
            "\"headers\" is none of",
            "did you mean \"header\"?",
        ),
        (
            backend(json!({"method": "PSOT"})),
            "is not a method that is known",
            "did you mean \"POST\"?",
        ),
        (
            endpoint(json!({"method": ["GET", "POST"]})),
            "found a list of 2",
            "one endpoint for each method",
        ),
    ] {
        let found = hinted(&text, words);
        assert!(found.contains(hint), "{found}");
    }
}

#[test]
fn a_block_at_the_wrong_level_is_treated_as_one_of_the_level_around_it() {
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
    assert_eq!(pair, r#""propagate_claims": [["sub", "x-user"]]"#);
    for claims in [json!({"sub": "x-user"}), json!([{"sub": "x-user"}])] {
        let pair = hinted(&of(claims), "must be a list in the list");
        assert_eq!(pair, r#""propagate_claims": [["sub", "x-user"]]"#);
    }
    let pairs = hinted(
        &of(json!(["sub", "x-user", "email", "X-Mail"])),
        "must be a list in the list",
    );
    let want = r#""propagate_claims": [["sub", "x-user"], ["email", "X-Mail"]]"#;
    assert_eq!(pairs, want);
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
fn a_duration_for_a_number_of_seconds_was_meant_in_seconds() {
    let breaker = json!({"interval": "60s", "timeout": 10, "max_errors": 1});
    let text = extra(backend, "qos/circuit-breaker", breaker);
    let hint = hinted(&text, "but an integer is expected");
    assert_eq!(hint, "it is ignored; a number of seconds: 60");
}

#[test]
fn a_placeholder_without_a_parameter_is_one_of_the_endpoint_or_missing_there() {
    let of = |path: &str, pattern: &str| {
        let call = json!({"host": ["http://127.0.0.1:1"], "url_pattern": pattern});
        endpoint(json!({"endpoint": path, "backend": [call]}))
    };
    let hint = |path, pattern| hinted(&of(path, pattern), "undefined output param");
    assert_eq!(
        hint("/a", "/b/{id}"),
        "add {id} to the \"endpoint\", such as \"/a/{id}\""
    );
    assert_eq!(
        hint("/a/{ident}", "/b/{iden}"),
        "did you mean {ident}? Otherwise add {iden} to the \"endpoint\", such as \"/a/{ident}/{iden}\""
    );
}

#[test]
fn a_header_without_a_name_is_missing() {
    let block = json!({"client_max_rate": 1, "strategy": "header"});
    let text = extra(endpoint, "qos/ratelimit/router", block);
    let hint = hinted(&text, "the name of the header is missing");
    assert_eq!(hint, r#""strategy": "header" needs "key": "X-Api-Key""#);
}

#[test]
fn origins_and_methods_are_lists_of_single_ones() {
    let of = |block: Value| extra(service, "security/cors", block);
    for (origins, hint) in [
        (
            json!("https://a,https://b"),
            r#"write ["https://a", "https://b"]"#,
        ),
        (json!([" https://a.b"]), r#"write ["https://a.b"]"#),
        (json!(["https://a:443"]), r#"write "https://a""#),
        (json!(["http://a:80"]), r#"write "http://a""#),
        (json!(["https://a/"]), r#"write "https://a""#),
    ] {
        let text = of(json!({ "allow_origins": origins }));
        assert_eq!(hinted(&text, "never matches"), hint);
    }
    let methods = of(json!({"allow_origins": ["https://a"], "allow_methods": ["GET,POST"]}));
    let hint = hinted(&methods, "is not a method, and allows none");
    assert_eq!(hint, r#"write ["GET", "POST"]"#);
}

#[test]
fn blanks_around_the_address_of_keys_are_removed() {
    let of = |url: &str| {
        extra(
            endpoint,
            "auth/validator",
            validator(json!({"jwk_url": url})),
        )
    };
    hinted(
        &of(" https://idp/keys\n"),
        "blanks and line ends around it are removed",
    );
    let findings = compiled_in(&of(" https://idp/keys\n"), &[]).findings;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let hint = hinted(&of("idp/keys"), "insecure connection");
    assert_eq!(hint, "\"jwk_url\" begins with https://");
    for url in ["https://$IDP/keys", "https://{{ .idp }}/keys"] {
        hinted(&of(url), "was not filled in");
    }
}

#[test]
fn quoted_text_that_is_not_a_number_gets_no_impossible_hint() {
    for text in ["inf", "NaN", "-inf", "1e400"] {
        let file = extra(endpoint, "qos/ratelimit/router", json!({"max_rate": text}));
        let hint = hinted(&file, "but a number is expected");
        assert_eq!(hint, "", "{text}");
    }
    let port = service(json!({"port": "8080.0"}));
    assert_eq!(
        hinted(&port, "an integer is expected"),
        "without quotes: 8080"
    );
    let large = r#"{"version": 3, "endpoints": [{"endpoint": "/a",
        "extra_config": {"qos/ratelimit/router": {"max_rate": 1e400}},
        "backend": [{"host": ["http://a"], "url_pattern": "/"}]}]}"#;
    hinted(large, "is not in the range of 64-bit numbers");
}

#[test]
fn claims_that_are_never_found_are_reported() {
    let of = |more: Value| extra(endpoint, "auth/validator", validator(more));
    let keys = "https://t.eu.auth0.com/.well-known/jwks.json";
    let roles = json!({"jwk_url": keys, "roles": ["a"], "roles_key": "realm_access.roles"});
    hinted(&of(roles), "a claim inside another one is not found");
    let issuer = json!({"jwk_url": keys, "issuer": "https://t.eu.auth0.com"});
    let hint = hinted(&of(issuer), "ends with a slash, so no token is accepted");
    assert_eq!(hint, "\"issuer\": \"https://t.eu.auth0.com/\"");
    for good in [
        json!({"jwk_url": keys, "issuer": "https://t.eu.auth0.com/"}),
        json!({"jwk_url": keys, "roles": ["a"], "roles_key": "https://a.example/roles"}),
        json!({"jwk_url": keys, "roles": ["a"], "roles_key": "a.b", "roles_key_is_nested": true}),
        json!({"jwk_url": "https://idp.example/.well-known/jwks.json", "issuer": "https://idp.example"}),
    ] {
        let findings = compiled_in(&of(good), &[]).findings;
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

#[test]
fn operators_of_other_languages_get_those_of_cel() {
    for (expression, want) in [
        ("req_method = 'GET'", "== compares two values"),
        ("req_method === 'GET'", "== and != compare two values"),
        ("req_method == 'GET' and req_path == '/a'", "&& means and"),
        ("req_method == 'GET' & req_path == '/a'", "&& means and"),
        ("req_method == 'a=b' OR req_path == '/a'", "|| means or"),
        ("not (req_method == 'GET')", "! means not"),
        ("req_method <> 'GET'", "!= compares two values"),
    ] {
        let text = extra(
            endpoint,
            "validation/cel",
            json!([{"check_expr": expression}]),
        );
        assert_eq!(hinted(&text, ""), want, "{expression}");
    }
}

#[test]
fn common_json_errors_get_a_hint() {
    for (text, want) in [
        ("// x\n{}", "JSON has no comments"),
        ("{\n// x\n\"a\": 1}", "JSON has no comments"),
        ("{\"a\": 1 // x\n}", "JSON has no comments"),
        ("{\"a\": 1} # x", "JSON has no comments"),
        ("{\"a\": /* x */ 1}", "JSON has no comments"),
        ("{\"a\": 1,, \"b\": 2}", "one comma too many"),
        ("{\"a\": [1,, 2]}", "one comma too many"),
        ("{\"a\": 1,}", "remove the comma before it"),
        ("{\"a\": [1,]}", "remove the comma before it"),
        ("{'a': 1}", "keys have double quotes"),
        ("{a: 1}", "keys have double quotes"),
        ("{\"a\": 'b'}", "strings have double quotes"),
        ("{\"a\": b}", "a string has double quotes"),
        ("{\"a\": True}", "in small letters"),
        ("{\"a\" = 1}", "a colon follows a key"),
        ("{\"a\": 1 \"b\": 2}", "a comma is missing before it"),
        ("{\"a\": [1 \"b\"]}", "a comma is missing before it"),
        ("{\"a\": .5}", "a number begins with a digit"),
        ("{\"a\": 1}}", "the first brace that closes"),
    ] {
        let hint = hinted(text, "");
        assert!(hint.contains(want), "{text}: {hint}");
    }
}

#[test]
fn a_misspelt_key_of_an_older_version_points_at_the_key_of_today() {
    for (key, want) in [
        ("whitlist", "write \"allow\" instead"),
        ("blacklst", "write \"deny\" instead"),
        ("headers_to_pas", "write \"input_headers\" instead"),
        ("querystring_param", "write \"input_query_strings\" instead"),
    ] {
        let hint = hinted(&backend(json!({key: ["a"]})), "is unknown here");
        assert_eq!(hint, want);
    }
}

#[test]
fn a_capacity_that_is_already_in_use_is_not_suggested() {
    let limit = |block: Value| extra(endpoint, "qos/ratelimit/router", block);
    let same =
        limit(json!({"max_rate": 100, "client_max_rate": 10, "every": "1m", "strategy": "ip"}));
    let findings = compiled_in(&same, &[]).findings;
    assert!(findings.is_empty(), "{findings:#?}");
    let other = limit(json!({"client_max_rate": 120, "every": "1m", "strategy": "ip"}));
    let hint = hinted(&other, "a client may send 1 at once");
    let want = "to allow a burst that matches the rate: \"client_capacity\": 2; 120 allows the requests of a whole \
                period of 1m0s at once";
    assert_eq!(hint, want);
}

#[test]
fn a_claim_is_compared_with_the_request_as_a_header() {
    let block = json!({
        "auth/validator": validator(json!({"jwk_url": "https://idp/keys"})),
        "validation/cel": [{"check_expr": "JWT.sub == req_params.User"}]
    });
    let text = endpoint(json!({"endpoint": "/a/{user}", "extra_config": block}));
    let hint = hinted(&text, "is not known then");
    assert!(
        hint.contains("req_headers['X-User'][0] == req_params.User"),
        "{hint}"
    );
}

#[test]
fn values_of_a_validator_that_no_token_has_are_reported() {
    let of = |more: Value| extra(endpoint, "auth/validator", validator(more));
    let document = "https://idp/.well-known/openid-configuration";
    let hint = hinted(&of(json!({"jwk_url": document})), "the discovery document");
    assert!(hint.contains("openid_configuration"), "{hint}");
    for more in [
        json!({"issuer": "https://idp/$TENANT"}),
        json!({"issuer": "https://idp/${TENANT}/v2"}),
        json!({"audience": ["a", "api://{{ .client }}"]}),
    ] {
        let mut block = json!({"jwk_url": "https://idp/keys"});
        super::merge(&mut block, more);
        hinted(&of(block), "a placeholder in it was not filled in");
    }
    let good = of(json!({"jwk_url": "https://idp/keys", "audience": ["a$", "5$"]}));
    assert!(compiled_in(&good, &[]).findings.is_empty());
}

#[test]
fn a_script_around_the_calls_does_not_use_a_header_that_does_not_pass() {
    let script = json!({"pre": "print(request.load():headers('X-User'))"});
    let header = |namespace: &str| {
        let claims =
            json!({"jwk_url": "https://idp/keys", "propagate_claims": [["sub", "X-User"]]});
        let block = json!({"auth/validator": validator(claims), namespace: script});
        let text = endpoint(json!({"extra_config": block}));
        let findings = compiled_in(&text, &[]).findings;
        let mut texts = findings.iter().map(|one| one.config_error.to_string());
        texts.any(|text| text.contains("no backend gets the header"))
    };
    assert!(header("modifier/lua-proxy"));
    assert!(!header("modifier/lua-endpoint"));
}

#[test]
fn a_limit_of_an_endpoint_at_a_backend_points_at_that_of_backends() {
    let text = extra(backend, "qos/ratelimit/router", json!({"max_rate": 1}));
    let hint = hinted(&text, "is unknown here");
    assert!(hint.contains("\"qos/ratelimit/proxy\""), "{hint}");
}

#[test]
fn of_two_texts_one_is_kept() {
    let block = r#"{"alg": "RS256", "alg": "ES256", "issuer": "i", "audience": ["a"], "jwk_url": "https://idp/keys"}"#;
    let text = format!(
        r#"{{"version": 3, "endpoints": [{{"endpoint": "/a", "extra_config": {{"auth/validator": {block}}},
            "backend": [{{"host": ["http://127.0.0.1:1"]}}]}}]}}"#
    );
    assert_eq!(
        hinted(&text, "appears twice, and what"),
        "keep one of the two"
    );
}
