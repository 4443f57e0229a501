//! Message queues and functions in the place of hosts.
//!
//! Tests with a number in their names are cases that were observed with KrakenD, too. `docs/differences-from-krakend.md`
//! says where the results differ.

#[cfg(feature = "amqp")]
mod agents;
#[cfg(feature = "amqp")]
mod agents_broker;
#[cfg(feature = "amqp")]
mod agents_check;
#[cfg(feature = "amqp")]
mod agents_life;
mod closed_clients;
mod document;
mod google;
mod lambda;
mod late;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod nats_faults;
#[cfg(feature = "nats")]
mod nats_tls;
mod pubsub;
#[cfg(feature = "amqp")]
mod rabbit;
#[cfg(feature = "amqp")]
mod rabbit_life;
#[cfg(feature = "amqp")]
mod rabbit_limits;
#[cfg(feature = "amqp")]
mod rabbit_stub;
#[cfg(feature = "amqp")]
mod rabbit_wire;
mod sigv4;

use serde_json::{Value, json};

use crate::support::Gateway;

/// The environment of a gateway with fixed keys, which looks for no others.
pub(crate) const KEYS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
    ("AWS_SECRET_ACCESS_KEY", sigv4::SECRET),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("HOME", "/nowhere"),
];

/// A gateway with these endpoints, which shows the texts of errors.
pub(crate) fn gateway(variables: &[(&str, &str)], endpoints: &[Value]) -> Gateway {
    gateway_with(variables, endpoints, json!({}))
}

/// The same with more blocks in the service.
pub(crate) fn gateway_with(
    variables: &[(&str, &str)],
    endpoints: &[Value],
    mut extra: Value,
) -> Gateway {
    extra["router"] = json!({ "return_error_msg": true });
    let file =
        json!({ "version": 3, "timeout": "5s", "endpoints": endpoints, "extra_config": extra });
    Gateway::start_in(variables, &file.to_string())
}

/// What `check` says of a file with this endpoint.
pub(crate) fn checked(endpoint: Value) -> (bool, String) {
    let file = json!({ "version": 3, "endpoints": [endpoint] });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let mut command = crate::support::gateway::command();
    let output = command.arg("check").arg(&path).envs(KEYS).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.success(),
        text + &String::from_utf8_lossy(&output.stderr),
    )
}

/// The start says which feature is missing.
#[cfg(not(feature = "amqp"))]
#[test]
fn agents_are_rejected_without_their_feature() {
    let agent = |namespace: &str| {
        json!({ "version": 3, "endpoints": [], "async_agent": [{ "name": "x",
            "backend": [{ "host": ["http://127.0.0.1:1"], "url_pattern": "/" }],
            "extra_config": { namespace: { "host": "amqp://h", "name": "q", "exchange": "e" } } }] })
    };
    for (namespace, words) in [
        ("async/amqp", "cargo build --release --features amqp"),
        (
            "github.com/devopsfaith/krakend-amqp/agent",
            "--features amqp",
        ),
        ("async/kafka", "async/kafka"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("krakend.json");
        std::fs::write(&path, agent(namespace).to_string()).unwrap();
        for verb in ["check", "run"] {
            let mut command = crate::support::gateway::command();
            let output = command.arg(verb).arg(&path).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && text.contains(words),
                "{verb} {namespace}: {text}"
            );
        }
    }
}

/// The bytes of a request with a body.
pub(crate) fn with_body(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let mut all = vec![("Content-Length", length.as_str())];
    all.extend(headers);
    let head = crate::support::http::request(method, path, &all);
    [head.as_bytes(), body.as_bytes()].concat()
}
