//! What `check` says of agents.

use serde_json::{Value, json};

use super::agents::{agent, file};
use crate::support::Stub;

/// What `check` says of a file with these agents.
fn checked(agents: &[Value]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, file(agents, &[], json!({})).to_string()).unwrap();
    let mut command = crate::support::gateway::command();
    let output = command.args(["check", "-d"]).arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.success(),
        text + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn an_agent_that_cannot_work_stops_the_start() {
    let stub = Stub::start();
    let good = || agent("x", "amqp://u:hidden@127.0.0.1:1", &stub, json!({}));
    let with = |pointer: &str, value: Value| {
        let mut agent = good();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        agent.pointer_mut(parent).unwrap()[name] = value;
        vec![agent]
    };
    let queue = |name: &str, value: Value| {
        let mut agent = good();
        agent["extra_config"]["async/amqp"][name] = value;
        vec![agent]
    };
    for (agents, words) in [
        (vec![good(), good()], "two agents have the name \"x\""),
        (with("/backend", json!([])), "at least one backend"),
        (with("/extra_config", json!({})), "the agent has no queue"),
        (
            with("/extra_config", json!({ "async/kafka": {} })),
            "async/kafka",
        ),
        (with("/consumer/timeout", json!("soon")), "duration"),
        (with("/consumer/max_rate", json!(-1)), "cannot be negative"),
        (with("/consumer/workers", json!(70_000)), "65535"),
        (with("/encoding", json!("protobuf")), "protobuf"),
        (
            with("/extra_config/auth~1validator", json!({})),
            "validator",
        ),
        (
            with("/backend/0/url_pattern", json!("/{id}")),
            "undefined output param 'id'! async agent: x, backend: 0. An agent has no parameters",
        ),
        (
            with("/backend/0/url_pattern", json!("/{id}/{more}")),
            "async agent: x, backend: 0. An agent has no parameters",
        ),
        (queue("host", json!("http://h")), "the scheme must be amqp"),
        (queue("host", json!("")), "empty"),
        (queue("name", json!("")), "name: a name"),
        (queue("exchange", json!("")), "exchange: a name"),
        (queue("prefetch_size", json!(1)), "closes the connection"),
        (queue("prefetch_count", json!(70_000)), "65535"),
        (queue("max_deliveries", json!(-1)), "0 to"),
        (queue("nack_discard", json!("perhaps")), "nack_discard"),
    ] {
        let (good, text) = checked(&agents);
        assert!(!good && text.contains(words), "{words}: {text}");
        assert!(!text.contains("hidden"), "{text}");
        // There is no endpoint to correct.
        assert!(
            !text.contains("GET /") && !text.contains("\"endpoint\""),
            "{text}"
        );
    }
    let mut unnamed = good();
    unnamed.as_object_mut().unwrap().remove("name");
    unnamed["consumer"] = json!({ "workers": "5", "max_rate": 0.5, "topic": "a.#" });
    unnamed["connection"] = json!({ "max_retries": -1, "backoff_strategy": "exponential-jitter", "health_interval": "10s" });
    unnamed["extra_config"]["validation/cel"] = json!([{ "check_expr": "req_method == 'GET'" }]);
    unnamed["backend"][0]["extra_config"] =
        json!({ "qos/circuit-breaker": { "interval": 60, "timeout": 60, "max_errors": 2 } });
    let (good, text) = checked(&[unnamed]);
    assert!(good && text.contains("AsyncAgent-00"), "{text}");
}

/// The configurations in docs/queues.md that have agents.
#[test]
fn the_agents_in_the_document_pass_check() {
    let document = include_str!("../../../docs/queues.md");
    let blocks = document.split("```json agent\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (good, text) = checked(&[serde_json::from_str(block).unwrap()]);
        assert!(good, "{block}: {text}");
    }
}
