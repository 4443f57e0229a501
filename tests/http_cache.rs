//! `qos/http-cache` over sockets: which stores there are, what they hold, and what the client gets.

// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};

use support::{Gateway, Stub};

/// A gateway with an endpoint `/1`, `/2`, … for each of these cache blocks, all before `/u` of one stub.
fn start(blocks: &[Value]) -> (Gateway, Stub) {
    let stub = Stub::with(
        r#"[{"headers": {"Content-Type": "application/json", "Cache-Control": "max-age=60"}, "body": {"n": 1}}]"#,
    );
    let endpoints: Vec<Value> = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| {
            json!({
                "endpoint": format!("/{}/{{path}}", index + 1),
                "input_headers": ["Cache-Control"],
                "backend": [{"url_pattern": "/{path}", "extra_config": {"qos/http-cache": block}}]
            })
        })
        .collect();
    let file = json!({"version": 3, "host": [stub.url()], "endpoints": endpoints,
        "extra_config": {"router": {"return_error_msg": true}}});
    (Gateway::start(&file.to_string()), stub)
}

/// How many calls reach the upstream when these are asked for in turn.
fn calls(blocks: &[Value], paths: &[&str]) -> usize {
    let (gateway, stub) = start(blocks);
    for path in paths {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    stub.take_seen().len()
}

#[test]
fn only_both_limits_together_are_limits() {
    let three = ["/1/a", "/1/b", "/1/a"];
    assert_eq!(calls(&[json!({"max_items": 1})], &three), 2);
    assert_eq!(calls(&[json!({"max_size": 10})], &three), 2);
    let both = json!({"max_items": 1, "max_size": 10_000});
    assert_eq!(calls(&[both], &three), 3);
    // No more than the answer and its fields need.
    let small = json!({"max_items": 9, "max_size": 700});
    assert_eq!(calls(&[small], &["/1/a", "/1/a"]), 1);
}

#[test]
fn shared_stores_with_and_without_limits_are_two() {
    let (with, without) = (
        json!({"shared": true, "max_items": 9, "max_size": 10_000}),
        json!({"shared": true}),
    );
    let blocks = [with.clone(), without.clone(), with, without];
    let paths = ["/1/a", "/2/a", "/3/a", "/4/a"];
    assert_eq!(calls(&blocks, &paths), 2);
}

#[test]
fn only_if_cached_without_an_answer_is_a_bad_status_of_the_upstream() {
    let (gateway, stub) = start(&[json!({})]);
    let answer = gateway.get_with("/1/a", &[("Cache-Control", "only-if-cached")]);
    assert_eq!(answer.status, 500);
    let text = format!(
        "invalid status code 504 [GET /{{{{.Path}}}}]: {}/a",
        stub.url()
    );
    assert_eq!(answer.text(), text);
    assert!(stub.take_seen().is_empty());
}
