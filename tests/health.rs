//! The health endpoint: what the front loop says by itself is what the gateway would say.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};

use support::{Answer, Gateway};

fn ask(gateway: &Gateway, heads: &[&str]) -> Vec<Answer> {
    let mut client = gateway.client();
    client.send(heads.concat().as_bytes()).unwrap();
    heads
        .iter()
        .map(|_| client.answer("GET").unwrap())
        .collect()
}

fn shape(answer: &Answer) -> (u16, Vec<String>, Value) {
    let varying = |name: &str| name.eq_ignore_ascii_case("date");
    let mut fields: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !varying(name))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.sort();
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["now"] = json!("then");
    (answer.status, fields, body)
}

#[test]
fn both_ways_to_the_health_answer_give_the_same() {
    let gateway = Gateway::start(&json!({ "version": 3, "endpoints": [] }).to_string());
    let quick = "GET /__health HTTP/1.1\r\nHost: a\r\n\r\n";
    // A field about the connection sends the request the usual way.
    let usual = "GET /__health HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let answers = ask(&gateway, &[quick, usual, quick, quick]);
    let expected = shape(&answers[1]);
    assert_eq!(expected.0, 200);
    assert_eq!(expected.2["status"], "ok");
    for answer in &answers {
        assert_eq!(shape(answer), expected);
    }
    gateway.stop(Duration::from_secs(10));
    let ended = gateway.output();
    let lines = ended.matches(r#"| GET      "/__health""#).count();
    assert_eq!(lines, 4, "{ended}");
}

#[test]
fn whatever_looks_at_every_request_sees_probes_too() {
    let file = json!({
        "version": 3, "endpoints": [],
        "extra_config": { "security/cors": { "allow_origins": ["http://a.test"] } }
    });
    let gateway = Gateway::start(&file.to_string());
    let head = "GET /__health HTTP/1.1\r\nHost: a\r\nOrigin: http://a.test\r\n\r\n";
    let answers = ask(&gateway, &[head]);
    let allowed = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("access-control-allow-origin") && value == "http://a.test"
    };
    assert!(answers[0].headers.iter().any(allowed));
    let post = "POST /__health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(&gateway, &[post])[0].status, 405);
}
