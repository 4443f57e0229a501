//! Keys that change the data of a response have no effect where the response is not decoded, and the user learns it.

use serde_json::{Value, json};

use super::{endpoint, file, starts};
use crate::config::compiled_in;

const KEYS: [&str; 6] = [
    "allow",
    "deny",
    "mapping",
    "group",
    "target",
    "is_collection",
];

fn value(key: &str) -> Value {
    match key {
        "allow" | "deny" => json!(["secret"]),
        "mapping" => json!({"a": "b"}),
        "is_collection" => json!(true),
        _ => json!("data"),
    }
}

fn filter() -> Value {
    json!({"flatmap_filter": [{"type": "del", "args": ["secret"]}]})
}

/// A file with a `no-op` endpoint.
fn streamed(at_endpoint: Value, at_backend: Value) -> String {
    let mut one = json!({"output_encoding": "no-op"});
    super::merge(&mut one, at_endpoint);
    file(json!({}), one, at_backend)
}

#[test]
fn every_key_of_a_backend_that_a_streamed_response_passes_by_is_reported() {
    for key in KEYS {
        let text = streamed(json!({}), json!({key: value(key)}));
        starts(
            &text,
            &format!("\"{key}\" has no effect: the endpoint is \"no-op\""),
        );
        // An endpoint for WebSockets and the one for all paths always stream.
        let socket = json!({"websocket": {"enable_direct_communication": true}});
        let text = file(
            json!({}),
            json!({"extra_config": socket}),
            json!({key: value(key)}),
        );
        starts(&text, &format!("\"{key}\" has no effect"));
        let text = file(
            json!({}),
            json!({"endpoint": "/__catchall"}),
            json!({key: value(key)}),
        );
        starts(&text, &format!("\"{key}\" has no effect"));
    }
    let text = streamed(json!({}), json!({"encoding": "json"}));
    starts(&text, "\"encoding\" has no effect");
    let text = streamed(json!({}), json!({"extra_config": {"proxy": filter()}}));
    starts(&text, "\"flatmap_filter\" has no effect");
    let details = json!({"backend/http": {"return_error_details": "x"}});
    let text = streamed(json!({}), json!({"extra_config": details}));
    starts(&text, "\"return_error_details\" has no effect");
}

#[test]
fn keys_of_a_streamed_endpoint_that_need_data_are_reported() {
    let text = streamed(json!({"extra_config": {"proxy": filter()}}), json!({}));
    starts(&text, "\"flatmap_filter\" has no effect");
    let data = json!({"static": {"strategy": "always", "data": {"a": 1}}});
    let text = streamed(json!({"extra_config": {"proxy": data}}), json!({}));
    starts(&text, "the \"data\" is not added");
}

#[test]
fn a_no_op_backend_of_an_endpoint_that_composes_is_reported_in_the_same_way() {
    for key in KEYS {
        let text = file(
            json!({}),
            json!({}),
            json!({"encoding": "no-op", key: value(key)}),
        );
        starts(
            &text,
            &format!("\"{key}\" has no effect: the response of a \"no-op\" backend"),
        );
    }
}

#[test]
fn a_filter_of_an_endpoint_with_one_backend_is_reported() {
    let text = endpoint(json!({"extra_config": {"proxy": filter()}}));
    starts(&text, "has no effect with one backend");
}

#[test]
fn what_works_is_not_reported() {
    let proxy = json!({"extra_config": {"proxy": filter()}});
    for text in [
        streamed(json!({}), json!({"encoding": "no-op"})),
        streamed(json!({}), json!({})),
        file(
            json!({}),
            json!({}),
            json!({"deny": ["secret"], "target": "data"}),
        ),
        file(json!({}), json!({}), proxy),
    ] {
        let findings = compiled_in(&text, &[]).findings;
        assert!(findings.is_empty(), "{text}: {findings:#?}");
    }
}
