//! `backend/pubsub/…` against a stub of the APIs of SQS and SNS.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sigv4::verify;
use super::{KEYS, checked, gateway, with_body};
use crate::support::stub::Seen;
use crate::support::{Stub, eventually};

/// An endpoint that sends its body to a topic.
pub(super) fn publisher(path: &str, host: &str, topic: &str) -> Value {
    json!({ "endpoint": path, "method": "POST", "timeout": "20s", "input_headers": ["X-A", "Content-Type", "X-Empty"],
        "backend": [{ "host": [host], "url_pattern": path, "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/publisher": { "topic_url": topic } } }] })
}

/// An endpoint that takes messages from a queue.
pub(super) fn subscriber(path: &str, host: &str, subscription: &str) -> Value {
    json!({ "endpoint": path, "timeout": "20s",
        "backend": [{ "host": [host], "url_pattern": path, "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/subscriber": { "subscription_url": subscription } } }] })
}

const QUEUE: &str = "sqs.eu-west-1.amazonaws.com/1/orders";

pub(super) fn sqs_url(stub: &Stub) -> String {
    format!("{QUEUE}?endpoint={}", stub.url())
}

/// A route for an action of SQS, with one reply after the other.
pub(super) fn action(name: &str, replies: Value) -> Value {
    json!({ "path": "/", "when_header": { "X-Amz-Target": format!("AmazonSQS.{name}") }, "replies": replies })
}

pub(super) fn message(body: &str, count: u32) -> Value {
    json!({ "body": { "Messages": [{ "MessageId": "1", "ReceiptHandle": "handle", "Body": body,
        "Attributes": { "ApproximateReceiveCount": count.to_string() } }] } })
}

pub(super) fn sqs(routes: &[Value]) -> Stub {
    let mut all = routes.to_vec();
    all.push(action(
        "DeleteMessageBatch",
        json!([{ "body": { "Successful": [{ "Id": "0" }] } }]),
    ));
    all.push(action(
        "ChangeMessageVisibilityBatch",
        json!([{ "body": { "Successful": [{ "Id": "0" }] } }]),
    ));
    Stub::with(&json!(all).to_string())
}

pub(super) fn target(seen: &Seen) -> &str {
    let target = seen.header("x-amz-target").unwrap_or("");
    target.strip_prefix("AmazonSQS.").unwrap_or(target)
}

/// Waits for this action and returns its body.
pub(super) fn waits_for(stub: &Stub, name: &str) -> Value {
    let mut found = None;
    eventually(name, Duration::from_secs(30), || {
        let mut seen = stub.take_seen().into_iter();
        found = found
            .take()
            .or_else(|| seen.find(|seen| target(seen) == name));
        found.is_some()
    });
    let seen = found.unwrap();
    verify(&seen, "eu-west-1", "sqs");
    serde_json::from_slice(&seen.body).unwrap()
}

#[test]
fn case_17_a_message_of_sns_is_unwrapped_and_deleted_afterwards() {
    let envelope = json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": "{\"in\":1}" });
    let stub = sqs(&[action(
        "ReceiveMessage",
        json!([message(&envelope.to_string(), 1)]),
    )]);
    let raw = format!("{}&raw=true", sqs_url(&stub));
    let gateway = gateway(
        &KEYS,
        &[
            subscriber("/s", "awssqs://", &sqs_url(&stub)),
            subscriber("/raw", "awssqs://", &raw),
        ],
    );
    let response = gateway.get("/s");
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "in": 1 })),
        "{}",
        response.text()
    );
    assert_eq!(response.header("x-krakend-completed"), Some("true"));
    let mut received = None;
    eventually("both calls", Duration::from_secs(30), || {
        let seen = stub.take_seen();
        for call in &seen {
            verify(call, "eu-west-1", "sqs");
        }
        let mut seen = seen.into_iter();
        if received.is_none() {
            received = seen.find(|call| target(call) == "ReceiveMessage");
        }
        seen.any(|call| {
            target(&call) == "DeleteMessageBatch"
                && String::from_utf8_lossy(&call.body).contains("\"ReceiptHandle\":\"handle\"")
        })
    });
    let asked: Value = serde_json::from_slice(&received.unwrap().body).unwrap();
    assert_eq!(asked["QueueUrl"], json!(format!("https://{QUEUE}")));
    assert_eq!(asked["MaxNumberOfMessages"], json!(1));
    assert_eq!(asked["MessageAttributeNames"], json!(["All"]));
    assert_eq!(gateway.get("/raw").json()["Type"], json!("Notification"));
}

#[test]
fn a_body_is_sent_with_the_listed_headers_and_no_others() {
    let stub = sqs(&[action(
        "SendMessageBatch",
        json!([{ "body": { "Successful": [{ "Id": "0" }], "Failed": [] } }]),
    )]);
    let other = Stub::with(&json!([{ "body": { "b": 2 } }]).to_string());
    let mut merged = publisher("/m", "awssqs://", &sqs_url(&stub));
    let both = merged["backend"].as_array_mut().unwrap();
    both.push(json!({ "host": [other.url()], "url_pattern": "/b" }));
    let gateway = gateway(
        &KEYS,
        &[publisher("/p", "awssqs://", &sqs_url(&stub)), merged],
    );
    let headers = [
        ("X-A", "a b"),
        ("Content-Type", "application/json"),
        ("X-Other", "o"),
        ("X-Forwarded-For", "192.0.2.1"),
    ];
    let response = gateway.send("POST", with_body("POST", "/p", &headers, "{\"p\":3}"));
    assert_eq!((response.status, response.text().as_str()), (200, "null"));
    assert_eq!(response.header("x-krakend-completed"), Some("false"));
    let call = stub.take_seen().pop().unwrap();
    verify(&call, "eu-west-1", "sqs");
    let sent: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(sent["QueueUrl"], json!(format!("https://{QUEUE}")));
    let entry = &sent["Entries"][0];
    assert_eq!(entry["MessageBody"], json!("{\"p\":3}"));
    let attributes = entry["MessageAttributes"].as_object().unwrap();
    let value = |name: &str| attributes[name]["StringValue"].clone();
    assert_eq!(value("X-A"), json!("a+b"));
    assert_eq!(value("Content-Type"), json!("application%2Fjson"));
    assert_eq!(attributes.len(), 2, "{attributes:?}");
    let response = gateway.send("POST", with_body("POST", "/m", &headers, "{}"));
    assert_eq!((response.status, response.json()), (200, json!({ "b": 2 })));
    assert_eq!(response.header("x-krakend-completed"), Some("true"));
}

#[test]
fn a_rejected_message_is_not_a_success_and_errors_are_not_cached() {
    let failed = json!({ "body": { "Failed": [{ "Id": "0", "Code": "InvalidMessageContents", "SenderFault": true }] } });
    let missing =
        json!({ "status": 400, "body": { "__type": "com.amazonaws.sqs#QueueDoesNotExist" } });
    let fine = json!({ "status": 200, "body": { "Successful": [{ "Id": "0" }] } });
    let stub = sqs(&[action("SendMessageBatch", json!([failed, missing, fine]))]);
    let gateway = gateway(&KEYS, &[publisher("/p", "awssqs://", &sqs_url(&stub))]);
    let send = || gateway.send("POST", with_body("POST", "/p", &[], "x"));
    let response = send();
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("InvalidMessageContents"),
        "{}",
        response.text()
    );
    let response = send();
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("QueueDoesNotExist"),
        "{}",
        response.text()
    );
    assert_eq!(send().status, 200);
    let large = "a".repeat((1 << 20) + 1);
    assert_eq!(
        gateway
            .send("POST", with_body("POST", "/p", &[], &large))
            .status,
        413
    );
}

#[test]
fn only_a_confirmation_of_the_queue_is_success() {
    let fine = json!({ "body": { "Successful": [{ "Id": "0" }] } });
    let replies = json!([{ "body": {} }, { "body": { "Successful": [] } }, { "body": { "Successful": [{ "Id": "1" }] } }, fine]);
    let stub = sqs(&[action("SendMessageBatch", replies)]);
    let gateway = gateway(&KEYS, &[publisher("/p", "awssqs://", &sqs_url(&stub))]);
    let statuses = [(); 4].map(|()| {
        gateway
            .send("POST", with_body("POST", "/p", &[], "x"))
            .status
    });
    assert_eq!(statuses, [500, 500, 500, 200]);
}

#[test]
fn a_queue_that_does_not_respond_is_not_treated_as_empty() {
    let stub = sqs(&[action(
        "ReceiveMessage",
        json!([{ "body": {}, "delay_ms": 60000 }]),
    )]);
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&stub));
    endpoint["timeout"] = json!("400ms");
    endpoint["backend"][0]["extra_config"]["backend/pubsub/subscriber"]["empty_status"] =
        json!(204);
    let gateway = gateway(&KEYS, &[endpoint]);
    let response = gateway.get("/s");
    assert_eq!(response.status, 500, "{}", response.text());
}

#[test]
fn a_message_without_data_is_returned_once() {
    let stub = sqs(&[action(
        "ReceiveMessage",
        json!([message("notjson", 1), message("notjson", 2), message("", 1)]),
    )]);
    let gateway = gateway(&KEYS, &[subscriber("/s", "awssqs://", &sqs_url(&stub))]);
    assert_eq!(gateway.get("/s").status, 500);
    let back = waits_for(&stub, "ChangeMessageVisibilityBatch");
    assert_eq!(back["Entries"][0]["VisibilityTimeout"], json!(0));
    assert_eq!(gateway.get("/s").status, 500);
    // Neither deleted nor given back: the redrive policy decides. A later message is not affected.
    let empty = gateway.get("/s");
    assert_eq!((empty.status, empty.text().as_str()), (200, "null"));
    let mut names: Vec<String> = Vec::new();
    eventually("the deletion", Duration::from_secs(30), || {
        names.extend(stub.take_seen().iter().map(|seen| target(seen).to_owned()));
        names.iter().any(|name| name == "DeleteMessageBatch")
    });
    assert!(
        !names
            .iter()
            .any(|name| name == "ChangeMessageVisibilityBatch"),
        "{names:?}"
    );
    gateway.tells("a message of 7 bytes");
    assert!(!gateway.output().contains("notjson"));
}

#[test]
fn case_9_an_empty_queue_opens_no_breaker() {
    let stub = sqs(&[action("ReceiveMessage", json!([{ "body": {} }]))]);
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&stub));
    endpoint["timeout"] = json!("400ms");
    endpoint["backend"][0]["extra_config"]["qos/circuit-breaker"] =
        json!({ "interval": 60, "timeout": 60, "max_errors": 2 });
    let mut no_content = subscriber("/n", "awssqs://", &sqs_url(&stub));
    no_content["timeout"] = json!("2s");
    no_content["backend"][0]["extra_config"]["backend/pubsub/subscriber"]["empty_status"] =
        json!(204);
    let gateway = gateway(&KEYS, &[endpoint, no_content]);
    for _ in 0..4 {
        let started = Instant::now();
        let response = gateway.get("/s");
        assert_eq!(
            (response.status, response.text().as_str()),
            (500, "context deadline exceeded")
        );
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
    let response = gateway.get("/n");
    assert_eq!(response.status, 204);
    // The queue is asked again and again, but not in a hot loop.
    let asked = stub.take_seen().len();
    assert!((5..=25).contains(&asked), "{asked}");
}

#[test]
fn a_message_for_a_closed_client_is_returned() {
    let mut late = message("{\"a\":1}", 1);
    late["delay_ms"] = json!(600);
    let stub = sqs(&[action("ReceiveMessage", json!([late]))]);
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&stub));
    endpoint["timeout"] = json!("300ms");
    let gateway = gateway(&KEYS, &[endpoint]);
    assert_eq!(gateway.get("/s").status, 500);
    let back = waits_for(&stub, "ChangeMessageVisibilityBatch");
    assert_eq!(back["Entries"][0]["ReceiptHandle"], json!("handle"));
}

#[test]
fn a_no_op_endpoint_forwards_the_message_unchanged() {
    let mut typed = message("<a/>", 1);
    typed["body"]["Messages"][0]["MessageAttributes"] =
        json!({ "Content-Type": { "DataType": "String", "StringValue": "text%2Fxml" } });
    let stub = sqs(&[action("ReceiveMessage", json!([typed]))]);
    let mut endpoint = subscriber("/s", "awssqs://", &sqs_url(&stub));
    endpoint["output_encoding"] = json!("no-op");
    let gateway = gateway(&KEYS, &[endpoint]);
    let response = gateway.get("/s");
    assert_eq!((response.status, response.text().as_str()), (200, "<a/>"));
    assert_eq!(response.header("content-type"), Some("text/xml"));
    waits_for(&stub, "DeleteMessageBatch");
}

#[test]
fn a_topic_of_sns_gets_a_form() {
    let answer = |inner: &str| json!({ "headers": { "Content-Type": "text/xml" }, "body": format!("<PublishBatchResponse><PublishBatchResult>{inner}</PublishBatchResult></PublishBatchResponse>") });
    let fine = answer(
        "<Successful><member><MessageId>m</MessageId><Id>0</Id></member></Successful><Failed/>",
    );
    let failed =
        answer("<Successful/><Failed><member><Code>KmsDisabled</Code><Id>0</Id></member></Failed>");
    let stub = Stub::with(&json!([{ "path": "/", "replies": [fine, failed] }]).to_string());
    let topic = format!("/arn:aws:sns:us-east-2:1:orders?endpoint={}", stub.url());
    let gateway = gateway(&KEYS, &[publisher("/p", "awssns://", &topic)]);
    let response = gateway.send("POST", with_body("POST", "/p", &[("X-A", "z")], "a=b&c"));
    assert_eq!(response.status, 200, "{}", response.text());
    let call = stub.take_seen().pop().unwrap();
    verify(&call, "us-east-2", "sns");
    let form: Vec<(String, String)> = form_urlencoded::parse(&call.body).into_owned().collect();
    let value = |name: &str| {
        form.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(value("Action"), Some("PublishBatch"));
    assert_eq!(value("TopicArn"), Some("arn:aws:sns:us-east-2:1:orders"));
    assert_eq!(
        value("PublishBatchRequestEntries.member.1.Message"),
        Some("a=b&c")
    );
    assert_eq!(
        value("PublishBatchRequestEntries.member.1.MessageAttributes.entry.1.Name"),
        Some("X-A")
    );
    let response = gateway.send("POST", with_body("POST", "/p", &[], "x"));
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("KmsDisabled"),
        "{}",
        response.text()
    );
}

#[test]
fn a_queue_that_cannot_work_stops_the_start_by_name() {
    let stub = sqs(&[]);
    let mut several = subscriber("/s", "awssqs://", &sqs_url(&stub));
    several["concurrent_calls"] = json!(3);
    let mut shadow = subscriber("/s", "awssqs://", &sqs_url(&stub));
    shadow["backend"][0]["extra_config"]["proxy"] = json!({ "shadow": true });
    let kafka = json!({ "endpoint": "/k", "backend": [{ "host": ["kafka://"], "disable_host_sanitize": true,
        "extra_config": { "backend/pubsub/publisher/kafka": { "topic_url": "x" } } }] });
    let mut status = subscriber("/s", "awssqs://", &sqs_url(&stub));
    status["backend"][0]["extra_config"]["backend/pubsub/subscriber"]["empty_status"] = json!(302);
    for (endpoint, words) in [
        (several, "concurrent_calls"),
        (shadow, "shadow"),
        (kafka, "HTTP service in front of the queue"),
        (status, "500, 404, 204"),
        (publisher("/p", "kafka://", "orders"), "no client for Kafka"),
        (publisher("/p", "azuresb://", "orders"), "Azure Service Bus"),
        (
            publisher("/p", "awssqs://", "user:pw@sqs.example/1/q?region=x"),
            "not the address of a queue",
        ),
        (
            publisher("/p", "awssqs://", "sqs.example/1/q?region=a/b"),
            "is not a region",
        ),
        #[cfg(not(feature = "nats"))]
        (publisher("/p", "nats://", "orders"), "--features nats"),
        #[cfg(not(feature = "amqp"))]
        (subscriber("/p", "rabbit://", "orders"), "--features amqp"),
        #[cfg(not(feature = "amqp"))]
        (
            json!({ "endpoint": "/k", "backend": [{ "host": ["amqp://h"], "extra_config": {
                "backend/amqp/consumer": { "name": "q", "exchange": "ex" } } }] }),
            "--features amqp",
        ),
        (
            json!({ "endpoint": "/k", "backend": [{ "host": ["kafka://h"], "extra_config": {
                "async/kafka": {} } }] }),
            "HTTP service in front of the queue",
        ),
        (
            publisher("/p", "http://a.example/", "orders"),
            "the scheme is unknown",
        ),
    ] {
        let (good, text) = checked(endpoint);
        assert!(!good && text.contains(words), "{words}: {text}");
    }
}
