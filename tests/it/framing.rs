//! Where a message ends: to backends and from them, byte by byte.

mod bytes_behind;
mod heads;
mod kept;

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::tls::Authority;
use crate::support::upstream::Call;
use crate::support::{Client, Gateway, Response, Upstream, eventually, pause};

/// Endpoints of both kinds that pass everything on to `backend`.
fn config(backend: &str) -> Value {
    let to = |path: &str, method: &str| json!([{ "host": [backend], "url_pattern": path, "method": method }]);
    let composed = |method: &str| {
        json!({ "endpoint": "/c", "method": method, "input_headers": ["Content-Type", "User-Agent", "Range"],
        "backend": to("/c", method) })
    };
    let streamed = |method: &str| {
        json!({ "endpoint": "/n", "method": method, "input_headers": ["Content-Type", "User-Agent", "Range"],
        "output_encoding": "no-op", "backend": to("/n", method) })
    };
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let mut endpoints: Vec<Value> = methods
        .iter()
        .flat_map(|m| [composed(m), streamed(m)])
        .collect();
    // The client's method is GET, the call's is HEAD.
    for mut endpoint in [composed("GET"), streamed("GET")] {
        let path = format!("{}-head", endpoint["endpoint"].as_str().unwrap());
        endpoint["endpoint"] = json!(path);
        endpoint["backend"][0]["method"] = json!("HEAD");
        endpoints.push(endpoint);
    }
    json!({ "version": 3, "timeout": "20s", "endpoints": endpoints, "extra_config": { "telemetry/logging": { "level": "WARNING", "stdout": true } } })
}

fn start(backend: &Upstream) -> Gateway {
    Gateway::start(&config(&backend.url()).to_string())
}

/// What a backend received on its connections: `METHOD path|framing headers|body`, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn next_head(call: &mut Call) -> io::Result<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if call.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            return Ok(head);
        }
        head.push_str(&line);
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A backend that parses each request strictly, responds, and keeps its connection: a stray byte becomes a request.
fn strict() -> (Upstream, Log) {
    let log = Log::default();
    let seen = log.clone();
    let upstream = Upstream::start(move |mut call| {
        loop {
            let body = call.body()?;
            let line = call.head.lines().next().unwrap_or_default().to_owned();
            let line = line.trim_end_matches(" HTTP/1.1");
            let framing = match (
                field(&call.head, "content-length"),
                field(&call.head, "transfer-encoding"),
            ) {
                (Some(length), None) => format!("length {length}"),
                (None, Some(coding)) => coding.to_owned(),
                (None, None) => "none".to_owned(),
                (Some(_), Some(_)) => "both".to_owned(),
            };
            let body = String::from_utf8_lossy(&body);
            seen.lock()
                .unwrap()
                .push(format!("{line}|{framing}|{body}"));
            call.send(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            )?;
            call.head = next_head(&mut call)?;
        }
    });
    (upstream, log)
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn upload(fields: &str) -> String {
    format!("POST /n HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[test]
fn a_chunked_upload_ends_once_however_its_end_arrives() {
    let (backend, log) = strict();
    let gateway = start(&backend);
    let mut client = gateway.client();
    for trailer in ["", "X-Sum: 1\r\n"] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n");
        for cut in 0..=body.len() {
            let (first, last) = body.split_at(cut);
            client.send(upload(CHUNKED) + first).unwrap();
            if !last.is_empty() {
                pause(Duration::from_millis(8));
                client.send(last).unwrap();
            }
            assert_eq!(client.response("POST").unwrap().status, 200, "cut at {cut}");
            client.send(request("GET", "/n", &[])).unwrap();
            assert_eq!(
                client.response("GET").unwrap().status,
                200,
                "after a cut at {cut}"
            );
            let seen = taken(&log);
            assert_eq!(
                seen,
                ["POST /n|chunked|hello", "GET /n|none|"],
                "cut at {cut}"
            );
        }
    }
    assert_eq!(backend.calls(), 1, "one connection served all of them");
}

#[test]
fn a_chunked_upload_without_a_byte_ends_once() {
    let (backend, log) = strict();
    let gateway = start(&backend);
    let mut client = gateway.client();
    client.send(upload(CHUNKED) + "0\r\n").unwrap();
    pause(Duration::from_millis(30));
    client.send("\r\n").unwrap();
    assert_eq!(client.response("POST").unwrap().status, 200);
    client.send(request("GET", "/n", &[])).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    assert_eq!(taken(&log), ["POST /n|chunked|", "GET /n|none|"]);
}

#[test]
fn a_body_of_known_length_is_sent_with_its_length() {
    let (backend, log) = strict();
    let gateway = start(&backend);
    for path in ["/c", "/n"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            let mut client = gateway.client();
            client
                .send(format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{{\"a\":1}}"
                ))
                .unwrap();
            assert_eq!(client.response(method).unwrap().status, 200);
            assert_eq!(
                taken(&log),
                [format!("{method} {path}|length 7|{{\"a\":1}}")]
            );
        }
    }
    // A composed endpoint has the complete body, however it arrived.
    let chunks = "7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let response = gateway.send(
        "POST",
        format!("POST /c HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n{chunks}"),
    );
    assert_eq!(response.status, 200);
    assert_eq!(taken(&log), ["POST /c|length 7|{\"a\":1}"]);
}

/// Waits until the gateway's log has `count` lines with `text`, without those of the access log, which has its own
/// writer thread.
fn logs(gateway: &Gateway, text: &str, count: usize) {
    let limit = Duration::from_secs(30);
    let found = || {
        let output = gateway.output();
        let lines = output.lines().filter(|line| line.contains('▶'));
        lines.filter(|line| line.contains(text)).count()
    };
    eventually(text, limit, || found() == count);
}

/// What both kinds of endpoint make of `answer`, each with one log line with `text`. No connection of the backend is
/// used again.
fn through(response: &str, text: &str) -> [Response; 2] {
    ["/c", "/n"].map(|path| {
        let response = response.to_owned();
        let backend = Upstream::start(move |mut call| {
            loop {
                call.send(&response)?;
                call.head = next_head(&mut call)?;
            }
        });
        let gateway = start(&backend);
        let got = gateway.get(path);
        pause(Duration::from_millis(20));
        gateway.get(path);
        assert_eq!(backend.calls(), 2, "{}", gateway.output());
        logs(&gateway, text, 2);
        logs(&gateway, "WARN", 2);
        got
    })
}

fn json_head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n\r\n")
}

#[test]
fn an_upload_of_known_length_reaches_its_backend_piece_by_piece() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let backend = Upstream::start(move |mut call| {
        let mut byte = [0];
        for _ in 0..3 {
            call.reader.read_exact(&mut byte)?;
            log.lock().unwrap().push(byte[0]);
        }
        call.send(json_head("Content-Length: 2") + "{}")?;
        call.head = next_head(&mut call)?;
        call.send(json_head("Content-Length: 2") + "{}")
    });
    let gateway = start(&backend);
    let mut client = gateway.client();
    client.send(upload("Content-Length: 3") + "a").unwrap();
    for (count, piece) in [(1, "b"), (2, "c")] {
        eventually(
            "the backend sees each piece",
            Duration::from_secs(15),
            || seen.lock().unwrap().len() == count,
        );
        client.send(piece).unwrap();
    }
    assert_eq!(client.response("POST").unwrap().status, 200);
    client.send(request("GET", "/n", &[])).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    assert_eq!(backend.calls(), 1, "the connection is kept");
}

#[test]
fn a_response_of_known_length_reaches_its_client_piece_by_piece() {
    let (turn, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Upstream::start(move |mut call| {
        call.send(json_head("Content-Length: 3"))?;
        for piece in ["a", "b", "c"] {
            // Not sent before the client has seen this part: a gateway that collects the body would hang here.
            wait.lock().unwrap().recv().ok();
            call.send(piece)?;
        }
        Ok(())
    });
    let gateway = start(&backend);
    let mut client = gateway.client().timeout(Duration::from_secs(15));
    client.send(request("GET", "/n", &[])).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    for piece in [b"a", b"b", b"c"] {
        turn.send(()).unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, piece);
    }
}

#[test]
fn a_body_that_a_script_empties_or_replaces_has_the_length_that_it_has() {
    let (backend, log) = strict();
    for (body, framing) in [("", "length 0"), ("longer than it was", "length 18")] {
        let script = format!("local r = request.load(); r:body('{body}')");
        let mut file = config(&backend.url());
        for endpoint in file["endpoints"].as_array_mut().unwrap() {
            let script = json!({ "pre": script });
            endpoint["backend"][0]["extra_config"] = json!({ "modifier/lua-backend": script });
        }
        let gateway = Gateway::start(&file.to_string());
        for path in ["/c", "/n"] {
            let sent = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            assert_eq!(
                gateway.send("POST", sent).status,
                200,
                "{}",
                gateway.output()
            );
            assert_eq!(taken(&log), [format!("POST {path}|{framing}|{body}")]);
        }
    }
}
