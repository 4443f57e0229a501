//! Valid and invalid blocks, and the results of expressions.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{BACKEND, ENDPOINT};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, pipe_request};
use crate::runtime::json::{self as data, Depth, Style};
use crate::runtime::pipe::{Meta, PipeResponse, PipeStep};

fn step(expr: &str) -> Box<dyn PipeStep> {
    let mut file = File::new(&json!({ "expr": expr }).to_string());
    match file.endpoint(&ENDPOINT, "/e") {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        _ => panic!("{expr}: {}", file.findings()),
    }
}

async fn found(expr: &str, body: &'static str) -> Result<String, String> {
    within(Duration::from_secs(300), expr, body).await
}

async fn within(limit: Duration, expr: &str, body: &'static str) -> Result<String, String> {
    let mut response = PipeResponse {
        data: data::parse(&Bytes::from_static(body.as_bytes()), Depth::TopLevel).unwrap(),
        complete: true,
        reply: None,
        meta: Meta::default(),
        held: Default::default(),
    };
    let mut request = pipe_request(Bytes::new());
    request.deadline = tokio::time::Instant::now() + limit;
    match step(expr).after(None, &request, &mut response).await {
        Ok(()) => {
            let text = data::to_bytes(&response.data, Style::Canonical);
            Ok(String::from_utf8(text.to_vec()).unwrap())
        }
        Err(failure) => Err(failure.text.into_owned()),
    }
}

#[tokio::test]
async fn results_of_any_type_become_an_object() {
    let body = r#"{"collection":[{"id":9007199254740993,"n":"a"},{"id":2,"n":"b"},{"id":3,"n":"c"}],"x":{"y":1.5}}"#;
    for (expr, want) in [
        ("collection[:2].n", r#"{"collection":["a","b"]}"#),
        (
            "collection[?id > `2`].id",
            r#"{"collection":[9007199254740993,3]}"#,
        ),
        ("x", r#"{"y":1.5}"#),
        (
            "{first: collection[0].n, count: length(collection)}",
            r#"{"count":3,"first":"a"}"#,
        ),
        ("length(collection)", r#"{"content":3}"#),
        ("collection[0].n", r#"{"content":"a"}"#),
        ("gone.missing", "{}"),
        ("max_by(collection, &id).n", r#"{"content":"a"}"#),
    ] {
        assert_eq!(found(expr, body).await.as_deref(), Ok(want), "{expr}");
    }
    let error = found("length(x.y)", body).await.unwrap_err();
    assert!(error.starts_with("jmespath: "), "{error}");
}

#[tokio::test]
async fn a_deep_response_does_not_exhaust_the_stack() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let deep: &'static str = Box::leak(deep.into_boxed_str());
    let text = found("{s: to_string(a), a: a}", deep).await.unwrap();
    assert!(text.len() > 2000);
}

/// Expressions whose result shares values, so that it is small until it is written, and functions that repeat others.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn expressions_with_endless_results_end() {
    let items = vec![json!({"k": "x".repeat(20), "n": [1, 2, 3]}); 300];
    let body = json!({"a": items, "s": "y".repeat(200_000)}).to_string();
    let body: &'static str = Box::leak(body.into_boxed_str());
    let again = "[@,@,@,@,@,@,@,@]";
    let twice = format!("a.{again}.{again}.{again}.{again}.{again}.{again}");
    let texts = format!("[s,s,s,s,s].{again}.{again}.{again}");
    for expr in [
        twice.clone(),
        format!("to_string({twice})"),
        format!("length(to_string({twice}))"),
        format!("({twice}) == ({twice})"),
        "a[].[@,@,@,@,@,@][].[@,@,@,@,@,@][].[@,@,@,@,@,@][].[@,@,@,@,@,@][]".to_owned(),
        texts.clone(),
        format!("join('', {texts}[][][][])"),
        format!("sort_by(a, &length(to_string({again}.{again}.{again}.{again}.{again})))"),
    ] {
        let error = found(&expr, body).await.unwrap_err();
        assert!(error.contains("too large"), "{expr}: {error}");
    }
    let error = within(Duration::from_millis(20), &twice, body).await;
    assert_eq!(error.unwrap_err(), "context deadline exceeded");
    let whole = found("sort_by(a, &k)[].n[] | length(@)", body).await;
    assert_eq!(whole.unwrap(), r#"{"content":900}"#);
}

#[test]
fn broken_expressions_stop_the_start() {
    let long = "a".repeat(20_000);
    let deep = format!("{}a{}", "[".repeat(5_000), "]".repeat(5_000));
    let nots = format!("{}a", "!".repeat(5_000));
    for (block, error) in [
        (json!({}), "expr"),
        (json!({ "expr": "" }), "empty"),
        (json!({ "expr": "a[" }), "not a JMESPath expression"),
        (json!({ "expr": "a.b c" }), "not a JMESPath expression"),
        (json!({ "expr": long }), "at most"),
        (json!({ "expr": deep }), "nested"),
        (json!({ "expr": nots }), "nested"),
        (json!({ "expr": 7 }), ""),
    ] {
        let mut file = File::new(&block.to_string());
        file.endpoint(&ENDPOINT, "/e");
        let lines = file.config_error_lines();
        // A number is taken as a text, which is an expression of its own.
        assert!(block["expr"] == 7 || lines.len() == 1, "{block}: {lines:?}");
        assert!(lines.iter().all(|line| line.contains(error)), "{lines:?}");
    }
    let mut file = File::new(r#"{"expr": "a"}"#);
    assert!(matches!(file.backend(&BACKEND, "{}"), BackendPart::Pipe(_)));
}
