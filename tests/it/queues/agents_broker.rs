//! `async_agent` against a RabbitMQ that speaks TLS, freezes, or counts the deliveries of a message itself.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::agents::{agent, gateway, ready};
use super::rabbit::LIMIT;

use crate::support::rabbit::Rabbit;
use crate::support::tls::Authority;
use crate::support::{Stub, eventually, pause, ports};

#[test]
#[ignore = "needs rabbitmq-server"]
fn an_agent_checks_the_certificate_of_its_broker() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.write(folder.path(), "rabbit", "localhost");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let port = ports::free();
    let config = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
        ca.display(),
        certificate.display(),
        key.display()
    );
    let Some(rabbit) = Rabbit::start_with(&config) else {
        return;
    };
    let client = rabbit.client();
    let stub = Stub::with(&json!([{ "body": {} }]).to_string());
    let url = |options: &str| format!("amqps://guest:guest@127.0.0.1:{port}?{options}");
    let trusting = format!("cacertfile={}&server_name_indication=", ca.display());
    let agents = [
        agent(
            "good",
            &url(&format!("{trusting}localhost")),
            &stub,
            json!({}),
        ),
        agent(
            "name",
            &url(&format!("{trusting}other.test")),
            &stub,
            json!({}),
        ),
        agent(
            "ca",
            &url("server_name_indication=localhost"),
            &stub,
            json!({}),
        ),
    ];
    let gateway = gateway(&agents);
    ready(&gateway, "good");
    client.publish("good", b"{}");
    eventually("the call", LIMIT, || {
        stub.take_seen().iter().any(|call| call.path == "/good")
    });
    for name in ["name", "ca"] {
        eventually(name, LIMIT, || {
            let log = gateway.output();
            let line = log
                .lines()
                .find(|line| line.contains(&format!("[{name}] cannot connect to")));
            line.is_some_and(|line| line.contains("ertificate"))
        });
    }
    let log = gateway.output();
    assert!(
        !log.contains("[name] connected") && !log.contains("[ca] connected"),
        "{log}"
    );
    assert!(!log.contains("guest"), "{log}");
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn a_frozen_broker_is_disconnected_and_used_again_without_a_loss() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let url = format!("amqp://guest:guest@127.0.0.1:{}?heartbeat=4", rabbit.port());
    let stub = Stub::with(&json!([{ "delay_ms": 20, "body": {} }]).to_string());
    let gateway = gateway(&[agent("frozen", &url, &stub, json!({ "durable": true }))]);
    ready(&gateway, "frozen");
    let client = rabbit.client();
    let sent: BTreeSet<String> = (0..200).map(|id| format!("{{\"id\":{id}}}")).collect();
    for body in &sent {
        client.publish("frozen", body.as_bytes());
    }
    drop(client);
    let mut called = BTreeSet::new();
    let mut collect = || {
        let bodies = stub.take_seen().into_iter().map(|call| call.body);
        called.extend(bodies.map(|body| String::from_utf8(body).unwrap()));
        called.len()
    };
    eventually("the first calls", LIMIT, || collect() > 0);
    let mark = gateway.mark();
    rabbit.signal("STOP");
    eventually("the heartbeat ends the connection", LIMIT, || {
        collect();
        gateway
            .output_since(mark)
            .contains("[frozen] cannot connect to")
    });
    let mark = gateway.mark();
    // Longer than an attempt to connect: a frozen broker still accepts connections.
    pause(Duration::from_secs(3));
    rabbit.signal("CONT");
    eventually("it is connected again", LIMIT, || {
        gateway
            .output_since(mark)
            .contains("[frozen] connected to the queue")
    });
    eventually("all messages", LIMIT, || collect() == sent.len());
    assert_eq!(called, sent);
    let client = rabbit.client();
    eventually("all are confirmed", LIMIT, || client.ready("frozen") == 0);
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn a_quorum_queue_ends_the_deliveries_of_a_poisoned_message() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let client = rabbit.client();
    client.exchange("dead");
    client.queue("dead", "dead", "#", &[]);
    client.quorum("limited", "dead", 2);
    client.quorum("counted", "dead", 100);
    let stub = Stub::with(&json!([{ "status": 503 }]).to_string());
    let url = rabbit.url();
    let gateway = gateway(&[
        agent("limited", &url, &stub, json!({ "durable": true })),
        agent(
            "counted",
            &url,
            &stub,
            json!({ "durable": true, "max_deliveries": 2 }),
        ),
    ]);
    ready(&gateway, "limited");
    ready(&gateway, "counted");
    for name in ["limited", "counted"] {
        client.publish(name, name.as_bytes());
    }
    eventually("both are dead letters", LIMIT, || client.ready("dead") == 2);
    let seen = stub.take_seen();
    let calls = |path: &str| seen.iter().filter(|call| call.path == path).count();
    // The limit of the queue counts the deliveries after the first one.
    assert_eq!((calls("/limited"), calls("/counted")), (3, 2));
    pause(Duration::from_secs(2));
    assert!(stub.take_seen().is_empty(), "a dead letter is called again");
}
