//! Hostile frames: HTTP/2 by hand, with prior knowledge on a listener without TLS.

mod errors;
mod floods;
mod goodbye;
mod memory;
mod suite;
mod windows;

use std::io::{self, BufRead as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::tls::Authority;
use crate::support::{Client, Gateway, Stub, Upstream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;

const HEADERS: u8 = 1;

const RST_STREAM: u8 = 3;

const SETTINGS: u8 = 4;

const PING: u8 = 6;

const GOAWAY: u8 = 7;

const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;

const END_HEADERS: u8 = 4;

const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of literal headers without table and Huffman coding, so that the test controls every byte.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |s: &str| [&[u8::try_from(s.len()).unwrap()], s.as_bytes()].concat();
    fields
        .iter()
        .flat_map(|(n, v)| [vec![0], text(n), text(v)].concat())
        .collect()
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/get"),
    (":authority", "a"),
];

const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/post"),
    (":authority", "a"),
];

fn with(base: &[(&'static str, &'static str)], more: (&'static str, &'static str)) -> Vec<u8> {
    block(&[base, &[more]].concat())
}

struct Connection(Client);

impl Connection {
    fn open(gateway: &Gateway) -> Self {
        let mut client = gateway.client();
        client
            .send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
            .unwrap();
        Self(client)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.0.send(frame(kind, flags, stream, payload))
    }

    fn next(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok((head[3], head[4], stream, payload))
    }

    /// The end of a stream.
    fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            match self.next() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Outcome::Silence,
                Err(_) => return Outcome::Closed,
                Ok((HEADERS, _, s, payload)) if s == stream => {
                    // The status comes first; the static table has an entry for the usual ones.
                    let first = payload.iter().find(|b| **b & 0xe0 != 0x20);
                    return if first == Some(&0x88) {
                        Outcome::Ok
                    } else {
                        Outcome::OtherStatus
                    };
                }
                Ok((RST_STREAM, _, s, _)) if s == stream => return Outcome::Reset,
                Ok((GOAWAY, ..)) => return Outcome::Closed,
                Ok((SETTINGS, flags, ..)) if flags & ACK == 0 => {
                    let _ = self.send(SETTINGS, ACK, 0, &[]);
                }
                Ok(_) => {}
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Ok,
    OtherStatus,
    Reset,
    Closed,
    Silence,
}

fn start() -> (Stub, Gateway) {
    let stub = stub();
    let mut file = file(&stub);
    file["use_h2c"] = json!(true);
    let gateway = Gateway::start(&file.to_string());
    (stub, gateway)
}

fn start_tls() -> (Stub, Gateway) {
    let stub = stub();
    let mut file = file(&stub);
    file["tls"] = json!({ "keys": [{ "public_key": "a.crt", "private_key": "a.key" }] });
    let (certificate, key) = Authority::new().pair("localhost");
    let pair = [("a.crt", &*certificate), ("a.key", &*key)];
    let gateway = Gateway::start_with(&file.to_string(), &pair);
    (stub, gateway)
}

fn stub() -> Stub {
    Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#)
}

fn file(stub: &Stub) -> Value {
    let to = |path: &str, method: &str| {
        json!({
            "endpoint": path, "method": method, "input_headers": ["*"], "timeout": "5s",
            "backend": [{ "host": [stub.url()], "url_pattern": path, "method": method }]
        })
    };
    // The suite sends POST to the path of its GETs: only an endpoint that reads bodies can check them first.
    json!({
        "version": 3, "endpoints": [to("/get", "GET"), to("/get", "POST"), to("/post", "POST")]
    })
}

fn serves(gateway: &Gateway) -> bool {
    let mut connection = Connection::open(gateway);
    connection
        .send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&GET))
        .unwrap();
    connection.outcome(1) == Outcome::Ok
}

#[test]
fn a_clean_request_is_served() {
    let (stub, gateway) = start();
    assert!(serves(&gateway), "{}", gateway.output());
    let mut connection = Connection::open(&gateway);
    connection
        .send(
            HEADERS,
            END_HEADERS,
            1,
            &with(&POST, ("content-length", "2")),
        )
        .unwrap();
    connection.send(DATA, END_STREAM, 1, b"{}").unwrap();
    assert_eq!(connection.outcome(1), Outcome::Ok);
    assert_eq!(stub.take_seen().len(), 2);
}

/// A backend that reads each request strictly: a stray byte becomes a separate request.
fn strict() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    let upstream = Upstream::start(move |mut call| {
        loop {
            let body = call.body()?;
            let line = call.head.lines().next().unwrap_or_default();
            let cookies = call.head.lines().filter(|l| l.starts_with("Cookie"));
            let cookies: Vec<&str> = cookies.collect();
            let body = String::from_utf8_lossy(&body);
            let told = format!("{line}|{}|{body}", cookies.join("|"));
            seen.lock().unwrap().push(told);
            call.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
            call.head.clear();
            while !call.head.ends_with("\r\n\r\n") {
                if call.reader.read_line(&mut call.head)? == 0 {
                    return Ok(());
                }
            }
        }
    });
    (upstream, log)
}

fn over_h2c(backend: &Upstream, methods: &[&str], encoding: &str) -> Gateway {
    let endpoint = |method: &&str| {
        json!({
            "endpoint": "/get", "method": method, "input_headers": ["Cookie"], "output_encoding": encoding,
            "backend": [{ "host": [backend.url()], "url_pattern": "/x", "method": method }]
        })
    };
    let endpoints: Vec<Value> = methods.iter().map(endpoint).collect();
    let file = json!({ "version": 3, "use_h2c": true, "timeout": "5s", "endpoints": endpoints });
    Gateway::start(&file.to_string())
}

#[test]
fn an_upload_ends_once_however_its_stream_ends() {
    let (backend, log) = strict();
    let gateway = over_h2c(&backend, &["GET", "POST"], "no-op");
    let mut fields = POST;
    fields[2] = (":path", "/get");
    let trailer = block(&[("x-sum", "1")]);
    let (empty, last): (&[u8], u8) = (b"", END_STREAM);
    let endings: [&[(u8, u8, &[u8])]; 6] = [
        &[(DATA, 0, b"hello"), (DATA, last, empty)],
        &[(DATA, last, b"hello")],
        &[
            (DATA, 0, empty),
            (DATA, 0, b"he"),
            (DATA, 0, empty),
            (DATA, 0, b"llo"),
            (DATA, last, empty),
        ],
        &[(DATA, 0, b"hello"), (HEADERS, END_HEADERS | last, &trailer)],
        &[
            (DATA, 0, b"hello"),
            (DATA, 0, empty),
            (HEADERS, END_HEADERS | last, &trailer),
        ],
        &[(DATA, last, empty)],
    ];
    let mut connection = Connection::open(&gateway);
    let mut stream = 1;
    for ending in endings {
        connection
            .send(HEADERS, END_HEADERS, stream, &block(&fields))
            .unwrap();
        for (kind, flags, payload) in ending {
            // Each in its own segment.
            crate::support::pause(Duration::from_millis(10));
            connection.send(*kind, *flags, stream, payload).unwrap();
        }
        assert_eq!(connection.outcome(stream), Outcome::Ok, "{ending:?}");
        let get = HEADERS;
        connection
            .send(get, END_HEADERS | END_STREAM, stream + 2, &block(&GET))
            .unwrap();
        assert_eq!(connection.outcome(stream + 2), Outcome::Ok, "{ending:?}");
        stream += 4;
        let body = if ending.len() == 1 && ending[0].2.is_empty() {
            ""
        } else {
            "hello"
        };
        let seen = std::mem::take(&mut *log.lock().unwrap());
        let post = format!("POST /x HTTP/1.1||{body}");
        assert_eq!(seen, [post.as_str(), "GET /x HTTP/1.1||"], "{ending:?}");
    }
    crate::support::pause(Duration::from_millis(50));
    let stray = std::mem::take(&mut *log.lock().unwrap());
    assert!(stray.is_empty(), "{stray:?}");
}

#[test]
fn crumbs_of_a_cookie_reach_a_backend_as_one_field() {
    let (backend, log) = strict();
    for encoding in ["no-op", "json"] {
        let gateway = over_h2c(&backend, &["GET"], encoding);
        let crumbs = [
            ("cookie", "sid=42"),
            ("cookie", "csrf=a,b"),
            ("cookie", "t=1"),
        ];
        let fields = block(&[&GET[..], &crumbs].concat());
        let mut connection = Connection::open(&gateway);
        connection
            .send(HEADERS, END_HEADERS | END_STREAM, 1, &fields)
            .unwrap();
        assert_eq!(connection.outcome(1), Outcome::Ok);
        let seen = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(seen, ["GET /x HTTP/1.1|Cookie: sid=42; csrf=a,b; t=1|"]);
    }
}

#[test]
fn bytes_after_a_response_do_not_reset_its_stream() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    let backend = Upstream::raw(format!("{head}{{}}HTTP/1.1 200 OK\r\n\r\n"));
    for encoding in ["no-op", "json"] {
        let gateway = over_h2c(&backend, &["GET"], encoding);
        let mut connection = Connection::open(&gateway);
        connection
            .send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&GET))
            .unwrap();
        assert_eq!(connection.outcome(1), Outcome::Ok);
        let mut body = Vec::new();
        loop {
            let (kind, flags, _, payload) = connection.next().unwrap();
            assert_ne!(kind, RST_STREAM);
            if kind == DATA {
                body.extend(payload);
                if flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        assert_eq!(body, b"{}", "{encoding}");
    }
}

#[test]
fn headers_that_are_not_allowed_in_http2_are_rejected() {
    let (stub, gateway) = start();
    let pseudo = |fields: &[(&str, &str)]| block(fields);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an upper-case name", with(&GET, ("X-Upper", "1"))),
        ("CR LF in a value", with(&GET, ("x-a", "1\r\nx-b: 2"))),
        ("NUL in a value", with(&GET, ("x-a", "1\x002"))),
        ("a blank in a name", with(&GET, ("x a", "1"))),
        (
            "transfer-encoding",
            with(&GET, ("transfer-encoding", "chunked")),
        ),
        ("connection", with(&GET, ("connection", "x-a"))),
        ("upgrade", with(&GET, ("upgrade", "h2c"))),
        ("te other than trailers", with(&GET, ("te", "gzip"))),
        ("an unknown pseudo-header", with(&GET, (":admin", "1"))),
        (
            "a pseudo-header after a field",
            pseudo(&[GET[0], GET[1], GET[3], ("x-a", "1"), GET[2]]),
        ),
        ("two paths", with(&GET, (":path", "/post"))),
        ("no path", pseudo(&[GET[0], GET[1], GET[3]])),
        (
            "an empty path",
            pseudo(&[GET[0], GET[1], (":path", ""), GET[3]]),
        ),
        ("no method", pseudo(&[GET[1], GET[2], GET[3]])),
        ("another host", with(&GET, ("host", "b"))),
        (
            "a blank in the path",
            pseudo(&[GET[0], GET[1], (":path", "/get x"), GET[3]]),
        ),
        (
            "a request line in the path",
            pseudo(&[GET[0], GET[1], (":path", "/get HTTP/1.1\r\nx: 1"), GET[3]]),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, fields) in &cases {
        let mut connection = Connection::open(&gateway);
        let _ = connection.send(HEADERS, END_STREAM | END_HEADERS, 1, fields);
        let outcome = connection.outcome(1);
        let seen = stub.take_seen().len();
        if matches!(outcome, Outcome::Ok | Outcome::Silence) || seen > 0 {
            wrong.push(format!("{what}: {outcome:?}, {seen} forwarded"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(serves(&gateway));
}

#[test]
fn a_body_of_another_length_than_announced_is_rejected() {
    let (stub, gateway) = start();
    for (length, body) in [("5", "{}"), ("1", "{}")] {
        let mut connection = Connection::open(&gateway);
        connection
            .send(
                HEADERS,
                END_HEADERS,
                1,
                &with(&POST, ("content-length", length)),
            )
            .unwrap();
        connection
            .send(DATA, END_STREAM, 1, body.as_bytes())
            .unwrap();
        assert_ne!(connection.outcome(1), Outcome::Ok, "{length} for {body}");
        assert_eq!(stub.take_seen().len(), 0, "{length} for {body}");
    }
}
