//! Valid and invalid blocks, and their effect on requests.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::{ENDPOINT, ENDPOINT_EARLY, SERVICE};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::step::{EndpointStep, Gate};

fn operation(kind: &str, strategy: &str, expression: &str, target: &str, conflict: &str) -> Value {
    json!({
        "type": kind, "strategy": strategy, "expression": expression, "target": target,
        "on_conflict": conflict
    })
}

fn step(operations: Value) -> Box<dyn EndpointStep> {
    let mut file = File::new(&json!({ "operations": operations }).to_string());
    match file.endpoint(&ENDPOINT, "/e") {
        EndpointPart::Taking { mut steps, .. } => steps.remove(0),
        _ => panic!("{}", file.findings()),
    }
}

/// The values of `X-T` and the query after the step. `None` if it rejects the request.
fn run(
    operations: Value,
    body: &'static str,
    content_type: &'static str,
) -> Option<(Vec<String>, String)> {
    let step = step(operations);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.insert("x-t", HeaderValue::from_static("client"));
    let method = Method::POST;
    let head = head(&method, "/e?a=1&b%20c=2", &headers);
    let mut notes = Notes {
        body: Some(Bytes::from_static(body.as_bytes())),
        ..Notes::default()
    };
    if !matches!(step.check(&head, &mut notes), Gate::Pass) {
        return None;
    }
    let name = http::HeaderName::from_static("x-t");
    let values = notes.header_values(&head, &name);
    let values = values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    Some((values, notes.head(&head).query.unwrap().to_owned()))
}

const BODY: &str =
    r#"{"a":{"b":"x y","n":1.50,"l":[1,{"c":true}],"z":null},"t":true,"bad":"a\nb"}"#;

#[test]
fn values_of_any_type_go_into_headers() {
    for (strategy, expression, want) in [
        ("dotnotation", "a.b", "x y"),
        ("dotnotation", "a.n", "1.50"),
        ("dotnotation", "a.l", r#"[1,{"c":true}]"#),
        ("dotnotation", "t", "true"),
        ("jmespath", "a.l[1].c", "true"),
        ("jmespath", "join('-', [a.b, 'z'])", "x y-z"),
    ] {
        let one = json!([operation("header", strategy, expression, "X-T", "replace")]);
        let (values, _) = run(one, BODY, "application/json; charset=utf-8").unwrap();
        assert_eq!(values, [want], "{expression}");
    }
    for (expression, body, content_type) in [
        ("a.z", BODY, "application/json"),
        ("a.gone", BODY, "application/json"),
        ("a.b.c", BODY, "application/json"),
        ("a.b", BODY, "text/plain"),
        ("a.b", "no json", "application/json"),
        ("a.b", "", "application/json"),
    ] {
        let one = json!([operation(
            "header",
            "dotnotation",
            expression,
            "X-T",
            "replace"
        )]);
        let (values, _) = run(one, body, content_type).unwrap();
        assert_eq!(values, ["client"], "{expression} {body} {content_type}");
    }
    let bad = json!([operation("header", "dotnotation", "bad", "X-T", "replace")]);
    assert_eq!(run(bad, BODY, "application/json"), None);
}

/// The status for a request with this body. `None` if it passes.
fn rejected_with(step: &dyn EndpointStep, body: String) -> (Option<u16>, Notes) {
    let (method, headers) = (Method::POST, HeaderMap::new());
    let head = head(&method, "/e", &headers);
    let mut notes = Notes {
        body: Some(body.into()),
        ..Notes::default()
    };
    let status = match step.check(&head, &mut notes) {
        Gate::Reject(response) => Some(response.status.as_u16()),
        _ => None,
    };
    (status, notes)
}

#[test]
fn a_value_has_a_limit_and_is_charged() {
    for (kind, strategy, most) in [
        ("header", "dotnotation", 16 << 10),
        ("header", "jmespath", 16 << 10),
        ("query_string", "dotnotation", 64 << 10),
        ("query_string", "jmespath", 64 << 10),
    ] {
        let step = step(json!([operation(kind, strategy, "s", "X-T", "replace")]));
        let body = |size: usize| format!(r#"{{"s":"{}"}}"#, "x".repeat(size));
        let (status, notes) = rejected_with(&*step, body(most));
        assert_eq!(status, None, "{kind} {strategy}");
        assert!(notes.held.bytes() >= 2 * most, "{kind} {strategy}");
        for size in [most + 1, 6 * most + 1, 1 << 20] {
            let (status, notes) = rejected_with(&*step, body(size));
            assert_eq!(status, Some(413), "{kind} {strategy} {size}");
            assert_eq!(notes.rejected, Some("body_field"));
        }
        // Escapes are shorter in the value.
        let escaped = format!(r#"{{"s":"{}"}}"#, r"\u0041".repeat(most));
        assert_eq!(rejected_with(&*step, escaped).0, None, "{kind} {strategy}");
        let list = format!(r#"{{"s":[{}1]}}"#, "1,".repeat(most / 2));
        assert_eq!(
            rejected_with(&*step, list).0,
            Some(413),
            "{kind} {strategy}"
        );
        assert_eq!(rejected_with(&*step, body(1000)).1.held.bytes(), 0);
    }
}

#[test]
fn conflicts_are_settled_as_the_file_says() {
    for (conflict, values) in [
        ("skip", &["client"][..]),
        ("replace", &["x y"]),
        ("append", &["client", "x y"]),
    ] {
        let one = json!([operation("header", "dotnotation", "a.b", "X-T", conflict)]);
        assert_eq!(run(one, BODY, "application/json").unwrap().0, values);
    }
    for (target, conflict, query) in [
        ("a", "skip", "a=1&b%20c=2"),
        ("a", "replace", "b%20c=2&a=x+y"),
        ("a", "append", "a=1&b%20c=2&a=x+y"),
        ("b c", "replace", "a=1&b+c=x+y"),
        ("new&", "skip", "a=1&b%20c=2&new%26=x+y"),
    ] {
        let one = json!([operation(
            "query_string",
            "dotnotation",
            "a.b",
            target,
            conflict
        )]);
        assert_eq!(
            run(one, BODY, "application/json").unwrap().1,
            query,
            "{target} {conflict}"
        );
    }
}

#[test]
fn broken_blocks_stop_the_start() {
    let good = operation("header", "dotnotation", "a.b", "X-T", "skip");
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        json!({ "operations": [changed] })
    };
    for (block, error) in [
        (json!({}), "operations"),
        (json!({ "operations": [] }), "operations"),
        (json!({ "operations": [{}] }), "type"),
        (
            with("type", json!("cookie")),
            "none of header, query_string",
        ),
        (
            with("strategy", json!("xpath")),
            "none of dotnotation, jmespath",
        ),
        (
            with("on_conflict", json!("merge")),
            "none of skip, replace, append",
        ),
        (with("on_conflict", json!("")), "on_conflict"),
        (with("expression", json!("a..b")), "dotted path"),
        (with("target", json!("a b")), "not the name of a header"),
        (with("target", json!("Host")), "set by the gateway"),
        (
            with("target", json!("X-Forwarded-For")),
            "set by the gateway",
        ),
        (
            with("target", json!("Content-Length")),
            "set by the gateway",
        ),
        (with("target", json!("X_Real.IP")), "set by the gateway"),
        (
            with("target", json!("x_forwarded_for")),
            "set by the gateway",
        ),
    ] {
        let mut file = File::new(&block.to_string());
        file.endpoint(&ENDPOINT, "/e");
        let lines = file.config_error_lines();
        assert_eq!(lines.len(), 1, "{block}: {lines:?}");
        assert!(lines[0].contains(error), "{block}: {lines:?}");
    }
    let two = json!({ "operations": [operation("header", "dotnotation", "a", "Authorization", "append")] });
    let mut file = File::new(&two.to_string());
    file.endpoint(&ENDPOINT_EARLY, "/e");
    assert!(file.config_error_lines()[0].contains("second credential"));
    let mut file = File::new(&json!({ "operations": [good] }).to_string());
    assert!(matches!(file.service(&SERVICE), ServicePart::Gate(_)));
}
