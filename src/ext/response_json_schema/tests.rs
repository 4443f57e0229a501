//! What the block accepts, and what it rejects.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::{BACKEND, ENDPOINT};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, pipe_request};
use crate::runtime::failure::Failure;
use crate::runtime::json::{Depth, parse};
use crate::runtime::pipe::{Meta, PipeResponse, PipeStep, Reply};

fn schema() -> serde_json::Value {
    json!({ "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" } } })
}

async fn checked(
    step: &dyn PipeStep,
    body: &'static str,
    reply: Option<Reply>,
) -> Result<(), Failure> {
    let mut response = PipeResponse {
        data: parse(&Bytes::from_static(body.as_bytes()), Depth::TopLevel).unwrap(),
        complete: true,
        reply,
        meta: Meta::default(),
        held: Default::default(),
    };
    step.after(None, &pipe_request(Bytes::new()), &mut response)
        .await
}

fn endpoint(error: serde_json::Value) -> Box<dyn PipeStep> {
    let mut file = File::new(&json!({ "schema": schema(), "error": error }).to_string());
    match file.endpoint(&ENDPOINT, "/e") {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        _ => panic!("{}", file.findings()),
    }
}

#[tokio::test]
async fn a_response_that_does_not_match_is_an_error_with_the_files_words() {
    let step = endpoint(json!({ "body": "broken", "status": 502, "content_type": "text/x" }));
    assert!(checked(&*step, r#"{"id":1}"#, None).await.is_ok());
    let failure = checked(&*step, r#"{"id":"1"}"#, None).await.unwrap_err();
    assert_eq!(failure.status, StatusCode::BAD_GATEWAY);
    assert!(failure.text.contains("/id"), "{}", failure.text);
    let (body, content_type) = failure.body.unwrap();
    assert_eq!(
        (body, content_type.unwrap()),
        (Bytes::from("broken"), HeaderValue::from_static("text/x"))
    );
    assert!(failure.passed.is_some());
    // The validator's text names internals.
    let plain = endpoint(json!({}));
    let failure = checked(&*plain, "{}", None).await.unwrap_err();
    assert_eq!(
        (failure.status, failure.body.is_none()),
        (StatusCode::INTERNAL_SERVER_ERROR, true)
    );
    assert!(failure.passed.is_none());
}

#[tokio::test]
async fn a_streamed_response_must_be_json() {
    let step = endpoint(json!({}));
    for (content_type, body, good) in [
        ("application/json", r#"{"id":1}"#, true),
        (
            "application/problem+json; charset=utf-8",
            r#"{"id":1}"#,
            true,
        ),
        ("application/json", r#"{"id":""}"#, false),
        ("application/json", "no json", false),
        ("text/plain", r#"{"id":1}"#, false),
    ] {
        let headers = HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(content_type),
        )]);
        let reply = Reply::local(
            StatusCode::OK,
            headers,
            Some(Bytes::from_static(body.as_bytes())),
        );
        assert_eq!(
            checked(&*step, "{}", Some(reply)).await.is_ok(),
            good,
            "{content_type} {body}"
        );
    }
}

#[test]
fn broken_blocks_stop_the_start() {
    for (block, error) in [
        (json!({}), "schema"),
        (json!({ "schema": 7 }), "a JSON Schema"),
        (json!({ "schema": { "type": "what" } }), "not a JSON Schema"),
        (
            json!({ "schema": {}, "error": { "status": 200 } }),
            "400 to 599",
        ),
        (
            json!({ "schema": {}, "error": { "body": "a", "content_type": "a\nb" } }),
            "content type",
        ),
        (json!({ "schema": {}, "error": 7 }), "an object"),
    ] {
        let mut file = File::new(&block.to_string());
        file.endpoint(&ENDPOINT, "/e");
        let lines = file.config_error_lines();
        assert_eq!(lines.len(), 1, "{block}: {lines:?}");
        assert!(lines[0].contains(error), "{block}: {lines:?}");
    }
    let mut file = File::new(&json!({ "schema": schema() }).to_string());
    assert!(matches!(file.backend(&BACKEND, "{}"), BackendPart::Pipe(_)));
}
