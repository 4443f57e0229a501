//! Services that were given a call and do not respond in time: what they did is unknown, and the log says so.

use serde_json::{Value, json};

use super::pubsub::publisher;
use super::{KEYS, gateway, with_body};
use crate::support::{Gateway, Stub};

fn stub() -> Stub {
    Stub::with(&json!([{ "delay_ms": 3000, "body": {} }]).to_string())
}

fn short(mut endpoint: Value) -> Value {
    endpoint["timeout"] = json!("500ms");
    endpoint
}

/// Calls the endpoint, and expects this in one line of the log.
fn expect(gateway: &Gateway, path: &str, words: [&str; 2]) {
    let response = gateway.send("POST", with_body("POST", path, &[], "{}"));
    assert_eq!(response.status, 500, "{}", response.text());
    says(gateway, words);
}

/// Expects this in one line of the log.
pub(super) fn says(gateway: &Gateway, words: [&str; 2]) {
    crate::support::eventually(words[0], std::time::Duration::from_secs(30), || {
        let text = gateway.output();
        text.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    });
}

#[test]
fn a_message_for_aws_may_have_been_sent() {
    let stub = stub();
    let options = format!("region=eu-west-1&endpoint={}", stub.url());
    let topic = format!("/arn:aws:sns:eu-west-1:1:orders?{options}");
    let queue = format!("sqs.eu-west-1.amazonaws.com/1/orders?{options}");
    let endpoints = [
        short(publisher("/topic", "awssns://", &topic)),
        short(publisher("/queue", "awssqs://", &queue)),
    ];
    let gateway = gateway(&KEYS, &endpoints);
    for (path, service) in [
        ("/topic", "[BACKEND: awssns://"),
        ("/queue", "[BACKEND: awssqs://"),
    ] {
        expect(&gateway, path, [service, "the message may have been sent"]);
    }
}

#[test]
fn a_message_for_google_may_have_been_sent() {
    let stub = stub();
    let host = super::google::host(&stub);
    let endpoint = short(publisher("/topic", "gcppubsub://", "projects/p/topics/t"));
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", &host)], &[endpoint]);
    let words = ["[BACKEND: gcppubsub://", "the message may have been sent"];
    expect(&gateway, "/topic", words);
}

#[test]
fn a_function_may_have_run() {
    let stub = stub();
    let function = json!({ "endpoint": "/run", "method": "POST", "timeout": "500ms",
        "backend": [{ "url_pattern": "/run", "extra_config": { "backend/lambda": {
            "function_name": "f", "region": "eu-west-1", "endpoint": stub.url() } } }] });
    let gateway = gateway(&KEYS, &[function]);
    let words = ["[BACKEND: /run][Lambda]", "the function may have run"];
    expect(&gateway, "/run", words);
}

/// Nothing was sent without a connection.
#[test]
fn a_message_without_a_connection_was_not_sent() {
    let nobody = crate::support::ports::Closed::new();
    let host = format!("127.0.0.1:{}", nobody.port());
    let endpoint = publisher("/topic", "gcppubsub://", "projects/p/topics/t");
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", &host)], &[endpoint]);
    expect(&gateway, "/topic", ["ERROR", "127.0.0.1"]);
    let log = gateway.output();
    assert!(!log.contains("may have been sent"), "{log}");
}
