//! Messages of RabbitMQ that are larger than the gateway allows, and reloads and stops under load.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::agents::{self, agent, file, page, reload};
use super::rabbit::{LIMIT, consumer, delivered, ready};
use crate::support::rabbit::Rabbit;
use crate::support::{Gateway, Stub, eventually, ports};

#[test]
#[ignore = "needs rabbitmq-server"]
fn a_message_that_is_too_large_is_rejected_and_takes_no_memory() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    client.exchange("ex");
    client.exchange("dead");
    client.queue("dead", "dead", "#", &[]);
    for name in ["many", "one"] {
        let dead = [("x-dead-letter-exchange", "dead")];
        client.queue(name, "ex", &format!("{name}.#"), &dead);
    }
    let stub = Stub::with(&json!([{ "body": {} }]).to_string());
    let port = ports::free();
    let extra = json!({
        "portcullis/limits": { "upstream_body": "1MiB" },
        "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") },
        "router": { "return_error_msg": true },
    });
    let agents = [agent("many", &url, &stub, json!({}))];
    let endpoints = [consumer("/one", &url, json!({}))];
    let gateway = Gateway::start_in(&[], &file(&agents, &endpoints, extra).to_string());
    agents::ready(&gateway, "many");
    ready(&gateway, "one");
    let before = gateway.resident_kib();
    let large = vec![b'x'; 48 << 20];
    let most = vec![b'x'; 1 << 20];
    client.publish("many", &large);
    client.publish("many", &most);
    client.publish("one", &large);
    client.publish("one", b"{\"n\":1}");
    delivered(&client, "one");

    // The agent rejects it at once, and the consumer when a request takes it.
    eventually("a dead letter", LIMIT, || client.ready("dead") == 1);
    eventually("the call", LIMIT, || {
        stub.take_seen().iter().any(|call| call.body == most)
    });
    let response = gateway.get("/one");
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("larger than allowed"),
        "{}",
        response.text()
    );
    assert_eq!(gateway.get("/one").text(), "{\"n\":1}");
    eventually("both dead letters", LIMIT, || client.ready("dead") == 2);
    let after = gateway.resident_kib();
    assert!(after < before + (24 << 10), "{before} {after} KiB");

    let log = gateway.output();
    for words in [
        "[many] a message of 50331648 bytes is rejected: it is larger than allowed",
        "[BACKEND: /one][AMQP] a message cannot be read: it is larger than allowed",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let text = page(port);
    for line in [
        "portcullis_queue_messages_total{backend=\"many\",direction=\"in\",result=\"rejected\"} 1",
        "portcullis_queue_messages_total{backend=\"/one\",direction=\"in\",result=\"undecodable\"} 1",
        "portcullis_queue_messages_total{backend=\"/one\",direction=\"in\",result=\"ok\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(client.get("dead").unwrap().body.len(), large.len());
}

/// Messages that nobody takes must not use up the memory for bodies.
#[test]
#[ignore = "needs rabbitmq-server"]
fn messages_that_wait_leave_half_of_the_memory_to_clients() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    let text = "a".repeat(1 << 20);
    let stub = Stub::with(&json!([{ "body": { "text": text } }]).to_string());
    let mut waiting = consumer("/waiting", &url, json!({}));
    waiting["timeout"] = json!("30s");
    waiting["output_encoding"] = json!("no-op");
    let whole = json!({ "endpoint": "/whole", "timeout": "5s",
        "backend": [{ "host": [stub.url()], "url_pattern": "/", "mapping": { "text": "t" } }] });
    let extra = json!({ "portcullis/limits": { "buffered": "24MiB" } });
    let gateway = Gateway::start_in(&[], &file(&[], &[waiting, whole], extra).to_string());
    ready(&gateway, "waiting");
    let sent: Vec<Vec<u8>> = (b'0'..b'3').map(|digit| vec![digit; 5 << 20]).collect();
    for body in &sent {
        client.publish("waiting", body);
    }
    // There is room for two of them.
    eventually("the third one has no room", LIMIT, || {
        gateway
            .output()
            .contains("a message of 5242880 bytes is returned to the queue when there is memory")
    });
    assert_eq!(
        gateway.get("/whole").json()["t"].as_str().unwrap().len(),
        1 << 20
    );
    let mut taken: Vec<Vec<u8>> = (0..3).map(|_| gateway.get("/waiting").body).collect();
    taken.sort();
    assert!(taken == sent, "{}", gateway.output());
}

/// There is memory for one message at a time. The others must not wait for longer than it takes to process it.
#[test]
#[ignore = "needs rabbitmq-server"]
fn messages_that_were_skipped_continue_as_soon_as_there_is_memory() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    client.exchange("ex");
    client.queue("large", "ex", "large.#", &[]);
    for digit in 0..24 {
        client.publish("large", &vec![b'a' + digit; 400_000]);
    }
    let stub = Stub::with(&json!([{ "delay_ms": 100, "body": {} }]).to_string());
    let mut large = agent("large", &url, &stub, json!({}));
    large["consumer"]["workers"] = json!(4);
    let extra = json!({ "portcullis/limits": { "buffered": "1MiB" } });
    let gateway = Gateway::start_in(&[], &file(&[large], &[], extra).to_string());
    agents::ready(&gateway, "large");
    let mut called = BTreeSet::new();
    eventually("all are processed", Duration::from_secs(9), || {
        called.extend(stub.take_seen().iter().map(|call| call.body[0]));
        called.len() == 24
    });
    eventually("all are confirmed", LIMIT, || client.ready("large") == 0);
}

/// Each message is called at least once, or is in its queue at the end.
#[test]
#[ignore = "needs rabbitmq-server"]
fn reloads_and_a_stop_under_load_lose_no_message() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    client.exchange("ex");
    client.queue("load", "ex", "load.#", &[]);
    let mut sent = BTreeSet::new();
    for n in 0..400 {
        let body = format!("{{\"n\":{n}}}");
        client.publish("load", body.as_bytes());
        sent.insert(body.into_bytes());
    }
    let stub = Stub::with(&json!([{ "delay_ms": 20, "body": {} }]).to_string());
    let configured = |round: usize| {
        let mut agent = agent("load", &url, &stub, json!({}));
        // Every other reload changes only the calls, the others the agent itself.
        agent["consumer"]["workers"] = json!(2 + round / 2);
        agent["backend"][0]["url_pattern"] = json!(format!("/round-{round}"));
        file(&[agent], &[], json!({}))
    };
    let gateway = Gateway::start_in(&[], &configured(0).to_string());
    agents::ready(&gateway, "load");
    let mut seen = Vec::new();
    for round in 1..=5 {
        let path = format!("/round-{round}");
        reload(&gateway, &configured(round));
        eventually("calls of the new file", LIMIT, || {
            seen.extend(stub.take_seen());
            seen.iter().any(|call| call.path == path)
        });
    }
    assert!(client.ready("load") > 0, "there is no load any more");
    let started = Instant::now();
    let status = gateway.stop(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{}", gateway.output());
    assert!(started.elapsed() < Duration::from_secs(10));
    seen.extend(stub.take_seen());
    let called: BTreeSet<Vec<u8>> = seen.iter().map(|call| call.body.clone()).collect();
    let confirmed = called.len();
    eventually("the rest is back", LIMIT, || {
        client.ready("load") as usize + confirmed == sent.len()
    });
    // No call was made twice: everything that was in work has been confirmed.
    assert_eq!(seen.len(), confirmed);
    let mut rest = BTreeSet::new();
    while let Some(got) = client.get("load") {
        rest.insert(got.body);
    }
    assert!(rest.is_disjoint(&called));
    assert_eq!(&rest | &called, sent);
}
