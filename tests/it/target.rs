//! Request targets that no standard allows, and the gateway's own endpoints.

use serde_json::json;

use crate::support::{Gateway, Response, Stub};

const ANY: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;

fn gateway(stub: &Stub) -> Gateway {
    let backend = |path: &str| json!([{ "host": [stub.url()], "url_pattern": path }]);
    Gateway::start(
        &json!({
            "version": 3,
            "echo_endpoint": true,
            "debug_endpoint": true,
            "extra_config": { "router": { "auto_options": true } },
            "endpoints": [
                { "endpoint": "/obj", "input_query_strings": ["*"], "backend": backend("/obj") },
                { "endpoint": "/p/{x}", "backend": backend("/p/{x}") },
            ]
        })
        .to_string(),
    )
}

/// The response to a request with this target, which must not be one of Pingora's own.
fn ask(gateway: &Gateway, method: &str, target: &[u8]) -> Response {
    let request = [
        method.as_bytes(),
        b" ",
        target,
        b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    .concat();
    let response = gateway.send(method, request);
    assert_eq!(response.header("server"), None, "{method} {target:?}");
    response
}

#[test]
fn a_target_with_bytes_that_no_uri_has_is_served() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    for (target, path, query) in [
        (&b"/obj?q={\"a\":1}"[..], "/obj", "q=%7B%22a%22%3A1%7D"),
        (b"/obj?a=<b>&c=`", "/obj", "a=%3Cb%3E&c=%60"),
        (b"/obj?a=\xff", "/obj", "a=%FF"),
        (b"/p/<a>`\"", "/p/%3Ca%3E%60%22", ""),
        (b"/p/\xc3\xa9", "/p/%C3%A9", ""),
    ] {
        let response = ask(&gateway, "GET", target);
        let target = String::from_utf8_lossy(target);
        assert_eq!(response.status, 200, "{target}");
        let seen = stub.take_seen().pop().unwrap();
        assert_eq!((&*seen.path, &*seen.query), (path, query), "{target}");
    }
    // As with its escape, which is no text.
    let raw = ask(&gateway, "GET", b"/p/a\xff");
    let escaped = ask(&gateway, "GET", b"/p/a%FF");
    assert_eq!((raw.status, raw.body), (escaped.status, escaped.body));
}

#[test]
fn rejected_targets_have_the_gateways_own_text() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    for target in [&b"/obj\x01"[..], b"/obj\x7f", b"/obj?\x7f", b"/%zz"] {
        let response = ask(&gateway, "GET", target);
        assert_eq!(response.status, 400, "{target:?}");
        assert_eq!(response.text(), "400 Bad Request");
    }
    let long = [b"/obj?a=", &[b'"'; 40_000][..]].concat();
    assert_eq!(ask(&gateway, "GET", &long).status, 431);
    assert_eq!(ask(&gateway, "CONNECT", b"a:1").status, 405);
    assert_eq!(ask(&gateway, "CONNECT", b"b:1").status, 405);
}

#[test]
fn connect_to_a_path_is_a_request_like_others_but_the_last_one() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    let response = ask(&gateway, "CONNECT", b"/obj");
    assert_eq!(response.status, 405);
    assert_eq!(response.header("x-krakend-completed"), Some("false"));
    let response = ask(&gateway, "CONNECT", b"/__echo/x");
    assert_eq!(response.json()["req_method"], "CONNECT");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(ask(&gateway, "CONNECT", b"/__debug/").status, 200);
}

#[test]
fn every_connection_line_counts() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    let mut client = gateway.client();
    client
        .send("GET /obj HTTP/1.1\r\nConnection: foo\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let response = client.response("GET").unwrap();
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed_by_peer());
}

#[test]
fn parameters_that_decode_twice_are_rejected_wherever_they_are_captured() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    for (method, target, text) in [
        ("OPTIONS", "/p/a%3Fb", "error: encoded url params"),
        ("OPTIONS", "/p/%2525", "error: encoded url params"),
        ("GET", "/__echo/a%2520b", "error: encoded url params"),
        ("GET", "/__debug/%25", "error: invalid URL escape \"%\""),
    ] {
        let response = ask(&gateway, method, target.as_bytes());
        assert_eq!(
            (response.status, &*response.text()),
            (400, text),
            "{target}"
        );
    }
    for (method, target) in [
        ("OPTIONS", "/p/a%20b"),
        ("GET", "/__echo/a%20b/%C3%A9"),
        ("GET", "/__debug/"),
    ] {
        assert_eq!(ask(&gateway, method, target.as_bytes()).status, 200);
    }
}

#[test]
fn echo_reads_a_query_as_krakend_does() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    for (query, want) in [
        ("a=1;b=2&c=3", json!({ "c": ["3"] })),
        ("a=%zz", json!({})),
        ("b=1+2&a&b=%20", json!({ "a": [""], "b": ["1 2", " "] })),
    ] {
        let response = ask(&gateway, "GET", format!("/__echo/?{query}").as_bytes());
        assert_eq!(response.json()["req_querystring"], want, "{query}");
    }
}

#[test]
fn only_options_is_for_the_server_as_a_whole() {
    let stub = Stub::with(ANY);
    let gateway = gateway(&stub);
    assert_eq!(ask(&gateway, "OPTIONS", b"*").status, 200);
    let response = ask(&gateway, "GET", b"*");
    assert_eq!(
        (response.status, &*response.text()),
        (404, "404 page not found")
    );
}
