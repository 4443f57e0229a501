//! `async_agent` against a real RabbitMQ.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rabbit::LIMIT;

use crate::support::rabbit::{Rabbit, RabbitClient};
use crate::support::{Client, Gateway, Stub, eventually, http, pause, ports};

/// An agent that takes the messages of the queue `name` and posts them to `/name`.
pub(super) fn agent(name: &str, url: &str, stub: &Stub, more: Value) -> Value {
    let mut queue = json!({ "host": url, "name": name, "exchange": "ex" });
    for (key, value) in more.as_object().unwrap() {
        queue[key] = value.clone();
    }
    json!({ "name": name,
        "consumer": { "topic": format!("{name}.#"), "timeout": "3s" },
        "backend": [{ "host": [stub.url()], "url_pattern": format!("/{name}"), "method": "POST" }],
        "extra_config": { "async/amqp": queue } })
}

pub(super) fn file(agents: &[Value], endpoints: &[Value], extra: Value) -> Value {
    json!({ "version": 3, "async_agent": agents, "endpoints": endpoints, "extra_config": extra })
}

pub(super) fn gateway(agents: &[Value]) -> Gateway {
    let extra = json!({ "telemetry/logging": { "level": "DEBUG", "stdout": true } });
    Gateway::start_in(&[], &file(agents, &[], extra).to_string())
}

/// Waits until this agent takes messages.
pub(super) fn ready(gateway: &Gateway, name: &str) {
    eventually(name, LIMIT, || {
        gateway
            .output()
            .contains(&format!("[{name}] connected to the queue"))
    });
}

pub(super) fn reload(gateway: &Gateway, file: &Value) {
    std::fs::write(gateway.config_path(), file.to_string()).unwrap();
    let mark = gateway.mark();
    gateway.signal("HUP");
    eventually("reloaded", LIMIT, || {
        gateway
            .output_since(mark)
            .contains("Configuration reloaded")
    });
}

/// A queue of this name whose rejected messages go to the queue `dead-NAME`.
fn with_dead_letters(client: &RabbitClient, name: &str) {
    let dead = format!("dead-{name}");
    client.exchange(&dead);
    client.queue(&dead, &dead, "#", &[]);
    client.queue(
        name,
        "ex",
        &format!("{name}.#"),
        &[("x-dead-letter-exchange", &dead)],
    );
}

pub(super) fn page(port: u16) -> String {
    let mut client = Client::connect(port).unwrap();
    client.send(http::request("GET", "/metrics", &[])).unwrap();
    client.response("GET").unwrap().text()
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn cases_19_and_21_messages_are_confirmed_after_the_backend_has_responded() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (url, client) = (rabbit.url(), rabbit.client());
    client.exchange("ex");
    let routes = json!([
        { "path": "/object", "body": {} },
        { "path": "/empty", "status": 204 },
        { "path": "/text", "body": "OK" },
        { "path": "/both", "body": "OK" },
        { "path": "/other", "body": [1] },
        { "path": "/noop", "status": 404 },
        { "path": "/read", "method": "GET", "body": {} },
        { "path": "/slow", "delay_ms": 2000, "body": {} },
        { "status": 503 },
    ]);
    let stub = Stub::with(&routes.to_string());
    let discard = || json!({ "nack_discard": true });
    let mut both = agent("both", &url, &stub, discard());
    both["backend"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "host": [stub.url()], "url_pattern": "/other/{resp0_x}", "method": "PUT" }));
    both["backend"][1]["url_pattern"] = json!("/other");
    both["extra_config"]["proxy"] = json!({ "sequential": true });
    let mut noop = agent("noop", &url, &stub, discard());
    noop["encoding"] = json!("no-op");
    let mut slow = agent("slow", &url, &stub, discard());
    slow["consumer"]["timeout"] = json!("300ms");
    let mut closed = agent("closed", &url, &stub, discard());
    closed["extra_config"]["validation/cel"] = json!([{ "check_expr": "req_method == 'DELETE'" }]);
    let mut read = agent("read", &url, &stub, discard());
    read["backend"][0].as_object_mut().unwrap().remove("method");
    read["backend"][0]["input_headers"] = json!(["X-Other"]);
    let mut moved = agent("moved", &url, &stub, discard());
    moved["backend"][0] = json!({ "host": [url], "url_pattern": "/", "disable_host_sanitize": true,
        "extra_config": { "backend/amqp/producer": { "exchange": "ex", "mandatory": true,
            "routing_key": "target.x", "static_routing_key": true } } });
    client.queue("target", "ex", "target.#", &[]);
    let agents = [
        closed,
        read,
        moved,
        agent("object", &url, &stub, discard()),
        agent("empty", &url, &stub, discard()),
        agent("text", &url, &stub, discard()),
        both,
        noop,
        slow,
        agent("twice", &url, &stub, json!({ "max_deliveries": 2 })),
        agent("again", &url, &stub, json!({})),
    ];
    for agent in &agents {
        with_dead_letters(&client, agent["name"].as_str().unwrap());
    }
    let port = ports::free();
    let extra = json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") } });
    let gateway = Gateway::start_in(&[], &file(&agents, &[], extra).to_string());
    for agent in &agents {
        ready(&gateway, agent["name"].as_str().unwrap());
    }

    // Case 19.
    for name in [
        "object", "empty", "text", "both", "noop", "slow", "closed", "read", "moved",
    ] {
        client.publish(name, b"{\"big\":12345678901234567890}");
    }
    eventually("the failed ones are rejected", LIMIT, || {
        let all = ["dead-noop", "dead-slow", "dead-closed"];
        all.iter().all(|name| client.ready(name) == 1)
    });
    let mut seen = Vec::new();
    eventually("all calls", LIMIT, || {
        seen.extend(stub.take_seen());
        seen.len() >= 8
    });
    for call in &seen {
        assert_eq!(call.body, b"{\"big\":12345678901234567890}", "{call:?}");
        assert_eq!(call.header("content-type"), Some("text/x-test"));
        assert_eq!(call.header("content-length"), Some("28"), "{call:?}");
        assert!(call.header("user-agent").unwrap().starts_with("Portcullis"));
        let rest: Vec<&String> = call
            .headers
            .keys()
            .filter(|name| name.starts_with("x-") || *name == "transfer-encoding")
            .collect();
        assert!(rest.is_empty(), "{rest:?}");
    }
    let mut paths: Vec<&str> = seen.iter().map(|call| &*call.path).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "/both", "/empty", "/noop", "/object", "/other", "/read", "/slow", "/text"
        ]
    );
    let read = seen.iter().find(|call| call.path == "/read");
    assert_eq!(read.map(|call| &*call.method), Some("GET"));
    eventually("the message of the agent", LIMIT, || {
        client.ready("target") == 1
    });
    let got = client.get("target").unwrap();
    assert_eq!(
        (&*got.key, &*got.body),
        ("target.x", &b"{\"big\":12345678901234567890}"[..])
    );

    // Case 21.
    client.publish("again", b"x");
    client.publish("twice", b"x");
    eventually("the first calls", LIMIT, || {
        seen = stub.take_seen();
        !seen.is_empty()
    });
    let first = Instant::now();
    let mut calls = seen.iter().filter(|call| call.path == "/again").count();
    while first.elapsed() < Duration::from_millis(2400) {
        calls += stub
            .take_seen()
            .iter()
            .filter(|call| call.path == "/again")
            .count();
        pause(Duration::from_millis(20));
    }
    assert_eq!(calls, 2, "{}", gateway.output());
    eventually("the third call", Duration::from_secs(30), || {
        stub.take_seen().iter().any(|call| call.path == "/again")
    });
    assert!(first.elapsed() >= Duration::from_millis(2500));
    assert_eq!(client.ready("dead-twice"), 1);
    for name in ["object", "empty", "text", "both", "noop", "slow", "twice"] {
        assert_eq!(client.ready(name), 0, "{name}");
    }
    for name in ["object", "empty", "text", "both", "read", "moved"] {
        assert_eq!(client.ready(&format!("dead-{name}")), 0, "{name}");
    }

    let health = gateway.get("/__health").json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["agents"].as_object().unwrap().len(), agents.len());
    assert!(health["agents"]["again"].as_str().unwrap().ends_with("UTC"));
    assert_eq!(health.get("stopped"), None);
    let text = page(port);
    let place = format!("amqp://127.0.0.1:{} (again)", rabbit.port());
    for line in [
        "portcullis_queue_messages_total{backend=\"object\",direction=\"in\",result=\"ok\"} 1"
            .to_owned(),
        "portcullis_queue_messages_total{backend=\"noop\",direction=\"in\",result=\"rejected\"} 1"
            .to_owned(),
        "portcullis_queue_messages_total{backend=\"twice\",direction=\"in\",result=\"error\"} 1"
            .to_owned(),
        "portcullis_agent_in_flight{agent=\"again\"} 0".to_owned(),
        "portcullis_backend_calls_total{backend=\"/object\",result=\"ok\",route=\"object\"} 1"
            .to_owned(),
        "portcullis_agent_redelivered_total{agent=\"again\"} 2".to_owned(),
        format!("portcullis_queue_connected{{broker=\"the queue again of {place}\"}} 1"),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    let log = gateway.output();
    assert!(
        !log.contains("guest") && !log.contains("12345678901234567890"),
        "{log}"
    );
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn case_20_a_dead_agent_stops_no_other_and_is_shown() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let client = rabbit.client();
    let stub = Stub::with(&json!([{ "body": {} }]).to_string());
    let nowhere = "amqp://guest:hidden@127.0.0.1:1";
    let mut dead = agent("dead", nowhere, &stub, json!({}));
    dead["connection"] = json!({ "max_retries": 1 });
    let gateway = gateway(&[dead, agent("live", &rabbit.url(), &stub, json!({}))]);
    ready(&gateway, "live");
    eventually("it gives up", LIMIT, || {
        gateway.output().contains("[dead] too many failures")
    });
    client.publish("live", b"{}");
    eventually("the call", LIMIT, || !stub.take_seen().is_empty());
    eventually("it is shown", LIMIT, || {
        gateway.get("/__health").json()["stopped"] == json!(["dead"])
    });
    let health = gateway.get("/__health").json();
    assert_eq!(health["status"], "ok");
    let agents = health["agents"].as_object().unwrap();
    assert!(agents.contains_key("live") && !agents.contains_key("dead"));
    let log = gateway.output();
    let told = log.matches("[dead] cannot connect to").count();
    assert!(told == 1 && !log.contains("hidden"), "{log}");
}
