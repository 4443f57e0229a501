//! Brokers of RabbitMQ that die, come back, or send garbage, and reloads.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::closed_clients::{leave_when, slow, slow_stub};
use super::rabbit::{LIMIT, consumer, delivered, post, producer, ready};
use super::{gateway, gateway_with};
use crate::support::rabbit::Rabbit;
use crate::support::{Client, Stub, eventually, http, pause, ports};

/// Messages that were confirmed are taken at least once, whenever the broker dies. Other endpoints do not notice.
#[test]
#[ignore = "needs rabbitmq-server"]
fn case_15_a_broker_that_dies_and_comes_back_loses_no_confirmed_message() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    rabbit.end();
    let url = rabbit.url();
    let durable = json!({ "durable": true });
    let block = json!({ "exchange": "ex", "routing_key": "soak.x", "static_routing_key": true, "durable": true, "mandatory": true });
    let stub = Stub::with(&json!([{ "body": { "ok": true } }]).to_string());
    let other =
        json!({ "endpoint": "/other", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] });
    let page = ports::free();
    let started = Instant::now();
    let gateway = gateway_with(
        &[],
        &[
            producer("/send", &url, block),
            consumer("/soak", &url, durable),
            other,
        ],
        json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{page}") } }),
    );
    let response = post(&gateway, "/send", &[], "{}");
    assert_eq!(response.status, 500);
    assert!(
        response
            .text()
            .contains("cannot connect to amqp://127.0.0.1"),
        "{}",
        response.text()
    );
    assert_eq!(gateway.get("/soak").status, 500);
    // Nothing waits for a broker.
    assert!(started.elapsed() < Duration::from_secs(15));
    rabbit.begin();
    ready(&gateway, "soak");

    let stop = AtomicBool::new(false);
    let (sent, mut taken) = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let (gateway, stop) = (&gateway, &stop);
                scope.spawn(move || {
                    let mut confirmed = Vec::new();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = sender * 1_000_000 + n;
                        let body = format!("{{\"id\":{id}}}");
                        if post(gateway, "/send", &[], &body).status == 200 {
                            confirmed.push(id);
                        }
                        pause(Duration::from_millis(5));
                    }
                    confirmed
                })
            })
            .collect();
        let taker = scope.spawn(|| {
            let mut taken = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let response = gateway.get("/soak");
                if response.status == 200 {
                    taken.insert(response.json()["id"].as_i64().unwrap());
                } else {
                    pause(Duration::from_millis(20));
                }
                assert_eq!(gateway.get("/other").status, 200);
            }
            taken
        });
        for _ in 0..2 {
            pause(Duration::from_secs(2));
            rabbit.end();
            rabbit.begin();
            eventually("messages are sent again", LIMIT, || {
                post(&gateway, "/send", &[], "{\"id\":-1}").status == 200
            });
        }
        pause(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let sent: Vec<i64> = senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect();
        (sent, taker.join().unwrap())
    });
    loop {
        let response = gateway.get("/soak");
        if response.status != 200 {
            break;
        }
        taken.insert(response.json()["id"].as_i64().unwrap());
    }
    let lost: Vec<_> = sent.iter().filter(|id| !taken.contains(id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        sent.len()
    );
    assert!(sent.len() > 100, "{}", sent.len());
    let mut client = Client::connect(page).unwrap();
    client.send(http::request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let broker = format!("broker=\"amqp://127.0.0.1:{}\"", rabbit.port());
    for line in [
        format!("portcullis_queue_connected{{{broker}}} 1"),
        format!("portcullis_queue_reconnects_total{{{broker}}} 2"),
    ] {
        assert!(page.contains(&line), "{page}");
    }
}

/// A reload keeps unchanged channels and the messages that are here, and gives back those of a removed backend.
#[test]
#[ignore = "needs rabbitmq-server"]
fn a_reload_keeps_what_is_unchanged() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let url = rabbit.url();
    let client = rabbit.client();
    let endpoints = [
        consumer("/kept", &url, json!({})),
        consumer("/gone", &url, json!({})),
    ];
    let gateway = gateway(&[], &endpoints);
    ready(&gateway, "kept");
    ready(&gateway, "gone");
    client.publish("kept", b"{\"k\":1}");
    client.publish("gone", b"{\"g\":1}");
    delivered(&client, "kept");
    delivered(&client, "gone");
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["endpoints"].as_array_mut().unwrap().pop();
    std::fs::write(gateway.config_path(), file.to_string()).unwrap();
    let mark = gateway.mark();
    gateway.signal("HUP");
    eventually("the message goes back", LIMIT, || client.ready("gone") == 1);
    assert_eq!(client.ready("kept"), 0);
    assert_eq!(gateway.get("/kept").text(), "{\"k\":1}");
    assert_eq!(gateway.get("/gone").status, 404);
    let since = gateway.output_since(mark);
    assert!(!since.contains("connected to"), "{since}");
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn a_message_is_returned_if_its_client_disconnects_while_other_backends_work() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let url = rabbit.url();
    let client = rabbit.client();
    let stub = slow_stub();
    let mut both = consumer("/both", &url, json!({}));
    both["timeout"] = json!("20s");
    both["backend"].as_array_mut().unwrap().push(slow(&stub));
    let gateway = gateway(&[], &[both]);
    ready(&gateway, "both");
    for round in 0..3 {
        client.publish("both", b"{\"v\":1}");
        delivered(&client, "both");
        leave_when(&gateway, "/both", || !stub.take_seen().is_empty());
        let response = gateway.get("/both");
        assert_eq!(response.json(), json!({ "slow": 1, "v": 1 }), "{round}");
    }
}

/// A channel that the broker closes loses the messages of other requests.
#[test]
#[ignore = "needs rabbitmq-server"]
fn no_value_of_a_client_closes_a_channel() {
    let Some(rabbit) = Rabbit::start_with("max_message_size = 1000\n") else {
        return;
    };
    let url = rabbit.url();
    let block = json!({ "exchange": "ex", "routing_key": "none", "static_routing_key": true,
        "exp_key": "Exp", "reply_to_key": "Reply", "priority_key": "Prio" });
    let mut endpoint = producer("/p/{exp}/{reply}/{prio}", &url, block);
    endpoint["backend"][0]["url_pattern"] = json!("/to-the-broker");
    let gateway = gateway(&[], &[endpoint]);
    let send = |path: &str, body: &str| post(&gateway, path, &[], body).status;
    eventually("the exchange", LIMIT, || send("/p/1/r/1", "{}") == 200);
    for path in [
        "/p/315360000001/r/1",
        "/p/99999999999999999999/r/1",
        "/p/x/r/1",
        "/p/1/amq.rabbitmq.reply-to/1",
        "/p/1/r/256",
        "/p/1/r/x",
    ] {
        assert_eq!(send(path, "{}"), 400, "{path}");
    }
    for path in ["/p/315360000000/r/255", "/p/0/r/0", "/p/007/r/7"] {
        assert_eq!(send(path, "{}"), 200, "{path}");
    }
    assert!(
        !gateway.output().contains("cannot connect"),
        "{}",
        gateway.output()
    );
    // The broker tells its limit only by closing the channel, once.
    let large = "a".repeat(2000);
    assert_eq!(send("/p/1/r/1", &large), 500);
    eventually("the channel is back", LIMIT, || {
        send("/p/1/r/1", "{}") == 200
    });
    assert_eq!(send("/p/1/r/1", &large), 413);
    assert_eq!(send("/p/1/r/1", &"a".repeat(1000)), 200);
    assert_eq!(
        gateway.output().matches("[Queues] cannot connect").count(),
        1
    );
}

/// The port of a broker that sends garbage to everyone.
pub(super) fn garbage() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        // Frames of all kinds: a length without an end, a wrong end, unknown methods, tables that lie about their size.
        b"\x01\x00\x00\xff\xff\xff\xff\x00\x0a\x00\x0a",
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\x00",
        b"\x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0a\x00\x09\xff\xff\xff\xff\x01x\xce",
    ];
    std::thread::spawn(move || {
        for (stream, answer) in listener.incoming().zip(answers.iter().cycle()) {
            let Ok(mut stream) = stream else { return };
            let mut header = [0; 8];
            let _ = stream.read_exact(&mut header);
            let _ = stream.write_all(answer);
        }
    });
    port
}

#[test]
fn a_broker_that_sends_garbage_does_not_affect_others() {
    let port = garbage();
    let url = format!("amqp://guest:hidden@127.0.0.1:{port}");
    let stub = Stub::with(&json!([{ "body": { "ok": true } }]).to_string());
    let other =
        json!({ "endpoint": "/other", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] });
    let gateway = gateway(&[], &[consumer("/q", &url, json!({})), other]);
    let ticks = gateway.processor_ticks();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(gateway.get("/q").status, 500);
        assert_eq!(gateway.get("/other").status, 200);
        pause(Duration::from_millis(50));
    }
    // Not a hot loop: less than half of a processor.
    let used = gateway.processor_ticks() - ticks;
    assert!(used < 200, "{used}");
    assert!(!gateway.output().contains("hidden"), "{}", gateway.output());
}
