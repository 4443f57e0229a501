//! `gcppubsub://` against a stub of the REST API of Google Pub/Sub.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{gateway, with_body};
use crate::support::ports::Closed;
use crate::support::{Stub, eventually};

const TOPIC: &str = "/v1/projects/p/topics/t";
const SUBSCRIPTION: &str = "/v1/projects/p/subscriptions/s";

fn publisher() -> Value {
    json!({ "endpoint": "/p", "method": "POST", "timeout": "20s", "input_headers": ["X-A"],
        "backend": [{ "host": ["gcppubsub://"], "url_pattern": "/p", "disable_host_sanitize": true,
            "extra_config": { "backend/pubsub/publisher": { "topic_url": "projects/p/topics/t" } } }] })
}

fn subscriber() -> Value {
    json!({ "endpoint": "/s", "timeout": "20s",
        "backend": [{ "host": ["gcppubsub://p/"], "url_pattern": "/s", "disable_host_sanitize": true,
            "extra_config": { "github.com/devopsfaith/krakend-pubsub/subscriber": { "subscription_url": "s" } } }] })
}

fn pubsub(more: &[Value]) -> Stub {
    let mut routes = vec![
        json!({ "path": format!("{TOPIC}:publish"), "body": { "messageIds": ["1"] } }),
        json!({ "path": format!("{SUBSCRIPTION}:acknowledge"), "body": {} }),
        json!({ "path": format!("{SUBSCRIPTION}:modifyAckDeadline"), "body": {} }),
    ];
    routes.extend(more.iter().cloned());
    Stub::with(&json!(routes).to_string())
}

pub(super) fn host(stub: &Stub) -> String {
    format!("127.0.0.1:{}", stub.port())
}

#[test]
fn case_18_without_credentials_the_gateway_starts_and_the_call_says_so() {
    let nobody = Closed::new();
    let metadata = format!("127.0.0.1:{}", nobody.port());
    let variables = [
        ("HOME", "/nowhere"),
        ("GCE_METADATA_HOST", metadata.as_str()),
    ];
    let other = Stub::with(&json!([{ "body": { "ok": true } }]).to_string());
    let plain =
        json!({ "endpoint": "/other", "backend": [{ "host": [other.url()], "url_pattern": "/" }] });
    let gateway = gateway(&variables, &[publisher(), plain]);
    let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("no credentials"),
        "{}",
        response.text()
    );
    assert_eq!(gateway.get("/other").status, 200);
    gateway.tells("no Google credentials");
}

#[test]
fn case_18_an_emulator_gets_data_and_attributes() {
    let stub = pubsub(&[]);
    let host = host(&stub);
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", host.as_str())], &[publisher()]);
    let response = gateway.send(
        "POST",
        with_body("POST", "/p", &[("X-A", "a b"), ("X-B", "b")], "{\"p\":3}"),
    );
    assert_eq!((response.status, response.text().as_str()), (200, "null"));
    let call = stub.take_seen().pop().unwrap();
    assert_eq!(call.header("authorization"), None);
    let sent: Value = serde_json::from_slice(&call.body).unwrap();
    let expected = json!({ "messages": [{ "data": STANDARD.encode("{\"p\":3}"), "attributes": { "X-A": "a b" } }] });
    assert_eq!(sent, expected);
}

fn delivered(id: &str, body: &str) -> Value {
    json!({ "body": { "receivedMessages": [{ "ackId": format!("ack-{id}"),
        "message": { "data": STANDARD.encode(body), "messageId": id } }] } })
}

/// Waits for a call of this method and returns its body.
fn waits_for(stub: &Stub, method: &str) -> Value {
    let mut found = None;
    eventually(method, Duration::from_secs(30), || {
        let mut seen = stub.take_seen().into_iter();
        found = found
            .take()
            .or_else(|| seen.find(|seen| seen.path.ends_with(method)));
        found.is_some()
    });
    serde_json::from_slice(&found.unwrap().body).unwrap()
}

#[test]
fn messages_are_acknowledged_after_their_response_and_bad_ones_are_returned_once() {
    let pull = json!({ "path": format!("{SUBSCRIPTION}:pull"), "replies": [
        { "body": {} }, delivered("1", "{\"a\":12345678901234567890}"), delivered("2", "notjson"), delivered("2", "notjson"),
        { "body": {} }] });
    let stub = pubsub(&[pull]);
    let host = host(&stub);
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", host.as_str())], &[subscriber()]);
    let response = gateway.get("/s");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "{\"a\":12345678901234567890}")
    );
    assert_eq!(
        waits_for(&stub, ":acknowledge"),
        json!({ "ackIds": ["ack-1"] })
    );
    assert_eq!(gateway.get("/s").status, 500);
    let back = waits_for(&stub, ":modifyAckDeadline");
    assert_eq!(
        back,
        json!({ "ackIds": ["ack-2"], "ackDeadlineSeconds": 0 })
    );
    assert_eq!(gateway.get("/s").status, 500);
    assert_eq!(
        waits_for(&stub, ":acknowledge"),
        json!({ "ackIds": ["ack-2"] })
    );
    assert_eq!(gateway.get("/s").status, 500);
}

#[test]
fn a_service_account_gets_a_token_with_a_signed_assertion() {
    let tokens = Stub::with(
        &json!([{ "path": "/token", "body": { "access_token": "the-token", "expires_in": 3600 } }])
            .to_string(),
    );
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let file = json!({ "type": "service_account", "client_email": "me@p.example", "private_key": pem,
        "private_key_id": "k1", "token_uri": format!("{}/token", tokens.url()) });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("account.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let stub = pubsub(&[]);
    let base = stub.url();
    let variables = [
        ("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap()),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", base.as_str()),
    ];
    let gateway = gateway(&variables, &[publisher()]);
    let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    assert_eq!(response.status, 200, "{}", response.text());
    let call = stub.take_seen().pop().unwrap();
    assert_eq!(call.header("authorization"), Some("Bearer the-token"));
    let asked = tokens.take_seen().pop().unwrap();
    let form: Vec<(String, String)> = form_urlencoded::parse(&asked.body).into_owned().collect();
    let value = |name: &str| {
        form.iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(
        value("grant_type"),
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    let assertion = value("assertion");
    let (text, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
        .verify(text.as_bytes(), &signature)
        .unwrap();
    let (header, claims) = text.split_once('.').unwrap();
    let read = |part: &str| {
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(read(header)["kid"], json!("k1"));
    let claims = read(claims);
    assert_eq!(claims["iss"], json!("me@p.example"));
    assert_eq!(claims["aud"], json!(format!("{}/token", tokens.url())));
    assert_eq!(
        claims["scope"],
        json!("https://www.googleapis.com/auth/pubsub")
    );
}

#[test]
fn a_token_comes_from_the_metadata_server() {
    let token = json!({ "path": "/computeMetadata/v1/instance/service-accounts/default/token",
        "when_header": { "Metadata-Flavor": "Google" }, "body": { "access_token": "md-token", "expires_in": 600 } });
    let metadata = Stub::with(&json!([token]).to_string());
    let stub = pubsub(&[]);
    let (base, near) = (stub.url(), host(&metadata));
    let variables = [
        ("HOME", "/nowhere"),
        ("GCE_METADATA_HOST", near.as_str()),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", base.as_str()),
    ];
    let gateway = gateway(&variables, &[publisher()]);
    let response = gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    assert_eq!(response.status, 200, "{}", response.text());
    let call = stub.take_seen().pop().unwrap();
    assert_eq!(call.header("authorization"), Some("Bearer md-token"));
}

#[test]
fn only_an_id_confirms_a_message() {
    let replies = json!([{ "body": {} }, { "body": { "messageIds": [] } }, { "body": { "messageIds": [""] } },
        { "body": { "messageIds": ["7"] } }]);
    let path = format!("{TOPIC}:publish");
    let stub = Stub::with(&json!([{ "path": path, "replies": replies }]).to_string());
    let host = host(&stub);
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", host.as_str())], &[publisher()]);
    let statuses = [(); 4].map(|()| {
        gateway
            .send("POST", with_body("POST", "/p", &[], "{}"))
            .status
    });
    assert_eq!(statuses, [500, 500, 500, 200]);
}

#[test]
fn messages_that_cannot_be_read_are_returned_once() {
    let odd = |message: Value| json!({ "body": { "receivedMessages": [{ "ackId": "ack", "message": message }] } });
    let broken = odd(json!({ "data": "!", "messageId": "1" }));
    let pull = json!({ "path": format!("{SUBSCRIPTION}:pull"), "replies": [
        broken, broken, odd(json!({ "data": null, "attributes": 7, "messageId": "2" })), { "body": {} }] });
    let stub = pubsub(&[pull]);
    let host = host(&stub);
    let gateway = gateway(&[("PUBSUB_EMULATOR_HOST", host.as_str())], &[subscriber()]);
    assert_eq!(gateway.get("/s").status, 500);
    waits_for(&stub, ":modifyAckDeadline");
    let again = gateway.get("/s");
    assert_eq!(again.status, 500);
    assert!(again.text().contains("not Base64"), "{}", again.text());
    waits_for(&stub, ":acknowledge");
    let empty = gateway.get("/s");
    assert_eq!((empty.status, empty.text().as_str()), (200, "null"));
    waits_for(&stub, ":acknowledge");
}

#[test]
fn a_rejected_token_is_replaced() {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let token = |text: &str| json!({ "body": { "access_token": text, "expires_in": 3600 } });
    let replies = json!([token(""), token("old"), token("new")]);
    let metadata = Stub::with(&json!([{ "path": path, "replies": replies }]).to_string());
    let publish = format!("{TOPIC}:publish");
    let fine = json!({ "path": publish, "when_header": { "Authorization": "Bearer new" }, "body": { "messageIds": ["1"] } });
    let stale = json!({ "path": publish, "status": 401, "body": {} });
    let stub = Stub::with(&json!([fine, stale]).to_string());
    let (base, near) = (stub.url(), host(&metadata));
    let variables = [
        ("HOME", "/nowhere"),
        ("GCE_METADATA_HOST", near.as_str()),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", base.as_str()),
    ];
    let gateway = gateway(&variables, &[publisher()]);
    let send = || gateway.send("POST", with_body("POST", "/p", &[], "{}"));
    let first = send();
    assert_eq!(first.status, 500);
    assert!(first.text().contains("empty token"), "{}", first.text());
    eventually("the new token", Duration::from_secs(30), || {
        send().status == 200
    });
    let seen = stub.take_seen();
    let with = |value: &str| {
        let all = seen.iter();
        all.filter(|seen| seen.header("authorization") == Some(value))
            .count()
    };
    assert!(with("Bearer old") >= 1 && with("Bearer ") == 0);
}
