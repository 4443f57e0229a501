//! RabbitMQ that does not confirm messages, takes none, or delivers odd ones: a broker of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agents::{agent, file, page};
use super::rabbit::{LIMIT, consumer, post, producer};
use super::{checked, gateway, gateway_with};
use crate::support::amqp::{AmqpStub, Heard, blocked, delivery, unblocked};
use crate::support::rabbit::Rabbit;
use crate::support::{Gateway, Stub, eventually, ports};

const PUBLISH: (u16, u16) = (60, 40);
const CONSUME: (u16, u16) = (60, 20);

fn send(url: &str) -> Value {
    let block = json!({ "exchange": "ex", "routing_key": "k", "static_routing_key": true });
    let mut endpoint = producer("/send", url, block);
    endpoint["timeout"] = json!("1s");
    endpoint
}

/// Waits until the gateway can send to this exchange.
fn opened(gateway: &Gateway, count: usize) {
    eventually("the channels", LIMIT, || {
        gateway
            .output()
            .matches("connected to the exchange ex")
            .count()
            == count
    });
}

#[test]
fn a_message_that_is_not_confirmed_in_time_may_have_been_sent() {
    let broker = AmqpStub::start(|_, heard| matches!(heard, Heard::Message(..)));
    let url = broker.url();
    let mut topic = json!({ "endpoint": "/topic", "method": "POST", "timeout": "1s",
        "backend": [{ "host": ["rabbit://"], "url_pattern": "/topic", "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/publisher": { "topic_url": "ex" } } }] });
    topic["input_headers"] = json!([]);
    let gateway = gateway(&[("RABBIT_SERVER_URL", &url)], &[send(&url), topic]);
    opened(&gateway, 2);
    for (path, log) in [
        ("/send", "[BACKEND: /to-the-broker][AMQP]"),
        ("/topic", "[BACKEND: rabbit://"),
    ] {
        let response = post(&gateway, path, &[], "{}");
        assert_eq!(
            (response.status, response.text().as_str()),
            (500, "context deadline exceeded")
        );
        super::late::says(&gateway, [log, "the message may have been sent"]);
    }
    assert_eq!(broker.count(PUBLISH), 2);
}

#[test]
fn nothing_is_sent_to_a_broker_that_takes_no_messages() {
    const HIDDEN: &str = "the broker takes no messages now: its text is not shown, because it may contain a credential";
    let broker = AmqpStub::start(|_, _| false);
    let port = ports::free();
    let extra = json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") } });
    let mut endpoint = send(&broker.url());
    endpoint["timeout"] = json!("30s");
    let gateway = gateway_with(&[], &[endpoint], extra);
    opened(&gateway, 1);
    assert_eq!(post(&gateway, "/send", &[], "{}").status, 200);
    broker.say(&blocked("low on geheim memory"));
    eventually("it is known", LIMIT, || {
        let text = gateway.output();
        text.contains("takes no messages: its text is not shown")
    });
    let sent = broker.count(PUBLISH);
    let started = Instant::now();
    for _ in 0..3 {
        let response = post(&gateway, "/send", &[], "{}");
        assert_eq!((response.status, response.text().as_str()), (500, HIDDEN));
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    broker.say(&unblocked());
    eventually("it takes messages again", LIMIT, || {
        post(&gateway, "/send", &[], "{}").status == 200
    });
    assert_eq!(broker.count(PUBLISH), sent + 1);
    let text = page(port);
    let line = "portcullis_queue_messages_total{backend=\"/to-the-broker\",direction=\"out\",result=\"rejected\"}";
    assert!(
        text.contains(line) && !text.contains(&format!("{line} 0")),
        "{text}"
    );
    assert!(!gateway.output().contains("may have been sent"));
}

#[test]
fn a_broker_that_is_blocked_in_turn_does_not_fill_the_log() {
    let broker = AmqpStub::start(|wire, heard| {
        if matches!(heard, Heard::Method(_, (85, 10))) {
            let pair = [blocked("low on memory"), unblocked()].concat();
            for _ in 0..100 {
                wire.say(&pair.repeat(100));
            }
        }
        false
    });
    let gateway = gateway(&[], &[send(&broker.url())]);
    eventually("all is read", LIMIT, || {
        post(&gateway, "/send", &[], "{}").status == 200
    });
    let log = gateway.output();
    assert!(log.contains("[Queues] amqp://127.0.0.1:"), "{log}");
    assert!(log.lines().count() < 100, "{} lines", log.lines().count());
}

/// With an alarm from the start, RabbitMQ announces that it takes no messages after the first one.
#[test]
#[ignore = "needs rabbitmq-server"]
fn a_memory_alarm_of_rabbitmq_is_the_reason_of_the_failure() {
    let Some(rabbit) = Rabbit::start_with("vm_memory_high_watermark.absolute = 1MB\n") else {
        return;
    };
    let gateway = gateway(&[], &[send(&rabbit.url())]);
    opened(&gateway, 1);
    eventually("the reason", LIMIT, || {
        let text = post(&gateway, "/send", &[], "{}").text();
        text.contains("the broker takes no messages now: low on memory")
    });
}

#[test]
fn an_empty_content_type_of_a_message_is_no_header() {
    let broker = AmqpStub::start(|wire, heard| {
        if let Heard::Method(channel, CONSUME) = heard {
            let messages = [("", "1"), ("text/x-test", "2")];
            wire.say(&crate::support::amqp::method(*channel, (60, 21), b"\x01c"));
            for (tag, (kind, body)) in (1..).zip(messages) {
                wire.say(&delivery(*channel, tag, kind, body.as_bytes()));
            }
            return true;
        }
        false
    });
    let url = broker.url();
    let backend = Stub::with(&json!([{ "body": {} }]).to_string());
    let mut raw = consumer("/raw", &url, json!({}));
    raw["output_encoding"] = json!("no-op");
    let agents = [agent("typed", &url, &backend, json!({}))];
    let gateway = Gateway::start_in(&[], &file(&agents, &[raw], json!({})).to_string());
    for expected in [None, Some("text/x-test")] {
        let response = gateway.get("/raw");
        assert_eq!(response.status, 200, "{}", gateway.output());
        assert_eq!(response.header("content-type"), expected);
    }
    let mut seen = Vec::new();
    eventually("two calls", LIMIT, || {
        seen.extend(backend.take_seen());
        seen.len() == 2
    });
    for call in seen {
        let expected = (call.body == b"2").then_some("text/x-test");
        assert_eq!(call.header("content-type"), expected, "{call:?}");
    }
}

#[test]
fn the_log_says_when_messages_that_wait_take_all_places() {
    let broker = AmqpStub::start(|wire, heard| {
        if let Heard::Method(channel, CONSUME) = heard {
            wire.say(&crate::support::amqp::method(*channel, (60, 21), b"\x01c"));
            for tag in 1..=3 {
                wire.say(&delivery(*channel, tag, "text/x-test", &tag.to_be_bytes()));
            }
            return true;
        }
        false
    });
    let backend = Stub::with(&json!([{ "status": 503 }]).to_string());
    let stuck = agent(
        "stuck",
        &broker.url(),
        &backend,
        json!({ "prefetch_count": 3 }),
    );
    let gateway = Gateway::start_in(&[], &file(&[stuck], &[], json!({})).to_string());
    eventually("the warning", LIMIT, || {
        gateway
            .output()
            .contains("[stuck] all 3 places of prefetch_count are taken by messages that wait")
    });
}

#[test]
fn an_agent_that_gave_up_is_shown_at_once_and_starts_with_a_reload() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    // It refuses the consumer at first.
    let broker = AmqpStub::start(move |wire, heard| match heard {
        Heard::Method(channel, CONSUME) if !open.load(Ordering::SeqCst) => {
            let close = b"\x01\x93\x0dACCESS DENIED\0\0\0\0";
            wire.say(&crate::support::amqp::method(*channel, (20, 40), close));
            true
        }
        _ => false,
    });
    let backend = Stub::with(&json!([{ "body": {} }]).to_string());
    let mut one = agent("one", &broker.url(), &backend, json!({}));
    one["connection"] = json!({ "max_retries": 1, "health_interval": "60s" });
    let configured = file(&[one], &[], json!({}));
    let gateway = Gateway::start_in(&[], &configured.to_string());
    eventually("it gives up", LIMIT, || {
        gateway.output().contains("[one] too many failures")
    });
    eventually("it is shown", Duration::from_secs(5), || {
        gateway.get("/__health").json()["stopped"] == json!(["one"])
    });
    is_open.store(true, Ordering::SeqCst);
    super::agents::reload(&gateway, &configured);
    eventually("it is connected", LIMIT, || {
        let health = gateway.get("/__health").json();
        health["agents"]["one"].is_string() && health.get("stopped").is_none()
    });
}

#[test]
fn the_queue_of_a_consumer_that_the_broker_refuses_is_not_connected() {
    let broker = AmqpStub::start(|wire, heard| match heard {
        Heard::Method(channel, CONSUME) => {
            let close = b"\x01\x93\x0dACCESS DENIED\0\0\0\0";
            wire.say(&crate::support::amqp::method(*channel, (20, 40), close));
            true
        }
        _ => false,
    });
    let port = ports::free();
    let extra = json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") } });
    let refused = consumer("/refused", &broker.url(), json!({ "empty_status": 204 }));
    let gateway = gateway_with(&[], &[refused, send(&broker.url())], extra);
    opened(&gateway, 1);
    let response = gateway.get("/refused");
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("403 ACCESS DENIED"),
        "{}",
        response.text()
    );
    let text = page(port);
    let place = broker.url().replace("u:geheim@", "");
    for line in [
        format!("portcullis_queue_connected{{broker=\"the queue refused of {place}\"}} 0"),
        format!("portcullis_queue_connected{{broker=\"the exchange ex of {place}\"}} 1"),
        format!("portcullis_queue_connected{{broker=\"{place}\"}} 1"),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    // The next connection to the same broker is not needed: only the channel is opened again.
    assert_eq!(broker.connections(), 1);
}

#[test]
fn two_blocks_that_make_the_response_are_both_named() {
    let mut both = consumer("/both", "amqp://u:hidden@127.0.0.1:1", json!({}));
    both["backend"][0]["extra_config"]["backend/amqp/producer"] = json!({ "exchange": "ex" });
    let (good, text) = checked(both);
    assert!(!good && !text.contains("martian"), "{text}");
    // One in the text, the other in its place.
    for name in ["\"backend/amqp/consumer\"", "backend~1amqp~1producer"] {
        assert!(text.contains(name), "{text}");
    }
}
