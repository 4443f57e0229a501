//! NATS servers that refuse subscriptions, confirm nothing, or close each connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::nats::{LIMIT, publisher};
use super::{gateway, gateway_with, with_body};
use crate::support::nats::Nats;
use crate::support::{Client, eventually, http, ports};

/// A server that does what `then` does with each line of a client. `then` returns `None` to close the connection.
fn server(
    then: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (u16, mpsc::Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (accepted, times) = mpsc::channel();
    let then = std::sync::Arc::new(then);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = accepted.send(Instant::now());
            let then = std::sync::Arc::clone(&then);
            std::thread::spawn(move || serve(stream.unwrap(), &*then));
        }
    });
    (port, times)
}

fn serve(mut stream: TcpStream, then: &dyn Fn(&str) -> Option<Vec<u8>>) {
    let info = b"INFO {\"max_payload\":1048576,\"headers\":true}\r\n";
    let _ = stream.write_all(info);
    let reader = BufReader::new(stream.try_clone().unwrap());
    for line in reader.lines().map_while(Result::ok) {
        match then(&line) {
            Some(bytes) if stream.write_all(&bytes).is_ok() => {}
            _ => return,
        }
    }
}

fn endpoint(path: &str, subject: &str) -> Value {
    json!({ "endpoint": path, "timeout": "30s",
        "backend": [{ "host": ["nats://"], "url_pattern": path, "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/subscriber": { "subscription_url": subject, "empty_status": 204 } } }] })
}

fn page(port: u16) -> String {
    let mut client = Client::connect(port).unwrap();
    client.send(http::request("GET", "/metrics", &[])).unwrap();
    client.response("GET").unwrap().text()
}

#[test]
fn a_message_that_is_not_confirmed_in_time_may_have_been_sent() {
    // PONG for the greeting only.
    let (port, _) = server(|line| {
        let is_greeting = line.starts_with("CONNECT");
        Some(if is_greeting {
            b"PONG\r\n".to_vec()
        } else {
            Vec::new()
        })
    });
    let url = format!("nats://127.0.0.1:{port}");
    let mut late = publisher("t");
    late["timeout"] = json!("500ms");
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[late]);
    eventually("the connection", LIMIT, || {
        gateway.output().contains("connected to NATS")
    });
    let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    assert_eq!(
        (response.status, response.text().as_str()),
        (500, "context deadline exceeded")
    );
    let words = ["[BACKEND: nats://", "the message may have been sent"];
    super::late::says(&gateway, words);
}

#[test]
fn a_subscription_that_the_server_refuses_is_no_empty_queue() {
    let (port, _) = server(|line| {
        let said = match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["SUB", "closed", ..] => {
                "-ERR 'Permissions Violation for Subscription to \"closed\" of geheim'\r\n"
            }
            ["PING"] => "PONG\r\n",
            _ => "",
        };
        Some(said.as_bytes().to_vec())
    });
    let url = format!("nats://u:geheim@127.0.0.1:{port}");
    let metrics = ports::free();
    let extra = json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") } });
    let endpoints = [
        endpoint("/closed", "closed"),
        endpoint("/open", "open"),
        publisher("t"),
    ];
    let gateway = gateway_with(&[("NATS_SERVER_URL", &url)], &endpoints, extra);
    eventually("the other subscription", LIMIT, || {
        gateway
            .output()
            .contains("connected to the subject open of NATS")
    });
    let started = Instant::now();
    let response = gateway.get("/closed");
    assert_eq!(response.status, 500);
    let text = response.text();
    assert!(
        text.contains("its text is not shown, because it may contain a credential"),
        "{text}"
    );
    // At once, and not at the deadline.
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(
        gateway
            .send("POST", with_body("POST", "/p", &[], "{}"))
            .status,
        200
    );
    let text = page(metrics);
    for line in [
        "portcullis_queue_connected{broker=\"the subject closed of NATS\"} 0",
        "portcullis_queue_connected{broker=\"the subject open of NATS\"} 1",
        "portcullis_queue_connected{broker=\"NATS\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!gateway.output().contains("geheim"), "{}", gateway.output());
}

/// The pauses are 0.25, 0.5, 1, 2 and 4 seconds, up to a quarter shorter.
#[test]
fn a_server_that_closes_each_connection_is_called_ever_more_rarely() {
    let (port, times) = server(|line| match line {
        "PING" => Some(b"PONG\r\n".to_vec()),
        line if line.starts_with("SUB") => None,
        _ => Some(Vec::new()),
    });
    let url = format!("nats://127.0.0.1:{port}");
    let gateway = gateway(&[("NATS_SERVER_URL", &url)], &[endpoint("/s", "in")]);
    let times: Vec<Instant> = times.iter().take(6).collect();
    let pauses: Vec<f64> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    assert!(pauses[3] >= 1.4 && pauses[4] >= 2.9, "{pauses:?}");
    let log = gateway.output();
    assert!(log.matches("connected to NATS").count() <= 7, "{log}");
}

#[test]
#[ignore = "needs nats-server"]
fn subscriptions_beyond_a_limit_or_without_a_permission_affect_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nats.conf");
    let rules = "authorization { users = [{ user: u, password: geheim, permissions: { subscribe: { deny: \"closed.>\" } } }] }";
    std::fs::write(&path, rules).unwrap();
    let Some(nats) = Nats::start_with(&["-c", path.to_str().unwrap()]) else {
        return;
    };
    let url = format!("nats://u:geheim@127.0.0.1:{}", nats.port());
    let endpoints = [
        endpoint("/closed", "closed.a?queue=q"),
        endpoint("/open", "open"),
        publisher("open"),
    ];
    let opened = gateway(&[("NATS_SERVER_URL", &url)], &endpoints);
    let send = || {
        assert_eq!(
            opened
                .send("POST", with_body("POST", "/p", &[], "{}"))
                .status,
            200
        )
    };
    eventually("the other subscription", LIMIT, || {
        opened
            .output()
            .contains("connected to the subject open of NATS")
    });
    send();
    assert_eq!(opened.get("/open").status, 200);
    let refused = opened.get("/closed");
    assert_eq!(refused.status, 500);
    assert!(
        refused.text().contains("Permissions Violation"),
        "{}",
        refused.text()
    );
    drop(opened);
    nats.end();

    std::fs::write(&path, "max_subscriptions: 1\n").unwrap();
    let Some(nats) = Nats::start_with(&["-c", path.to_str().unwrap()]) else {
        return;
    };
    let url = nats.url();
    let endpoints = [endpoint("/a", "a"), endpoint("/b", "b")];
    let limited = gateway(&[("NATS_SERVER_URL", &url)], &endpoints);
    eventually("one of two", LIMIT, || {
        let text = limited.output();
        text.contains("connected to the subject")
            && text.contains("of NATS: maximum subscriptions exceeded")
    });
    let good = if limited.output().contains("connected to the subject a") {
        "a"
    } else {
        "b"
    };
    let mut client = nats.client();
    client.publish(good, b"{\"n\":1}");
    assert_eq!(limited.get(&format!("/{good}")).text(), "{\"n\":1}");
    assert_eq!(limited.output().matches("connected to NATS").count(), 1);
}
