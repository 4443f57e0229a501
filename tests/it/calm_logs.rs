//! The log names the backend that failed, and has one line when a backend or a key source works again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, Json, Signer, Stub, eventually, ports, tokens};

const LIMIT: Duration = Duration::from_secs(30);

fn backend(host: &str, url: &str, extra: Value) -> Value {
    json!({ "host": [host], "url_pattern": url, "extra_config": extra })
}

/// An endpoint with two good backends, and a third one that fails.
fn endpoint(path: &str, good: &str, third: Value) -> Value {
    let is_slow = third["url_pattern"]
        .as_str()
        .is_some_and(|url| url.starts_with("/slow"));
    let timeout = if is_slow { "4s" } else { "20s" };
    json!({ "endpoint": path, "timeout": timeout, "backend": [
        backend(good, "/1", json!({})), backend(good, "/2", json!({})), third,
    ] })
}

#[test]
fn the_backend_that_failed_is_named_among_several() {
    let json_type = json!({ "Content-Type": "application/json" });
    let routes = json!([
        { "path": "/slow", "delay_ms": 60000, "headers": json_type, "body": "{}" },
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
        // The others need more than one failure.
        let times = if text.contains("deadline") { 1 } else { 3 };
        for _ in 0..times {
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

#[test]
fn a_breaker_without_a_name_has_that_of_its_backend() {
    let stub = Stub::with(r#"[{ "status": 500, "body": "no" }]"#);
    let settings =
        json!({ "interval": 60, "timeout": 60, "max_errors": 1, "log_status_change": true });
    let breaker = json!({ "qos/circuit-breaker": settings });
    let file = json!({ "version": 3, "endpoints": [
        { "endpoint": "/a/{id}",
            "backend": [backend(&stub.url(), "/x/{id}?token=geheim012345", breaker)] },
    ] });
    let gateway = Gateway::start(&file.to_string());
    for _ in 0..3 {
        assert_eq!(gateway.get("/a/1").status, 500);
    }
    let opened = "Circuit breaker named '/x/{id}?token=";
    eventually("its line", LIMIT, || {
        let log = gateway.output();
        log.contains(opened) && log.contains("went from 'closed' to 'open'")
    });
    assert!(!gateway.output().contains("geheim"));
}

#[test]
fn a_host_that_responds_again_is_logged_once() {
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let endpoint =
        |path: &str| json!({ "endpoint": path, "backend": [backend(&url, "/x", json!({}))] });
    let file = json!({ "version": 3, "endpoints": [endpoint("/a"), endpoint("/b")] });
    let gateway = Gateway::start(&file.to_string());
    let again = format!("[HOST: {url}] Responds again");
    for path in ["/a", "/b", "/a", "/b"] {
        assert_eq!(gateway.get(path).status, 500);
    }
    assert!(!gateway.output().contains(&again));
    let stub = Stub::start_at(port);
    let ok = r#"[{"headers": {"Content-Type": "application/json"}, "body": "{\"a\":1}"}]"#;
    stub.load(
        Json::parse(ok).unwrap().items().to_vec(),
        std::sync::Arc::new(str::to_owned),
    );
    eventually("the host responds", LIMIT, || {
        gateway.get("/a").status == 200
    });
    for path in ["/a", "/b", "/b", "/a"] {
        assert_eq!(gateway.get(path).status, 200);
    }
    eventually("its line", LIMIT, || gateway.output().contains(&again));
    assert_eq!(gateway.output().matches(&again).count(), 1);
}

#[test]
fn a_host_that_is_left_out_is_logged_once_with_the_reason() {
    let stub =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": "{\"a\":1}"}]"#);
    let closed = format!("127.0.0.1:{}", ports::free());
    let metrics = ports::free();
    let backend = json!({ "host": [format!("http://{closed}"), stub.url()], "url_pattern": "/x" });
    let file = json!({ "version": 3, "endpoints": [{ "endpoint": "/a", "backend": [backend] }],
        "extra_config": { "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") } } });
    let gateway = Gateway::start(&file.to_string());
    for _ in 0..6 {
        assert_eq!(gateway.get("/a").status, 200);
    }
    let line = format!(
        "WARNING: [HOST: http://{closed}] Fails, and is left out while another host responds: \
         dial tcp {closed}: connect: connection refused"
    );
    eventually("its line", LIMIT, || gateway.output().contains(&line));
    assert_eq!(
        gateway.output().matches(&closed).count(),
        2,
        "{}",
        gateway.output()
    );
    let mut page = crate::support::Client::connect(metrics).unwrap();
    page.send(crate::support::http::request("GET", "/metrics", &[]))
        .unwrap();
    let page = page.response("GET").unwrap().text();
    let failed = format!(
        "portcullis_upstream_requests_total{{backend=\"/x\",host=\"http://{closed}\",route=\"/a\",status=\"none\"}} 1"
    );
    assert!(page.contains(&failed), "{page}");
}

#[test]
fn a_credential_of_an_earlier_response_is_in_no_error() {
    const SECRET: &str = "s3cr3tLEAK9z8y7x6w5v";
    let body =
        json!({ "access_token": SECRET, "o": { "password": SECRET }, "s": "x".repeat(100_000) });
    let route =
        json!([{ "headers": { "Content-Type": "application/json" }, "body": body.to_string() }]);
    let stub = Stub::with(&route.to_string());
    let closed = format!("http://127.0.0.1:{}", ports::free());
    let patterns = [
        ("/e?t={resp0_access_token}", "/e?t=***"),
        ("/e?x={resp0_o.password}", "/e?x=***"),
        ("/bot{resp0_access_token}/send", "/[redacted]/send"),
        ("/long/{resp0_s}", "bytes more)"),
    ];
    let endpoints: Vec<Value> = patterns
        .iter()
        .enumerate()
        .map(|(index, (pattern, _))| {
            json!({
                "endpoint": format!("/{index}"), "extra_config": { "proxy": { "sequential": true } },
                "backend": [backend(&stub.url(), "/a", json!({})), backend(&closed, pattern, json!({}))]
            })
        })
        .collect();
    let gateway = Gateway::start(&json!({ "version": 3, "endpoints": endpoints }).to_string());
    for (index, (_, shown)) in patterns.iter().enumerate() {
        let before = gateway.mark();
        assert_eq!(gateway.get(&format!("/{index}")).status, 200);
        eventually("the error", LIMIT, || {
            gateway.output_since(before).contains(shown)
        });
    }
    assert!(!gateway.output().contains(SECRET), "{}", gateway.output());
    let longest = gateway.output().lines().map(str::len).max();
    assert!(longest < Some(20_000), "{longest:?}");
}

#[test]
fn a_key_source_that_works_again_is_logged_once() {
    let good = Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": "{}"}]"#);
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}/keys");
    let signer = Signer::es256("k");
    let file = json!({ "version": 3, "endpoints": [{ "endpoint": "/a",
        "extra_config": { "auth/validator": {
            "alg": "ES256", "jwk_url": url, "disable_jwk_security": true, "cache": true, "cache_duration": 3600
        } },
        "backend": [backend(&good.url(), "/x", json!({}))] }] });
    let gateway = Gateway::start(&file.to_string());
    let mut claims = tokens::claims("api");
    claims["iss"] = json!("me");
    let token = format!("Bearer {}", signer.token(&claims));
    let get = || gateway.get_with("/a", &[("Authorization", &token)]).status;
    assert_eq!(get(), 401);
    eventually("the failure", LIMIT, || {
        gateway.output().contains(&format!("no key set from {url}"))
    });
    let keys = Stub::start_at(port);
    let json_type = json!({ "Content-Type": "application/json" });
    let route =
        json!([{ "path": "/keys", "headers": json_type, "body": signer.jwks() }]).to_string();
    keys.load(
        Json::parse(&route).unwrap().items().to_vec(),
        std::sync::Arc::new(str::to_owned),
    );
    eventually("the keys", LIMIT, || get() == 200);
    let again = format!("key set of {url} is available again: 1 keys");
    eventually("its line", LIMIT, || gateway.output().contains(&again));
    for _ in 0..5 {
        assert_eq!(get(), 200);
    }
    assert_eq!(gateway.output().matches(&again).count(), 1);
}
