//! WebSocket through the gateway, with both ends written by hand (RFC 6455).

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use crate::support::http::request;
use crate::support::upstream::Call;
use crate::support::{Client, Gateway, Response, Signer, Upstream, eventually, pause, tokens};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(Sha1::digest(text.as_bytes()))
}

/// A frame as a client sends it: masked.
fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    let hidden = payload.iter().zip(mask.iter().cycle()).map(|(p, m)| p ^ m);
    let head = [kind, 0x80 | length];
    head.into_iter().chain(mask).chain(hidden).collect()
}

/// A frame as a server sends it.
fn bare(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).unwrap()], payload].concat()
}

fn unmask(mut read: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    read(&mut head)?;
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        read(&mut mask)?;
    }
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    read(&mut payload)?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((head[0], payload))
}

/// Sends a greeting, echoes texts, and responds to a close with a close.
fn echo(mut call: Call) -> io::Result<()> {
    let head = call.head.to_lowercase();
    assert!(head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("connection: upgrade"), "{head}");
    let key = call.head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim().to_owned())
    });
    let key = key.expect("a key");
    call.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        accept(&key)
    ))?;
    call.send(bare(TEXT, b"hello"))?;
    loop {
        let (kind, payload) = unmask(|buffer| call.reader.read_exact(buffer))?;
        call.send(bare(kind, &payload))?;
        if kind == CLOSE {
            return Ok(());
        }
    }
}

fn endpoint(path: &str, upstream: &Upstream, stream: Value) -> Value {
    json!({
        "endpoint": path, "output_encoding": "no-op", "timeout": "20s", "input_headers": ["X-Seen"],
        "backend": [{ "host": [upstream.url()], "url_pattern": path }],
        "extra_config": { "portcullis/stream": stream }
    })
}

fn gateway(endpoints: &[Value], idle: &str, files: &[(&str, &str)]) -> Gateway {
    let file = json!({ "version": 3, "endpoints": endpoints,
        "extra_config": { "portcullis/stream": { "idle_timeout": idle } } });
    Gateway::start_with(&file.to_string(), files)
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
];

/// Requests a WebSocket. Returns the connection and the head of the response.
fn open(gateway: &Gateway, path: &str, more: &[(&str, &str)]) -> (Client, Response) {
    let mut client = gateway.client();
    let fields = [&HANDSHAKE[..], more].concat();
    client.send(request("GET", path, &fields)).unwrap();
    let head = client.head().unwrap();
    (client, head)
}

fn receive(client: &mut Client) -> io::Result<(u8, Vec<u8>)> {
    unmask(|buffer| client.read_exact(buffer))
}

#[test]
fn frames_pass_both_ways_until_one_side_closes() {
    let upstream = Upstream::start(echo);
    let gateway = gateway(
        &[endpoint("/ws", &upstream, json!({ "upgrade": true }))],
        "60s",
        &[],
    );
    let more = [
        ("Sec-WebSocket-Protocol", "chat"),
        ("X-Seen", "1"),
        ("X-Hidden", "1"),
    ];
    let (mut client, head) = open(&gateway, "/ws?q=1", &more);
    assert_eq!(head.status, 101, "{}", gateway.output());
    assert_eq!(head.header("sec-websocket-accept"), Some(&*accept(KEY)));
    assert_eq!(head.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(receive(&mut client).unwrap(), (TEXT, b"hello".to_vec()));
    for text in ["one", "two", "three"] {
        client.send(masked(TEXT, text.as_bytes())).unwrap();
        assert_eq!(receive(&mut client).unwrap(), (TEXT, text.into()));
    }
    client.send(masked(CLOSE, &[3, 232])).unwrap();
    assert_eq!(receive(&mut client).unwrap(), (CLOSE, vec![3, 232]));
    assert!(client.is_closed_by_peer());
    let heads = upstream.heads();
    let sent = heads.last().unwrap().to_lowercase();
    assert!(
        sent.contains("x-seen: 1") && !sent.contains("x-hidden"),
        "{sent}"
    );
    assert!(sent.contains("sec-websocket-protocol: chat"), "{sent}");
    eventually("the access log has it", Duration::from_secs(30), || {
        gateway.output().contains("| 101 |")
    });
}

#[test]
fn the_token_is_checked_at_the_handshake() {
    let upstream = Upstream::start(echo);
    let signer = Signer::rs256("k");
    let mut guarded = endpoint("/ws", &upstream, json!({ "upgrade": true }));
    guarded["extra_config"]["auth/validator"] =
        json!({ "alg": "RS256", "jwk_local_path": "jwks.json", "disable_jwk_security": true });
    let gateway = gateway(&[guarded], "60s", &[("jwks.json", &signer.jwks())]);
    let (_, rejected) = open(&gateway, "/ws", &[]);
    assert_eq!((rejected.status, upstream.calls()), (401, 0));
    let bearer = format!(
        "Bearer {}",
        signer.token(&json!({ "exp": tokens::now() + 600 }))
    );
    let (mut client, head) = open(&gateway, "/ws", &[("Authorization", &bearer)]);
    assert_eq!(head.status, 101);
    assert_eq!(receive(&mut client).unwrap().1, b"hello");
}

#[test]
fn an_expired_token_ends_the_connection_where_the_file_says_so() {
    let upstream = Upstream::start(echo);
    let signer = Signer::rs256("k");
    let guarded = |path: &str, stream: Value| {
        let mut guarded = endpoint(path, &upstream, stream);
        guarded["extra_config"]["auth/validator"] =
            json!({ "alg": "RS256", "jwk_local_path": "jwks.json", "disable_jwk_security": true });
        guarded
    };
    let ends = guarded("/ends", json!({ "upgrade": true, "until_expiry": true }));
    let lasts = guarded("/lasts", json!({ "upgrade": true }));
    let gateway = gateway(&[ends, lasts], "60s", &[("jwks.json", &signer.jwks())]);
    let bearer = format!(
        "Bearer {}",
        signer.token(&json!({ "exp": tokens::now() + 10 }))
    );
    let (mut ends, head) = open(&gateway, "/ends", &[("Authorization", &bearer)]);
    assert_eq!(head.status, 101);
    let (mut lasts, head) = open(&gateway, "/lasts", &[("Authorization", &bearer)]);
    assert_eq!(head.status, 101);
    assert_eq!(receive(&mut ends).unwrap().1, b"hello");
    assert_eq!(receive(&mut lasts).unwrap().1, b"hello");
    assert!(ends.is_closed_by_peer());
    lasts.send(masked(TEXT, b"still")).unwrap();
    assert_eq!(receive(&mut lasts).unwrap().1, b"still");
}

#[test]
fn a_tunnel_ends_only_if_both_sides_are_silent() {
    let upstream = Upstream::start(|mut call| {
        call.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )?;
        // Listens and sends nothing.
        io::copy(&mut call.reader, &mut io::sink()).map(|_| ())
    });
    let gateway = gateway(
        &[endpoint("/ws", &upstream, json!({ "upgrade": true }))],
        "4s",
        &[],
    );
    let (mut client, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 101);
    // Together longer than the timeout, and each pause much shorter.
    let mut last = Instant::now();
    for _ in 0..5 {
        pause(Duration::from_secs(1));
        last = Instant::now();
        client.send(masked(TEXT, b"tick")).unwrap();
    }
    assert!(client.is_closed_by_peer());
    let took = last.elapsed();
    assert!(
        took > Duration::from_millis(3700),
        "cut while the client talked: {took:?}"
    );
}

#[test]
fn a_tunnel_may_be_quiet_for_longer_than_the_endpoints_timeout() {
    let upstream = Upstream::start(echo);
    let mut patient = endpoint("/ws", &upstream, json!({ "upgrade": true }));
    patient["timeout"] = json!("4s");
    let gateway = gateway(&[patient], "60s", &[]);
    let (mut client, _) = open(&gateway, "/ws", &[]);
    assert_eq!(receive(&mut client).unwrap().1, b"hello");
    pause(Duration::from_secs(5));
    client.send(masked(TEXT, b"late")).unwrap();
    assert_eq!(receive(&mut client).unwrap().1, b"late");
}

#[test]
fn a_handshake_without_a_response_ends_at_the_timeout() {
    let upstream = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(60));
        Ok(())
    });
    let mut short = endpoint("/ws", &upstream, json!({ "upgrade": true }));
    short["timeout"] = json!("500ms");
    let gateway = gateway(&[short], "60s", &[]);
    let start = Instant::now();
    let (_, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 500);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn connections_are_counted_and_given_back() {
    let upstream = Upstream::start(echo);
    let rules = json!({ "upgrade": true, "connections": 2 });
    let gateway = gateway(&[endpoint("/ws", &upstream, rules)], "60s", &[]);
    let (first, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 101);
    let (_second, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 101);
    let (_, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 503);
    drop(first);
    eventually("the place is free again", Duration::from_secs(30), || {
        open(&gateway, "/ws", &[]).1.status == 101
    });
}

#[test]
fn pages_of_other_origins_are_rejected() {
    let upstream = Upstream::start(echo);
    let rules = json!({ "upgrade": true, "origins": ["https://app.example.com"] });
    let open_to_all = endpoint("/any", &upstream, json!({ "upgrade": true }));
    let gateway = gateway(
        &[endpoint("/ws", &upstream, rules), open_to_all],
        "60s",
        &[],
    );
    let status = |path: &str, origin: Option<&str>| {
        let origin = origin.map(|origin| ("Origin", origin));
        open(&gateway, path, origin.as_slice()).1.status
    };
    assert_eq!(status("/ws", Some("https://app.example.com")), 101);
    assert_eq!(status("/ws", Some("https://evil.example.com")), 403);
    assert_eq!(status("/ws", Some("null")), 403);
    assert_eq!(status("/ws", None), 101, "no browser");
    assert_eq!(status("/any", Some("https://evil.example.com")), 101);
}

#[test]
fn upgrades_are_not_forwarded_by_default() {
    let switching = || {
        Upstream::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nsecret",
        )
    };
    let plain = Upstream::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (unasked, wanted) = (switching(), switching());
    let mut closed = endpoint("/closed", &plain, json!({}));
    closed["input_headers"] = json!(["*"]);
    let gateway = gateway(
        &[
            closed,
            endpoint("/unasked", &unasked, json!({})),
            endpoint("/wanted", &wanted, json!({ "upgrade": true })),
            endpoint("/declined", &plain, json!({ "upgrade": true })),
        ],
        "60s",
        &[],
    );
    // The request is passed on like any other, without the upgrade.
    let (mut client, head) = open(&gateway, "/closed", &[]);
    assert_eq!(head.status, 200);
    assert_eq!(client.body(&head, "GET").unwrap(), b"ok");
    let sent = plain.heads().pop().unwrap().to_lowercase();
    assert!(!sent.contains("upgrade"), "{sent}");
    // A backend that switches protocols without a request for it fails, whatever the client requested.
    for (mut client, head) in [open(&gateway, "/unasked", &[]), {
        let mut client = gateway.client();
        client.send(request("GET", "/wanted", &[])).unwrap();
        let head = client.head().unwrap();
        (client, head)
    }] {
        assert!(head.status >= 500, "{}", head.status);
        let body = client.body(&head, "GET").unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
    // Only WebSocket is switched to, and no other protocol.
    let mut client = gateway.client();
    let fields = [("Connection", "Upgrade"), ("Upgrade", "foo")];
    client.send(request("GET", "/declined", &fields)).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    // The response of a backend that declines is passed on.
    let (mut client, head) = open(&gateway, "/declined", &[]);
    assert_eq!(head.status, 200);
    assert_eq!(client.body(&head, "GET").unwrap(), b"ok");
}

#[test]
fn the_response_of_a_backend_that_declines_passes_piece_by_piece() {
    let seen = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&seen);
    let upstream = Upstream::start(move |mut call| {
        call.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nhello")?;
        eventually("the client has the head", Duration::from_secs(30), || {
            waits.load(Ordering::SeqCst)
        });
        call.send("world")
    });
    let gateway = gateway(
        &[endpoint("/ws", &upstream, json!({ "upgrade": true }))],
        "60s",
        &[],
    );
    let (mut client, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 403);
    seen.store(true, Ordering::SeqCst);
    assert_eq!(client.body(&head, "GET").unwrap(), b"helloworld");
}

#[test]
fn a_declined_handshake_without_data_is_silent_whatever_trickles() {
    for (start, drop) in [("2;", "a"), ("2\r\n{}\r\n0\r\n", "X-A: a\r\n")] {
        let upstream = Upstream::start(move |mut call| {
            call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            call.send(start)?;
            loop {
                pause(Duration::from_millis(100));
                call.send(drop)?;
            }
        });
        let gateway = gateway(
            &[endpoint("/ws", &upstream, json!({ "upgrade": true }))],
            "1s",
            &[],
        );
        let (client, head) = open(&gateway, "/ws", &[]);
        assert_eq!(head.status, 200);
        let mut client = client.timeout(Duration::from_secs(30));
        assert!(client.body(&head, "GET").is_err());
        assert!(client.is_closed_by_peer(), "{start}");
    }
}

/// The silence of a response may last as long as that of a stream, and `connections` limits both.
#[test]
fn a_client_that_leaves_a_declined_handshake_gives_its_place_back() {
    let left = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&left);
    let upstream = Upstream::start(move |mut call| {
        call.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nhello")?;
        seen.store(
            call.sees_hang_up(Duration::from_secs(120)),
            Ordering::SeqCst,
        );
        Ok(())
    });
    let gateway = gateway(
        &[endpoint("/ws", &upstream, json!({ "upgrade": true }))],
        "120s",
        &[],
    );
    let (mut client, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 403);
    // It is discarded.
    client.send(masked(TEXT, b"early")).unwrap();
    drop(client);
    eventually("the call has ended", Duration::from_secs(30), || {
        left.load(Ordering::SeqCst)
    });
}

#[test]
fn a_tunnel_ends_with_the_process_that_stops() {
    let upstream = Upstream::start(echo);
    let mut file = json!({ "version": 3, "max_shutdown_wait_time": "5s",
        "endpoints": [endpoint("/ws", &upstream, json!({ "upgrade": true }))] });
    file["extra_config"] = json!({ "portcullis/stream": { "idle_timeout": "60s" } });
    let gateway = Gateway::start(&file.to_string());
    let (mut client, head) = open(&gateway, "/ws", &[]);
    assert_eq!(head.status, 101);
    assert_eq!(receive(&mut client).unwrap().1, b"hello");
    gateway.signal("TERM");
    client.send(masked(TEXT, b"last")).unwrap();
    assert_eq!(receive(&mut client).unwrap().1, b"last");
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success());
    assert!(client.is_closed_by_peer());
}

/// RFC 6455 §4.2.1 requires it. Without it, a proxy in front would not know that the connection is a tunnel.
#[test]
fn an_upgrade_that_connection_does_not_name_opens_no_tunnel() {
    let upstream = Upstream::start(echo);
    let plain =
        Upstream::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let host = upstream.url().replace("http://", "ws://");
    let block = json!({ "endpoint": "/block", "extra_config": { "websocket": { "enable_direct_communication": true } },
        "backend": [{ "host": [host], "url_pattern": "/ws", "disable_host_sanitize": true }] });
    let endpoints = [
        endpoint("/ws", &upstream, json!({ "upgrade": true })),
        endpoint("/plain", &plain, json!({ "upgrade": true })),
        block,
    ];
    let gateway = gateway(&endpoints, "60s", &[]);
    let ask = |path: &str, connection: &[&str]| {
        let mut fields = HANDSHAKE[1..].to_vec();
        fields.extend(connection.iter().map(|value| ("Connection", *value)));
        let mut client = gateway.client();
        client.send(request("GET", path, &fields)).unwrap();
        client.head().unwrap().status
    };
    for connection in [&[][..], &["keep-alive"], &["close, upgrades"]] {
        assert_eq!(ask("/block", connection), 426, "{connection:?}");
        assert_eq!(ask("/plain", connection), 200, "{connection:?}");
    }
    let sent = plain.heads().join("\n").to_lowercase();
    assert!(!sent.contains("upgrade"), "{sent}");
    for path in ["/ws", "/block"] {
        assert_eq!(ask(path, &["keep-alive", "x,UPGRADE"]), 101, "{path}");
    }
}
