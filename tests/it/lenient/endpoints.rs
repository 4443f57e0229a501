//! Endpoints with settings that KrakenD leaves out or understands in its own way.

use serde_json::{Value, json};

use super::{backend, endpoint, extra, file, is_rejected, service, starts};
use crate::config::compiled_in;
use crate::support::http::request;
use crate::support::{Gateway, Stub};

#[test]
fn a_host_that_was_not_filled_in_points_at_templates_and_secrets() {
    for host in ["$BACKEND", "{BACKEND}", "{{ .host }}", "http://$A:80/x"] {
        let outcome = compiled_in(&backend(json!({"host": [host]})), &[]);
        let hint = outcome.findings[0].hint.clone().unwrap_or_default();
        assert!(hint.contains("FC_ENABLE"), "{host}: {hint}");
        assert!(hint.contains("portcullis/secrets"), "{host}: {hint}");
    }
}

#[test]
fn version_4_is_read_and_parts_that_krakend_3_ignores_are_named() {
    let v4 = |extra: Value| endpoint_of(4, extra);
    let outcome = compiled_in(&v4(json!({})), &[("PORTCULLIS_STRICT", "1")]);
    assert!(outcome.compiled.is_some(), "{:?}", outcome.findings);
    starts(
        &v4(json!({"github.com/devopsfaith/krakend/proxy": {"sequential": false}})),
        "KrakenD 3.0 ignores this",
    );
    starts(
        &v4(json!({"proxy": {"something_new": 1}})),
        "is unknown here",
    );
    for version in [2, 5, 0] {
        is_rejected(&endpoint_of(version, json!({})), "unsupported version");
    }
}

fn endpoint_of(version: u8, extra: Value) -> String {
    file(
        json!({"version": version}),
        json!({"extra_config": extra}),
        json!({}),
    )
}

#[test]
fn the_methods_that_krakend_leaves_out_are_served_and_lists_of_methods_are_not() {
    let stub = Stub::with(
        r#"[{"path": "/b", "headers": {"Content-Type": "application/json"}, "body": {"a": 1}}]"#,
    );
    let one = |path: &str, method: &str, encoding: &str| {
        json!({"endpoint": path, "method": method, "output_encoding": encoding,
            "backend": [{"host": [stub.url()], "url_pattern": "/b"}]})
    };
    let gateway = Gateway::start(
        &json!({"version": 3, "endpoints": [
            one("/a", "HEAD", "no-op"), one("/a", "OPTIONS", "no-op"), one("/a", "QUERY", "no-op"),
            one("/c", "HEAD", "json"), one("/c", "query", "json"),
            one("/lists", "GET,POST", "json")]})
        .to_string(),
    );
    for method in ["HEAD", "OPTIONS", "QUERY"] {
        let response = gateway.send(method, request(method, "/a", &[]));
        assert_eq!(response.status, 200, "{method}: {}", gateway.output());
        let seen = stub.take_seen();
        assert_eq!(seen.len(), 1, "{method}");
        assert_eq!(seen[0].method, method);
    }
    assert_eq!(
        gateway.send("QUERY", request("QUERY", "/c", &[])).json()["a"],
        1
    );
    let head = gateway.send("HEAD", request("HEAD", "/c", &[]));
    assert!(head.body.is_empty());
    assert_eq!(gateway.get("/a").status, 405);
    assert_eq!(gateway.get("/lists").status, 404);
}

/// Two endpoints of one path, of which one is left out: nothing of it holds for the other.
#[test]
fn a_skipped_endpoint_has_no_effect() {
    let one = |method: &str, origin: &str| {
        json!({"endpoint": "/a", "method": method,
            "extra_config": {"security/cors": {"allow_origins": [origin]}},
            "backend": [{"host": ["http://127.0.0.1:1"], "url_pattern": "/"}]})
    };
    let gateway = Gateway::start(
        &json!({"version": 3, "extra_config": {"security/cors": {"endpoints_only": true}},
            "endpoints": [one("GET", "https://good.example"), one("GET,POST", "https://other.example")]})
        .to_string(),
    );
    let allowed = |origin: &str| {
        let fields = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let response = gateway.send("OPTIONS", request("OPTIONS", "/a", &fields));
        response.header("access-control-allow-origin").is_some()
    };
    assert!(allowed("https://good.example"));
    assert!(!allowed("https://other.example"));
}

#[test]
fn segments_in_the_spelling_of_the_router_match() {
    let stub = Stub::with(
        r#"[{"path": "/b/7", "headers": {"Content-Type": "application/json"}, "body": {"a": 7}},
        {"path": "/all", "headers": {"Content-Type": "application/json"}, "body": {"a": 8}}]"#,
    );
    let one = |path: &str, url: &str| json!({"endpoint": path, "backend": [{"host": [stub.url()], "url_pattern": url}]});
    let gateway = Gateway::start(
        &json!({"version": 3, "endpoints": [one("/a/:id", "/b/{id}"), one("/f/*rest", "/all")]})
            .to_string(),
    );
    assert_eq!(gateway.get("/a/7").json()["a"], 7);
    assert_eq!(gateway.get("/f/x/y").json()["a"], 8);
}

#[test]
fn calls_to_a_host_that_was_not_filled_in_fail() {
    let gateway = Gateway::start(&backend(json!({"host": ["$BACKEND"]})));
    assert_eq!(gateway.get("/a").status, 500);
    assert_eq!(gateway.get("/__health").status, 200);
}

#[test]
fn paths_that_no_usual_request_has_are_reported() {
    for (path, why) in [
        ("/a/{id:[0-9]+}", "braces mark a parameter only if"),
        ("/a/{}", "braces mark a parameter only if"),
        ("/a/{ id }", "braces mark a parameter only if"),
        ("/a/{id", "braces mark a parameter only if"),
        ("/a/x{id}", "braces mark a parameter only if"),
        ("/a/<id>", "`<` has no meaning"),
        ("/a#b", "clients never send `#`"),
        ("/a ", "the blank is part of the path"),
        ("/a%20b", "after they are decoded"),
        ("http://x/a", "it begins with a scheme"),
    ] {
        starts(&endpoint(json!({ "endpoint": path })), why);
    }
    for path in ["/a/{id}", "/a/{id}/b-c_d.e~f", "/a/:id", "/*", "/ä/ö"] {
        let findings = compiled_in(&endpoint(json!({ "endpoint": path })), &[]).findings;
        let texts: Vec<String> = findings
            .iter()
            .map(|f| f.config_error.to_string())
            .collect();
        assert!(
            !texts.iter().any(|text| text.contains("ordinary requests")),
            "{path}: {texts:?}"
        );
    }
}

#[test]
fn lists_and_objects_are_accepted_for_each_other_as_in_krakend() {
    for text in [
        service(json!({"extra_config": []})),
        endpoint(json!({"extra_config": []})),
        backend(json!({"extra_config": [], "mapping": []})),
        backend(json!({"mapping": [{"a": "b"}, {"c": "d"}]})),
        endpoint(json!({"extra_config": [{"proxy": {"sequential": true}}]})),
    ] {
        starts(&text, "but an object is expected: treated as");
    }
    let outcome = compiled_in(r#"{"version": 3, "endpoints": {}}"#, &[]);
    assert!(outcome.compiled.is_some(), "{:#?}", outcome.findings);
    // A guard in such a list applies.
    let block = json!([{"auth/validator": {"alg": "RS256"}}]);
    is_rejected(
        &extra(endpoint, "x", json!({})).replace(
            "\"extra_config\":{\"x\":{}}",
            &format!(
                "\"extra_config\":{}",
                json!([{"auth/validator": {"alg": "x"}}])
            ),
        ),
        "unknown algorithm",
    );
    starts(&endpoint(json!({"extra_config": block})), "401");
}
