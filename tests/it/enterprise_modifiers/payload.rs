//! `max_payload` and `decompress_gzip`.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Gateway, Response, Upstream};

/// Answers with the length and the coding of the body that it got.
fn backend() -> Upstream {
    Upstream::start(|mut call| {
        let body = call.body()?;
        let head = call.head.to_lowercase();
        let said = json!({
            "length": body.len(), "coded": head.contains("content-encoding"),
            "text": String::from_utf8_lossy(&body)
        });
        let said = said.to_string();
        call.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
            said.len()
        ))
    })
}

fn gateway(backend: &Upstream, extra: Value, proxy: Value) -> Gateway {
    let endpoint = |path: &str, encoding: &str| {
        json!({
            "endpoint": path, "method": "POST", "output_encoding": encoding,
            "input_headers": ["Content-Encoding", "Content-Type"],
            "backend": [{ "host": [backend.url()], "url_pattern": "/x", "encoding": encoding }],
            "extra_config": { "proxy": proxy }
        })
    };
    let file = json!({ "version": 3, "extra_config": extra, "endpoints": [
        endpoint("/stream", "no-op"), endpoint("/compose", "json"),
    ]});
    Gateway::start(&file.to_string())
}

fn post(gateway: &Gateway, path: &str, coding: Option<&str>, body: &[u8]) -> Response {
    let coding = coding
        .map(|c| format!("Content-Encoding: {c}\r\n"))
        .unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\n{coding}Content-Length: {}\r\n\r\n",
        body.len()
    );
    gateway.send("POST", [head.as_bytes(), body].concat())
}

fn chunked(gateway: &Gateway, path: &str, coding: &str, body: &[u8]) -> Response {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\n{coding}Transfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    for chunk in body.chunks(7) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    gateway.send("POST", bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn larger_bodies_get_413_whether_they_are_streamed_or_not() {
    let backend = backend();
    for (extra, proxy) in [
        (json!({ "router": { "max_payload": 20 } }), json!({})),
        (json!({}), json!({ "max_payload": 20 })),
        (
            json!({ "router": { "max_payload": 100 } }),
            json!({ "max_payload": 20 }),
        ),
        (
            json!({ "router": { "max_payload": 20 } }),
            json!({ "max_payload": 100 }),
        ),
    ] {
        let gateway = gateway(&backend, extra, proxy);
        for path in ["/stream", "/compose"] {
            let good = post(&gateway, path, None, &[b'a'; 20]);
            assert_eq!((good.status, &good.json()["length"]), (200, &json!(20)));
            assert_eq!(
                chunked(&gateway, path, "", &[b'a'; 20]).json()["length"],
                20
            );
            assert_eq!(
                post(&gateway, path, None, &[b'a'; 21]).status,
                413,
                "{path}"
            );
            assert_eq!(
                chunked(&gateway, path, "", &[b'a'; 21]).status,
                413,
                "{path}"
            );
        }
        // The rest of a body that is announced is not waited for.
        let announced = "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        let rejected = gateway.send("POST", announced);
        assert_eq!(
            (rejected.status, rejected.header("connection")),
            (413, Some("close"))
        );
    }
}

#[test]
fn zero_does_not_set_a_limit() {
    let backend = backend();
    let gateway = gateway(
        &backend,
        json!({ "router": { "max_payload": 0 } }),
        json!({ "max_payload": 0 }),
    );
    assert_eq!(
        post(&gateway, "/stream", None, &[b'a'; 100_000]).status,
        200
    );
    assert_eq!(
        post(&gateway, "/compose", None, &[b'a'; 100_000]).status,
        200
    );
}

#[test]
fn gzip_is_decoded_if_the_file_enables_it() {
    let backend = backend();
    let text = "hello, ".repeat(50);
    let coded = gzip(text.as_bytes());
    for (extra, proxy) in [
        (
            json!({ "router": { "decompress_gzip": 1, "max_payload": 350 } }),
            json!({}),
        ),
        (
            json!({}),
            json!({ "decompress_gzip": true, "max_payload": 350 }),
        ),
    ] {
        let gateway = gateway(&backend, extra, proxy);
        for path in ["/stream", "/compose"] {
            for response in [
                post(&gateway, path, Some("gzip"), &coded),
                chunked(&gateway, path, "Content-Encoding: gzip\r\n", &coded),
            ] {
                assert_eq!(response.status, 200, "{path}");
                assert_eq!(
                    response.json(),
                    json!({ "length": 350, "coded": false, "text": text })
                );
            }
            let inner = post(&gateway, path, Some("br, gzip"), &coded).json();
            assert_eq!(
                (&inner["length"], &inner["coded"]),
                (&json!(350), &json!(true))
            );
            let other = post(&gateway, path, Some("gzip, br"), &coded).json();
            assert_eq!(other["length"], coded.len());
            let large = gzip("hello, ".repeat(51).as_bytes());
            assert_eq!(post(&gateway, path, Some("gzip"), &large).status, 413);
            assert_eq!(
                post(&gateway, path, Some("gzip"), b"no gzip at all").status,
                400
            );
            assert_eq!(
                post(&gateway, path, Some("gzip"), &coded[..coded.len() - 3]).status,
                400
            );
            assert_eq!(
                post(&gateway, path, None, text.as_bytes()).json()["length"],
                350
            );
        }
    }
    let gateway = gateway(
        &backend,
        json!({ "router": { "decompress_gzip": 0 } }),
        json!({}),
    );
    let passed = post(&gateway, "/stream", Some("gzip"), &coded).json();
    assert_eq!(
        (&passed["length"], &passed["coded"]),
        (&json!(coded.len()), &json!(true))
    );
}
