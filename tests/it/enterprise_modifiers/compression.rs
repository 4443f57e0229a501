//! `portcullis/compression` and `router.disable_gzip`.

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Response, Upstream};

fn text() -> String {
    (0..400).map(|n| format!("line {n}, ")).collect()
}

/// A backend whose answer depends on the path.
fn backend() -> Upstream {
    Upstream::start(|mut call| {
        let path = call.head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = match path.as_str() {
            "/json" => json!({ "text": text() }).to_string(),
            "/small" => "{}".to_owned(),
            _ => text(),
        };
        let (status, fields) = match path.as_str() {
            "/json" | "/small" => (
                "200 OK",
                "Content-Type: application/json\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n",
            ),
            "/png" => ("200 OK", "Content-Type: image/png\r\n"),
            "/events" => ("200 OK", "Content-Type: text/event-stream\r\n"),
            "/encoded" => (
                "200 OK",
                "Content-Type: text/plain\r\nContent-Encoding: br\r\n",
            ),
            "/final" => (
                "200 OK",
                "Content-Type: text/plain\r\nCache-Control: no-transform\r\n",
            ),
            "/part" => (
                "206 Partial Content",
                "Content-Type: text/plain\r\nContent-Range: bytes 0-1/9\r\n",
            ),
            "/weak" => (
                "200 OK",
                "Content-Type: text/plain\r\nETag: W/\"v1\"\r\nVary: Origin\r\n",
            ),
            "/any" => ("200 OK", "Content-Type: text/plain\r\nVary: *\r\n"),
            "/error" => ("404 Not Found", "Content-Type: text/plain\r\n"),
            "/same" => {
                return call.send(
                    "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n",
                );
            }
            "/none" => return call.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
            _ => ("200 OK", "Content-Type: text/plain; charset=utf-8\r\n"),
        };
        let length = body.len();
        let head = call.head.starts_with("HEAD");
        call.send(format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        ))?;
        if head { Ok(()) } else { call.send(body) }
    })
}

fn gateway(backend: &Upstream, extra: Value) -> Gateway {
    let endpoint = |path: &str, method: &str, encoding: &str, extra: Value| {
        json!({
            "endpoint": format!("{path}/{{p}}"), "method": method, "output_encoding": encoding,
            "input_headers": ["Range"],
            "backend": [{ "host": [backend.url()], "url_pattern": "/{p}", "encoding": encoding }],
            "extra_config": extra
        })
    };
    let off = json!({ "portcullis/compression": { "enabled": false } });
    let file = json!({ "version": 3, "extra_config": extra, "endpoints": [
        endpoint("/stream", "GET", "no-op", json!({})),
        endpoint("/stream", "HEAD", "no-op", json!({})),
        endpoint("/compose", "GET", "json", json!({})),
        endpoint("/secret", "GET", "no-op", off),
    ]});
    Gateway::start(&file.to_string())
}

fn decoded(response: &Response) -> String {
    let mut out = String::new();
    let body = &response.body[..];
    match response.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut out),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut out),
        Some("zstd") => zstd::stream::read::Decoder::new(body)
            .unwrap()
            .read_to_string(&mut out),
        other => panic!("{other:?}: {response:?}"),
    }
    .unwrap();
    out
}

fn get(gateway: &Gateway, path: &str, accept: &str) -> Response {
    gateway.get_with(path, &[("Accept-Encoding", accept)])
}

#[test]
fn text_is_compressed_as_the_client_prefers() {
    let backend = backend();
    let gateway = gateway(&backend, json!({ "portcullis/compression": {} }));
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("gzip, br", "br"),
        ("gzip, br, zstd", "zstd"),
        ("br;q=0.5, gzip", "gzip"),
    ] {
        let streamed = get(&gateway, "/stream/text", accept);
        assert_eq!(streamed.header("content-encoding"), Some(coding));
        assert_eq!(streamed.header("transfer-encoding"), Some("chunked"));
        assert_eq!(streamed.header("content-length"), None);
        assert_eq!(streamed.header("vary"), Some("Accept-Encoding"));
        assert!(streamed.body.len() < text().len() / 2);
        assert_eq!(decoded(&streamed), text());
        let composed = get(&gateway, "/compose/json", accept);
        assert_eq!(composed.header("content-encoding"), Some(coding));
        assert_eq!(
            composed.header("content-length"),
            Some(&*composed.body.len().to_string())
        );
        assert_eq!(composed.header("x-krakend-completed"), Some("true"));
        assert_eq!(decoded(&composed), json!({ "text": text() }).to_string());
    }
    for accept in ["identity", "gzip;q=0", "deflate", "identity;q=0"] {
        for path in ["/stream/text", "/compose/json"] {
            let plain = get(&gateway, path, accept);
            assert_eq!(plain.status, 200);
            assert_eq!(plain.header("content-encoding"), None, "{accept}");
            assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
        }
    }
    let plain = gateway.get("/stream/text");
    assert_eq!(
        (plain.text(), plain.header("vary")),
        (text(), Some("Accept-Encoding"))
    );
    // An endpoint that holds secrets is left out.
    let secret = get(&gateway, "/secret/text", "gzip");
    assert_eq!((secret.text(), secret.header("vary")), (text(), None));
}

#[test]
fn responses_that_must_not_be_compressed_are_unchanged() {
    let backend = backend();
    let gateway = gateway(&backend, json!({ "portcullis/compression": {} }));
    for path in ["png", "events", "encoded", "final", "part"] {
        let response = get(&gateway, &format!("/stream/{path}"), "gzip, br");
        assert_eq!(response.text(), text(), "{path}");
        // RFC 9110 §15.3.7: a part has the Vary of the whole.
        let vary = (path == "part").then_some("Accept-Encoding");
        assert_eq!(response.header("vary"), vary, "{path}");
        assert_eq!(
            response.header("content-length"),
            Some(&*text().len().to_string())
        );
    }
    let small = get(&gateway, "/stream/small", "gzip");
    assert_eq!(
        (small.text().as_str(), small.header("vary")),
        ("{}", Some("Accept-Encoding"))
    );
    assert_eq!(small.header("etag"), Some("\"v1\""));
    let none = get(&gateway, "/stream/none", "gzip");
    assert_eq!((none.status, none.header("content-encoding")), (204, None));
    let error = get(&gateway, "/stream/error", "gzip");
    assert_eq!((error.status, decoded(&error)), (404, text()));
}

#[test]
fn validators_and_vary_match_the_compressed_body() {
    let backend = backend();
    let gateway = gateway(
        &backend,
        json!({ "portcullis/compression": { "types": ["application/json", "text/*"] } }),
    );
    let json = get(&gateway, "/stream/json", "gzip");
    assert_eq!(json.header("etag"), Some("W/\"v1\""));
    assert_eq!(json.header("accept-ranges"), None);
    let plain = gateway.get("/stream/json");
    assert_eq!(plain.header("etag"), Some("\"v1\""));
    assert_eq!(plain.header("accept-ranges"), Some("bytes"));
    let weak = get(&gateway, "/stream/weak", "gzip");
    assert_eq!(weak.header("etag"), Some("W/\"v1\""));
    let vary: Vec<&str> = weak
        .headers
        .iter()
        .filter(|(n, _)| n == "vary")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(vary, ["Origin", "Accept-Encoding"]);
    assert_eq!(
        get(&gateway, "/stream/any", "gzip").header("vary"),
        Some("*")
    );
    let same = get(&gateway, "/stream/same", "gzip");
    assert_eq!((same.status, same.header("etag")), (304, Some("W/\"v1\"")));
    assert_eq!(same.header("vary"), Some("Accept-Encoding"));
}

#[test]
fn head_has_the_headers_of_get_and_no_length() {
    let backend = backend();
    let gateway = gateway(&backend, json!({ "portcullis/compression": {} }));
    let mut client = gateway.client();
    for _ in 0..2 {
        client
            .send(request(
                "HEAD",
                "/stream/json",
                &[("Accept-Encoding", "gzip")],
            ))
            .unwrap();
        let head = client.response("HEAD").unwrap();
        assert_eq!(head.header("content-encoding"), Some("gzip"));
        assert_eq!(head.header("etag"), Some("W/\"v1\""));
        assert_eq!(head.header("content-length"), None);
    }
    client
        .send(request(
            "GET",
            "/stream/json",
            &[("Accept-Encoding", "gzip")],
        ))
        .unwrap();
    assert_eq!(
        decoded(&client.response("GET").unwrap()),
        json!({ "text": text() }).to_string()
    );
}

#[test]
fn each_piece_of_a_stream_can_be_read_at_once() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Upstream::start(move |mut call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        call.chunk("{\"n\":1}\n")?;
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(10));
        call.chunk("{\"n\":2}\n")?;
        call.send("0\r\n\r\n")
    });
    for (coding, index) in [("gzip", 0), ("br", 1), ("zstd", 2)] {
        let gateway = gateway(&backend, json!({ "portcullis/compression": {} }));
        let mut client = gateway.client();
        client
            .send(request("GET", "/stream/x", &[("Accept-Encoding", coding)]))
            .unwrap();
        let head = client.head().unwrap();
        assert_eq!(head.header("content-encoding"), Some(coding), "{index}");
        let mut body = client.chunk().unwrap().unwrap();
        let mut first = [0; 8];
        match coding {
            "gzip" => flate2::read::GzDecoder::new(&body[..]).read_exact(&mut first),
            "br" => brotli::Decompressor::new(&body[..], 4096).read_exact(&mut first),
            _ => zstd::stream::read::Decoder::new(&body[..])
                .unwrap()
                .read_exact(&mut first),
        }
        .unwrap();
        assert_eq!(&first, b"{\"n\":1}\n");
        go.send(()).unwrap();
        while let Some(chunk) = client.chunk().unwrap() {
            body.extend_from_slice(&chunk);
        }
        let all = Response { body, ..head };
        assert_eq!(decoded(&all), "{\"n\":1}\n{\"n\":2}\n");
    }
}

#[test]
fn gzip_is_on_if_the_file_writes_that_it_is_not_disabled() {
    let backend = backend();
    let on = gateway(&backend, json!({ "router": { "disable_gzip": false } }));
    let response = get(&on, "/compose/json", "br, gzip");
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    for extra in [
        json!({}),
        json!({ "router": {} }),
        json!({ "router": { "disable_gzip": true }, "portcullis/compression": {} }),
    ] {
        let off = gateway(&backend, extra);
        let response = get(&off, "/compose/json", "br, gzip");
        assert_eq!(
            (response.header("content-encoding"), response.header("vary")),
            (None, None)
        );
    }
}

#[test]
fn http_1_0_and_rejections_are_compressed_too() {
    let backend = backend();
    let gateway = gateway(
        &backend,
        json!({
            "portcullis/compression": { "min_size": 0 },
            "router": { "error_body": { "404": { "text": text() } } }
        }),
    );
    let old = gateway.send(
        "GET",
        "GET /stream/text HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
    );
    assert_eq!(old.header("transfer-encoding"), None);
    assert_eq!(decoded(&old), text());
    let missing = get(&gateway, "/nowhere", "br");
    assert_eq!(
        (missing.status, decoded(&missing)),
        (404, json!({ "text": text() }).to_string())
    );
    // What does not become smaller stays as it is.
    let small = get(&gateway, "/compose/small", "gzip");
    assert_eq!(
        (small.text().as_str(), small.header("vary")),
        ("{}", Some("Accept-Encoding"))
    );
}

/// A GET over HTTP/2 without TLS.
async fn get_over_http_2(port: u16, path: &str) -> Response {
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://127.0.0.1:{port}{path}"))
        .header("accept-encoding", "gzip")
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    let headers = response.headers().iter().map(|(name, value)| {
        let value = value.to_str().unwrap().to_owned();
        (name.as_str().to_owned(), value)
    });
    let mut found = Response {
        status: response.status().as_u16(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        found.body.extend_from_slice(&piece);
    }
    found
}

#[test]
fn clients_of_http_2_get_encoded_bodies() {
    let backend = backend();
    let gateway = gateway(
        &backend,
        json!({ "portcullis/compression": {}, "router": { "use_h2c": true } }),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let streamed = runtime.block_on(get_over_http_2(gateway.port(), "/stream/text"));
    assert_eq!(streamed.header("transfer-encoding"), None);
    assert_eq!(streamed.header("content-length"), None);
    assert_eq!(decoded(&streamed), text());
    let composed = runtime.block_on(get_over_http_2(gateway.port(), "/compose/json"));
    assert_eq!(decoded(&composed), json!({ "text": text() }).to_string());
    let small = runtime.block_on(get_over_http_2(gateway.port(), "/stream/small"));
    assert_eq!(small.text(), "{}");
}
