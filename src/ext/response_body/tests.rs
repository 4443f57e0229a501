//! What the blocks accept, and how they change a response.

use bytes::Bytes;
use serde_json::json;

use super::{BACKEND, ENDPOINT};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, pipe_request};
use crate::runtime::json::{self as data, Depth, Style};
use crate::runtime::pipe::{Meta, PipeResponse, PipeStep};

fn step(block: &str) -> Box<dyn PipeStep> {
    let mut file = File::new(block);
    match file.endpoint(&ENDPOINT, "/e") {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        _ => panic!("{block}: {}", file.findings()),
    }
}

async fn changed(step: &dyn PipeStep, body: &'static str) -> String {
    let mut response = PipeResponse {
        data: data::parse(&Bytes::from_static(body.as_bytes()), Depth::TopLevel).unwrap(),
        complete: true,
        reply: None,
        meta: Meta::default(),
        held: Default::default(),
    };
    let request = pipe_request(Bytes::new());
    step.after(None, &request, &mut response).await.unwrap();
    String::from_utf8(data::to_bytes(&response.data, Style::Canonical).to_vec()).unwrap()
}

async fn check(modifiers: serde_json::Value, body: &'static str, want: &str) {
    let block = json!({ "modifiers": modifiers }).to_string();
    assert_eq!(changed(&*step(&block), body).await, want, "{block}");
}

#[tokio::test]
async fn each_modifier_changes_its_field_in_order() {
    let body = r#"{"a":{"b":"--Hello, hello--","n":7,"l":[{"x":"a-b"},{"x":"c-d"},3]},"s":"ßÄé"}"#;
    let rest = r#""l":[{"x":"a-b"},{"x":"c-d"},3],"n":7},"s":"ßÄé"}"#;
    for (modifiers, b) in [
        (
            json!([{ "literal": { "field": "a.b", "find": "hello", "replace": "x" } }]),
            "--Hello, x--",
        ),
        (
            json!([{ "regexp": { "field": "a.b", "find": "(?i)(h)ello", "replace": "${1}!$0" } }]),
            "--H!Hello, h!hello--",
        ),
        (json!([{ "lower": { "field": "a.b" } }]), "--hello, hello--"),
        (
            json!([{ "trim": { "field": "a.b", "find": "-Ho" } }, { "upper": { "field": "a.b" } }]),
            "ELLO, HELL",
        ),
        (
            json!([{ "literal": { "field": "a.gone", "find": "x", "replace": "y" } }]),
            "--Hello, hello--",
        ),
        (json!([{ "lower": { "field": "a.n" } }]), "--Hello, hello--"),
        (
            json!([{ "lower": { "field": "a.l.x" } }]),
            "--Hello, hello--",
        ),
    ] {
        check(modifiers, body, &format!(r#"{{"a":{{"b":"{b}",{rest}"#)).await;
    }
    let all = json!([{ "literal": { "field": "a.l.*.x", "find": "-", "replace": "+" } }, { "upper": { "field": "s" } }]);
    check(
        all,
        body,
        r#"{"a":{"b":"--Hello, hello--","l":[{"x":"a+b"},{"x":"c+d"},3],"n":7},"s":"ßÄÉ"}"#,
    )
    .await;
}

#[tokio::test]
async fn strict_removes_values_that_cannot_be_masked() {
    let block = json!({ "strict": true, "modifiers": [
        { "regexp": { "field": "card", "find": "\\d", "replace": "*" } }
    ]});
    let step = step(&block.to_string());
    for (body, want) in [
        (r#"{"card":"12"}"#, r#"{"card":"**"}"#),
        (r#"{"card":12}"#, r#"{"card":null}"#),
        (r#"{"card":["12"]}"#, r#"{"card":null}"#),
        (r#"{"other":12}"#, r#"{"other":12}"#),
    ] {
        assert_eq!(changed(&*step, body).await, want, "{body}");
    }
}

#[test]
fn broken_blocks_stop_the_start() {
    for (block, error) in [
        (json!({}), "modifiers"),
        (json!({ "modifiers": [{}] }), "exactly one"),
        (
            json!({ "modifiers": [{ "lower": { "field": "a" }, "upper": { "field": "a" } }] }),
            "exactly one",
        ),
        (json!({ "modifiers": [{ "lower": {} }] }), "field"),
        (
            json!({ "modifiers": [{ "lower": { "field": "a..b" } }] }),
            "dotted path",
        ),
        (
            json!({ "modifiers": [{ "literal": { "field": "a", "find": "", "replace": "" } }] }),
            "empty",
        ),
        (
            json!({ "modifiers": [{ "literal": { "field": "a", "find": "x" } }] }),
            "replace",
        ),
        (
            json!({ "modifiers": [{ "regexp": { "field": "a", "find": "(", "replace": "" } }] }),
            "missing",
        ),
        (
            json!({ "modifiers": [{ "regexp": { "field": "a", "find": "(a)", "replace": "${2}" } }] }),
            "no group",
        ),
        (
            json!({ "modifiers": [{ "regexp": { "field": "a", "find": "(a)", "replace": "$1x" } }] }),
            "no group",
        ),
        (json!({ "modifiers": 7 }), "a list"),
    ] {
        let mut file = File::new(&block.to_string());
        file.endpoint(&ENDPOINT, "/e");
        let lines = file.config_error_lines();
        assert_eq!(lines.len(), 1, "{block}: {lines:?}");
        assert!(lines[0].contains(error), "{block}: {lines:?}");
    }
    let good = json!({ "modifiers": [{ "regexp": { "field": "a", "find": "(?P<n>a)", "replace": "${n}$$1" } }] });
    let mut file = File::new(&good.to_string());
    assert!(
        matches!(file.backend(&BACKEND, "{}"), BackendPart::Pipe(_)),
        "{}",
        file.findings()
    );
}
