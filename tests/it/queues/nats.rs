//! `nats://` against a real server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::{checked, gateway, gateway_with, with_body};
use crate::support::nats::Nats;
use crate::support::{Client, Gateway, Stub, eventually, http, pause, ports};

pub(super) const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn publisher(subject: &str) -> Value {
    json!({ "endpoint": "/p", "method": "POST", "timeout": "2s", "input_headers": ["X-A"],
        "backend": [{ "host": ["nats://"], "url_pattern": "/p", "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/publisher": { "topic_url": subject } } }] })
}

fn subscriber(path: &str, subject: &str) -> Value {
    json!({ "endpoint": path, "timeout": "1s",
        "backend": [{ "host": ["nats://"], "url_pattern": path, "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/subscriber": { "subscription_url": subject } } }] })
}

fn connected(gateway: &Gateway) {
    eventually("the connection", LIMIT, || {
        gateway.output().contains("connected to NATS")
    });
}

/// Sends messages until one arrives, because a subscription follows its connection, and removes them.
pub(super) fn subscribed(gateway: &Gateway, path: &str, mut send: impl FnMut()) {
    eventually("the first message", LIMIT, || {
        send();
        gateway.get(path).status == 200
    });
    while gateway.get(path).status == 200 {
        pause(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "needs nats-server"]
fn case_16_a_message_has_native_headers_and_the_raw_body() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[publisher("t?natsv2")]);
    let mut client = nats.client();
    client.subscribe("t");
    let send = |headers: &[(&str, &str)], body: &str| {
        gateway.send("POST", with_body("POST", "/p", headers, body))
    };
    let response = send(&[("X-A", "a b"), ("X-B", "b")], "{\"p\":3}");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "null"),
        "{}",
        gateway.output()
    );
    assert_eq!(response.header("x-krakend-completed"), Some("false"));
    let (head, body) = client.message();
    assert!(head.contains("X-A: a b\r\n"), "{head}");
    for absent in ["X-B", "User-Agent", "X-Forwarded"] {
        assert!(!head.contains(absent), "{head}");
    }
    assert_eq!(body, b"{\"p\":3}");
    // The limit is the one that the server reports.
    assert_eq!(send(&[], &"a".repeat((1 << 20) + 1)).status, 413);
    assert_eq!(send(&[], &"b".repeat(1 << 19)).status, 200);
    assert_eq!(client.message().1.len(), 1 << 19);
}

#[test]
#[ignore = "needs nats-server"]
fn case_15_a_server_that_comes_back_is_used_again_without_a_request() {
    let Some(nats) = Nats::start() else { return };
    nats.end();
    let url = format!("nats://someone:secret@127.0.0.1:{}", nats.port());
    let stub = Stub::with(&json!([{ "body": { "ok": true } }]).to_string());
    let other =
        json!({ "endpoint": "/other", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] });
    let endpoints = [publisher("t"), subscriber("/s", "t?queue=g"), other];
    let page = ports::free();
    let metrics = json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{page}") } });
    let gateway = gateway_with(&[("NATS_SERVER_URL", &url)], &endpoints, metrics);
    let send = || {
        let bytes = with_body("POST", "/p", &[], "{\"n\":1}");
        gateway.send("POST", bytes).status
    };
    assert_eq!(send(), 500);
    let failed = gateway.get("/s");
    assert_eq!(failed.status, 500);
    assert!(
        failed.text().contains("cannot connect to NATS"),
        "{}",
        failed.text()
    );
    for round in 1..=2 {
        nats.begin();
        eventually("the connection", LIMIT, || {
            let text = gateway.output();
            text.matches("connected to NATS").count() == round
        });
        subscribed(&gateway, "/s", || assert_eq!(send(), 200));
        nats.end();
        eventually("the loss is seen", LIMIT, || send() == 500);
        assert_eq!(gateway.get("/other").json()["ok"], json!(true));
    }
    assert!(!gateway.output().contains("secret"), "{}", gateway.output());
    let mut client = Client::connect(page).unwrap();
    client.send(http::request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    for line in [
        "portcullis_queue_connected{broker=\"NATS\"} 0",
        "portcullis_queue_reconnects_total{broker=\"NATS\"} 1",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[test]
#[ignore = "needs nats-server"]
fn each_request_gets_its_own_message_also_after_a_reload() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let endpoints = [subscriber("/s", "in.orders"), subscriber("/t", "other")];
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &endpoints);
    connected(&gateway);
    let mut client = nats.client();
    subscribed(&gateway, "/s", || client.publish("in.orders", b"{\"n\":0}"));
    let gob = b"\x0d\x7f\x04\x01\x02\xff\x80\x00\x01\x0c\x01\x0c\x00\x00\x08\xff\x80\x00\x01\x01A\x01b\x0a\x0a\x00\x07{\"g\":1}";
    let messages: [&[u8]; 5] = [
        b"{\"n\":1}",
        b"notjson",
        b"{\"n\":12345678901234567890}",
        b"",
        &gob[..],
    ];
    for body in messages {
        client.publish("in.orders", body);
    }
    let expected = [
        (200, "{\"n\":1}"),
        (500, ""),
        (200, "{\"n\":12345678901234567890}"),
        (200, "null"),
        (200, "{\"g\":1}"),
    ];
    for (status, body) in expected {
        let response = gateway.get("/s");
        assert_eq!(response.status, status, "{}", response.text());
        assert!(
            status == 500 || response.text() == body,
            "{}",
            response.text()
        );
    }
    let empty = gateway.get("/s");
    assert_eq!(
        (empty.status, empty.text().as_str()),
        (500, "context deadline exceeded")
    );
    // A reload keeps the connection, the subscription and what has arrived.
    client.publish("in.orders", b"{\"kept\":1}");
    let config = std::fs::read_to_string(gateway.config_path()).unwrap();
    let changed = config.replace("\"5s\"", "\"6s\"");
    std::fs::write(gateway.config_path(), changed).unwrap();
    let mark = gateway.mark();
    gateway.signal("HUP");
    eventually("the reload", LIMIT, || {
        gateway.output_since(mark).contains("reload")
    });
    let response = gateway.get("/s");
    assert_eq!(response.text(), "{\"kept\":1}", "{}", gateway.output());
    assert!(!gateway.output_since(mark).contains("connected to NATS"));
}

#[test]
#[ignore = "needs nats-server"]
fn requests_at_the_same_time_share_the_messages() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[subscriber("/s", "many")]);
    connected(&gateway);
    let mut client = nats.client();
    subscribed(&gateway, "/s", || client.publish("many", b"{\"n\":0}"));
    for n in 1..=40 {
        client.publish("many", format!("{{\"n\":{n}}}").as_bytes());
    }
    let mut seen: Vec<u64> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..5)
                        .map(|_| gateway.get("/s").json()["n"].as_u64().unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let taken = takers.into_iter().map(|taker| taker.join().unwrap());
        taken.flatten().collect()
    });
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs nats-server"]
fn users_and_tokens_of_the_url_open_the_connection() {
    for (arguments, credentials) in [
        (&["--user", "u", "--pass", "p@w"][..], "u:p%40w@"),
        (&["--auth", "token"], "token@"),
    ] {
        let Some(nats) = Nats::start_with(arguments) else {
            return;
        };
        // The first one does not exist.
        let url = format!(
            "nats://{credentials}127.0.0.1:{}, nats://{credentials}127.0.0.1:{}",
            ports::free(),
            nats.port()
        );
        let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[publisher("t")]);
        connected(&gateway);
        let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(!gateway.output().contains("p@w") && !gateway.output().contains("token@"));
    }
}

#[test]
#[ignore = "needs nats-server"]
fn a_message_with_odd_headers_affects_no_other() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let gateway = gateway(
        &[("NATS_SERVER_URL", &url)],
        &[publisher("t"), subscriber("/s", "in")],
    );
    connected(&gateway);
    let mut client = nats.client();
    subscribed(&gateway, "/s", || client.publish("in", b"{\"n\":0}"));
    let send = || {
        gateway
            .send("POST", with_body("POST", "/p", &[], "{}"))
            .status
    };
    for headers in [
        &b"NATS/1.0\r\nA b: x\r\n\r\n"[..],
        b"NATS/1.0\r\n\xc3\xa9: x\r\n\r\n",
        b"NATS/1.0\r\nbad\r\n\r\n",
        b"GARBAGE\r\n\r\n",
    ] {
        client.publish_with("in", headers, b"{}");
        assert_eq!(send(), 200);
        let response = gateway.get("/s");
        assert_eq!(response.status, 500);
        assert!(response.text().contains("headers"), "{}", response.text());
    }
    // Values may have any bytes.
    client.publish_with("in", b"NATS/1.0\r\nA: \xe9t\xe9\r\n\r\n", b"{\"v\":1}");
    assert_eq!(gateway.get("/s").text(), "{\"v\":1}");
    assert_eq!(gateway.output().matches("connected to NATS").count(), 1);
}

#[test]
#[ignore = "needs nats-server"]
fn a_message_may_have_the_size_that_the_server_reports() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[publisher("t")]);
    connected(&gateway);
    let send = |headers: &[(&str, &str)], bytes: usize| {
        let body = "a".repeat(bytes);
        gateway
            .send("POST", with_body("POST", "/p", headers, &body))
            .status
    };
    let most = 1 << 20;
    assert_eq!(send(&[], most), 200);
    assert_eq!(send(&[], most + 1), 413);
    let head = "NATS/1.0\r\nX-A: a\r\n\r\n".len();
    assert_eq!(send(&[("X-A", "a")], most - head), 200);
    assert_eq!(send(&[("X-A", "a")], most - head + 1), 413);
    assert_eq!(gateway.output().matches("connected to NATS").count(), 1);
}

#[test]
#[ignore = "needs nats-server"]
fn a_message_that_the_server_rejects_is_not_a_success() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nats.conf");
    let rules = "authorization { users = [{ user: u, password: geheim, permissions: { publish: \"fine\" } }] }";
    std::fs::write(&path, rules).unwrap();
    let Some(nats) = Nats::start_with(&["-c", path.to_str().unwrap()]) else {
        return;
    };
    let url = format!("nats://u:geheim@127.0.0.1:{}", nats.port());
    let mut other = publisher("secret");
    other["endpoint"] = json!("/secret");
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[publisher("fine"), other]);
    connected(&gateway);
    let send = |path: &str| gateway.send("POST", with_body("POST", path, &[], "{}"));
    let rejected = send("/secret");
    assert_eq!(rejected.status, 500);
    assert!(
        rejected.text().contains("Permissions Violation"),
        "{}",
        rejected.text()
    );
    assert_eq!(send("/p").status, 200);
    assert_eq!(gateway.output().matches("connected to NATS").count(), 1);
}

/// A server of this test: it greets, and then does what `then` does with the connection and the line of `CONNECT`.
fn server(then: impl Fn(TcpStream, String) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let info = b"INFO {\"max_payload\":1048576,\"headers\":true}\r\n";
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            if stream.write_all(info).is_ok() && reader.read_line(&mut line).is_ok() {
                then(stream, line);
            }
        }
    });
    port
}

#[test]
fn the_credentials_of_the_url_are_sent() {
    for (info, expected) in [
        ("u:p%40w@", [json!("u"), json!("p@w"), Value::Null]),
        ("token@", [Value::Null, Value::Null, json!("token")]),
        ("", [Value::Null, Value::Null, Value::Null]),
    ] {
        let (lines, seen) = std::sync::mpsc::channel();
        let port = server(move |_, line| drop(lines.send(line)));
        let url = format!("nats://{info}127.0.0.1:{port}");
        let _gateway = gateway(&[("NATS_SERVER_URL", &url)], &[publisher("t")]);
        let line = seen.recv_timeout(LIMIT).unwrap();
        let options = line.strip_prefix("CONNECT ").unwrap();
        let options: Value = serde_json::from_str(options).unwrap();
        for (name, value) in ["user", "pass", "auth_token"].iter().zip(&expected) {
            assert_eq!(&options[*name], value, "{info}");
        }
    }
}

#[test]
#[ignore = "needs nats-server"]
fn a_message_that_is_too_large_is_counted_and_affects_no_other() {
    let Some(nats) = Nats::start() else { return };
    let page = ports::free();
    let more = json!({ "portcullis/limits": { "upstream_body": 1000 },
        "portcullis/metrics": { "listen": format!("127.0.0.1:{page}") } });
    let url = nats.url();
    let gateway = gateway_with(
        &[("NATS_SERVER_URL", &url)],
        &[subscriber("/s", "in")],
        more,
    );
    let mut client = nats.client();
    subscribed(&gateway, "/s", || client.publish("in", b"{\"n\":0}"));
    client.publish("in", &[b'x'; 2000]);
    client.publish_with("in", b"NATS/1.0\r\n\r\n", &[b'x'; 989]);
    client.publish("in", b"{\"n\":1}");
    assert_eq!(gateway.get("/s").text(), "{\"n\":1}");
    let log = gateway.output();
    let words = "a message of 2000 bytes is lost: it is larger than allowed";
    assert!(log.contains(words), "{log}");
    let mut client = Client::connect(page).unwrap();
    client.send(http::request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let line =
        "portcullis_queue_messages_total{backend=\"/s\",direction=\"in\",result=\"rejected\"} 2";
    assert!(page.contains(line), "{page}");
}

/// Servers that greet and then hurt: INFO without end, errors without end, and messages that nobody takes.
#[test]
fn a_hostile_server_fills_neither_the_memory_nor_the_log() {
    let info = b"INFO {\"max_payload\":1048576,\"headers\":true}\r\n";
    let error = b"-ERR 'Permissions Violation for Publish to \"t\"'\r\n";
    let message = b"MSG in 1 2\r\n{}\r\n";
    let all: [&'static [u8]; 3] = [info, error, message];
    for line in all {
        let port = server(move |mut stream, _| {
            let piece = line.repeat((1 << 20) / line.len());
            let _ = stream.write_all(b"PONG\r\n");
            for _ in 0..8 {
                if stream.write_all(&piece).is_err() {
                    return;
                }
            }
            let _ = stream.write_all(b"-ERR 'enough'\r\n");
            // Until the gateway has closed the connection.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let url = format!("nats://u:geheim@127.0.0.1:{port}");
        let endpoints = [subscriber("/s", "in"), publisher("t")];
        let gateway = gateway(&[("NATS_SERVER_URL", &url)], &endpoints);
        let before = gateway.resident_kib();
        eventually("all is read", LIMIT, || gateway.output().contains("enough"));
        let after = gateway.resident_kib();
        assert!(after < before + (32 << 10), "{before} {after} KiB");
        let log = gateway.output();
        assert!(log.lines().count() < 100, "{} lines", log.lines().count());
        assert!(!log.contains("geheim"), "{log}");
    }
}

/// A server that announces a message of three gigabytes.
#[test]
fn a_message_that_is_too_large_takes_no_memory() {
    let port = server(|mut stream, _| {
        let _ = stream.write_all(b"PONG\r\nMSG in 1 3000000000\r\n");
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..300 {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
        pause(Duration::from_secs(60));
    });
    let url = format!("nats://127.0.0.1:{port}");
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[subscriber("/s", "in")]);
    eventually("the message is skipped", LIMIT, || {
        gateway.output().contains("larger than allowed")
    });
    let before = gateway.resident_kib();
    pause(Duration::from_secs(2));
    let after = gateway.resident_kib();
    assert!(after < before + (64 << 10), "{before} {after} KiB");
}

/// The configurations in docs/queues.md that need this feature.
#[test]
fn the_configurations_in_the_document_pass_check() {
    let document = include_str!("../../../docs/queues.md");
    let blocks = document.split("```json nats\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (good, text) = checked(serde_json::from_str(block).unwrap());
        assert!(good, "{block}: {text}");
    }
}

#[test]
fn without_the_address_of_a_server_the_gateway_starts_and_calls_fail() {
    let gateway = gateway(&[("NATS_SERVER_URL", "")], &[publisher("t")]);
    let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("NATS_SERVER_URL is not set"),
        "{}",
        response.text()
    );
}
