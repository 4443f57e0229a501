//! The `websocket` block of an endpoint, with both ends written by hand (RFC 6455).

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::http::request;
use crate::support::ports;
use crate::support::{Client, Gateway, Response, Upstream};

/// Accepts, sends `hello`, and echoes frames of up to 65,535 bytes until it gets a close frame.
fn chat() -> Upstream {
    Upstream::start(|mut call| {
        call.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")?;
        call.send(b"\x81\x05hello")?;
        loop {
            let mut head = [0; 2];
            call.reader.read_exact(&mut head)?;
            let mut length = usize::from(head[1] & 0x7f);
            if length == 126 {
                let mut more = [0; 2];
                call.reader.read_exact(&mut more)?;
                length = usize::from(u16::from_be_bytes(more));
            }
            let mut rest = vec![0; 4 + length];
            call.reader.read_exact(&mut rest)?;
            let payload: Vec<u8> = rest[4..]
                .iter()
                .zip(rest[..4].iter().cycle())
                .map(|(p, m)| p ^ m)
                .collect();
            if payload == b"bye" {
                return Ok(());
            }
            call.send(
                [
                    &[head[0], u8::try_from(length.min(125)).unwrap()],
                    &payload[..length.min(125)],
                ]
                .concat(),
            )?;
        }
    })
}

fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let head = match length {
        0..=125 => vec![kind, 0x80 | length as u8],
        _ => [&[kind, 0x80 | 126][..], &length.to_be_bytes()].concat(),
    };
    // A mask of zeros changes nothing.
    [&head[..], &[0; 4], payload].concat()
}

fn file(upstream: &Upstream, block: Value) -> Value {
    let host = upstream.url().replace("http://", "ws://");
    json!({ "version": 3, "endpoints": [{
        "endpoint": "/ws/{room}", "input_query_strings": ["*"],
        "backend": [{ "host": [host], "url_pattern": "/chat/{room}", "disable_host_sanitize": true }],
        "extra_config": { "websocket": block }
    }]})
}

fn gateway(upstream: &Upstream, block: Value) -> Gateway {
    Gateway::start(&file(upstream, block).to_string())
}

fn open(gateway: &Gateway, more: &[(&str, &str)]) -> (Client, Response) {
    let handshake = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut client = gateway.client();
    client
        .send(request(
            "GET",
            "/ws/a?q=1",
            &[&handshake[..], more].concat(),
        ))
        .unwrap();
    let response = client.head().unwrap();
    (client, response)
}

fn receive(client: &mut Client) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    client.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

#[test]
fn a_file_of_the_enterprise_edition_runs_unchanged() {
    let upstream = chat();
    let gateway = gateway(
        &upstream,
        json!({
            "enable_direct_communication": true, "input_headers": ["X-Token"], "ping_period": "54s", "pong_wait": "60s"
        }),
    );
    let (mut client, response) = open(
        &gateway,
        &[
            ("X-Token", "t"),
            ("X-Other", "o"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ],
    );
    assert_eq!(
        (response.status, response.header("upgrade")),
        (101, Some("websocket"))
    );
    assert_eq!(receive(&mut client), (0x81, b"hello".to_vec()));
    client.send(masked(0x81, b"a message")).unwrap();
    assert_eq!(receive(&mut client), (0x81, b"a message".to_vec()));
    let head = upstream.heads()[0].to_lowercase();
    assert!(head.starts_with("get /chat/a?q=1 "), "{head}");
    assert!(
        head.contains("x-token: t") && !head.contains("x-other"),
        "{head}"
    );
    assert!(head.contains("permessage-deflate"), "{head}");
    let plain = gateway.get("/ws/a");
    assert_eq!(
        (plain.status, plain.header("upgrade")),
        (426, Some("websocket"))
    );
    assert_eq!(upstream.calls(), 1);
}

#[test]
fn a_large_message_ends_the_connection_with_a_reason() {
    let upstream = chat();
    let gateway = gateway(
        &upstream,
        json!({ "enable_direct_communication": true, "max_message_size": 200 }),
    );
    let (mut client, _) = open(
        &gateway,
        &[("Sec-WebSocket-Extensions", "permessage-deflate")],
    );
    assert!(!upstream.heads()[0].to_lowercase().contains("deflate"));
    receive(&mut client);
    client.send(masked(0x81, &[b'a'; 200])).unwrap();
    assert_eq!(receive(&mut client).1.len(), 125);
    // Two frames of one message.
    client
        .send([masked(0x01, &[b'a'; 100]), masked(0x80, &[b'a'; 101])].concat())
        .unwrap();
    assert_eq!(
        receive(&mut client),
        (0x88, 1009_u16.to_be_bytes().to_vec())
    );
    assert!(client.is_closed_by_peer());
}

#[test]
fn a_closed_backend_and_a_silent_one_have_their_reasons() {
    let upstream = chat();
    let gone = gateway(&upstream, json!({ "enable_direct_communication": true }));
    let (mut client, _) = open(&gone, &[]);
    receive(&mut client);
    client.send(masked(0x81, b"bye")).unwrap();
    assert_eq!(
        receive(&mut client),
        (0x88, 1011_u16.to_be_bytes().to_vec())
    );
    let silent = gateway(
        &upstream,
        json!({ "enable_direct_communication": true, "timeout": "4s" }),
    );
    let (client, _) = open(&silent, &[]);
    let mut client = client.timeout(Duration::from_secs(40));
    receive(&mut client);
    assert_eq!(
        receive(&mut client),
        (0x88, 1001_u16.to_be_bytes().to_vec())
    );
}

#[test]
fn a_stop_has_its_reason() {
    let upstream = chat();
    let mut file = file(&upstream, json!({ "enable_direct_communication": true }));
    file["max_shutdown_wait_time"] = json!("3s");
    let gateway = Gateway::start(&file.to_string());
    let (mut client, _) = open(&gateway, &[]);
    receive(&mut client);
    gateway.signal("TERM");
    client.send(masked(0x81, b"last")).unwrap();
    assert_eq!(receive(&mut client), (0x81, b"last".to_vec()));
    assert_eq!(
        receive(&mut client),
        (0x88, 1001_u16.to_be_bytes().to_vec())
    );
    assert!(client.is_closed_by_peer());
    assert!(gateway.wait(Duration::from_secs(30)).is_some());
}

#[test]
fn only_listed_subprotocols_are_offered() {
    let upstream = chat();
    let gateway = gateway(
        &upstream,
        json!({ "enable_direct_communication": true, "subprotocols": ["chat", "v2"] }),
    );
    open(
        &gateway,
        &[
            ("Sec-WebSocket-Protocol", "x, chat"),
            ("Sec-WebSocket-Protocol", "v2"),
        ],
    );
    open(&gateway, &[("Sec-WebSocket-Protocol", "x")]);
    let heads: Vec<String> = upstream
        .heads()
        .iter()
        .map(|head| head.to_lowercase())
        .collect();
    assert!(
        heads[0].contains("sec-websocket-protocol: chat, v2\r\n"),
        "{}",
        heads[0]
    );
    assert!(!heads[1].contains("sec-websocket-protocol"), "{}", heads[1]);
}

#[test]
fn multiplexing_is_rejected_by_name() {
    let upstream = chat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("krakend.json");
    std::fs::write(&path, file(&upstream, json!({})).to_string()).unwrap();
    let output = command().args(["check", "-c"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("multiplexing is not supported"),
        "{said}"
    );
    assert!(said.contains("enable_direct_communication"), "{said}");
}

/// Opens a WebSocket at a backend that answers the handshake with these bytes.
fn answered(bytes: &'static str, block: Value) -> u16 {
    let upstream = Upstream::raw(bytes);
    let gateway = gateway(&upstream, block);
    open(&gateway, &[]).1.status
}

#[test]
fn a_backend_that_does_not_agree_is_502_unless_it_says_why() {
    let direct = || json!({ "enable_direct_communication": true });
    for (bytes, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 502),
        (
            "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            502,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            502,
        ),
        ("no http\r\n\r\n", 502),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503),
    ] {
        assert_eq!(answered(bytes, direct()), status, "{bytes}");
    }
    let extended = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let limited = json!({ "enable_direct_communication": true, "max_message_size": 100 });
    assert_eq!(answered(extended, direct()), 101);
    assert_eq!(answered(extended, limited), 502);
}

#[test]
fn a_backend_that_cannot_be_reached_or_never_answers_is_502() {
    let mute = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(60));
        Ok(())
    });
    let closed = ports::Closed::new();
    let refusing = format!("ws://127.0.0.1:{}", closed.port());
    let open_at = |host: &str, compat: Value| {
        let mut file = file(&mute, json!({ "enable_direct_communication": true }));
        file["endpoints"][0]["timeout"] = json!("500ms");
        file["endpoints"][0]["backend"][0]["host"] = json!([host]);
        file["extra_config"] = compat;
        let gateway = Gateway::start(&file.to_string());
        open(&gateway, &[]).1.status
    };
    let codes = || json!({ "portcullis/compat": { "gateway_status_codes": true } });
    let mute_host = mute.url().replace("http://", "ws://");
    assert_eq!(open_at(&mute_host, json!({})), 502);
    assert_eq!(open_at(&mute_host, codes()), 504);
    assert_eq!(open_at(&refusing, json!({})), 502);
    assert_eq!(open_at(&refusing, codes()), 502);
}

#[test]
fn control_frames_are_limited_too() {
    let upstream = chat();
    let gateway = gateway(
        &upstream,
        json!({ "enable_direct_communication": true, "max_message_size": 100 }),
    );
    for frame in [
        masked(0x89, &[b'p'; 126]),
        masked(0x8a, &[b'p'; 1000]),
        masked(0x88, &[b'c'; 5000]),
        masked(0x8b, &[b'x'; 200]),
        masked(0x09, b"in parts"),
    ] {
        let (mut client, _) = open(&gateway, &[]);
        receive(&mut client);
        client.send(&frame).unwrap();
        let reason = (0x88, 1002_u16.to_be_bytes().to_vec());
        assert_eq!(receive(&mut client), reason, "{:x}", frame[0]);
        assert!(client.is_closed_by_peer());
    }
}

#[test]
fn a_host_for_websockets_needs_the_block() {
    let upstream = chat();
    for (extra, sanitised) in [
        (json!({}), false),
        (json!({}), true),
        (json!({ "websocket": null }), false),
    ] {
        let mut file = file(&upstream, json!({}));
        file["endpoints"][0]["extra_config"] = extra;
        file["endpoints"][0]["backend"][0]["disable_host_sanitize"] = json!(!sanitised);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("krakend.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let output = command().args(["check", "-c"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("websocket"),
            "{said}"
        );
    }
}
