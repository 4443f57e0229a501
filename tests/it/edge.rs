//! The surroundings of a request: load balancers in front, changed files, the end of the process, wildcard routes.

mod paths;
mod redirects;

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Stub, Upstream, eventually};

const RESPONSES: &str = r#"[
    {"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}
]"#;

fn endpoint(path: &str, to: &str, stub: &Stub, encoding: &str) -> Value {
    json!({ "endpoint": path, "timeout": "10s", "output_encoding": encoding,
        "backend": [{ "host": [stub.url()], "url_pattern": to }] })
}

fn file(endpoints: &[Value], extra: Value) -> String {
    json!({ "version": 3, "endpoints": endpoints, "extra_config": extra }).to_string()
}

fn balanced(stub: &Stub, trusted: &str) -> Gateway {
    let extra = json!({ "portcullis/server": { "proxy_protocol": [trusted] } });
    Gateway::start(&file(&[endpoint("/a", "/a", stub, "no-op")], extra))
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

fn v2(command: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([
        command, 0x11, 0, 12, 192, 0, 2, 9, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb,
    ]);
    bytes
}

/// The client addresses that the backend and the access log got, after these first bytes.
fn client_behind(gateway: &Gateway, stub: &Stub, preamble: &[u8]) -> (String, String) {
    let before = gateway.mark();
    let mut client = gateway.client();
    client
        .send([preamble, request("GET", "/a", &[]).as_bytes()].concat())
        .unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    let seen = stub.take_seen().pop().unwrap();
    eventually("the access line", Duration::from_secs(30), || {
        gateway.output_since(before).contains("| 200 |")
    });
    let output = gateway.output_since(before);
    let line = output
        .lines()
        .find(|line| line.contains("| 200 |"))
        .unwrap();
    let logged = line.split('|').nth(3).unwrap().trim().to_owned();
    (
        seen.header("x-forwarded-for")
            .unwrap_or_default()
            .to_owned(),
        logged,
    )
}

#[test]
fn a_load_balancer_sends_the_address_of_its_client() {
    let stub = Stub::with(RESPONSES);
    let gateway = balanced(&stub, "127.0.0.0/8");
    let both = |address: &str| (address.to_owned(), address.to_owned());
    assert_eq!(client_behind(&gateway, &stub, V1), both("192.0.2.7"));
    assert_eq!(client_behind(&gateway, &stub, &v2(0x21)), both("192.0.2.9"));
    // The load balancer's own health checks are for no client.
    assert_eq!(client_behind(&gateway, &stub, &v2(0x20)), both("127.0.0.1"));
    assert_eq!(
        client_behind(&gateway, &stub, b"PROXY UNKNOWN\r\n"),
        both("127.0.0.1")
    );
}

#[test]
fn a_load_balancer_without_a_proxy_header_is_not_served() {
    let stub = Stub::with(RESPONSES);
    let gateway = balanced(&stub, "127.0.0.1");
    for preamble in ["", "PROXY TCP4 nobody 198.51.100.1 1 2\r\n", "PROXY TCP4 "] {
        let mut client = gateway.client();
        client
            .send([preamble.as_bytes(), request("GET", "/a", &[]).as_bytes()].concat())
            .unwrap();
        assert!(client.is_closed_by_peer(), "{preamble:?}");
    }
    assert_eq!(stub.take_seen().len(), 0);
}

#[test]
fn peers_that_are_not_listed_cannot_choose_an_address() {
    let stub = Stub::with(RESPONSES);
    let gateway = balanced(&stub, "10.0.0.0/8");
    let (forwarded, logged) = client_behind(&gateway, &stub, b"");
    assert_eq!((&*forwarded, &*logged), ("127.0.0.1", "127.0.0.1"));
    let mut client = gateway.client();
    client
        .send([V1, request("GET", "/a", &[]).as_bytes()].concat())
        .unwrap();
    assert_eq!(client.head().unwrap().status, 400);
}

#[test]
fn a_request_may_have_as_many_fields_as_the_file_says() {
    let stub = Stub::with(RESPONSES);
    let extra = json!({ "portcullis/limits": { "headers": 4 } });
    let gateway = Gateway::start(&file(&[endpoint("/a", "/a", &stub, "json")], extra));
    let with = |count: usize| {
        let fields: Vec<(&str, &str)> = (1..count).map(|_| ("X-A", "1")).collect();
        gateway.get_with("/a", &fields).status
    };
    assert_eq!((with(4), with(5)), (200, 431));
}

#[test]
fn a_changed_file_is_applied_with_watch() {
    let stub = Stub::with(RESPONSES);
    let port = crate::support::ports::free();
    let text = |paths: &[&str]| {
        let endpoints: Vec<Value> = paths
            .iter()
            .map(|path| endpoint(path, path, &stub, "json"))
            .collect();
        file(&endpoints, json!({}))
    };
    let gateway = Gateway::spawn(
        port,
        &text(&["/a"]),
        &[],
        &["-p", &port.to_string(), "--watch"],
    );
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    assert_eq!(gateway.get("/b").status, 404);
    // Half a file is not applied, the complete one is. A file may also be replaced by renaming.
    let whole = text(&["/a", "/b"]);
    fs::write(gateway.config_path(), &whole[..whole.len() / 2]).unwrap();
    eventually("the refusal is told", Duration::from_secs(30), || {
        gateway.output().contains("Reload rejected")
    });
    assert_eq!(gateway.get("/a").status, 200);
    let beside = gateway.dir().join("new.json");
    fs::write(&beside, whole).unwrap();
    fs::rename(beside, gateway.config_path()).unwrap();
    eventually("the new file rules", Duration::from_secs(30), || {
        gateway.get("/b").status == 200
    });
}

#[test]
fn the_reload_command_reports_the_result() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&file(&[endpoint("/a", "/a", &stub, "json")], json!({})));
    let reload = |port: u16| {
        let output = crate::support::gateway::command()
            .env(crate::support::gateway::RUNTIME_FOLDER, gateway.dir())
            .args(["reload", "-c"])
            .arg(gateway.config_path())
            .args(["-p", &port.to_string()])
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    };
    let change = |endpoints: &[Value], extra: Value| {
        fs::write(gateway.config_path(), file(endpoints, extra)).unwrap();
    };
    let (a, b) = (
        endpoint("/a", "/a", &stub, "json"),
        endpoint("/b", "/b", &stub, "json"),
    );
    change(&[a.clone(), b.clone()], json!({}));
    assert_eq!(reload(gateway.port()).0, Some(0));
    assert_eq!(gateway.get("/b").status, 200);
    // If a part cannot change while running, the whole reload is rejected.
    change(
        std::slice::from_ref(&a),
        json!({ "portcullis/limits": { "headers": 4 } }),
    );
    let (code, told) = reload(gateway.port());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("restart"), "{told}");
    assert_eq!(gateway.get("/b").status, 200, "the old file rules");
    fs::write(gateway.config_path(), "{").unwrap();
    assert_eq!(reload(gateway.port()).0, Some(1));
    change(&[a, b], json!({}));
    assert_eq!(
        reload(crate::support::ports::free()).0,
        Some(1),
        "nobody there"
    );
}

#[test]
fn a_client_that_leaves_within_its_body_is_no_failure_of_the_gateway() {
    let stub = Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {}}]"#);
    let endpoint = json!({ "endpoint": "/up", "method": "POST",
        "backend": [{ "host": [stub.url()], "url_pattern": "/up" }] });
    let gateway = Gateway::start(&file(&[endpoint], json!({})));
    for lines in [
        "Content-Length: 10\r\n\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n123",
    ] {
        let mark = gateway.mark();
        let mut client = gateway.client();
        let head = format!("POST /up HTTP/1.1\r\nHost: a\r\n{lines}");
        client.send(head).unwrap();
        drop(client);
        eventually("it is noticed", Duration::from_secs(30), || {
            gateway.output_since(mark).contains("| 499 |")
        });
    }
    assert!(!gateway.output().contains("ERROR"), "{}", gateway.output());
    assert_eq!(stub.take_seen().len(), 0);
}

#[test]
fn a_draining_process_is_not_ready_on_open_connections() {
    // The backend responds when the test says so: the process drains for as long as the test needs it to.
    let (respond, turn) = std::sync::mpsc::channel::<()>();
    let turn = std::sync::Mutex::new(turn);
    let upstream = Upstream::start(move |mut call| {
        let turn = turn.lock().unwrap();
        turn.recv_timeout(Duration::from_secs(60))
            .map_err(std::io::Error::other)?;
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    });
    let slow = json!({ "endpoint": "/slow", "timeout": "60s",
        "backend": [{ "host": [upstream.url()], "url_pattern": "/slow" }] });
    let gateway = Gateway::start(&file(&[slow], json!({})));
    let mut slow = gateway.client();
    slow.send(request("GET", "/slow", &[])).unwrap();
    eventually("the backend has it", Duration::from_secs(30), || {
        upstream.calls() == 1
    });
    // The first half of the second request prevents the connection from being treated as idle. It comes in one segment
    // with the first request: who has that one's response knows that the gateway has read both.
    let mut probe = gateway.client();
    let ready = request("GET", "/__ready", &[]);
    let (half, rest) = ready.split_at(ready.find("\r\n").unwrap() + 2);
    probe.send(format!("{ready}{half}")).unwrap();
    assert_eq!(probe.response("GET").unwrap().status, 200);
    gateway.signal("TERM");
    eventually("it drains", Duration::from_secs(30), || {
        gateway.output().contains("terminated")
    });
    probe.send(rest).unwrap();
    let told = probe.response("GET").unwrap();
    assert_eq!(
        (told.status, told.header("connection")),
        (503, Some("close"))
    );
    respond.send(()).unwrap();
    assert_eq!(slow.response("GET").unwrap().status, 200);
    assert!(
        gateway
            .wait(Duration::from_secs(30))
            .expect("it ends")
            .success()
    );
}
