//! Health checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::support::http::request;
use crate::support::{Client, Upstream};

fn check() -> Value {
    json!({ "path": "/health", "interval": "50ms", "timeout": "20s", "healthy_threshold": 2, "unhealthy_threshold": 2 })
}

fn page(port: u16, path: &str) -> String {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", path, &[])).unwrap();
    client.response("GET").unwrap().text()
}

#[test]
fn an_unhealthy_host_gets_no_calls_until_it_has_recovered() {
    let (a, b) = (named("a"), named("b"));
    let port = ports::free();
    let mut text = file(&[&a, &b], json!({ "health_check": check() }));
    text["extra_config"] =
        json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{port}"), "page": true } });
    let gateway = Gateway::start(&text.to_string());
    assert_eq!(count(&answers(&gateway, 10), "b"), 5);
    let state = |healthy: u8| {
        format!(
            "portcullis_upstream_host_healthy{{host=\"{}\"}} {healthy}",
            b.url()
        )
    };
    let shows = |line: &str| page(port, "/metrics").lines().any(|found| found == line);
    assert!(shows(&state(1)));
    become_(&b, "b", 503, 200);
    eventually("unhealthy", LIMIT, || shows(&state(0)));
    assert_eq!(count(&answers(&gateway, 10), "b"), 0);
    let log = gateway.output();
    assert!(
        log.contains(&format!("[HOST: {}] Unhealthy: status 503", b.url())),
        "{log}"
    );
    let people = page(port, "/");
    assert!(people.contains("Health of hosts") && people.contains("unhealthy or ejected"));
    become_(&b, "b", 200, 200);
    eventually("healthy", LIMIT, || shows(&state(1)));
    assert_eq!(count(&answers(&gateway, 10), "b"), 5);
    let changes = |to: &str| {
        format!(
            "portcullis_upstream_host_changes_total{{host=\"{}\",to=\"{to}\"}} 1",
            b.url()
        )
    };
    eventually("both changes are counted", LIMIT, || {
        shows(&changes("unhealthy")) && shows(&changes("healthy"))
    });
    gateway.tells("Healthy again");
}

#[test]
fn a_state_survives_a_reload_that_adds_a_host() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    become_(&b, "b", 503, 200);
    // After the first check of all, the next one is an hour away.
    let check = json!({ "path": "/health", "interval": "1h", "timeout": "20s" });
    let upstream = json!({ "health_check": check });
    let gateway = start(&[&a, &b], upstream.clone());
    eventually("unhealthy", LIMIT, || {
        gateway.output().contains("Unhealthy: status 503")
    });
    let text = file(&[&a, &b, &c], upstream).to_string();
    std::fs::write(gateway.config_path(), text).unwrap();
    gateway.signal("HUP");
    eventually("the new host", LIMIT, || gateway.get("/a").text() == "c");
    let answers = answers(&gateway, 20);
    assert_eq!(
        (
            count(&answers, "a"),
            count(&answers, "b"),
            count(&answers, "c")
        ),
        (10, 0, 10)
    );
}

#[test]
fn a_stream_that_outlives_a_reload_keeps_no_other_endpoint() {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    let stream = Upstream::start(move |mut call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        call.chunk("one")?;
        let _ = ended.lock().unwrap().recv();
        call.chunk("two")?;
        call.send("0\r\n\r\n")
    });
    let backend = Stub::with(r#"[{"body": "x"}]"#);
    let with = |others: &[Value]| {
        let events = json!({ "endpoint": "/events", "output_encoding": "no-op",
            "backend": [{ "host": [stream.url()], "url_pattern": "/", "encoding": "no-op" }] });
        let endpoints: Vec<Value> = others.iter().cloned().chain([events]).collect();
        json!({ "version": 3, "endpoints": endpoints }).to_string()
    };
    let other = file(&[&backend], json!({ "health_check": check() }))["endpoints"][0].clone();
    let gateway = Gateway::start(&with(&[other]));
    eventually("a check", LIMIT, || !backend.take_seen().is_empty());
    let mut client = gateway.client();
    client.send(request("GET", "/events", &[])).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.chunk().unwrap().as_deref(), Some(&b"one"[..]));
    std::fs::write(gateway.config_path(), with(&[])).unwrap();
    gateway.signal("HUP");
    eventually("the reload", LIMIT, || gateway.get("/a").status == 404);
    // The checks end with the hosts of the old configuration, although the stream is open.
    eventually("no checks for half a second", LIMIT, || {
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(500) {
            if !backend.take_seen().is_empty() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    });
    end.send(()).unwrap();
    assert_eq!(client.chunk().unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(client.chunk().unwrap(), None);
}

#[test]
fn a_check_has_its_method_host_and_headers_and_follows_no_redirect() {
    let stub = Stub::with(
        &json!([{ "path": "/status", "status": 302, "headers": { "Location": "/elsewhere" }, "body": "" }, { "body": "x" }]).to_string(),
    );
    let check = json!({ "path": "/status?deep=1", "method": "HEAD", "host": "inside.example", "headers": { "X-Probe": "1" },
        "expected_statuses": [302], "interval": "50ms", "timeout": "20s" });
    let _gateway = start(&[&stub], json!({ "health_check": check }));
    let mut seen = Vec::new();
    eventually("two checks", LIMIT, || {
        seen.extend(stub.take_seen());
        seen.len() >= 2
    });
    for check in seen {
        assert_eq!(
            (&*check.method, &*check.path, &*check.query),
            ("HEAD", "/status", "deep=1")
        );
        assert_eq!(check.header("host"), Some("inside.example"));
        assert_eq!(check.header("x-probe"), Some("1"));
    }
}

#[test]
fn when_no_host_is_healthy_all_are_used() {
    let (a, b) = (named("a"), named("b"));
    for (stub, name) in [(&a, "a"), (&b, "b")] {
        become_(stub, name, 500, 200);
    }
    let gateway = start(&[&a, &b], json!({ "health_check": check() }));
    eventually("both unhealthy", LIMIT, || {
        gateway.output().matches("Unhealthy: status 500").count() == 2
    });
    assert_eq!(count(&answers(&gateway, 10), "a"), 5);
}

/// A gRPC server with this serving status. It counts no calls but checks the question.
fn grpc(status: Arc<AtomicU8>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&status)));
            }
        });
    });
    port
}

async fn answer(stream: tokio::net::TcpStream, status: Arc<AtomicU8>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let status = Arc::clone(&status);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut bytes = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                bytes.extend_from_slice(&piece);
            }
            let asks = head.uri.path() == "/grpc.health.v1.Health/Check"
                && head.headers.get("te").is_some_and(|te| te == "trailers")
                && bytes == b"\0\0\0\0\x08\x0a\x06orders";
            let code = if asks { "0" } else { "3" };
            let response = http::Response::builder().header("content-type", "application/grpc");
            let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) else {
                return;
            };
            let message = [0, 0, 0, 0, 2, 8, status.load(Ordering::Relaxed)];
            let _ = stream.send_data(Bytes::copy_from_slice(&message), false);
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static(code));
            let _ = stream.send_trailers(trailers);
        });
    }
}

#[test]
fn a_check_over_grpc_asks_for_its_service() {
    let status = Arc::new(AtomicU8::new(1));
    let port = grpc(Arc::clone(&status));
    let check = json!({ "protocol": "grpc", "service": "orders", "interval": "50ms", "timeout": "20s",
        "healthy_threshold": 1, "unhealthy_threshold": 1 });
    let file = json!({ "version": 3, "endpoints": [{ "endpoint": "/a", "output_encoding": "no-op", "backend": [{
        "host": [format!("http://127.0.0.1:{port}")], "url_pattern": "/x", "extra_config": { "portcullis/upstream":
            { "http_version": "h2", "health_check": check } } }] }] });
    let gateway = Gateway::start(&file.to_string());
    status.store(2, Ordering::Relaxed);
    eventually("not serving", LIMIT, || {
        gateway.output().contains("Unhealthy: NOT_SERVING")
    });
    status.store(1, Ordering::Relaxed);
    eventually("serving", LIMIT, || {
        gateway.output().contains("Healthy again")
    });
}
