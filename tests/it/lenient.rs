//! Errors in a file that do not stop the start, and those that do: the rule of `src/config/rule.rs`.

mod endpoints;
mod guards;
mod hints;
mod no_op;

use serde_json::{Value, json};

use crate::config::{compiled_in, shown};

/// A file with one endpoint, changed by the JSON merge patches (RFC 7396) of the service, endpoint and backend.
fn file(service: Value, endpoint: Value, backend: Value) -> String {
    let mut one_backend = json!({"host": ["http://127.0.0.1:1"], "url_pattern": "/"});
    merge(&mut one_backend, backend);
    let mut one = json!({"endpoint": "/a", "backend": [one_backend]});
    merge(&mut one, endpoint);
    let mut file = json!({"version": 3, "endpoints": [one]});
    merge(&mut file, service);
    file.to_string()
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return };
    for (name, value) in patch {
        into[name] = value;
    }
}

fn service(patch: Value) -> String {
    file(patch, json!({}), json!({}))
}

fn endpoint(patch: Value) -> String {
    file(json!({}), patch, json!({}))
}

fn backend(patch: Value) -> String {
    file(json!({}), json!({}), patch)
}

fn extra(level: fn(Value) -> String, namespace: &str, block: Value) -> String {
    level(json!({"extra_config": {namespace: block}}))
}

/// It starts, has a warning with `words`, and does not start if warnings count as errors.
#[track_caller]
fn starts(text: &str, words: &str) {
    let outcome = compiled_in(text, &[]);
    let found = shown(&outcome.findings);
    assert!(outcome.compiled.is_some(), "{text}: {found:#?}");
    assert!(
        found.iter().any(|line| line.contains(words)),
        "{text}: {words:?} is not in {found:#?}"
    );
    let strict = compiled_in(text, &[("PORTCULLIS_STRICT", "1")]);
    assert!(strict.compiled.is_none(), "{text} starts with --strict");
}

#[track_caller]
fn is_rejected(text: &str, words: &str) {
    let outcome = compiled_in(text, &[]);
    let found = shown(&outcome.findings);
    assert!(outcome.compiled.is_none(), "{text} starts: {found:#?}");
    let config_errors = found.iter().filter(|line| !line.starts_with("warning"));
    let config_errors: Vec<_> = config_errors.collect();
    assert!(
        config_errors.iter().any(|line| line.contains(words)),
        "{text}: {words:?} is not in {config_errors:#?}"
    );
}

#[test]
fn an_invalid_block_that_is_not_a_guard_is_ignored() {
    for (text, words) in [
        (
            extra(
                backend,
                "backend/http",
                json!({"return_error_details": true}),
            ),
            "return_error_details",
        ),
        (
            extra(backend, "modifier/martian", json!({"body.Nope": {}})),
            "unknown modifier: body.Nope",
        ),
        (
            extra(
                backend,
                "modifier/martian",
                json!({"header.Modifier": {"name": "A", "value": "b"}, "header.Id": {}}),
            ),
            "without this block",
        ),
        (
            extra(backend, "modifier/martian", Value::Null),
            "null counts as absent",
        ),
        (
            extra(backend, "backend/graphql", json!({"type": "subscription"})),
            "type",
        ),
        (
            extra(
                backend,
                "qos/circuit-breaker",
                json!({"interval": "soon", "max_errors": 1}),
            ),
            "an integer is expected",
        ),
        (
            extra(backend, "qos/http-cache", json!("on")),
            "qos~1http-cache",
        ),
        (
            extra(endpoint, "proxy", json!({"sequential": "perhaps"})),
            "true or false is expected",
        ),
        (
            extra(
                endpoint,
                "proxy",
                json!({"flatmap_filter": [{"type": "del", "args": 7}]}),
            ),
            "args",
        ),
        (
            extra(service, "router", json!({"return_error_msg": "perhaps"})),
            "true or false is expected",
        ),
        (extra(service, "router", json!([])), "an object is expected"),
        (
            extra(
                service,
                "telemetry/logging",
                json!({"level": "ERROR", "stdout": {}}),
            ),
            "true or false is expected",
        ),
        (
            extra(
                service,
                "telemetry/metrics",
                json!({"collection_time": "soon"}),
            ),
            "is not a duration",
        ),
    ] {
        starts(&text, words);
    }
}

#[test]
fn an_obvious_meaning_is_used_in_guards_and_elsewhere() {
    let validator = |patch: Value| {
        let mut block = json!({"alg": "RS256", "jwk_url": "https://a.example/keys", "issuer": "https://a.example",
            "audience": ["x"], "roles_key": "roles"});
        merge(&mut block, patch);
        extra(endpoint, "auth/validator", block)
    };
    for (text, words) in [
        (
            extra(endpoint, "qos/ratelimit/router", json!({"max_rate": "100"})),
            "treated as 100",
        ),
        (
            extra(endpoint, "qos/ratelimit/router", json!({"MAX_RATE": 100})),
            "treated as \"max_rate\"",
        ),
        (
            extra(endpoint, "Qos/RateLimit/Router", json!({"max_rate": 100})),
            "is treated as \"qos/ratelimit/router\"",
        ),
        (
            extra(
                endpoint,
                "github.com/devopsfaith/krakend-ratelimit/juju/router",
                json!({"maxRate": 100, "clientMaxRate": "5", "strategy": "ip"}),
            ),
            "is treated as \"qos/ratelimit/router\"",
        ),
        (
            extra(
                backend,
                "qos/ratelimit/proxy",
                json!({"max_rate": 1, "every": "3600"}),
            ),
            "treated as \"3600s\"",
        ),
        (
            extra(
                service,
                "security/cors",
                json!({"allow_origins": ["https://a.example"], "max_age": "3600"}),
            ),
            "treated as \"3600s\"",
        ),
        (
            extra(
                service,
                "security/cors",
                json!({"allow_origins": "https://a.example"}),
            ),
            "treated as [\"https://a.example\"]",
        ),
        (
            extra(service, "security/bot-detector", json!({"deny": "a"})),
            "treated as [\"a\"]",
        ),
        (
            validator(json!({"roles": "admin"})),
            "treated as [\"admin\"]",
        ),
        (validator(json!({"audience": "x"})), "treated as [\"x\"]"),
        (
            validator(json!({"scopes": ["a"]})),
            "in the claim \"scope\"",
        ),
        (
            extra(
                endpoint,
                "validation/cel",
                json!({"check_expr": "req_method == 'GET'"}),
            ),
            "treated as a list of one",
        ),
        (
            extra(
                backend,
                "qos/circuit-breaker",
                json!({"interval": "60", "max_errors": 1}),
            ),
            "treated as 60",
        ),
        (
            extra(service, "router", json!({"hide_version_header": "true"})),
            "treated as true",
        ),
        (
            extra(backend, "backend/http", json!({"return_error_details": 7})),
            "treated as \"7\"",
        ),
    ] {
        starts(&text, words);
    }
}

#[test]
fn a_guard_without_an_obvious_meaning_stops_the_start() {
    for (text, words) in [
        (
            extra(
                endpoint,
                "qos/ratelimit/router",
                json!({"max_rate": "many"}),
            ),
            "a number is expected",
        ),
        (
            extra(
                endpoint,
                "qos/ratelimit/router",
                json!({"max_rate": 1, "every": "-1s"}),
            ),
            "negative",
        ),
        (
            extra(endpoint, "qos/ratelimit/router", json!([])),
            "an object",
        ),
        (
            extra(service, "security/bot-detector", json!({"deny": {}})),
            "a list of strings",
        ),
        (
            extra(service, "router", json!({"trusted_proxies": {}})),
            "a list of strings",
        ),
        (
            extra(
                service,
                "router",
                json!({"trusted_proxies": ["10.0.0.0/99"]}),
            ),
            "neither an address",
        ),
        (
            extra(endpoint, "auth/validator", Value::Null),
            "null is not a block",
        ),
        (extra(endpoint, "auth/validatr", json!({})), "unknown here"),
        // At the wrong level.
        (extra(backend, "auth/validator", json!({})), "unknown here"),
        (
            extra(service, "qos/ratelimit/router", json!({"max_rate": 1})),
            "unknown here",
        ),
        (
            extra(endpoint, "qos/ratelimit/proxy", json!({"max_rate": 1})),
            "unknown here",
        ),
        (
            extra(backend, "validation/json-schema", json!({})),
            "unknown here",
        ),
        (
            service(json!({"tls": {"public_key": 7, "private_key": {}}})),
            "private_key",
        ),
        (
            service(
                json!({"extra_config": {"auth/validator": {"alg": "ES256", "jwk_local_path": "k"}}}),
            ),
            "protects nothing in the service",
        ),
        // Outside of extra_config.
        (
            endpoint(json!({"auth/validator": {"alg": "ES256"}})),
            "has no effect here",
        ),
        (
            endpoint(json!({"extraConfig": {"qos/ratelimit/router": {"max_rate": 1}}})),
            "has no effect here",
        ),
        (
            backend(json!({"extra-config": {"Qos/RateLimit/Proxy": {"max_rate": 1}}})),
            "has no effect here",
        ),
        (
            service(json!({"settings": {"a": {"security/cors": {}}}})),
            "has no effect here",
        ),
        (
            extra(
                endpoint,
                "proxy",
                json!({"auth/validator": {"alg": "ES256"}}),
            ),
            "has no effect here",
        ),
        // Twice.
        (
            endpoint(
                json!({"extra_config": {"qos/ratelimit/router": {"max_rate": 1},
                "github.com/devopsfaith/krakend-ratelimit/juju/router": {"max_rate": 2}}}),
            ),
            "another spelling",
        ),
        // At the wrong level, and misspelt or under an old name.
        (extra(backend, "Auth/Validator", json!({})), "unknown here"),
        (extra(backend, "auth/validatr", json!({})), "unknown here"),
        (
            extra(service, "Qos/RateLimit/Router", json!({"max_rate": 1})),
            "unknown here",
        ),
        (
            extra(
                service,
                "github.com/devopsfaith/krakend-ratelimit/juju/router",
                json!({"maxRate": 1}),
            ),
            "unknown here",
        ),
    ] {
        is_rejected(&text, words);
    }
}

#[test]
fn a_member_of_a_guard_that_is_null_is_rejected() {
    for text in [
        service(json!({"tls": null})),
        extra(
            endpoint,
            "auth/validator",
            json!({"alg": "RS256", "roles": null}),
        ),
        extra(
            endpoint,
            "qos/ratelimit/router",
            json!({"client_max_rate": null}),
        ),
        extra(endpoint, "validation/cel", json!([{"check_expr": null}])),
        extra(service, "router", json!({"trusted_proxies": null})),
        extra(service, "portcullis/limits", json!({"request_body": null})),
    ] {
        is_rejected(&text, "null is not a value");
    }
}

#[test]
fn other_blocks_at_the_wrong_level_are_named_and_ignored() {
    for (level, namespace) in [
        (service as fn(Value) -> String, "proxy"),
        (service, "backend/http"),
        (service, "modifier/martian"),
        (endpoint, "router"),
        (endpoint, "qos/circuit-breaker"),
        (backend, "telemetry/logging"),
    ] {
        starts(&extra(level, namespace, json!({})), "is unknown here");
    }
}

#[test]
fn small_errors_at_the_core_levels_are_reported_and_served() {
    for (text, words) in [
        (
            endpoint(json!({"method": "HEAD"})),
            "KrakenD skips the endpoint",
        ),
        (
            endpoint(json!({"method": "options"})),
            "KrakenD skips the endpoint",
        ),
        (
            endpoint(json!({"method": "QUERY"})),
            "KrakenD skips the endpoint",
        ),
        (
            endpoint(json!({"method": "GET,POST"})),
            "Unsupported method GET,POST",
        ),
        (
            endpoint(json!({"method": "FETCH"})),
            "Unsupported method FETCH",
        ),
        (
            endpoint(json!({"endpoint": "/a/:id"})),
            "`:name` is a parameter",
        ),
        (
            endpoint(json!({"endpoint": "/a/*rest"})),
            "`:name` is a parameter",
        ),
        (endpoint(json!({"endpoint": "/a?x=1"})), "has a `?`"),
        (endpoint(json!({"endpoint": "/a/{id}?x={y}"})), "has a `?`"),
        (endpoint(json!({"timeout": "-1s"})), "counts as not set"),
        (service(json!({"timeout": "-2s"})), "counts as not set"),
        (service(json!({"idle_timeout": -5})), "counts as not set"),
        (
            endpoint(json!({"concurrent_calls": 500})),
            "is not in the range",
        ),
        (
            endpoint(json!({"input_headers": ["X A", "X-B"]})),
            "not the name of a header",
        ),
        (
            backend(json!({"input_headers": [""]})),
            "not the name of a header",
        ),
        (backend(json!({"method": "GET,POST"})), "Unsupported method"),
        (backend(json!({"method": " POST"})), "are removed"),
        (
            backend(json!({"method": "PSOT"})),
            "is not a method that is known",
        ),
        (backend(json!({"encoding": "jsn"})), "is none of"),
        (backend(json!({"sd": "consul"})), "is none of"),
        (endpoint(json!({"output_encoding": "JSON"})), "is none of"),
        (
            backend(json!({"host": [" http://a.example\n"]})),
            "is removed",
        ),
        (
            backend(json!({"host": ["http://a.example//"]})),
            "is removed",
        ),
        (backend(json!({"host": ["//a.example"]})), "is removed"),
        (backend(json!({"host": ["$BACKEND"]})), "is not a host"),
        (backend(json!({"host": ["{BACKEND}"]})), "is not a host"),
        (
            backend(json!({"host": ["http://a:700000"]})),
            "is not a host",
        ),
        (
            backend(json!({"host": ["http://${BACKEND}"], "disable_host_sanitize": true})),
            "is not a host",
        ),
    ] {
        starts(&text, words);
    }
    for (text, words) in [
        (service(json!({"timeout": "3"})), "missing unit"),
        (backend(json!({"host": ["http://$A:80/x"]})), "invalid host"),
        (
            endpoint(json!({"endpoint": "/a/*x/y"})),
            "since it is invalid",
        ),
    ] {
        is_rejected(&text, words);
    }
}
