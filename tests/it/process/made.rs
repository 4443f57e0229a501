//! What the gateway makes of a body is charged before it is made: a small body can become a large text.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::with_metrics;
use crate::support::http::request;
use crate::support::{Client, Gateway, Response, Upstream, eventually, ports};

fn template(text: &str, content_type: &str) -> Value {
    let text = base64::engine::general_purpose::STANDARD.encode(text);
    json!({ "template": text, "content_type": content_type })
}

fn post(gateway: &Gateway, path: &str, content_type: &str, body: &[u8]) -> Response {
    let length = body.len().to_string();
    let fields = [
        ("Content-Type", content_type),
        ("Content-Length", &*length),
        ("Connection", "close"),
    ];
    let mut message = request("POST", path, &fields).into_bytes();
    message.extend_from_slice(body);
    gateway.send("POST", message)
}

#[test]
fn texts_made_of_bodies_are_within_the_budget() {
    let text = format!(r#"{{"s":"{}"}}"#, "x".repeat(200_000));
    let backend = Upstream::start(move |mut call| {
        let path = call.head.split(' ').nth(1).unwrap_or_default();
        let (status, body) = match path {
            "/missing" => ("404 Not Found", "\u{1}".repeat(1_000_000)),
            "/short" => ("404 Not Found", "\u{1}".repeat(20_000)),
            "/text" => ("200 OK", text.clone()),
            _ => ("200 OK", r#"{"a":1}"#.to_owned()),
        };
        call.send(format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    });
    let endpoint = |path: &str, target: &str, steps: Value, call: Value| {
        let is_post = steps["modifier/request-body-generator"].is_object()
            || steps["modifier/request-body-extractor"].is_object()
            || call["backend/graphql"].is_object();
        let method = if is_post { "POST" } else { "GET" };
        json!({ "endpoint": path, "method": method, "input_query_strings": ["*"], "extra_config": steps,
            "backend": [{ "host": [backend.url()], "url_pattern": target, "method": method, "extra_config": call }] })
    };
    let response =
        |text: &str| json!({ "modifier/response-body-generator": template(text, "text/plain") });
    let of_request =
        |text: &str| json!({ "modifier/request-body-generator": template(text, "text/plain") });
    let extracting = json!({ "modifier/request-body-extractor": { "operations": [{
        "type": "query_string", "strategy": "dotnotation", "expression": "s", "target": "s", "on_conflict": "replace"
    }] } });
    let details = json!({ "backend/http": { "return_error_details": "be" } });
    let graphql = json!({ "backend/graphql": {
        "type": "mutation", "query": "mutation($s:String){x(s:$s)}", "variables": { "z": 1 }
    } });
    let metrics = ports::free();
    let nothing = || json!({});
    let file = json!({ "version": 3, "timeout": "20s", "echo_endpoint": true,
        "extra_config": { "portcullis/limits": { "buffered": "4MiB" } },
        "endpoints": [
            endpoint("/ok", "/", nothing(), nothing()),
            endpoint("/printed", "/text", response("{{ .resp_body.s }}"), nothing()),
            endpoint("/often", "/text", response(&"{{ .resp_body.s }}".repeat(15)), nothing()),
            endpoint("/few", "/", response(r#"{{ repeat 300000 "x" }}"#), nothing()),
            endpoint("/many", "/", response(r#"{{ repeat 6000000 "x" }}"#), nothing()),
            endpoint("/unprinted", "/", response(r#"{{ len (repeat 6000000 "x") }}"#), nothing()),
            endpoint("/split", "/", of_request(r#"{{ len (splitList "," .req_body.s) }}"#), nothing()),
            endpoint("/form", "/", of_request("{{ len .req_body.a }}"), nothing()),
            endpoint("/details", "/missing", nothing(), details.clone()),
            endpoint("/short", "/short", nothing(), details),
            endpoint("/graphql", "/", nothing(), graphql),
            endpoint("/extracted", "/", extracting, nothing()),
        ] });
    let gateway = Gateway::start(&with_metrics(file, metrics).to_string());
    for (path, status) in [
        ("/printed", 200),
        ("/often", 503),
        ("/few", 200),
        ("/many", 503),
        ("/unprinted", 503),
        ("/short", 200),
        ("/details", 503),
        ("/ok", 200),
    ] {
        let got = gateway.get(path).status;
        assert_eq!(got, status, "{path}: {}", gateway.output());
    }
    let json = |text: String| format!(r#"{{"s":"{text}"}}"#).into_bytes();
    let (form, plain) = ("application/x-www-form-urlencoded", "application/json");
    for (path, kind, body, status) in [
        ("/split", plain, json("a,".repeat(1000)), 200),
        ("/split", plain, json("a,".repeat(30_000)), 503),
        ("/form", form, "a&".repeat(1000).into_bytes(), 200),
        ("/form", form, "a&".repeat(30_000).into_bytes(), 503),
        ("/graphql", plain, json("<".repeat(100_000)), 200),
        ("/graphql", plain, json("<".repeat(1_000_000)), 503),
        ("/extracted", plain, json("x".repeat(60_000)), 200),
        ("/extracted", plain, json("x".repeat(70_000)), 413),
        ("/__echo/", plain, b"x".repeat(1_000_000), 200),
        ("/__echo/", plain, b"\x01".repeat(1_500_000), 503),
        ("/__echo/", plain, b"\xff\x01<x".to_vec(), 200),
    ] {
        let got = post(&gateway, path, kind, &body);
        assert_eq!(
            got.status,
            status,
            "{path} {}: {}",
            body.len(),
            gateway.output()
        );
    }
    eventually("it is given back", Duration::from_secs(30), || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let page = client.response("GET").unwrap().text();
        page.contains("portcullis_buffered_bytes 0\n")
    });
}
