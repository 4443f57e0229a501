//! Valid and invalid blocks, and the results of templates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value as Json, json};

use super::{REQUEST_BACKEND, REQUEST_ENDPOINT, RESPONSE_ENDPOINT};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, pipe_request};
use crate::runtime::json::{self, Depth, Style};
use crate::runtime::pipe::{Meta, PipeRequest, PipeResponse, PipeStep, Reply};

fn block(template: &str, more: Json) -> String {
    let mut block = json!({ "template": STANDARD.encode(template) });
    block
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    block.to_string()
}

fn step(part: EndpointPart) -> Box<dyn PipeStep> {
    match part {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn request(body: &'static str, content_type: &'static str) -> PipeRequest {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.append("x-request-id", HeaderValue::from_static("7"));
    headers.append("content-encoding", HeaderValue::from_static("br"));
    let mut request = PipeRequest {
        peer: None,
        path: "/e/es".into(),
        query: Some("a=1&a=2&b=x+y".into()),
        headers,
        ..pipe_request(Bytes::from_static(body.as_bytes()))
    };
    request.params.0.push(("country".into(), "es".to_owned()));
    request
}

async fn made(template: &str, more: Json, mut request: PipeRequest) -> Result<String, String> {
    let mut file = File::new(&block(template, more));
    let step = step(file.endpoint(&REQUEST_ENDPOINT, "/e"));
    match step.before(&mut request).await {
        Ok(_) => {
            assert!(!request.headers.contains_key("content-length"));
            assert!(!request.headers.contains_key("content-encoding"));
            Ok(String::from_utf8(request.body.to_vec()).unwrap())
        }
        Err(failure) => {
            assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
            Err(failure.text.into_owned())
        }
    }
}

#[tokio::test]
async fn a_request_is_seen_in_all_its_parts() {
    let text = "text/plain; charset=utf-8";
    let plain = json!({ "content_type": text, "variables": { "v": [1, "x"] } });
    for (template, want) in [
        (
            "{{ .req_body.user.name }} {{ .req_body.id }}",
            "Ana 9007199254740993",
        ),
        ("{{ index .req_headers \"X-Request-Id\" 0 }}", "7"),
        (
            "{{ .req_querystring.a | toJson }} {{ index .req_querystring.b 0 }}",
            "[\"1\",\"2\"] x y",
        ),
        (
            "{{ .req_params.Country }} {{ .req_path }} {{ .req_method }}",
            "es /e/es POST",
        ),
        (
            "{{ index .variables.v 1 }} {{ .req_body.gone }}",
            "x <no value>",
        ),
    ] {
        let body = r#"{"user":{"name":"Ana"},"id":9007199254740993}"#;
        let made = made(template, plain.clone(), request(body, "application/json")).await;
        assert_eq!(made.as_deref(), Ok(want), "{template}");
    }
    for (content_type, body, template, want) in [
        (
            "application/xml",
            "<a><b>1</b></a>",
            "{{ .req_body.a.b }}",
            "1",
        ),
        (
            "application/x-www-form-urlencoded",
            "a=1&b=2&b=3",
            "{{ .req_body.a }}{{ index .req_body.b 1 }}",
            "13",
        ),
        ("text/plain", "hello", "{{ .req_body }}", "hello"),
        ("text/plain", r#"{"a":1}"#, "{{ .req_body.a }}", "1"),
        ("application/json", "no json", "{{ .req_body }}", "no json"),
        (
            "application/json",
            "",
            "{{ len .req_body }}{{ .req_body.a }}",
            "0<no value>",
        ),
    ] {
        let made = made(template, plain.clone(), request(body, content_type)).await;
        assert_eq!(made.as_deref(), Ok(want), "{content_type} {body}");
    }
}

#[tokio::test]
async fn invalid_json_is_not_sent_as_json() {
    let body = || request(r#"{"a":"x\"y"}"#, "application/json");
    let good = made(r#"{"a": {{ .req_body.a | toJson }}}"#, json!({}), body()).await;
    assert_eq!(good.as_deref(), Ok(r#"{"a": "x\"y"}"#));
    for template in [
        r#"{"a": "{{ .req_body.a }}"}"#,
        r#"{"a": {{ .req_body.gone }}}"#,
        "",
        r#"{"a": 1} 2"#,
        r#"{"a": 1}{"b": 2}"#,
    ] {
        let error = made(template, json!({}), body()).await.unwrap_err();
        assert!(
            error.starts_with("body template: the result is not JSON"),
            "{error}"
        );
    }
    let error = made("{{ fail \"no\" }}", json!({}), body())
        .await
        .unwrap_err();
    assert!(
        error.starts_with("body template: template: template:1:"),
        "{error}"
    );
    let long = "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}";
    let error = made(long, json!({}), body()).await.unwrap_err();
    assert!(error.contains("too"), "{error}");
}

async fn answered(template: &str, more: Json, mut response: PipeResponse) -> PipeResponse {
    let mut file = File::new(&block(template, more));
    let step = step(file.endpoint(&RESPONSE_ENDPOINT, "/e"));
    let request = request("", "application/json");
    step.after(None, &request, &mut response).await.unwrap();
    response
}

fn composed(data: &'static str) -> PipeResponse {
    PipeResponse {
        data: json::parse(&Bytes::from_static(data.as_bytes()), Depth::TopLevel).unwrap(),
        complete: true,
        reply: None,
        meta: Meta::default(),
        held: Default::default(),
    }
}

#[tokio::test]
async fn a_response_is_made_of_the_response() {
    for (template, more, want) in [
        (
            "{\"n\": {{ .resp_body.a.b }}, \"ok\": {{ .resp_completed }}}",
            json!({}),
            r#"{"n":1,"ok":true}"#,
        ),
        ("[{{ .resp_body.a.b }}]", json!({}), r#"{"collection":[1]}"#),
        ("{{ .resp_body.a.b }}", json!({}), r#"{"content":1}"#),
        (
            "a {{ .resp_body.a.b }}",
            json!({ "content_type": "text/plain" }),
            r#"{"content":"a 1"}"#,
        ),
    ] {
        let response = answered(template, more, composed(r#"{"a":{"b":1}}"#)).await;
        let text = json::to_bytes(&response.data.expanded(), Style::Canonical);
        assert_eq!(text, want, "{template}");
    }
    let streamed = PipeResponse {
        reply: Some(Reply::local(
            StatusCode::CREATED,
            HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("s"))]),
            Some(Bytes::from_static(br#"{"a":1}"#)),
        )),
        ..composed("{}")
    };
    let template = r#"{"s": {{ .resp_status }}, "h": {{ .resp_headers.Server | toJson }}, "a": {{ .resp_body.a }}}"#;
    let reply = answered(template, json!({}), streamed).await.reply.unwrap();
    assert_eq!(reply.body.unwrap(), r#"{"s": 201, "h": ["s"], "a": 1}"#);
    assert_eq!(reply.headers["content-type"], "application/json");
}

#[test]
fn broken_blocks_stop_the_start() {
    let coded = STANDARD.encode("{{ .a }}");
    for (block, error) in [
        ("{}".to_owned(), "either"),
        (
            json!({ "template": coded, "path": "a" }).to_string(),
            "either",
        ),
        (json!({ "template": "%%%" }).to_string(), "base64"),
        (
            json!({ "path": "no/such/file.tmpl" }).to_string(),
            "no/such/file.tmpl",
        ),
        (block("{{ .a", json!({})), "unclosed action"),
        (
            block("{{ env \"HOME\" }}", json!({})),
            "\"env\" not defined",
        ),
        (block("{{ nope 1 }}", json!({})), "not defined"),
        (
            block("a", json!({ "content_type": "a\nb" })),
            "not a content type",
        ),
        (block("a", json!({ "variables": 7 })), "an object"),
    ] {
        let mut file = File::new(&block);
        file.endpoint(&REQUEST_ENDPOINT, "/e");
        let lines = file.config_error_lines();
        assert_eq!(lines.len(), 1, "{block}: {lines:?}");
        assert!(lines[0].contains(error), "{block}: {lines:?}");
    }
    let mut file = File::new(&block("a", json!({})));
    assert!(matches!(
        file.backend(&REQUEST_BACKEND, "{}"),
        BackendPart::Pipe(_)
    ));
}

#[test]
fn values_within_quotes_are_warned_of() {
    let mut file = File::new(&block(r#"{"a": "{{ .req_body.a }}"}"#, json!({})));
    file.endpoint(&REQUEST_ENDPOINT, "/e");
    assert!(
        file.findings().contains("within quotes"),
        "{}",
        file.findings()
    );
    let mut file = File::new(&block(r#"{"a": {{ .req_body.a | toJson }}}"#, json!({})));
    file.endpoint(&REQUEST_ENDPOINT, "/e");
    assert!(
        !file.findings().contains("within quotes"),
        "{}",
        file.findings()
    );
}
