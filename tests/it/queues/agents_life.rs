//! Stops, reloads, and brokers that die or send garbage, with agents at work.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::agents::{agent, file, gateway, page, ready, reload};
use super::rabbit::{LIMIT, delivered, post, producer};
use super::rabbit_life::garbage;
use crate::support::rabbit::Rabbit;
use crate::support::{Gateway, Stub, eventually, pause, ports};

#[test]
#[ignore = "needs rabbitmq-server"]
fn cases_22_and_23_a_stop_finishes_messages_in_progress_and_returns_the_rest() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let client = rabbit.client();
    client.exchange("ex");
    client.queue("slow", "ex", "slow.#", &[]);
    for n in 0..5 {
        client.publish("slow", format!("{{\"n\":{n}}}").as_bytes());
    }
    let stub = Stub::with(&json!([{ "delay_ms": 1500, "body": {} }]).to_string());
    let mut slow = agent("slow", &rabbit.url(), &stub, json!({}));
    slow["consumer"]["workers"] = json!(2);
    let extra = json!({ "router": { "disable_health": true } });
    let gateway = Gateway::start_in(&[], &file(&[slow], &[], extra).to_string());
    assert_eq!(gateway.get("/__health").status, 404);
    let mut seen = Vec::new();
    eventually("two calls", LIMIT, || {
        seen.extend(stub.take_seen());
        seen.len() == 2
    });
    let started = Instant::now();
    let status = gateway.stop(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{}", gateway.output());
    assert!(started.elapsed() >= Duration::from_millis(500));
    seen.extend(stub.take_seen());
    let bodies: BTreeSet<Vec<u8>> = seen.iter().map(|call| call.body.clone()).collect();
    assert_eq!((seen.len(), bodies.len()), (2, 2), "{seen:?}");
    eventually("the rest is back", LIMIT, || client.ready("slow") == 3);
    let mut rest = BTreeSet::new();
    while let Some(got) = client.get("slow") {
        rest.insert(got.body);
    }
    assert!(rest.is_disjoint(&bodies) && rest.len() == 3, "{rest:?}");
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn a_reload_carries_agents_over_and_restarts_those_that_changed() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    let stub = Stub::with(
        &json!([{ "path": "/changed", "delay_ms": 1500, "body": {} }, { "body": {} }]).to_string(),
    );
    let mut agents = ["kept", "changed", "gone"].map(|name| agent(name, &url, &stub, json!({})));
    let gateway = gateway(&agents);
    for name in ["kept", "changed", "gone"] {
        ready(&gateway, name);
    }
    client.publish("changed", b"{\"first\":1}");
    client.publish("changed", b"{\"second\":1}");
    eventually("a call", LIMIT, || !stub.take_seen().is_empty());
    agents[0]["backend"][0]["url_pattern"] = json!("/elsewhere");
    agents[1]["consumer"]["workers"] = json!(2);
    let mark = gateway.mark();
    reload(
        &gateway,
        &file(
            &agents[..2],
            &[],
            json!({ "telemetry/logging": { "level": "DEBUG", "stdout": true } }),
        ),
    );
    let mut seen = Vec::new();
    eventually("the second message", LIMIT, || {
        seen.extend(stub.take_seen());
        !seen.is_empty()
    });
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, b"{\"second\":1}");
    client.publish("kept", b"{}");
    eventually("the new call", LIMIT, || {
        stub.take_seen()
            .iter()
            .any(|call| call.path == "/elsewhere")
    });
    client.publish("gone", b"{}");
    pause(Duration::from_millis(300));
    assert_eq!(client.ready("gone"), 1);
    let since = gateway.output_since(mark);
    let connected: Vec<&str> = since
        .lines()
        .filter(|line| line.contains("connected to"))
        .collect();
    assert!(
        connected.len() == 1 && connected[0].contains("[changed]"),
        "{since}"
    );
    // A file that is rejected changes nothing.
    let mut bad = file(&agents[..1], &[], json!({}));
    bad["async_agent"][0]["backend"] = json!([]);
    std::fs::write(gateway.config_path(), bad.to_string()).unwrap();
    let mark = gateway.mark();
    gateway.signal("HUP");
    eventually("rejected", LIMIT, || {
        gateway.output_since(mark).contains("Reload rejected")
    });
    client.publish("kept", b"{}");
    eventually("the call", LIMIT, || !stub.take_seen().is_empty());
    delivered(&client, "changed");
}

/// Messages that were confirmed to their senders reach the backend at least once, whenever the broker dies. Nobody else
/// notices.
#[test]
#[ignore = "needs rabbitmq-server"]
fn a_broker_that_dies_and_comes_back_loses_no_message() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let url = rabbit.url();
    let stub = Stub::with(&json!([{ "delay_ms": 3, "body": "OK" }]).to_string());
    let mut soak = agent("soak", &url, &stub, json!({ "durable": true }));
    soak["consumer"]["workers"] = json!(4);
    let block = json!({ "exchange": "ex", "routing_key": "soak.x", "static_routing_key": true, "durable": true, "mandatory": true });
    let other = json!({ "endpoint": "/other", "backend": [{ "host": [stub.url()], "url_pattern": "/other", "encoding": "string" }] });
    let port = ports::free();
    let extra = json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") } });
    let endpoints = [producer("/send", &url, block), other];
    let gateway = Gateway::start_in(&[], &file(&[soak], &endpoints, extra).to_string());
    ready(&gateway, "soak");
    let mut confirmed = BTreeSet::new();
    let mut called = BTreeSet::new();
    let mut calls = 0;
    let mut id = 0;
    let mut collect = |stub: &Stub| {
        for call in stub.take_seen() {
            if call.path == "/soak" {
                calls += 1;
                called.insert(String::from_utf8(call.body).unwrap());
            }
        }
        (calls, called.len())
    };
    for round in 0..3 {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            id += 1;
            let body = format!("{{\"id\":{id}}}");
            if post(&gateway, "/send", &[], &body).status == 200 {
                confirmed.insert(body);
            }
            collect(&stub);
        }
        if round < 2 {
            rabbit.end();
            assert_eq!(gateway.get("/other").status, 200);
            rabbit.begin();
            eventually("messages are sent again", LIMIT, || {
                post(&gateway, "/send", &[], "{\"id\":-1}").status == 200
            });
        }
    }
    let mut counts = (0, 0);
    let end = Instant::now() + LIMIT;
    let client = rabbit.client();
    while Instant::now() < end && client.ready("soak") > 0 {
        collect(&stub);
        pause(Duration::from_millis(50));
    }
    pause(Duration::from_secs(1));
    let last = collect(&stub);
    counts.0 += last.0;
    counts.1 += last.1;
    let lost: Vec<&String> = confirmed.difference(&called).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost",
        lost.len(),
        confirmed.len()
    );
    assert!(confirmed.len() > 100, "{}", confirmed.len());
    eprintln!(
        "{} confirmed, {} different ones processed in {} calls",
        confirmed.len(),
        counts.1,
        counts.0
    );
    let text = page(port);
    let broker = format!(
        "broker=\"the queue soak of amqp://127.0.0.1:{} (soak)\"",
        rabbit.port()
    );
    assert!(
        text.contains(&format!("portcullis_queue_reconnects_total{{{broker}}} 2")),
        "{text}"
    );
}

#[test]
fn a_broker_that_sends_garbage_does_not_affect_others() {
    let stub = Stub::with(&json!([{ "body": {} }]).to_string());
    let url = format!("amqp://guest:hidden@127.0.0.1:{}", garbage());
    let mut bad = agent("bad", &url, &stub, json!({}));
    bad["connection"] = json!({ "health_interval": "1s" });
    let other =
        json!({ "endpoint": "/other", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] });
    let gateway = Gateway::start_in(&[], &file(&[bad], &[other], json!({})).to_string());
    let ticks = gateway.processor_ticks();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(gateway.get("/other").status, 200);
        pause(Duration::from_millis(50));
    }
    assert!(gateway.processor_ticks() - ticks < 200);
    assert_eq!(gateway.get("/__health").json()["stopped"], json!(["bad"]));
    let status = gateway.stop(Duration::from_secs(30)).unwrap();
    assert!(status.success());
    assert!(!gateway.output().contains("hidden"), "{}", gateway.output());
}
