//! Guards that an error would disable: each of them stops the start. Other keys that KrakenD ignores do not.

use serde_json::{Value, json};

use super::{backend, endpoint, extra, is_rejected, merge, service, starts};
use crate::config::compiled_in;

const MAY_GUARD: &str = "It may guard something, so the gateway does not start";

/// The hint of the first error with these words.
#[track_caller]
fn hint_of(text: &str, words: &str) -> String {
    let findings = compiled_in(text, &[]).findings;
    let found = findings
        .iter()
        .find(|finding| finding.config_error.to_string().contains(words));
    let found = found.unwrap_or_else(|| panic!("{text}: {words:?} is not in {findings:#?}"));
    found.hint.clone().unwrap_or_default().into_owned()
}

/// It starts without a warning.
#[track_caller]
fn is_clean(text: &str) {
    let outcome = compiled_in(text, &[]);
    assert!(
        outcome.findings.is_empty(),
        "{text}: {:#?}",
        outcome.findings
    );
    assert!(outcome.compiled.is_some());
}

fn validator() -> Value {
    json!({"alg": "RS256", "jwk_url": "https://idp/keys", "audience": ["a"], "issuer": "i"})
}

#[test]
fn an_unknown_namespace_of_a_family_of_guards_stops_the_start() {
    for name in [
        "auth",
        "auth/jwt",
        "auth/jose",
        "auth/oauth2",
        "Auth/Foo",
        "jose/validator",
        "github.com/krakendio/krakend-jose/validator",
        "github.com/devopsfaith/krakend-jose",
        "github_com/acme/krakend-authz",
        "acme/jwtValidator",
        "basicAuth",
        "qos/ratelimit",
        "qos/ratelimit/endpoint",
        "qos/rate-limit",
        "ratelimit",
        "rateLimit",
        "validation",
        "validation/schema",
        "security",
        "security/xyz",
        "security/headers",
        "acme/bot-detector",
        "acme/botdetector",
        "security/bots",
        "portcullis/not-there",
        "validatr",
        "acme/validater",
    ] {
        for level in [service, endpoint, backend] {
            let text = extra(level, name, json!({"x": 1}));
            is_rejected(&text, MAY_GUARD);
            let hint = hint_of(&text, MAY_GUARD);
            assert!(!hint.is_empty(), "{name}");
            is_clean(&extra(level, &format!("@{name}"), json!({"x": 1})));
        }
    }
    for name in [
        "acme/metrics",
        "documentation/auth",
        "telemetry/security",
        "authors",
        "github.com/acme/krakend-corsica",
        "modifier/generator",
        "qos/foo",
    ] {
        starts(
            &extra(endpoint, name, json!({})),
            "is unknown here and ignored",
        );
    }
}

#[test]
fn the_hint_names_the_guard_of_the_level() {
    for (level, name, guard) in [
        (
            endpoint as fn(Value) -> String,
            "auth/jwt",
            "auth/validator",
        ),
        (endpoint, "auth/basic_auth", "auth/basic"),
        (service, "auth/apikeys", "auth/api-keys"),
        (endpoint, "ratelimit", "qos/ratelimit/router"),
        (service, "qos/ratelimit", "qos/ratelimit/service"),
        (backend, "qos/ratelimit", "qos/ratelimit/proxy"),
        (endpoint, "validation/schema", "validation/json-schema"),
        (service, "security/headers", "security/http"),
        (service, "security/bots", "security/bot-detector"),
        (endpoint, "krakend-ip-filter", "security/ip-filter"),
        (
            endpoint,
            "qos/ratelimit/router/rediss",
            "qos/ratelimit/router/redis",
        ),
        (endpoint, "auth/validatr", "auth/validator"),
    ] {
        let hint = hint_of(&extra(level, name, json!({"x": 1})), MAY_GUARD);
        assert!(
            hint.starts_with(&format!("did you mean \"{guard}\"?")),
            "{name}: {hint}"
        );
    }
    let hint = hint_of(&extra(service, "auth/jwt", json!({})), MAY_GUARD);
    assert!(
        hint.contains("\"auth/validator\" in the extra_config of an endpoint"),
        "{hint}"
    );
}

#[test]
fn the_name_of_a_guard_in_parts_stops_the_start() {
    for (level, name, block, guard) in [
        (
            endpoint as fn(Value) -> String,
            "auth",
            json!({"validator": validator()}),
            "auth/validator",
        ),
        (
            endpoint,
            "qos",
            json!({"ratelimit": {"router": {"max_rate": 1}}}),
            "qos/ratelimit/router",
        ),
        (service, "security", json!({"cors": {}}), "security/cors"),
    ] {
        let hint = hint_of(&extra(level, name, block.clone()), MAY_GUARD);
        assert_eq!(hint, format!("a namespace is one name: \"{guard}\""));
        is_rejected(&level(json!({name: block})), "nothing would be guarded");
    }
    starts(
        &extra(endpoint, "qos", json!({"x": {"y": 1}})),
        "unknown here and ignored",
    );
}

#[test]
fn a_guard_where_nothing_reads_it_stops_the_start() {
    let one = json!({"auth/validator": validator()});
    for text in [
        endpoint(one.clone()),
        endpoint(json!({"config": [one.clone()]})),
        service(json!({"x": {"y": {"z": [[one.clone()]]}}})),
        extra(endpoint, "acme/x", json!({"list": [one.clone()]})),
        extra(service, "proxy", json!({"x": one.clone()})),
        service(json!({"backend": [{"extra_config": one}]})),
        extra(
            service,
            "tls",
            json!({"public_key": "a", "private_key": "b", "enable_mtls": true}),
        ),
        endpoint(json!({"tls": {"keys": [], "enable_mtls": true}})),
    ] {
        is_rejected(&text, "nothing would be guarded");
    }
    for patch in [
        json!({"auth/validatr": validator()}),
        json!({"validator": validator()}),
        json!({"qos/ratelimt/router": {"max_rate": 1}}),
        json!({"rate_limit": {"max_rate": 1}}),
        json!({"validatr": validator()}),
        json!({"auth": {"type": "jwt"}}),
        json!({"extra_confg": {"validator": validator()}}),
        json!({"extraConfig": {"auth/jwt": validator()}}),
    ] {
        is_rejected(&endpoint(patch), MAY_GUARD);
    }
    for name in ["tls_config", "ssl", "TSL", "mtls"] {
        let hint = hint_of(&service(json!({name: {"enable_mtls": true}})), MAY_GUARD);
        assert!(hint.starts_with("did you mean \"tls\"?"), "{name}: {hint}");
    }
    // Data of others, and words without a block.
    for patch in [
        json!({"authors": ["a"]}),
        json!({"security_contact": "x@example.com"}),
        json!({"auth": "see the wiki"}),
        json!({"x-meta": {"auth": {"a": 1}}}),
    ] {
        starts(&endpoint(patch), "is unknown here and ignored");
    }
    is_clean(&backend(
        json!({"mapping": {"validator": "x", "auth": "y"}}),
    ));
    is_clean(&endpoint(json!({"@auth/validator": {"x": 1}})));
}

#[test]
fn a_misspelt_key_that_decides_who_passes_stops_the_start() {
    let with = |name: &str| {
        let mut block = validator();
        merge(&mut block, json!({name: ["a"]}));
        extra(endpoint, "auth/validator", block)
    };
    for (name, key) in [
        ("role", "roles"),
        ("scope", "scopes"),
        ("aud", "audience"),
        ("audiences", "audience"),
        ("issuers", "issuer"),
        ("iss", "issuer"),
        ("propagate_claim", "propagate_claims"),
    ] {
        let hint = hint_of(&with(name), MAY_GUARD);
        let want = format!("did you mean \"{key}\"? To ignore it, write \"@{name}\"");
        assert_eq!(hint, want);
    }
    for (level, namespace, block) in [
        (
            service as fn(Value) -> String,
            "security/cors",
            json!({"allow_origin": ["https://a"], "allow_methods": ["GET"]}),
        ),
        (
            service,
            "security/cors",
            json!({"allowed_origins": ["https://a"]}),
        ),
        (service, "security/cors", json!({"origins": ["https://a"]})),
        (endpoint, "qos/ratelimit/router", json!({"rate": 1})),
        (
            endpoint,
            "qos/ratelimit/router",
            json!({"max_rate": 5, "evry": "1h"}),
        ),
        (backend, "qos/ratelimit/proxy", json!({"rate": 1})),
        (
            endpoint,
            "validation/cel",
            json!([{"check_exp": "req_method == 'GET'"}]),
        ),
        (
            service,
            "security/bot-detector",
            json!({"denylist": ["curl"]}),
        ),
        (
            service,
            "security/bot-detector",
            json!({"blacklist": ["curl"], "deny": ["wget"]}),
        ),
        (service, "security/http", json!({"hosts": ["a.example"]})),
        (service, "router", json!({"trusted_proxy": ["10.0.0.0/8"]})),
    ] {
        is_rejected(&extra(level, namespace, block), MAY_GUARD);
    }
    is_rejected(
        &service(json!({"tls": {"keys": [], "enable_mtl": true}})),
        MAY_GUARD,
    );
    // Keys that are not similar to a known one, and keys that do not decide which requests pass.
    starts(&with("colour"), "is unknown here and ignored");
    let debug = json!({"max_rate": 5, "num_shard": 1});
    starts(
        &extra(endpoint, "qos/ratelimit/router", debug),
        "is unknown here and ignored",
    );
}

#[test]
fn a_misspelt_keyword_of_a_schema_stops_the_start() {
    let of = |schema: Value| extra(endpoint, "validation/json-schema", schema);
    const OPEN: &str = "what it requires would not be checked";
    for (schema, want) in [
        (json!({"type": "object", "requird": ["a"]}), "required"),
        (json!({"Required": ["a"]}), "required"),
        (json!({"properties": {"a": {"minimun": 1}}}), "minimum"),
        (
            json!({"prefixItems": [{"anyOf": [{"max_length": 1}]}]}),
            "maxLength",
        ),
        (json!({"$defs": {"a": {"patern": "a"}}}), "pattern"),
        (json!({"additionalProperty": false}), "additionalProperties"),
    ] {
        let hint = hint_of(&of(schema), OPEN);
        assert!(
            hint.starts_with(&format!("did you mean \"{want}\"?")),
            "{hint}"
        );
    }
    let response = json!({"schema": {"type": "object", "requird": ["a"]}});
    is_rejected(
        &extra(endpoint, "validation/response-json-schema", response),
        OPEN,
    );
    for schema in [
        json!({"x-required": 1, "note": "n", "title": "t", "example": 1, "colour": 1}),
        json!({"properties": {"requird": {"type": "string"}, "minimun": true}}),
        json!({"enum": [{"requird": 1}], "const": {"minimun": 1}, "default": {"patern": 1}}),
        json!({"$comment": "c", "$id": "urn:a", "description": "d", "nullable": true}),
    ] {
        is_clean(&of(schema));
    }
}

#[test]
fn a_guard_without_a_rule_is_reported() {
    const NOTHING: &str = "guards nothing";
    for (level, namespace, known) in [
        (
            endpoint as fn(Value) -> String,
            "qos/ratelimit/router",
            json!({"every": "1m"}),
        ),
        (backend, "qos/ratelimit/proxy", json!({"capacity": 1})),
        (service, "security/bot-detector", json!({"cache_size": 10})),
    ] {
        starts(&extra(level, namespace, json!({})), NOTHING);
        starts(&extra(level, namespace, known.clone()), NOTHING);
        let mut unknown = known;
        merge(&mut unknown, json!({"colour": 1}));
        is_rejected(&extra(level, namespace, unknown), NOTHING);
    }
    starts(&extra(endpoint, "validation/cel", json!([{}])), NOTHING);
    starts(&extra(endpoint, "validation/cel", json!([])), NOTHING);
    let empty = json!([{"check_expr": ""}]);
    starts(&extra(endpoint, "validation/cel", empty), NOTHING);
    is_rejected(
        &extra(endpoint, "validation/cel", json!([{"colour": "x"}])),
        NOTHING,
    );
    is_rejected(
        &extra(service, "security/cors", json!({"colour": []})),
        NOTHING,
    );
    is_rejected(
        &extra(service, "security/http", json!({"colour": []})),
        NOTHING,
    );
    is_clean(&extra(
        endpoint,
        "qos/ratelimit/router",
        json!({"max_rate": 0}),
    ));
    let keys = json!({"keys": [{"key": "k", "roles": ["a"]}]});
    let hint = hint_of(&extra(endpoint, "auth/api-keys", keys), NOTHING);
    assert_eq!(hint, "its keys belong in the extra_config of the service");
    for origins in [
        json!({"allow_methods": ["GET"]}),
        json!({"allow_origins": []}),
    ] {
        starts(
            &extra(service, "security/cors", origins),
            "every origin is allowed",
        );
    }
    is_clean(&extra(
        service,
        "security/cors",
        json!({"allow_origins": ["*"]}),
    ));
}

#[test]
fn a_guard_that_a_second_key_replaces_stops_the_start() {
    const TWICE: &str = "appears twice, and what this one guards would not be guarded";
    let file = |endpoint: &str| {
        format!(
            r#"{{"version": 3, "endpoints": [{{"endpoint": "/a", {endpoint},
                "backend": [{{"host": ["http://127.0.0.1:1"], "url_pattern": "/"}}]}}]}}"#
        )
    };
    let guard = validator().to_string();
    for text in [
        file(&format!(
            r#""extra_config": {{"auth/validator": {guard}}}, "extra_config": {{"proxy": {{}}}}"#
        )),
        file(&format!(
            r#""extra_config": {{"auth/validator": {guard}, "auth/validator": {{"alg": "RS256"}}}}"#
        )),
        file(
            r#""extra_config": {"qos/ratelimit/router": {"max_rate": 1, "max_rate": 1000000}}"#,
        ),
        r#"{"version": 3, "tls": {"enable_mtls": true}, "tls": {"disabled": true}, "endpoints": []}"#
            .to_owned(),
    ] {
        is_rejected(&text, TWICE);
    }
    is_rejected(
        &file(&format!(
            r#""Extra_Config": {{"auth/validator": {guard}}}, "extra_config": {{"proxy": {{}}}}"#
        )),
        "nothing would be guarded",
    );
    is_rejected(
        &file(r#""extra_config": {"qos/ratelimit/router": {"max_rate": 9, "maxRate": 1}}"#),
        "which is the same key",
    );
    for text in [
        // The same twice, and nothing that guards.
        file(&format!(
            r#""extra_config": {{"auth/validator": {guard}, "auth/validator": {guard}}}"#
        )),
        file(r#""extra_config": {"proxy": {}}, "extra_config": {}"#),
        file(r#""timeout": "1s", "timeout": "2s""#),
    ] {
        starts(&text, "appears twice: the last one is used");
    }
}
