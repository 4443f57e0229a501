//! RabbitMQ: `backend/amqp/consumer`, `backend/amqp/producer` and `rabbit://` against a real broker.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{checked, gateway, with_body};
use crate::support::rabbit::{Rabbit, RabbitClient};
use crate::support::tls::Authority;
use crate::support::{Gateway, Response, eventually, ports};

pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// An endpoint whose backend has this block, with more members.
pub(super) fn endpoint(
    path: &str,
    method: &str,
    url: &str,
    namespace: &str,
    block: Value,
) -> Value {
    json!({ "endpoint": path, "method": method, "timeout": "3s",
        "backend": [{ "host": [url], "url_pattern": path, "disable_host_sanitize": true,
            "extra_config": { namespace: block } }] })
}

pub(super) fn consumer(path: &str, url: &str, more: Value) -> Value {
    let mut block = json!({ "name": path.trim_start_matches('/'), "exchange": "ex", "routing_key": [format!("{}.#", &path[1..])] });
    for (name, value) in more.as_object().unwrap() {
        block[name] = value.clone();
    }
    endpoint(path, "GET", url, "backend/amqp/consumer", block)
}

pub(super) fn producer(path: &str, url: &str, block: Value) -> Value {
    let mut endpoint = endpoint(path, "POST", url, "backend/amqp/producer", block);
    endpoint["input_headers"] = json!(["X-A", "Content-Type"]);
    endpoint["backend"][0]["url_pattern"] = json!("/to-the-broker");
    endpoint
}

pub(super) fn post(
    gateway: &Gateway,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    gateway.send("POST", with_body("POST", path, headers, body))
}

/// Waits until the gateway takes messages from this queue.
pub(super) fn ready(gateway: &Gateway, queue: &str) {
    eventually(queue, LIMIT, || {
        gateway
            .output()
            .contains(&format!("connected to the queue {queue} of"))
    });
}

/// Waits until all messages of the queue are with the gateway.
pub(super) fn delivered(client: &RabbitClient, queue: &str) {
    eventually("delivered", LIMIT, || client.ready(queue) == 0);
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn cases_8_to_12_a_consumer_responds_with_messages_and_confirms_them() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let url = rabbit.url();
    let mut empty = consumer("/empty", &url, json!({ "empty_status": 404 }));
    empty["timeout"] = json!("400ms");
    empty["backend"][0]["extra_config"]["qos/circuit-breaker"] =
        json!({ "interval": 60, "timeout": 60, "max_errors": 2 });
    let mut raw = consumer("/raw", &url, json!({}));
    raw["output_encoding"] = json!("no-op");
    let short = |mut endpoint: Value| {
        endpoint["timeout"] = json!("1s");
        endpoint
    };
    let client = rabbit.client();
    // A queue with other arguments than the gateway would declare.
    client.exchange("dead");
    client.queue("dead", "dead", "#", &[]);
    client.exchange("ex");
    client.queue(
        "poison",
        "ex",
        "poison.#",
        &[("x-dead-letter-exchange", "dead")],
    );
    let gateway = gateway(
        &[],
        &[
            consumer("/plain", &url, json!({})),
            empty,
            short(consumer("/discard", &url, json!({ "nack_discard": true }))),
            short(consumer("/poison", &url, json!({}))),
            short(consumer("/auto", &url, json!({ "auto_ack": true }))),
            raw,
        ],
    );
    for queue in ["plain", "empty", "discard", "poison", "auto", "raw"] {
        ready(&gateway, queue);
    }
    let get = |path: &str| {
        let response = gateway.get(path);
        (response.status, response.text())
    };
    let fine = |text: &str| (200, text.to_owned());

    // Case 8.
    let object = "{\"a\":1,\"big\":12345678901234567890}";
    client.publish("plain", object.as_bytes());
    assert_eq!(get("/plain"), fine(object), "{}", gateway.output());
    client.publish("plain", b"");
    assert_eq!(get("/plain"), fine("null"));
    client.publish("raw", b"<a/>");
    let response = gateway.get("/raw");
    assert_eq!((response.status, response.text().as_str()), (200, "<a/>"));
    assert_eq!(response.header("content-type"), Some("text/x-test"));

    // Case 9.
    for _ in 0..4 {
        let started = Instant::now();
        assert_eq!(get("/empty").0, 404);
        assert!(started.elapsed() >= Duration::from_millis(300));
    }

    // Case 10.
    client.publish("discard", b"notjson");
    client.publish("discard", b"{\"b\":2}");
    delivered(&client, "discard");
    assert_eq!(get("/discard").0, 500);
    assert_eq!(get("/discard"), fine("{\"b\":2}"));
    assert_eq!(get("/discard").1, "context deadline exceeded");

    // Case 11. The second time, the message goes to the dead letters.
    client.publish("poison", b"notjson");
    client.publish("poison", b"{\"b\":2}");
    delivered(&client, "poison");
    assert_eq!(get("/poison").0, 500);
    assert_eq!(get("/poison"), fine("{\"b\":2}"));
    assert_eq!(get("/poison").0, 500);
    assert_eq!(get("/poison").1, "context deadline exceeded");
    assert_eq!(client.get("dead").unwrap().body, b"notjson");
    gateway.tells("the queue poison exists with other settings");
    let log = gateway.output();
    assert!(log.contains("a message of 7 bytes"), "{log}");
    assert!(!log.contains("notjson") && !log.contains("guest"), "{log}");

    // Case 12.
    for n in 0..3 {
        client.publish("auto", format!("{{\"n\":{n}}}").as_bytes());
    }
    for n in 0..3 {
        assert_eq!(get("/auto"), fine(&format!("{{\"n\":{n}}}")));
    }

    // What was not taken, or not confirmed, is in its queue again; what was confirmed is not.
    client.publish("plain", b"{\"kept\":1}");
    delivered(&client, "plain");
    drop(gateway);
    eventually("the message is back", LIMIT, || client.ready("plain") == 1);
    for queue in ["auto", "discard", "poison", "raw"] {
        assert_eq!(client.ready(queue), 0, "{queue}");
    }
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn cases_13_and_14_a_producer_sends_messages_with_properties() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.write(folder.path(), "rabbit", "localhost");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let secure = ports::free();
    let config = format!(
        "listeners.ssl.1 = 127.0.0.1:{secure}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
        ca.display(),
        certificate.display(),
        key.display()
    );
    let Some(rabbit) = Rabbit::start_with(&config) else {
        return;
    };
    let url = rabbit.url();
    let client = rabbit.client();
    client.exchange("ex");
    client.queue("q", "ex", "q.#", &[]);
    client.queue("t", "ex", "t.#", &[]);
    let all = json!({ "exchange": "ex", "routing_key": "Rk", "exp_key": "Exp", "reply_to_key": "Reply", "msg_id_key": "Id", "priority_key": "Priority" });
    let fixed = json!({ "exchange": "ex", "routing_key": "q.fixed", "static_routing_key": true, "mandatory": true });
    let nowhere = json!({ "exchange": "ex", "routing_key": "nowhere", "static_routing_key": true });
    let mut mandatory = nowhere.clone();
    mandatory["mandatory"] = json!(true);
    let different = json!({ "exchange": "ex", "durable": true });
    let topic = |name: &str, url: &str| {
        let mut endpoint = endpoint(
            name,
            "POST",
            "rabbit://",
            "backend/pubsub/publisher",
            json!({ "topic_url": url }),
        );
        endpoint["input_headers"] = json!(["X-A", "X-Key"]);
        endpoint
    };
    let subscription = endpoint(
        "/taken",
        "GET",
        "rabbit://",
        "backend/pubsub/subscriber",
        json!({ "subscription_url": "t" }),
    );
    let tls = format!(
        "amqps://guest:guest@127.0.0.1:{secure}/%2f?server_name_indication=localhost&cacertfile={}",
        ca.display()
    );
    let strange = format!("amqps://guest:guest@localhost:{secure}");
    let gateway = gateway(
        &[("RABBIT_SERVER_URL", &url)],
        &[
            producer("/all/{rk}/{exp}/{reply}/{id}/{priority}", &url, all),
            producer("/fixed", &url, fixed.clone()),
            producer("/nowhere", &url, nowhere),
            producer("/mandatory", &url, mandatory),
            producer("/different", &url, different),
            producer("/tls", &tls, fixed.clone()),
            producer("/strange", &strange, fixed),
            topic("/topic", "ex?key_name=X-Key"),
            topic("/missing", "missing"),
            subscription,
        ],
    );

    // Case 13.
    let headers = [
        ("X-A", "1"),
        ("X-A", "2"),
        ("Content-Type", "application/json"),
    ];
    let response = post(&gateway, "/all/q.rk/60000/r/m/7", &headers, "{\"x\":1}");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "null"),
        "{}",
        gateway.output()
    );
    assert_eq!(response.header("x-krakend-completed"), Some("false"));
    let got = client.get("q").unwrap();
    assert_eq!((got.key.as_str(), &*got.body), ("q.rk", &b"{\"x\":1}"[..]));
    let properties = &got.properties;
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    assert_eq!(text(properties.content_type()), "application/json");
    assert_eq!(text(properties.expiration()), "60000");
    assert_eq!(text(properties.reply_to()), "r");
    assert_eq!(text(properties.message_id()), "m");
    assert_eq!(properties.priority(), Some(7));
    assert!(
        properties
            .timestamp()
            .is_some_and(|time| time > 1_700_000_000)
    );
    let table = properties.headers().unwrap().to_string();
    assert!(table.contains("X-A: [ 1, 2 ]"), "{table}");
    assert!(
        !table.contains("User-Agent") && !table.contains("X-Forwarded"),
        "{table}"
    );
    for path in [
        "/all/q.rk/abc/r/m/7",
        "/all/q.rk/1/r/m/300",
        &format!("/all/{}/1/r/m/1", "k".repeat(256)),
    ] {
        assert_eq!(post(&gateway, path, &[], "{}").status, 400, "{path}");
    }
    assert_eq!(client.ready("q"), 0);

    // Case 14.
    assert_eq!(post(&gateway, "/nowhere", &[], "{}").status, 200);
    let response = post(&gateway, "/mandatory", &[], "{}");
    assert_eq!(response.status, 500);
    assert!(response.text().contains("no route"), "{}", response.text());
    assert_eq!(post(&gateway, "/fixed", &[], "{}").status, 200);
    assert_eq!(client.get("q").unwrap().key, "q.fixed");

    // An exchange that exists with other properties is told, and hurts nobody else.
    let response = post(&gateway, "/different", &[], "{}");
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("406") && response.text().contains("durable"),
        "{}",
        response.text()
    );
    assert_eq!(post(&gateway, "/missing", &[], "{}").status, 500);

    // TLS with the authority of the address, and without it.
    assert_eq!(
        post(&gateway, "/tls", &[], "{}").status,
        200,
        "{}",
        gateway.output()
    );
    assert_eq!(client.get("q").unwrap().key, "q.fixed");
    assert_eq!(post(&gateway, "/strange", &[], "{}").status, 500);

    // rabbit://
    let response = post(
        &gateway,
        "/topic",
        &[("X-A", "a b"), ("X-Key", "t.topic")],
        "{\"t\":1}",
    );
    assert_eq!(response.status, 200, "{}", response.text());
    let response = post(&gateway, "/topic", &[("X-Key", "nowhere")], "{}");
    assert_eq!(response.status, 500);
    assert!(response.text().contains("no route"), "{}", response.text());
    let response = gateway.get("/taken");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "{\"t\":1}")
    );
    assert!(!gateway.output().contains("guest"), "{}", gateway.output());
}

#[test]
fn a_block_that_cannot_work_stops_the_start() {
    let url = "amqp://u:hidden@127.0.0.1:1";
    let good = |block: Value| {
        let mut all = json!({ "name": "q", "exchange": "ex" });
        for (name, value) in block.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    let take =
        |url: &str, block: Value| endpoint("/x", "GET", url, "backend/amqp/consumer", good(block));
    let send =
        |block: Value| endpoint("/x/{rk}", "POST", url, "backend/amqp/producer", good(block));
    let mut several = take(url, json!({}));
    several["concurrent_calls"] = json!(2);
    for (endpoint, words) in [
        (take(url, json!({ "name": "" })), "name: a name"),
        (take(url, json!({ "exchange": "" })), "exchange: a name"),
        (
            take(url, json!({ "prefetch_size": 1 })),
            "closes the connection",
        ),
        (take(url, json!({ "prefetch_count": 70000 })), "65535"),
        (take(url, json!({ "empty_status": 302 })), "500, 404, 204"),
        (
            take("http://127.0.0.1:1", json!({})),
            "the scheme must be amqp",
        ),
        (
            take("amqp://u:hidden@h?heartbeat=0", json!({})),
            "heartbeat",
        ),
        (several, "concurrent_calls"),
        (send(json!({ "immediate": true })), "closes the connection"),
        (send(json!({ "exclusive": true })), "internal exchange"),
    ] {
        let (good, text) = checked(endpoint);
        assert!(!good && text.contains(words), "{words}: {text}");
        assert!(!text.contains("hidden"), "{text}");
    }
    for endpoint in [
        take(
            url,
            json!({ "routing_key": ["a.#"], "backoff_strategy": "exponential-jitter", "max_retries": 3 }),
        ),
        send(json!({ "routing_key": "Rk", "no_wait": true, "prefetch_count": 5 })),
    ] {
        let (good, text) = checked(endpoint);
        assert!(good, "{text}");
    }
    let (good, text) = checked(send(json!({ "routing_key": "other" })));
    assert!(good && text.contains("no parameter {other}"), "{text}");
}

/// The configurations in docs/queues.md that need this feature.
#[test]
fn the_configurations_in_the_document_pass_check() {
    let document = include_str!("../../../docs/queues.md");
    let blocks = document.split("```json amqp\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (good, text) = checked(serde_json::from_str(block).unwrap());
        assert!(good, "{block}: {text}");
    }
}
