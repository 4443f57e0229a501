//! `no-op` passes bytes on as they arrive, in both directions, and ends in the same way as the other side.

use std::io::{ErrorKind, Read as _};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use crate::support::http::request;
use crate::support::upstream::Call;
use crate::support::{Gateway, Upstream, eventually};

fn gateway(upstream: &Upstream, method: &str) -> Gateway {
    with_timeout(upstream, method, "20s")
}

fn with_timeout(upstream: &Upstream, method: &str, timeout: &str) -> Gateway {
    let config = json!({
        "version": 3,
        "timeout": timeout,
        "endpoints": [{
            "endpoint": "/s",
            "method": method,
            "output_encoding": "no-op",
            "input_headers": ["Content-Type", "Expect", "Accept"],
            "backend": [{ "host": [upstream.url()], "url_pattern": "/s", "method": method, "encoding": "no-op" }]
        }]
    });
    Gateway::start(&config.to_string())
}

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Reads the headers of an upload whose body arrives in chunks; the sizes say when.
fn chunked_body(call: &mut Call, seen: &mpsc::Sender<String>) -> std::io::Result<()> {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("0\r\n\r\n") {
        call.reader.read_exact(&mut byte)?;
        text.push(char::from(byte[0]));
        if let Some(part) = ["one", "two", "three"].iter().find(|p| text.ends_with(**p)) {
            let _ = seen.send((*part).to_owned());
        }
    }
    Ok(())
}

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    let (next, turn) = mpsc::channel::<()>();
    let turn = std::sync::Mutex::new(turn);
    let upstream = Upstream::start(move |mut call| {
        call.send(EVENTS)?;
        for i in 0..3 {
            call.chunk(&format!("data: {i}\n\n"))?;
            // Not sent before the client has seen this one: a gateway that collects the body would hang here.
            turn.lock().unwrap().recv().ok();
        }
        call.send("0\r\n\r\n")
    });
    let gateway = gateway(&upstream, "GET");
    let mut client = gateway.client();
    client
        .send(request("GET", "/s", &[("Accept", "text/event-stream")]))
        .unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    for i in 0..3 {
        let event = client.chunk().unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&event), format!("data: {i}\n\n"));
        next.send(()).unwrap();
    }
    assert_eq!(client.chunk().unwrap(), None);
}

#[test]
fn an_upload_streams_while_the_response_streams() {
    let (seen, parts) = mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    let upstream = Upstream::start(move |mut call| {
        call.send(EVENTS)?;
        call.chunk("ready")?;
        let seen = seen.lock().unwrap().clone();
        chunked_body(&mut call, &seen)?;
        call.chunk("done")?;
        call.send("0\r\n\r\n")
    });
    let gateway = gateway(&upstream, "POST");
    let mut client = gateway.client();
    client
        .send("POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"ready");
    let wait = Duration::from_secs(30);
    assert_eq!(parts.recv_timeout(wait).unwrap(), "one");
    for (chunk, part) in [("3\r\ntwo\r\n", "two"), ("5\r\nthree\r\n", "three")] {
        client.send(chunk).unwrap();
        assert_eq!(parts.recv_timeout(wait).unwrap(), part);
    }
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.chunk().unwrap().unwrap(), b"done");
    assert_eq!(client.chunk().unwrap(), None);
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let upstream = Upstream::start(|mut call| {
        if call.head.to_lowercase().contains("expect: 100-continue") {
            call.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = call.body()?;
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
        let head = format!("{head}: {}\r\n\r\n", body.len());
        call.send([head.as_bytes(), &body].concat())
    });
    let gateway = gateway(&upstream, "POST");
    let mut client = gateway.client();
    client
        .send("POST /s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    assert_eq!(client.any_head().unwrap().status, 100);
    client.send("hello").unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
}

#[test]
fn a_client_that_disconnects_ends_the_call() {
    let (left, noticed) = mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let upstream = Upstream::start(move |mut call| {
        call.send(EVENTS)?;
        call.chunk("data: 0\n\n")?;
        let gone = call.sees_hang_up(Duration::from_secs(60));
        let _ = left.lock().unwrap().send(gone);
        Ok(())
    });
    let gateway = gateway(&upstream, "GET");
    let mut client = gateway.client();
    client.send(request("GET", "/s", &[])).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    client.chunk().unwrap();
    drop(client);
    assert!(
        noticed.recv_timeout(Duration::from_secs(60)).unwrap(),
        "the upstream call goes on"
    );
}

#[test]
fn a_stream_that_is_alive_outlives_the_timeout_of_its_endpoint() {
    let upstream = Upstream::start(|mut call| {
        call.send(EVENTS)?;
        // Eight parts, 600 ms apart: longer than the endpoint's 4 s.
        for i in 0..8 {
            call.chunk(&format!("{i}"))?;
            crate::support::pause(Duration::from_millis(600));
        }
        call.send("0\r\n\r\n")
    });
    let response = with_timeout(&upstream, "GET", "4s").get("/s");
    assert_eq!(response.text(), "01234567");
}

#[test]
fn a_body_cut_short_never_looks_whole() {
    let heads = ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"];
    for (head, body) in heads.iter().zip(["part of it", "a\r\npart of it\r\n"]) {
        let upstream = Upstream::raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}"));
        let gateway = gateway(&upstream, "GET");
        let mut client = gateway.client();
        client.send(request("GET", "/s", &[])).unwrap();
        match client.response("GET") {
            Ok(response) => assert!(
                response.status >= 500,
                "{head}: a whole {}",
                response.status
            ),
            Err(e) => assert_ne!(e.kind(), ErrorKind::WouldBlock, "{head}: the client hangs"),
        }
    }
}

#[test]
fn a_big_body_passes_in_flat_memory() {
    const SIZE: usize = 256 << 20;
    let upstream = Upstream::start(|mut call| {
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"))?;
        let part = vec![b'x'; 1 << 20];
        (0..SIZE >> 20).try_for_each(|_| call.send(&part))
    });
    let gateway = gateway(&upstream, "GET");
    assert_eq!(gateway.get("/__health").status, 200);
    let before = gateway.resident_kib();
    let mut client = gateway.client();
    client.send(request("GET", "/s", &[])).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    let (mut buffer, mut got, mut most) = (vec![0; 1 << 20], 0, 0);
    // At first the client is slower than the backend: the memory of a gateway without back-pressure would grow.
    crate::support::pause(Duration::from_millis(300));
    while got < SIZE {
        let n = client.read_some(&mut buffer).unwrap();
        assert_ne!(n, 0, "cut at {got}");
        got += n;
        most = most.max(gateway.resident_kib());
    }
    assert!(most < before + 48 * 1024, "{before} KiB grew to {most} KiB");
}

#[test]
fn an_event_stream_of_a_dead_backend_ends_for_the_client() {
    let upstream = Upstream::start(|mut call| {
        call.send(EVENTS)?;
        call.chunk("data: 0\n\n")
    });
    let gateway = gateway(&upstream, "GET");
    let mut client = gateway.client();
    client.send(request("GET", "/s", &[])).unwrap();
    client.head().unwrap();
    client.chunk().unwrap();
    assert!(
        client.chunk().is_err(),
        "the stream ended as if it were whole"
    );
    eventually("the gateway serves on", Duration::from_secs(30), || {
        gateway.get("/__health").status == 200
    });
}

#[test]
fn the_framing_of_a_response_matches_what_the_client_gets() {
    let upstream = Upstream::raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: content-length\r\n\r\nhello",
    );
    let response = self::gateway(&upstream, "GET").get("/s");
    let framed =
        ["content-length", "transfer-encoding"].map(|name| response.header(name).is_some());
    assert!(framed.contains(&true), "only its end frames the answer");
    assert_eq!(response.text(), "hello");
    let upstream = Upstream::raw("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    let response = self::gateway(&upstream, "GET").get("/s");
    assert_eq!(
        (response.status, response.header("content-length")),
        (204, None)
    );
}

#[test]
fn a_tunnel_passes_the_steps_of_its_backend_as_any_call_does() {
    let upstream = Upstream::start(|mut call| {
        call.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )?;
        call.sees_hang_up(Duration::from_secs(60));
        Ok(())
    });
    let config = json!({
        "version": 3,
        "endpoints": [{
            "endpoint": "/ws", "output_encoding": "no-op",
            "extra_config": { "portcullis/stream": { "upgrade": true } },
            "backend": [{
                "host": [upstream.url()], "url_pattern": "/ws", "encoding": "no-op",
                "extra_config": { "qos/ratelimit/proxy": { "max_rate": 0.001, "capacity": 1 } }
            }]
        }]
    });
    let gateway = Gateway::start(&config.to_string());
    let asks = request(
        "GET",
        "/ws",
        &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ],
    );
    let mut first = gateway.client();
    first.send(&asks).unwrap();
    assert_eq!(first.any_head().unwrap().status, 101);
    let mut second = gateway.client();
    second.send(&asks).unwrap();
    assert_eq!(second.response("GET").unwrap().status, 500);
    assert_eq!(upstream.calls(), 1);
}

/// A `no-op` endpoint for each entry, with these additional keys.
fn endpoints(backend: &str, entries: &[(&str, serde_json::Value)]) -> Vec<serde_json::Value> {
    let one = |(path, more): &(&str, serde_json::Value)| {
        let mut endpoint = json!({
            "endpoint": path, "output_encoding": "no-op", "input_headers": ["Origin"],
            "backend": [{ "host": [backend], "url_pattern": "/s", "encoding": "no-op" }]
        });
        for (key, value) in more.as_object().unwrap() {
            endpoint[key] = value.clone();
        }
        endpoint
    };
    entries.iter().map(one).collect()
}

#[test]
fn static_data_marks_a_response_and_hides_a_failure() {
    let upstream = Upstream::raw("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    // Strategy, whether a response counts as complete, the result of a failed call.
    let cases = [
        ("always", "true", 200),
        ("success", "true", 500),
        ("complete", "true", 500),
        ("errored", "false", 200),
        ("incomplete", "false", 200),
    ];
    let with = |strategy: &str, data: serde_json::Value| json!({ "extra_config": { "proxy": { "static": { "strategy": strategy, "data": data } } } });
    for (strategy, complete, failed) in cases {
        let entry = [("/s", with(strategy, json!({ "z": 1 })))];
        let of = |host: &str| {
            let file = json!({ "version": 3, "endpoints": endpoints(host, &entry) });
            Gateway::start(&file.to_string()).get("/s")
        };
        let response = of(&upstream.url());
        assert_eq!(
            (response.status, &*response.text()),
            (404, "no"),
            "{strategy}"
        );
        assert_eq!(
            response.header("x-krakend-completed"),
            Some(complete),
            "{strategy}"
        );
        let response = of("http://127.0.0.1:1");
        assert_eq!(
            (response.status, &*response.text()),
            (failed, ""),
            "{strategy}"
        );
        assert_eq!(response.header("x-krakend-completed"), Some("false"));
    }
    let entry = [("/s", with("always", json!({})))];
    let file = json!({ "version": 3, "endpoints": endpoints(&upstream.url(), &entry) });
    let response = Gateway::start(&file.to_string()).get("/s");
    assert_eq!(
        response.header("x-krakend-completed"),
        Some("false"),
        "empty"
    );
}

#[test]
fn static_data_does_not_hide_a_rejection_of_a_step_around_the_endpoint() {
    let upstream = Upstream::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let lua = |key: &str, script: &str| json!({ "modifier/lua-proxy": { key: script } });
    let cel = |check: &str| json!({ "validation/cel": [{ "check_expr": check }] });
    let rejections = [
        (lua("post", "custom_error('no', 418)"), 418),
        (lua("post", "error('no')"), 500),
        (lua("pre", "custom_error('no', 418)"), 418),
        (cel("resp_completed == false"), 500),
        (cel("req_method == 'POST'"), 500),
    ];
    for strategy in ["always", "errored", "incomplete"] {
        let mut entries = Vec::new();
        for (index, (extra, _)) in rejections.iter().enumerate() {
            let mut extra = extra.clone();
            extra["proxy"] = json!({ "static": { "strategy": strategy, "data": { "z": 1 } } });
            entries.push((format!("/s{index}"), json!({ "extra_config": extra })));
        }
        let entries: Vec<_> = entries
            .iter()
            .map(|(p, e)| (p.as_str(), e.clone()))
            .collect();
        let file = json!({ "version": 3, "endpoints": endpoints(&upstream.url(), &entries) });
        let gateway = Gateway::start(&file.to_string());
        for (index, (extra, status)) in rejections.iter().enumerate() {
            let response = gateway.get(&format!("/s{index}"));
            assert_eq!(response.status, *status, "{strategy} {extra}");
        }
    }
}

#[test]
fn static_data_covers_failures_within_a_step_around_the_endpoint() {
    let upstream = Upstream::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let within = |url: &str, extra: serde_json::Value| {
        json!({
            "extra_config": {
                "modifier/lua-proxy": { "pre": "request.load()" },
                "proxy": { "static": { "strategy": "errored", "data": { "z": 1 } } }
            },
            "backend": [{ "host": [upstream.url()], "url_pattern": url, "encoding": "no-op", "extra_config": extra }]
        })
    };
    let script = json!({ "modifier/lua-backend": { "post": "custom_error('no', 418)" } });
    let entries = [
        ("/a", within("/s", script)),
        ("/b", within("/s/{resp0_x}", json!({}))),
    ];
    let file = json!({ "version": 3, "endpoints": endpoints(&upstream.url(), &entries) });
    let gateway = Gateway::start(&file.to_string());
    for path in ["/a", "/b"] {
        let response = gateway.get(path);
        assert_eq!((response.status, &*response.text()), (200, ""), "{path}");
    }
}

#[test]
fn an_unknown_output_encoding_passes_what_a_no_op_backend_sends() {
    let upstream = Upstream::raw("HTTP/1.1 404 Not Found\r\nX-A: b\r\nContent-Length: 2\r\n\r\nno");
    let named = |name: &str| json!({ "output_encoding": name });
    let entries = [("/a", named("bogus")), ("/b", named("NO-OP"))];
    let file = json!({ "version": 3, "endpoints": endpoints(&upstream.url(), &entries) });
    let gateway = Gateway::start(&file.to_string());
    for path in ["/a", "/b"] {
        let response = gateway.get(path);
        assert_eq!((response.status, &*response.text()), (404, "no"), "{path}");
        assert_eq!(response.header("x-a"), Some("b"));
        assert_eq!(response.header("x-krakend-completed"), Some("false"));
    }
}

#[test]
fn gzip_is_known_in_any_letter_case() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, b"plain").unwrap();
    let packed = packed.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: GZip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    let upstream = Upstream::raw([head.as_bytes(), &packed].concat());
    let entry = [("/s", json!({}))];
    let file = json!({ "version": 3, "endpoints": endpoints(&upstream.url(), &entry) });
    let response = Gateway::start(&file.to_string()).get("/s");
    assert_eq!(response.text(), "plain");
    assert_eq!(response.header("content-encoding"), None);
}

#[test]
fn the_gateways_vary_precedes_the_backends() {
    let upstream =
        Upstream::raw("HTTP/1.1 200 OK\r\nVary: Accept-Encoding\r\nContent-Length: 2\r\n\r\nok");
    let file = json!({
        "version": 3,
        "extra_config": { "security/cors": { "allow_origins": ["http://a.example"] } },
        "endpoints": endpoints(&upstream.url(), &[("/s", json!({}))])
    });
    let gateway = Gateway::start(&file.to_string());
    let response = gateway.get_with("/s", &[("Origin", "http://a.example")]);
    let vary: Vec<&str> = response
        .headers
        .iter()
        .filter(|(name, _)| name == "vary")
        .map(|(_, value)| &**value)
        .collect();
    assert_eq!(vary, ["Origin", "Accept-Encoding"]);
}
