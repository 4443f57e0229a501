//! `qos/http-cache` over sockets: which stores exist, what they keep, and what the client gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::stub::http_date;
use crate::support::tokens::now;
use crate::support::{Gateway, Stub, Upstream, eventually, pause};

mod waits;

/// A gateway with an endpoint `/1`, `/2`, … for each of these cache blocks, all in front of `/u` of one stub.
fn start(blocks: &[Value]) -> (Gateway, Stub) {
    let stub = Stub::with(
        r#"[{"headers": {"Content-Type": "application/json", "Cache-Control": "max-age=60"}, "body": {"n": 1}}]"#,
    );
    let endpoints: Vec<Value> = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| {
            json!({
                "endpoint": format!("/{}/{{path}}", index + 1),
                "input_headers": ["Cache-Control"],
                "backend": [{"url_pattern": "/{path}", "extra_config": {"qos/http-cache": block}}]
            })
        })
        .collect();
    let file = json!({"version": 3, "host": [stub.url()], "endpoints": endpoints,
        "extra_config": {"router": {"return_error_msg": true}}});
    (Gateway::start(&file.to_string()), stub)
}

/// How many calls reach the upstream if these paths are requested one after another.
fn calls(blocks: &[Value], paths: &[&str]) -> usize {
    let (gateway, stub) = start(blocks);
    for path in paths {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    stub.take_seen().len()
}

#[test]
fn only_both_limits_together_are_limits() {
    let three = ["/1/a", "/1/b", "/1/a"];
    assert_eq!(calls(&[json!({"max_items": 1})], &three), 2);
    assert_eq!(calls(&[json!({"max_size": 10})], &three), 2);
    let both = json!({"max_items": 1, "max_size": 10_000});
    assert_eq!(calls(&[both], &three), 3);
    // Not more than the response and its headers need.
    let small = json!({"max_items": 9, "max_size": 700});
    assert_eq!(calls(&[small], &["/1/a", "/1/a"]), 1);
}

#[test]
fn shared_stores_with_and_without_limits_are_two() {
    let (with, without) = (
        json!({"shared": true, "max_items": 9, "max_size": 10_000}),
        json!({"shared": true}),
    );
    let blocks = [with.clone(), without.clone(), with, without];
    let paths = ["/1/a", "/2/a", "/3/a", "/4/a"];
    assert_eq!(calls(&blocks, &paths), 2);
}

#[test]
fn only_if_cached_without_a_stored_response_is_a_bad_status_of_the_upstream() {
    let (gateway, stub) = start(&[json!({})]);
    let response = gateway.get_with("/1/a", &[("Cache-Control", "only-if-cached")]);
    assert_eq!(response.status, 500);
    let text = format!(
        "invalid status code 504 [GET /{{{{.Path}}}}]: {}/a",
        stub.url()
    );
    assert_eq!(response.text(), text);
    assert!(stub.take_seen().is_empty());
}

/// A cacheable JSON response with what the backend got in `name`.
fn telling(name: &'static str) -> Upstream {
    Upstream::start(move |mut call| {
        let body = call.body()?;
        let sent = call.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        });
        let body = json!({ "told": sent, "body": String::from_utf8_lossy(&body) }).to_string();
        call.send(cacheable(&body))
    })
}

fn cacheable(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: public, max-age=60\r\n\
         Date: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        http_date(now()),
        body.len()
    )
}

/// An endpoint `/a` with this `extra_config`, in front of a cached backend.
fn cached(backend: &str, endpoint: &Value, block: &Value) -> Value {
    json!({
        "endpoint": "/a", "timeout": "10s", "input_headers": ["X-Role", "X-Key", "Accept-Language"],
        "extra_config": endpoint,
        "backend": [{ "host": [backend], "url_pattern": "/u", "extra_config": { "qos/http-cache": block } }]
    })
}

fn told(gateway: &Gateway, headers: &[(&str, &str)]) -> Value {
    let response = gateway.get_with("/a", headers);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["told"].clone()
}

#[test]
fn clients_with_other_api_keys_get_separate_responses() {
    let keys = json!({ "auth/api-keys": { "propagate_role": "X-Role", "identifier": "X-Key", "keys": [
        { "key": "one", "roles": ["admin"] }, { "key": "two", "roles": ["guest"] },
        { "key": "three", "roles": ["guest"] }] } });
    let guard = json!({ "auth/api-keys": { "roles": ["admin", "guest"] } });
    for (name, field) in [
        ("X-Role", json!(["admin", "guest"])),
        ("X-Key", json!(["one", "two"])),
    ] {
        let backend = telling(name);
        let mut endpoint = cached(&backend.url(), &guard, &json!({}));
        endpoint["input_headers"] = json!([name]);
        let file = json!({ "version": 3, "extra_config": keys, "endpoints": [endpoint] });
        let gateway = Gateway::start(&file.to_string());
        for _ in 0..2 {
            assert_eq!(told(&gateway, &[("X-Key", "one")]), field[0], "{name}");
            assert_eq!(told(&gateway, &[("X-Key", "two")]), field[1], "{name}");
        }
        assert_eq!(backend.calls(), 2, "{name}");
        if name == "X-Role" {
            // The backend gets nothing but the role.
            assert_eq!(told(&gateway, &[("X-Key", "three")]), "guest");
            assert_eq!(backend.calls(), 2);
        }
    }
}

#[test]
fn a_client_cannot_choose_the_response_of_others() {
    let backend = telling("X-Forwarded-Host");
    let endpoint = cached(&backend.url(), &json!({}), &json!({}));
    let file = json!({ "version": 3, "endpoints": [endpoint] });
    let gateway = Gateway::start(&file.to_string());
    let ask = |host: &str, body: &str| {
        let request = format!(
            "GET /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let response = gateway.send("GET", request).json();
        (response["told"].clone(), response["body"].clone())
    };
    for _ in 0..2 {
        assert_eq!(ask("evil", ""), (json!("evil"), json!("")));
        assert_eq!(ask("good", ""), (json!("good"), json!("")));
        assert_eq!(ask("good", "x=1"), (json!("good"), json!("x=1")));
    }
    assert_eq!(backend.calls(), 3);
}

#[test]
fn a_file_may_omit_blocks_that_do_not_change_responses() {
    let backend = telling("Accept-Language");
    let block = json!({ "ignore_headers": ["Accept-Language"] });
    let file = json!({ "version": 3, "endpoints": [cached(&backend.url(), &json!({}), &block)] });
    let gateway = Gateway::start(&file.to_string());
    for _ in 0..2 {
        assert_eq!(told(&gateway, &[("Accept-Language", "de")]), "de");
        assert_eq!(told(&gateway, &[("Accept-Language", "en")]), "de");
    }
    assert_eq!(backend.calls(), 1);
}

fn with_time(backend: &Upstream, block: &Value, timeout: &str) -> Gateway {
    let mut endpoint = cached(&backend.url(), &json!({}), block);
    endpoint["timeout"] = json!(timeout);
    Gateway::start(&json!({ "version": 3, "endpoints": [endpoint] }).to_string())
}

#[test]
fn the_connection_of_an_unread_error_body_is_not_kept() {
    let backend =
        Upstream::start(|mut call| call.send(cacheable("{}").replace("200 OK", "404 Not Found")));
    let gateway = with_time(&backend, &json!({}), "10s");
    assert_eq!(gateway.get("/a").status, 500);
    assert_eq!(gateway.get("/a").status, 500);
    assert_eq!(backend.calls(), 2);
}

/// A gateway whose endpoint `/a` passes on what `backend` sends, through a cache, with a timeout of three seconds.
fn passing_on(backend: &Upstream, block: &Value) -> Gateway {
    let endpoint = json!({ "endpoint": "/a", "output_encoding": "no-op", "timeout": "3s",
        "backend": [{ "host": [backend.url()], "url_pattern": "/", "encoding": "no-op",
            "extra_config": { "qos/http-cache": block } }] });
    Gateway::start(&json!({ "version": 3, "endpoints": [endpoint] }).to_string())
}

/// The time between two pieces, longer than the timeout of the endpoint.
const BETWEEN: Duration = Duration::from_secs(4);

/// A response in two pieces. The second one comes after the timeout of the endpoint.
fn in_two_pieces(fields: &'static str) -> Upstream {
    Upstream::start(move |mut call| {
        call.send(format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n",
            http_date(now())
        ))?;
        call.chunk("one")?;
        pause(BETWEEN);
        call.chunk("two")?;
        call.send("0\r\n\r\n")
    })
}

#[test]
fn a_cache_does_not_hold_streams_back() {
    let cases = [
        ("Cache-Control: no-store\r\n", 2),
        ("", 2),
        (
            "Cache-Control: max-age=60\r\nContent-Type: text/event-stream\r\n",
            2,
        ),
        (
            "Cache-Control: max-age=60\r\nContent-Type: Application/X-NDJSON; charset=utf-8\r\n",
            2,
        ),
        ("ETag: \"a\"\r\nContent-Type: application/json-seq\r\n", 2),
        ("Cache-Control: private, max-age=60\r\n", 2),
        // This one is stored while it is passed on.
        ("Cache-Control: max-age=60\r\n", 1),
    ];
    std::thread::scope(|scope| {
        for (fields, calls) in cases {
            scope.spawn(move || comes_piece_by_piece(fields, calls));
        }
    });
}

fn comes_piece_by_piece(fields: &'static str, calls: usize) {
    let backend = in_two_pieces(fields);
    let gateway = passing_on(&backend, &json!({}));
    let mut client = gateway.client();
    let sent = std::time::Instant::now();
    client.send(request("GET", "/a", &[])).unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.status, 200, "{fields}");
    assert_eq!(client.chunk().unwrap().unwrap(), b"one", "{fields}");
    assert!(sent.elapsed() < BETWEEN, "{fields}");
    assert_eq!(client.chunk().unwrap().unwrap(), b"two", "{fields}");
    assert_eq!(client.chunk().unwrap(), None, "{fields}");
    assert_eq!(gateway.get("/a").text(), "onetwo", "{fields}");
    assert_eq!(backend.calls(), calls, "{fields}");
}

/// An entry that is stale, a backend that has a newer version, and a client that has this version already.
#[test]
fn a_condition_of_a_client_does_not_renew_what_is_stored() {
    let version = |tag: &str| {
        format!(
            "Date: {}\r\nCache-Control: max-age=0\r\nETag: \"{tag}\"\r\n",
            http_date(now())
        )
    };
    let newest = Arc::new(AtomicBool::new(false));
    let validated = Arc::new(AtomicBool::new(false));
    let (served, validates) = (Arc::clone(&newest), Arc::clone(&validated));
    let backend = Upstream::start(move |mut call| {
        let tag = if served.load(Ordering::Relaxed) {
            "v2"
        } else {
            "v1"
        };
        let head = version(tag);
        let asked = call.head.to_ascii_lowercase();
        let matches = [
            format!("if-none-match: \"{tag}\""),
            "if-none-match: *".to_owned(),
        ];
        if matches.iter().any(|own| asked.contains(own.as_str())) {
            validates.store(true, Ordering::Relaxed);
            return call.send(format!("HTTP/1.1 304 Not Modified\r\n{head}\r\n"));
        }
        call.send(format!(
            "HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\n{tag}"
        ))
    });
    for own in ["\"v2\"", "*"] {
        let endpoint = json!({ "endpoint": "/a", "output_encoding": "no-op", "input_headers": ["*"],
            "backend": [{ "host": [backend.url()], "url_pattern": "/", "encoding": "no-op",
                "extra_config": { "qos/http-cache": {} } }] });
        let gateway = Gateway::start(&json!({ "version": 3, "endpoints": [endpoint] }).to_string());
        newest.store(false, Ordering::Relaxed);
        validated.store(false, Ordering::Relaxed);
        // A response is stored after it was sent.
        eventually("it is stored", Duration::from_secs(30), || {
            assert_eq!(gateway.get("/a").text(), "v1", "{own}");
            validated.load(Ordering::Relaxed)
        });
        newest.store(true, Ordering::Relaxed);
        let conditional = gateway.get_with("/a", &[("If-None-Match", own)]);
        assert_eq!(
            (conditional.status, &*conditional.text()),
            (200, "v2"),
            "{own}"
        );
        assert_eq!(gateway.get("/a").text(), "v2", "{own}");
    }
}

#[test]
fn only_whole_responses_that_fit_are_stored_while_they_pass() {
    let short = |head: &'static str, body: &'static str| {
        Upstream::start(move |mut call| {
            let date = http_date(now());
            call.send(format!(
                "HTTP/1.1 200 OK\r\nDate: {date}\r\nCache-Control: max-age=60\r\n{head}\r\n{body}"
            ))
        })
    };
    let twice = |backend: &Upstream, block: Value| {
        let gateway = passing_on(backend, &block);
        for _ in 0..2 {
            let mut client = gateway.client();
            client.send(request("GET", "/a", &[])).unwrap();
            let _ = client.response("GET");
        }
        backend.calls()
    };
    let limit = || json!({ "max_size": 300, "max_items": 9 });
    let whole = short("Content-Length: 5\r\n", "whole");
    assert_eq!(twice(&whole, limit()), 1);
    let cut_off = short("Content-Length: 9\r\nConnection: close\r\n", "whole");
    assert_eq!(twice(&cut_off, json!({})), 2);
    let long: &'static str = Box::leak("x".repeat(500).into_boxed_str());
    let announced = short("Content-Length: 500\r\n", long);
    assert_eq!(twice(&announced, limit()), 2);
    let framed = Box::leak(format!("1f4\r\n{long}\r\n0\r\n\r\n").into_boxed_str());
    let chunked = short("Transfer-Encoding: chunked\r\n", framed);
    assert_eq!(twice(&chunked, limit()), 2);
}

#[test]
fn a_compressed_response_is_stored_without_its_coding() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"compressed").unwrap();
    let packed = encoder.finish().unwrap();
    let backend = Upstream::start(move |mut call| {
        let date = http_date(now());
        call.send(format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nCache-Control: max-age=60\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len()))?;
        call.send(&packed)
    });
    let gateway = passing_on(&backend, &json!({}));
    for _ in 0..2 {
        let response = gateway.get("/a");
        assert_eq!((response.status, &*response.text()), (200, "compressed"));
        assert_eq!(response.header("content-encoding"), None);
    }
    assert_eq!(backend.calls(), 1);
}

/// A client that takes its response slowly must not delay others, although they would share it.
#[test]
fn a_client_that_reads_slowly_delays_no_other() {
    let body = "x".repeat(16 << 20);
    let backend = Upstream::start(move |mut call| call.send(cacheable(&body)));
    let gateway = passing_on(&backend, &json!({ "max_wait": "60s" }));
    let mut slow = gateway.client();
    slow.send(request("GET", "/a", &[])).unwrap();
    slow.head().unwrap();
    let other = gateway.get("/a");
    assert_eq!((other.status, other.body.len()), (200, 16 << 20));
}
