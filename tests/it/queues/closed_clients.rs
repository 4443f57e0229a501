//! A message whose client has closed its connection goes back to its queue.

use std::time::Duration;

use serde_json::json;

use super::pubsub::{action, message, sqs, sqs_url, subscriber, target, waits_for};
use super::{KEYS, gateway};
use crate::support::{Client, Gateway, Stub, eventually, http, pause};

/// Sends a request, and closes the connection a moment after `has_come`.
pub(super) fn leave_when(gateway: &Gateway, path: &str, has_come: impl FnMut() -> bool) {
    let mut client = Client::connect(gateway.port()).unwrap();
    client.send(http::request("GET", path, &[])).unwrap();
    eventually("the request has come", Duration::from_secs(30), has_come);
    pause(Duration::from_millis(200));
}

/// An HTTP backend that responds after four seconds.
pub(super) fn slow(stub: &Stub) -> serde_json::Value {
    json!({ "host": [stub.url()], "url_pattern": "/slow" })
}

pub(super) fn slow_stub() -> Stub {
    let slow = json!({ "path": "/slow", "replies": [{ "body": { "slow": 1 }, "delay_ms": 4000 }] });
    Stub::with(&json!([slow]).to_string())
}

#[test]
fn a_message_waits_for_the_other_backends_and_is_returned_without_a_client() {
    let queue = sqs(&[action("ReceiveMessage", json!([message("{\"v\":1}", 1)]))]);
    let slow_backend = slow_stub();
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&queue));
    endpoint["timeout"] = json!("20s");
    endpoint["backend"]
        .as_array_mut()
        .unwrap()
        .push(slow(&slow_backend));
    let gateway = gateway(&KEYS, &[endpoint]);
    leave_when(&gateway, "/s", || !slow_backend.take_seen().is_empty());
    let back = waits_for(&queue, "ChangeMessageVisibilityBatch");
    assert_eq!(back["Entries"][0]["VisibilityTimeout"], json!(0));
    // It is confirmed only after the last backend has responded.
    let mut client = Client::connect(gateway.port()).unwrap();
    client.send(http::request("GET", "/s", &[])).unwrap();
    pause(Duration::from_millis(400));
    let seen = queue.take_seen();
    let names: Vec<&str> = seen.iter().map(target).collect();
    assert_eq!(names, ["ReceiveMessage"]);
    let response = client.response("GET").unwrap();
    assert_eq!(response.json(), json!({ "slow": 1, "v": 1 }));
    waits_for(&queue, "DeleteMessageBatch");
}

#[test]
fn a_streamed_message_is_returned_without_a_client() {
    let mut late = message("<a/>", 1);
    late["delay_ms"] = json!(3000);
    let queue = sqs(&[action("ReceiveMessage", json!([late]))]);
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&queue));
    endpoint["output_encoding"] = json!("no-op");
    let gateway = gateway(&KEYS, &[endpoint]);
    leave_when(&gateway, "/s", || !queue.take_seen().is_empty());
    waits_for(&queue, "ChangeMessageVisibilityBatch");
}

#[cfg(feature = "lua")]
#[test]
fn a_message_that_a_step_around_the_endpoint_rejects_is_returned_once() {
    let queue = sqs(&[action(
        "ReceiveMessage",
        json!([message("{\"v\":1}", 1), message("{\"v\":1}", 2)]),
    )]);
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&queue));
    endpoint["extra_config"] =
        json!({ "modifier/lua-proxy": { "post": "custom_error('no', 400)" } });
    let gateway = gateway(&KEYS, &[endpoint]);
    assert_eq!(gateway.get("/s").status, 400);
    waits_for(&queue, "ChangeMessageVisibilityBatch");
    assert_eq!(gateway.get("/s").status, 400);
    eventually("the line", Duration::from_secs(30), || {
        gateway.output().matches("a message of 7 bytes").count() == 2
    });
    let seen = queue.take_seen();
    assert!(
        seen.iter().all(|seen| target(seen) == "ReceiveMessage"),
        "it is neither deleted nor returned again"
    );
}
