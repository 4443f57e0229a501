//! Blocks of KrakenD's Enterprise Edition that decide who may call, how often, and under which conditions.

mod aws;
mod conditions;
mod limits;

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, Stub, eventually};

const OK: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;

/// An endpoint of this path with one backend.
fn endpoint(path: &str, stub: &Stub, extra: Value) -> Value {
    json!({ "endpoint": path, "extra_config": extra, "timeout": "10s",
        "backend": [{ "host": [stub.url()], "url_pattern": path }] })
}

fn file(endpoints: &[Value], extra: &Value) -> String {
    json!({ "version": 3, "endpoints": endpoints, "extra_config": extra }).to_string()
}

/// `check` of this file.
fn checked(config: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, config).unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = command().arg("check").arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.success(), text)
}

fn statuses(gateway: &Gateway, path: &str, headers: &[(&str, &str)], times: usize) -> Vec<u16> {
    (0..times)
        .map(|_| gateway.get_with(path, headers).status)
        .collect()
}

fn from(address: &str) -> [(&str, &str); 1] {
    [("X-Forwarded-For", address)]
}

#[test]
fn an_ip_filter_of_the_service_runs_before_the_router() {
    let stub = Stub::with(OK);
    let extra = json!({
        "router": { "trusted_proxies": ["127.0.0.1"] },
        "security/ip-filter": { "CIDR": ["192.0.2.0/24"], "allow": true }
    });
    let gateway = Gateway::start(&file(&[endpoint("/a", &stub, json!({}))], &extra));
    for path in ["/a", "/nowhere", "/__health"] {
        let rejected = gateway.get_with(path, &from("198.51.100.1"));
        assert_eq!(
            (rejected.status, rejected.text()),
            (403, String::new()),
            "{path}"
        );
        let spoofed = gateway.get_with(path, &from("192.0.2.7, 198.51.100.1"));
        assert_eq!(spoofed.status, 403, "{path}");
        let unreadable = gateway.get_with(path, &from("192.0.2.7, junk"));
        assert_eq!(unreadable.status, 403, "{path}");
        let passed = gateway.get_with(path, &from("192.0.2.7"));
        assert_eq!(
            passed.status,
            if path == "/nowhere" { 404 } else { 200 },
            "{path}"
        );
    }
    assert_eq!(stub.take_seen().len(), 1);
    eventually("the access line", Duration::from_secs(30), || {
        gateway.output().contains("| 403 |")
    });
}

#[test]
fn a_proxy_that_names_no_client_is_rejected_except_for_its_own_probes() {
    let stub = Stub::with(OK);
    for (allow, cidr) in [(true, "127.0.0.0/8"), (false, "192.0.2.0/24")] {
        let extra = json!({
            "router": { "trusted_proxies": ["127.0.0.1"] },
            "security/ip-filter": { "CIDR": [cidr], "allow": allow }
        });
        let own = json!({ "security/ip-filter": { "CIDR": [cidr], "allow": allow } });
        let gateway = Gateway::start(&file(
            &[endpoint("/a", &stub, json!({})), endpoint("/b", &stub, own)],
            &extra,
        ));
        assert_eq!(gateway.get("/a").status, 403, "{allow}");
        assert_eq!(gateway.get("/b").status, 403, "{allow}");
        assert_eq!(gateway.get_with("/a", &from("")).status, 403, "{allow}");
        assert_eq!(gateway.get("/__health").status, 200, "{allow}");
        assert_eq!(gateway.get_with("/__health", &from("junk")).status, 403);
    }
    assert!(stub.take_seen().is_empty());
}

#[test]
fn an_ip_filter_ignores_headers_of_a_peer_that_is_not_a_proxy() {
    let stub = Stub::with(OK);
    let extra = json!({ "security/ip-filter": { "CIDR": ["192.0.2.0/24"], "allow": true } });
    let gateway = Gateway::start(&file(&[endpoint("/a", &stub, json!({}))], &extra));
    for name in [
        "X-Forwarded-For",
        "X-Real-IP",
        "X-Appengine-Remote-Addr",
        "Forwarded",
    ] {
        assert_eq!(gateway.get_with("/a", &[(name, "192.0.2.7")]).status, 403);
    }
    assert!(stub.take_seen().is_empty());
}

#[test]
fn endpoints_and_backends_have_their_own_ip_filters() {
    let stub = Stub::with(OK);
    let denied = json!({ "security/ip-filter": { "CIDR": ["192.0.2.7"], "allow": false } });
    let backend = |path: &str, extra: &Value| json!({ "host": [stub.url()], "url_pattern": path, "extra_config": extra });
    let two = json!({ "endpoint": "/two", "timeout": "10s",
        "backend": [backend("/x", &json!({})), backend("/y", &denied)] });
    let one = json!({ "endpoint": "/one", "timeout": "10s", "output_encoding": "no-op",
        "backend": [backend("/one", &denied)] });
    let extra = json!({ "router": { "trusted_proxies": ["127.0.0.1"] } });
    let endpoints = [endpoint("/a", &stub, denied.clone()), two, one];
    let gateway = Gateway::start(&file(&endpoints, &extra));
    for path in ["/a", "/one"] {
        assert_eq!(
            gateway.get_with(path, &from("192.0.2.7")).status,
            403,
            "{path}"
        );
        assert_eq!(
            gateway.get_with(path, &from("192.0.2.8")).status,
            200,
            "{path}"
        );
    }
    let partial = gateway.get_with("/two", &from("192.0.2.7"));
    assert_eq!(partial.header("x-krakend-completed"), Some("false"));
    let whole = gateway.get_with("/two", &from("192.0.2.8"));
    assert_eq!(whole.header("x-krakend-completed"), Some("true"));
}

#[test]
fn the_filter_of_a_backend_may_name_its_own_proxies() {
    let stub = Stub::with(OK);
    let filter = json!({ "plugin/req-resp-modifier": { "name": ["ip-filter"], "ip-filter": {
        "CIDR": ["192.0.2.7"], "allow": false,
        "client_ip_headers": ["X-Client"], "trusted_proxies": ["127.0.0.1"] } } });
    let mut endpoints = Vec::new();
    for (path, encoding) in [("/stream", "no-op"), ("/json", "json")] {
        let mut one = endpoint(path, &stub, json!({}));
        one["output_encoding"] = json!(encoding);
        one["backend"][0]["extra_config"] = filter.clone();
        endpoints.push(one);
    }
    let gateway = Gateway::start(&file(&endpoints, &json!({})));
    for path in ["/stream", "/json"] {
        let ask = |value: &str| gateway.get_with(path, &[("X-Client", value)]).status;
        assert_eq!((ask("192.0.2.7"), ask("192.0.2.8")), (403, 200), "{path}");
        // The proxy does not name the client.
        assert_eq!(
            (ask("junk"), gateway.get(path).status),
            (403, 403),
            "{path}"
        );
    }
}

#[test]
fn an_unclear_ip_filter_stops_the_start() {
    for block in [
        json!({ "CIDR": ["10.0.0.0/8"] }),
        json!({ "CIDR": [], "allow": true }),
        json!({ "CIDR": ["10.0.0.0/40"], "allow": true }),
        json!("10.0.0.0/8"),
        json!(null),
    ] {
        let (good, text) = checked(&file(&[], &json!({ "security/ip-filter": block })));
        assert!(!good && text.contains("ip-filter"), "{block}: {text}");
    }
}

#[test]
fn a_websocket_that_a_cookie_opens_needs_origins_or_gives_a_warning() {
    let socket = |mut extra: Value, headers: Value| {
        extra["websocket"] = json!({ "enable_direct_communication": true });
        json!({ "endpoint": "/w", "input_headers": headers, "extra_config": extra,
            "backend": [{ "host": ["ws://localhost:1"], "url_pattern": "/" }] })
    };
    let validator = json!({ "alg": "RS256", "jwk_url": "https://localhost/k", "issuer": "a", "audience": ["b"] });
    let mut named = validator.clone();
    named["cookie_key"] = json!("tok");
    let origins = json!({ "origins": ["https://app.example.com"] });
    for (extra, headers, expected) in [
        (
            json!({ "auth/validator": named }),
            json!([]),
            Some("the token can be in the cookie \"tok\""),
        ),
        (
            json!({ "auth/validator": validator }),
            json!([]),
            Some("the token can be in the cookie \"access_token\""),
        ),
        (
            json!({ "portcullis/forward-auth": { "url": "https://localhost/" } }),
            json!([]),
            Some("\"portcullis/forward-auth\" decides by cookies"),
        ),
        (
            json!({}),
            json!(["cookie"]),
            Some("the backend gets the cookies"),
        ),
        (
            json!({}),
            json!(["*"]),
            Some("the backend gets the cookies"),
        ),
        (
            json!({ "auth/basic": { "users": { "ada": format!("$2b$10${}", ".".repeat(53)) } } }),
            json!([]),
            Some("browsers send the password of \"auth/basic\" with it"),
        ),
        (
            json!({ "security/policies": { "req": { "policies": ["hasCookie('sid')"] } } }),
            json!([]),
            Some("\"security/policies\" decides by cookies"),
        ),
        (
            json!({ "validation/cel": [{ "check_expr": "'Cookie' in req_headers" }] }),
            json!([]),
            Some("\"validation/cel\" decides by cookies"),
        ),
        (
            json!({ "modifier/lua-endpoint": { "pre": "local c = ctx.load(); c:headers('cookie')" } }),
            json!([]),
            Some("a script decides by cookies"),
        ),
        (
            json!({ "modifier/lua-proxy": { "post": "local r = response.load(); r:headers('Set-Cookie', 'a=b')" } }),
            json!([]),
            None,
        ),
        (
            json!({ "auth/validator": named, "portcullis/stream": origins }),
            json!(["*"]),
            None,
        ),
        (
            json!({ "portcullis/forward-auth": { "url": "https://localhost/", "request_headers": ["X-A"] } }),
            json!(["X-A"]),
            None,
        ),
        (json!({}), json!([]), None),
    ] {
        let (_, messages) = checked(&file(&[socket(extra, headers)], &json!({})));
        let warning = "any web page can open this WebSocket in the name of a user";
        assert_eq!(messages.contains(warning), expected.is_some(), "{messages}");
        assert!(
            messages.contains(expected.unwrap_or_default()),
            "{messages}"
        );
    }
}
