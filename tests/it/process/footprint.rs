//! What endpoints cost in memory before any client came.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, eventually, ports};

/// A validator with a key file of its own, and a limit by client.
fn guarded(index: usize, file: &str) -> Value {
    json!({ "endpoint": format!("/e{index}/{{id}}"),
        "extra_config": {
            "auth/validator": { "alg": "HS256", "jwk_local_path": file },
            "qos/ratelimit/router": { "client_max_rate": 100, "client_capacity": 100, "strategy": "ip" } },
        "backend": [{ "host": ["http://127.0.0.1:9"], "url_pattern": format!("/x{index}/{{id}}") }] })
}

fn file(count: usize, keys: &std::path::Path) -> String {
    let endpoints: Vec<Value> = (0..count)
        .map(|index| {
            let path = keys.join(format!("k{index}.json"));
            // 64 letters are 48 bytes of a secret.
            let key =
                json!({ "kty": "oct", "alg": "HS256", "kid": "k", "k": format!("{index:A>64}") });
            std::fs::write(&path, json!({ "keys": [key] }).to_string()).unwrap();
            guarded(index, path.to_str().unwrap())
        })
        .collect();
    json!({ "version": 3, "endpoints": endpoints, "extra_config": {
        "portcullis/server": { "threads": 1 },
        "telemetry/logging": { "level": "ERROR", "stdout": true } } })
    .to_string()
}

/// In a debug build heaps have the size that they have in a release build.
#[test]
fn an_endpoint_with_keys_and_a_limit_of_its_own_needs_less_than_24_kib() {
    const COUNT: usize = 1500;
    let keys = tempfile::tempdir().unwrap();
    let small = Gateway::start(&file(1, keys.path()));
    let large = Gateway::start(&file(COUNT, keys.path()));
    eventually("an endpoint is small", Duration::from_secs(30), || {
        let more = large.resident_kib().saturating_sub(small.resident_kib());
        more < 24 * (COUNT as u64 - 1)
    });
    // The limit and the keys are there nevertheless.
    let rejected = small.get("/e0/1");
    assert_eq!(rejected.status, 401);
}

/// A route has its series before its first request, as scrapers need them.
#[test]
fn every_endpoint_is_on_the_page_of_metrics_with_zeros() {
    let port = ports::free();
    let file = json!({ "version": 3,
        "extra_config": { "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") } },
        "endpoints": [
            { "endpoint": "/a/{id}", "backend": [{ "host": ["http://127.0.0.1:9"], "url_pattern": "/" }] },
            { "endpoint": "/b", "method": "POST",
              "backend": [{ "host": ["http://127.0.0.1:9"], "url_pattern": "/" }] } ] });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/a/1").status, 500);
    let page = || {
        let mut client = Client::connect(port).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text()
    };
    // A request is counted after its response was sent.
    let counted =
        r#"portcullis_http_request_duration_seconds_count{method="GET",route="/a/{id}"} 1"#;
    eventually("the request is counted", Duration::from_secs(30), || {
        page().contains(counted)
    });
    let page = page();
    let values: HashMap<&str, &str> = page
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .collect();
    for (series, value) in [
        (
            r#"portcullis_http_requests_total{method="GET",route="/a/{id}",status="5xx"}"#,
            "1",
        ),
        (
            r#"portcullis_http_requests_total{method="GET",route="/a/{id}",status="2xx"}"#,
            "0",
        ),
        (
            r#"portcullis_http_requests_total{method="POST",route="/b",status="1xx"}"#,
            "0",
        ),
        (
            r#"portcullis_http_request_duration_seconds_bucket{method="GET",route="/a/{id}",le="10"}"#,
            "1",
        ),
        (
            r#"portcullis_http_request_duration_seconds_count{method="POST",route="/b"}"#,
            "0",
        ),
        (
            r#"portcullis_endpoint_requests_in_flight{method="POST",route="/b"}"#,
            "0",
        ),
    ] {
        assert_eq!(values.get(series), Some(&value), "{series}\n{page}");
    }
    assert!(
        !page.contains(r#"requests_in_flight{method="GET",route=""}"#),
        "{page}"
    );
}

/// Otherwise freed pages and new bodies together exceed the memory of a small container.
#[cfg(feature = "mimalloc")]
#[test]
fn the_allocator_keeps_freed_pages_briefly_unless_the_user_says_otherwise() {
    let file = json!({ "version": 3, "endpoints": [] }).to_string();
    let delay_of = |gateway: &Gateway| {
        let environment = std::fs::read_to_string(format!("/proc/{}/environ", gateway.pid()));
        let environment = environment.unwrap();
        let mut variables = environment.split('\0');
        let value = variables.find_map(|one| one.strip_prefix("MIMALLOC_PURGE_DELAY="));
        value.map(str::to_owned)
    };
    let gateway = Gateway::start(&file);
    assert_eq!(delay_of(&gateway).as_deref(), Some("100"));
    // The process is still found by its name and its arguments.
    let about = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", gateway.pid()));
    assert_eq!(about("comm").unwrap().trim_end(), "portcullis");
    let line = about("cmdline").unwrap();
    let arguments: Vec<&str> = line.split('\0').take(2).collect();
    assert!(arguments[0].ends_with("/portcullis"), "{line}");
    assert_eq!(arguments[1], "run");

    let other = Gateway::start_in(&[("MIMALLOC_PURGE_DELAY", "50")], &file);
    assert_eq!(delay_of(&other).as_deref(), Some("50"));
}
