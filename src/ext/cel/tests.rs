use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{BACKEND, ENDPOINT, demand, language};
use crate::config::{Node, Report, json};
use crate::ext::EndpointSite;
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, pipe_request};
use crate::jose::Claims;
use crate::runtime::json::{Depth, parse};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, Reply, ResponseAccess};
use crate::runtime::request::Params;

fn block(expressions: &[&str]) -> String {
    let entries: Vec<_> = expressions
        .iter()
        .map(|text| serde_json::json!({"check_expr": text}))
        .collect();
    serde_json::json!(entries).to_string()
}

fn step(expressions: &[&str]) -> Box<dyn PipeStep> {
    let mut file = File::new(&block(expressions));
    let part = file.endpoint(&ENDPOINT, "/e");
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
    match part {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn findings(block: &str) -> (usize, String) {
    let mut file = File::new(block);
    file.endpoint(&ENDPOINT, "/e");
    (file.config_errors(), file.findings())
}

fn request() -> PipeRequest {
    let mut headers = HeaderMap::new();
    headers.append("x-user-id", HeaderValue::from_static("ada"));
    headers.append("x-many", HeaderValue::from_static("1"));
    headers.append("x-many", HeaderValue::from_static("2"));
    headers.append("x-odd", HeaderValue::from_bytes(b"\xff").unwrap());
    let mut params = Params::default();
    params.0.push((Arc::from("id"), "7".to_owned()));
    params.0.push((Arc::from("userName"), "ada l".to_owned()));
    PipeRequest {
        peer: None,
        path: "/a/b%20c".into(),
        query: Some("q=1&q=2&na%20me=x+y&empty".into()),
        params,
        headers,
        ..pipe_request(Bytes::new())
    }
}

async fn before(expressions: &[&str]) -> Result<(), String> {
    let step = step(expressions);
    let passed = step.before(&mut request()).await;
    passed.map(drop).map_err(|failure| {
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
        failure.to_string()
    })
}

async fn after(expressions: &[&str], body: &str, depth: Depth) -> Result<String, String> {
    let step = step(expressions);
    let mut response = PipeResponse {
        data: parse(&Bytes::copy_from_slice(body.as_bytes()), depth).unwrap(),
        complete: true,
        reply: None,
        meta: Default::default(),
        held: Default::default(),
    };
    step.after(None, &request(), &mut response)
        .await
        .map_err(|failure| failure.to_string())?;
    let bytes = crate::runtime::json::to_bytes(
        &response.data,
        crate::runtime::json::Style::canonical(true),
    );
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_is_shown_as_in_krakend() {
    for holds in [
        "req_method == 'POST' && req_path == '/a/b c'",
        "req_params.Id == '7' && req_params.UserName == 'ada l' && !has(req_params.id)",
        "req_params.size() == 2 && req_params.exists(name, name == 'Id')",
        "req_headers['X-User-Id'] == ['ada'] && !('x-user-id' in req_headers) && !('X-None' in req_headers)",
        "req_headers['X-Many'].size() == 2 && req_headers['X-Many'][1] == '2' && 'X-Odd' in req_headers",
        "req_headers.all(name, name.startsWith('X-')) && size(req_headers) == 3",
        "req_querystring.q == ['1', '2'] && req_querystring['na me'][0] == 'x y' && req_querystring.empty[0] == ''",
        "size(req_querystring) == 3 && !has(req_querystring.nope) && req_querystring.exists(name, name == 'q')",
        "timestamp(now) > timestamp('2020-01-01T00:00:00Z') || req_method == ''",
    ] {
        assert_eq!(before(&[holds]).await, Ok(()), "{holds}");
    }
    for fails in [
        "req_method == 'GET'",
        "req_params.Nope == 'x'",
        "req_headers['X-None'][0] == 'x'",
        "req_path",
        "req_path == resp_data.x",
    ] {
        assert_eq!(
            before(&["req_method == 'POST'", fails]).await,
            Err("request aborted by evaluator #1".to_owned()),
            "{fails}"
        );
    }
}

#[tokio::test]
async fn only_the_data_that_an_expression_reads_is_opened() {
    let body = r#"{"n": 1.50, "s": "x", "o": {"k": {"l": [1, {"d": null}]}, "other": [ 1 ]}, "e": [], "t": "\u00fc"}"#;
    let written = r#"{"e":[],"n":1.50,"o":{"k":{"l":[1,{"d":null}]},"other":[1]},"s":"x","t":"ü"}"#;
    for depth in [Depth::TopLevel, Depth::Full] {
        for holds in [
            "resp_data.n == '1.50' && double(resp_data.n) == 1.5",
            "resp_data.o.k.l[1].d == null && resp_data.o.k.l[0] == '1' && int(resp_data.o['k'].l[0]) == 1",
            "has(resp_data.o.k) && !has(resp_data.o.nope) && !has(resp_data.nope)",
            "resp_data == {'n': '1.50', 's': 'x', 'o': resp_data.o, 'e': [], 't': 'ü'}",
            "resp_data.o.all(k, size(resp_data.o[k]) == 1)",
            "resp_data.exists(k, k == 'e') && size(resp_data) == 5",
            "resp_data.o == {'k': {'l': ['1', {'d': null}]}, 'other': ['1']}",
            "resp_data.e == [] && resp_completed && resp_metadata_status == 0 && resp_metadata_headers == {}",
            "resp_data.n != 1 && type(resp_data.n) == string",
        ] {
            assert_eq!(
                after(&[holds], body, depth).await.as_deref(),
                Ok(written),
                "{holds}"
            );
        }
        for fails in [
            "resp_data.n == 1.5",
            "resp_data.n > 1.0",
            "resp_data.o.nope == 'x'",
            "resp_data.s.x == 'x'",
            "resp_data.s == req_path",
        ] {
            assert_eq!(
                after(&[fails], body, depth).await,
                Err("request aborted by evaluator #0".to_owned()),
                "{fails}"
            );
        }
    }
    assert!(
        after(&["resp_data == {}"], "null", Depth::Full)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_response_shows_status_and_headers() {
    let step = step(&[
        "resp_metadata_status == 201 && resp_metadata_headers['Content-Type'][0] == 'text/plain' && resp_data == {}",
    ]);
    assert_eq!(
        (step.response_access(), step.needs_body()),
        (ResponseAccess::Head, false)
    );
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    let mut response = PipeResponse {
        reply: Some(Reply {
            status: StatusCode::CREATED,
            headers,
            body: None,
            origin: None,
        }),
        ..PipeResponse::skipped()
    };
    assert!(step.after(None, &request(), &mut response).await.is_ok());
    response.reply = None;
    assert!(step.after(None, &request(), &mut response).await.is_err());
}

#[tokio::test]
async fn an_expression_may_have_both_moments() {
    let both = "req_params.Id == 'a' || int(resp_data.a) == 1";
    assert!(before(&[both]).await.is_err());
    assert!(after(&[both], r#"{"a": 1}"#, Depth::TopLevel).await.is_ok());
    let (config_errors, found) = findings(&block(&[both]));
    assert_eq!(config_errors, 0);
    assert!(
        found.contains("\\\"resp_data\\\" is not known then"),
        "{found}"
    );
    assert_eq!(
        step(&["req_method == 'x'"]).response_access(),
        ResponseAccess::Nothing
    );
}

#[test]
fn a_syntax_error_shows_no_string() {
    for (text, start) in [
        (r#"req_headers["X"][0] == "geheim"#, "Syntax error"),
        ("req_method == 'geheim", "Syntax error"),
        (r#""geheim" "geheim""#, "Syntax error"),
        ("'geheim' 'geheim' 1", "Syntax error"),
        (r#"req_method = "geheim""#, "Syntax error"),
    ] {
        let block = serde_json::json!([{ "check_expr": text }]).to_string();
        let (config_errors, found) = findings(&block);
        assert_eq!(config_errors, 1, "{text}: {found}");
        assert!(found.contains(start), "{text}: {found}");
        assert!(!found.contains("geheim"), "{text}: {found}");
    }
}

#[test]
fn the_log_shows_no_string_of_an_expression() {
    for (text, want) in [
        (
            r#"req_headers["X"][0] == "geheim" && req_params['Id'] != 'it'"#,
            r#"req_headers["X"][0] == "***" && req_params['Id'] != '***'"#,
        ),
        (
            r#"a.startsWith("it's") || "open"#,
            r#"a.startsWith("***") || "***"#,
        ),
        ("1 + 2", "1 + 2"),
    ] {
        assert_eq!(language::shown(text), want);
    }
}

#[test]
fn errors_that_krakend_ignores_stop_the_start() {
    for (block, words) in [
        (r#"[{"check_expr": "req_params.Id =="}]"#, "Syntax error"),
        (
            r#"[{"check_expr": "req_params.Id == nobody"}]"#,
            "undeclared reference to 'nobody'",
        ),
        (
            r#"[{"check_expr": "req_method.lowerAscii() == 'get'"}]"#,
            "undeclared reference to 'lowerAscii'",
        ),
        (
            r#"[{"check_expr": "req_method == 1"}]"#,
            "found no matching overload",
        ),
        (
            r#"[{"check_expr": "JWT.sub == 'ada'"}]"#,
            "known only where tokens are validated",
        ),
        (r#"[{"check_expr": true}]"#, "WrongType"),
        (r#""req_method == 'GET'""#, "WrongType"),
        (r#"["req_method == 'GET'"]"#, "WrongType"),
    ] {
        let (config_errors, found) = findings(block);
        assert_eq!(config_errors, 1, "{block}: {found}");
        assert!(found.contains(words), "{block}: {found}");
    }
    let mut file = File::new(&block(&["JWT.sub == 'ada'"]));
    let part = file.backend(&BACKEND, r#"{"auth/validator": {}}"#);
    assert!(matches!(part, BackendPart::Nothing));
    assert!(
        file.findings()
            .contains("move the expression to the endpoint")
    );
}

#[test]
fn unlikely_expressions_are_reported_as_warnings() {
    for (expression, words) in [
        ("1 == 1", "never evaluated"),
        ("req_params.Id + 'x'", "returns string"),
        ("resp_data.a == 1", "numbers of \\\"resp_data\\\" are texts"),
        (
            "resp_data.o.a > 1.5",
            "numbers of \\\"resp_data\\\" are texts",
        ),
        (
            "resp_data.a == req_path",
            "\\\"resp_data\\\" is not known then",
        ),
    ] {
        let (config_errors, found) = findings(&block(&[expression]));
        assert_eq!(config_errors, 0, "{expression}: {found}");
        assert!(found.contains(words), "{expression}: {found}");
    }
    for fine in [
        "int(resp_data.a) == 1",
        "resp_data.a == '1'",
        "'JWT' in req_headers",
        "req_headers['X-JWT'][0] == 'x'",
    ] {
        let (config_errors, found) = findings(&block(&[fine]));
        assert_eq!(config_errors, 0, "{fine}: {found}");
    }
    let (config_errors, _) = findings(r#"[{"mod_expr": "x"}, {"check_expr": ""}, {}]"#);
    assert_eq!(config_errors, 0);
}

#[test]
fn a_token_is_checked_by_the_expressions_that_use_it() {
    let pattern: Arc<str> = "/e".into();
    let admits = |expressions: &[&str], claims: &str| {
        let report = Report::new();
        let file = format!(
            r#"{{"@cel": 1, "github.com/devopsfaith/krakend-cel": {}, "auth/validator": {{}}}}"#,
            block(expressions)
        );
        let value = json::parse(&file, &report).unwrap();
        let site = EndpointSite {
            pattern: &pattern,
            method: &Method::GET,
            timeout: Duration::from_secs(1),
            extra: Some(Node::root(&value, &report)),
            streams: false,
            url_claims: &[],
            inputs: None,
        };
        let claims = Claims::parse(claims.as_bytes()).unwrap();
        demand(&site).map(|demand| demand.admits(&claims).unwrap())
    };
    let ada = r#"{"sub": "ada", "level": 3, "roles": ["a", "b"], "address": {"city": "x"}, "exp": 1700000000, "id": 9007199254740993, "far": 18446744073709551615}"#;
    for (expression, expected) in [
        ("JWT.sub == 'ada'", true),
        ("JWT.sub == 'bob'", false),
        ("JWT.nope == 'ada'", false),
        (
            "has(JWT.sub) && 'a' in JWT.roles && JWT.roles.size() == 2",
            true,
        ),
        ("JWT.level == 3 && JWT.level > 2 && JWT.level < 3.5", true),
        ("type(JWT.level) == double", true),
        ("timestamp(int(JWT.exp)) < timestamp(now)", true),
        ("JWT.address.city == 'x'", true),
        ("JWT.id == 9007199254740993", true),
        ("JWT.id == 9007199254740992", false),
        ("JWT.far == 18446744073709551615u", true),
        ("JWT.far > 1", true),
        ("JWT.sub", false),
        ("JWT.sub == req_path", false),
    ] {
        assert_eq!(admits(&[expression], ada), Some(expected), "{expression}");
    }
    assert_eq!(
        admits(&["JWT.sub == 'ada'", "JWT.level == 4"], ada),
        Some(false)
    );
    assert_eq!(admits(&["req_path == '/'"], ada), None);
}

#[test]
fn arbitrary_input_may_be_compiled_and_evaluated() {
    super::judge_anything("JWT.a.all(x, x > 1)", br#"{"a": [1, "b"]}"#);
    super::judge_anything("((", b"{}");
    super::judge_anything("JWT == {}", b"nothing");
}

#[test]
fn data_of_maximum_depth_fits_on_the_stack_of_a_worker() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let body = format!(r#"{{"a": {deep}, "b": {deep}}}"#);
    let expression = format!(
        "{}resp_data.a == resp_data.b{}",
        "[1].all(x, ".repeat(40),
        ")".repeat(40)
    );
    let worker = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime
                .block_on(after(&[&expression], &body, Depth::TopLevel))
                .is_ok()
        });
    assert!(worker.unwrap().join().unwrap());
}
