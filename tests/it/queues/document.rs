//! Runs each configuration of `docs/queues.md`, with the addresses of this machine.

use serde_json::{Value, json};

use super::google;
use super::pubsub::{action, message, sqs};
use super::{KEYS, gateway, with_body};
use crate::support::{Gateway, Stub};

/// The blocks of this language.
fn blocks(language: &str) -> Vec<Value> {
    let document = include_str!("../../../docs/queues.md");
    let start = format!("```{language}\n");
    let blocks = document.split(&start).skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| serde_json::from_str(block).unwrap())
        .collect()
}

/// The only block of this language that has this text.
fn block(language: &str, text: &str) -> Value {
    let mut found = blocks(language);
    found.retain(|block| block.to_string().contains(text));
    assert_eq!(found.len(), 1, "{language} {text}");
    found.remove(0)
}

fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let response = gateway.send("POST", with_body("POST", path, headers, body));
    (response.status, response.text())
}

/// A new block must be run here, too.
#[test]
fn no_configuration_is_forgotten() {
    let count = |language: &str| blocks(language).len();
    let counts = ["json", "json nats", "json amqp", "json agent"].map(count);
    assert_eq!(counts, [4, 2, 3, 1]);
}

#[test]
fn the_functions_of_the_document_are_called() {
    let stub = Stub::with(&json!([{ "body": { "ok": true } }]).to_string());
    let mut file = block("json", "backend/lambda");
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        endpoint["backend"][0]["extra_config"]["backend/lambda"]["endpoint"] = json!(stub.url());
    }
    let gateway = Gateway::start_in(&KEYS, &file.to_string());
    assert_eq!(gateway.get("/price/7").json(), json!({ "ok": true }));
    assert_eq!(post(&gateway, "/orders", &[], "{}").0, 200);
    let seen = stub.take_seen();
    let calls: Vec<(&str, &[u8])> = seen
        .iter()
        .map(|call| (call.path.as_str(), call.body.as_slice()))
        .collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].0.contains("/price/"), "{calls:?}");
    assert_eq!(calls[0].1, b"{\"product\":\"7\"}\n");
    assert!(calls[1].0.contains("orders"), "{calls:?}");
}

#[test]
fn the_topic_of_the_document_gets_messages() {
    let path = "/v1/projects/my-project/topics/events:publish";
    let stub = Stub::with(&json!([{ "path": path, "body": { "messageIds": ["1"] } }]).to_string());
    let host = google::host(&stub);
    let topic = block("json", "backend/pubsub/publisher");
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", &host)], &[topic]);
    let headers = [("X-Source", "test"), ("Content-Type", "application/json")];
    let sent = post(&gateway, "/events", &headers, "{}");
    assert_eq!(sent, (200, "null".to_owned()), "{}", gateway.output());
    let seen = stub.take_seen();
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    let attributes = &body["messages"][0]["attributes"];
    assert_eq!(
        attributes,
        &json!({ "X-Source": "test", "Content-Type": "application/json" })
    );
}

#[test]
fn the_queue_of_the_document_is_read() {
    let stub = sqs(&[action(
        "ReceiveMessage",
        json!([message("{\"job\":1}", 1), { "body": {} }]),
    )]);
    let mut queue = block("json", "backend/pubsub/subscriber");
    let place = &mut queue["backend"][0]["extra_config"]["backend/pubsub/subscriber"];
    let url = place["subscription_url"].as_str().unwrap();
    place["subscription_url"] = json!(format!("{url}&endpoint={}", stub.url()));
    queue["timeout"] = json!("2s");
    let gateway = gateway(&KEYS, &[queue]);
    assert_eq!(gateway.get("/next-job").json(), json!({ "job": 1 }));
    assert_eq!(gateway.get("/next-job").status, 204);
}

#[test]
fn the_limits_of_the_document_are_accepted() {
    let gateway = Gateway::start_in(&[], &block("json", "portcullis/limits").to_string());
    assert_eq!(gateway.get("/__health").status, 200);
}

#[cfg(feature = "nats")]
#[test]
#[ignore = "needs nats-server"]
fn the_subjects_of_the_document_exchange_messages() {
    let Some(nats) = crate::support::nats::Nats::start() else {
        return;
    };
    let gateway = gateway(&[("NATS_SERVER_URL", &nats.url())], &blocks("json nats"));
    super::nats::subscribed(&gateway, "/next-order", || {
        post(&gateway, "/orders", &[], "{}");
    });
    assert_eq!(post(&gateway, "/orders", &[], "{\"n\":1}").0, 200);
    assert_eq!(gateway.get("/next-order").text(), "{\"n\":1}");
}

/// The block with this address of a broker.
#[cfg(feature = "amqp")]
fn at(block: &Value, url: &str) -> Value {
    let text = block.to_string();
    let text = text.replace("amqp://user:password@rabbit:5672/shop?heartbeat=30", url);
    let text = text.replace("amqp://user:password@rabbit:5672/shop", url);
    serde_json::from_str(&text).unwrap()
}

#[cfg(feature = "amqp")]
#[test]
#[ignore = "needs rabbitmq-server"]
fn the_exchanges_and_queues_of_the_document_exchange_messages() {
    let Some(rabbit) = crate::support::rabbit::Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    client.exchange("events");
    client.queue("seen", "events", "a.#", &[]);
    let all: Vec<Value> = blocks("json amqp")
        .iter()
        .map(|block| at(block, &url))
        .collect();
    let gateway = gateway(&[("RABBIT_SERVER_URL", &url)], &all);
    super::rabbit::ready(&gateway, "to-do");
    let sent = post(&gateway, "/orders/c-7", &[], "{\"n\":1}");
    assert_eq!(sent.0, 200, "{}", gateway.output());
    assert_eq!(gateway.get("/next-order").text(), "{\"n\":1}");
    let sent = post(&gateway, "/events", &[("X-Key", "a.b")], "{}");
    assert_eq!(sent.0, 200, "{}", sent.1);
    assert_eq!(client.get("seen").unwrap().key, "a.b");
}

#[cfg(feature = "amqp")]
#[test]
#[ignore = "needs rabbitmq-server"]
fn the_agent_of_the_document_calls_its_backend() {
    let Some(rabbit) = crate::support::rabbit::Rabbit::start() else {
        return;
    };
    let stub = Stub::with(&json!([{ "body": {} }]).to_string());
    let mut agent = at(&block("json agent", "async/amqp"), &rabbit.url());
    agent["backend"][0]["host"] = json!([stub.url()]);
    let gateway = super::agents::gateway(&[agent]);
    super::agents::ready(&gateway, "invoices");
    rabbit.client().publish("invoices", b"{}");
    crate::support::eventually("the call", super::rabbit::LIMIT, || {
        stub.take_seen().iter().any(|call| call.path == "/orders")
    });
}
