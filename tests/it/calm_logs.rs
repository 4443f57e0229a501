//! Which backend failed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, Stub, eventually};

const LIMIT: Duration = Duration::from_secs(20);

fn backend(host: &str, url: &str, extra: Value) -> Value {
    json!({ "host": [host], "url_pattern": url, "extra_config": extra })
}

/// An endpoint with two good backends, and a third one that fails.
fn endpoint(path: &str, good: &str, third: Value) -> Value {
    json!({ "endpoint": path, "timeout": "600ms", "backend": [
        backend(good, "/1", json!({})), backend(good, "/2", json!({})), third,
    ] })
}

#[test]
fn the_backend_that_failed_is_named_among_several() {
    let json_type = json!({ "Content-Type": "application/json" });
    let routes = json!([
        { "path": "/slow", "delay_ms": 1500, "headers": json_type, "body": "{}" },
        { "path": "/cut", "headers": json_type, "body": "{\"a\":" },
        { "path": "/500", "status": 500, "body": "no" },
        { "headers": json_type, "body": "{\"a\":1}" },
    ])
    .to_string();
    let (stub, bad) = (Stub::with(&routes), Stub::with(&routes));
    let breaker =
        json!({ "qos/circuit-breaker": { "interval": 60, "timeout": 60, "max_errors": 1 } });
    let rate = json!({ "qos/ratelimit/proxy": { "max_rate": 0.001, "capacity": 1 } });
    let secret = "/slow?apikey=geheim0123456789";
    let file = json!({
        "version": 3,
        "extra_config": { "portcullis/access-log": { "format": "json" } },
        "endpoints": [
            endpoint("/slow", &stub.url(), backend(&bad.url(), "/slow", json!({}))),
            endpoint("/secret", &stub.url(), backend(&bad.url(), secret, json!({}))),
            endpoint("/cut", &stub.url(), backend(&bad.url(), "/cut", json!({}))),
            endpoint("/status", &stub.url(), backend(&bad.url(), "/500", json!({}))),
            endpoint("/breaker", &stub.url(), backend(&bad.url(), "/500?b=1", breaker)),
            endpoint("/rate", &stub.url(), backend(&bad.url(), "/3", rate)),
        ]
    });
    let gateway = Gateway::start(&file.to_string());
    let cases = [
        ("/slow", "context deadline exceeded", "/slow"),
        ("/secret", "context deadline exceeded", "/slow?apikey="),
        ("/cut", "unexpected EOF", "/cut"),
        ("/status", "invalid status code 500", "/500"),
        ("/breaker", "circuit breaker is open", "/500?b="),
        ("/rate", "rate limit exceded", "/3"),
    ];
    for (path, text, pattern) in cases {
        for _ in 0..3 {
            assert_eq!(gateway.get(path).status, 200);
        }
        let name = format!("(backend[2]: GET {pattern}");
        let host = format!(" at {})", bad.url());
        let starts = format!("[ENDPOINT: {path}] Error #0: {text}");
        let is_named = |line: &str| line.contains(&name) && line.contains(&host);
        eventually(path, LIMIT, || {
            let log = gateway.output();
            let told = log
                .lines()
                .any(|line| line.contains(&starts) && is_named(line));
            let accessed = log
                .lines()
                .filter(|line| line.starts_with('{'))
                .any(|line| {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let error = line["errors"][0].as_str().unwrap_or_default();
                    line["path"] == path && error.starts_with(text) && is_named(error)
                });
            told && accessed
        });
    }
    assert!(!gateway.output().contains("geheim"));
}
