//! Backends that are late: metrics and the log say what was late.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, eventually, ports};

/// A peer that accepts, sends `first` after the first bytes it got, and nothing more. Returns its port.
fn peer(first: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if !first.is_empty() && stream.read(&mut [0; 4096]).is_ok() {
                stream.write_all(first.as_bytes()).unwrap();
            }
            open.push(stream);
        }
    });
    port
}

#[test]
fn a_late_backend_is_reported_with_what_was_late() {
    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    let (silent, half, metrics) = (peer(""), peer(half), ports::free());
    let backend = |host: String, name: &str, extra: Value| json!({ "host": [host], "url_pattern": format!("/{name}"), "extra_config": extra });
    let http = |port: u16| format!("http://127.0.0.1:{port}");
    let through =
        json!({ "backend/http/client": { "proxy_address": format!("http://127.0.0.1:{silent}") } });
    let http2 = json!({ "portcullis/upstream": { "http_version": "h2" } });
    let tls = || backend(format!("https://127.0.0.1:{silent}"), "tls", json!({}));
    let header = || backend(http(silent), "header", json!({}));
    let cases = [
        ("tls", "tls_timeout", tls()),
        (
            "proxy",
            "proxy_timeout",
            backend("https://backend.invalid".to_owned(), "proxy", through),
        ),
        (
            "http2",
            "http2_timeout",
            backend(http(silent), "http2", http2),
        ),
        ("header", "header_timeout", header()),
        (
            "body",
            "body_timeout",
            backend(http(half), "body", json!({})),
        ),
    ];
    let mut endpoints: Vec<Value> = cases
        .iter()
        .map(|(name, _, backend)| json!({ "endpoint": format!("/{name}"), "backend": [backend] }))
        .collect();
    let mut stream = backend(http(half), "stream", json!({}));
    stream["encoding"] = "no-op".into();
    endpoints
        .push(json!({ "endpoint": "/stream", "output_encoding": "no-op", "backend": [stream] }));
    endpoints.push(json!({ "endpoint": "/several", "backend": [header(), tls()] }));
    let gateway = Gateway::start(
        &json!({
            "version": 3, "timeout": "2s", "endpoints": endpoints,
            "extra_config": {
                "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") },
                "portcullis/stream": { "idle_timeout": "200ms" },
                "router": { "return_error_msg": true }
            }
        })
        .to_string(),
    );
    for (name, reason, _) in &cases {
        let response = gateway.get(&format!("/{name}"));
        // The client gets KrakenD's text.
        assert_eq!(response.text(), "context deadline exceeded", "{name}");
        let line = format!("[ENDPOINT: /{name}] context deadline exceeded ({reason})");
        eventually(&line, Duration::from_secs(30), || {
            gateway.output().contains(&line)
        });
    }
    gateway.get("/several");
    let mut client = gateway.client();
    client
        .send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let _ = client.rest();
    let mut wanted: Vec<String> = Vec::new();
    for (name, reason, _) in &cases {
        wanted.push(format!(
            "portcullis_upstream_errors_total{{kind=\"{reason}\",route=\"/{name}\"}} 1\n"
        ));
        wanted.push(format!(
            "portcullis_backend_calls_total{{backend=\"/{name}\",result=\"{reason}\",route=\"/{name}\"}} 1\n"
        ));
    }
    wanted.push(
        "portcullis_upstream_errors_total{kind=\"body_timeout\",route=\"/stream\"} 1\n".to_owned(),
    );
    for (name, reason) in [("header", "header_timeout"), ("tls", "tls_timeout")] {
        wanted.push(format!(
            "portcullis_backend_calls_total{{backend=\"/{name}\",result=\"{reason}\",route=\"/several\"}} 1\n"
        ));
    }
    eventually("the series", Duration::from_secs(30), || {
        let mut client = crate::support::Client::connect(metrics).unwrap();
        client
            .send("GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
        let page = client.response("GET").unwrap().text();
        let missing: Vec<_> = wanted.iter().filter(|line| !page.contains(*line)).collect();
        if !missing.is_empty() {
            println!("missing: {missing:?}");
        }
        missing.is_empty()
    });
    for line in [
        "Error #0: context deadline exceeded (header_timeout) (",
        "Error #1: context deadline exceeded (tls_timeout) (",
    ] {
        eventually(line, Duration::from_secs(30), || {
            gateway.output().contains(line)
        });
    }
}
