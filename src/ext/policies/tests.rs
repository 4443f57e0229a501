use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::{BACKEND, ENDPOINT, token_demand};
use crate::config::{Node, Report};
use crate::ext::EndpointSite;
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::geoip::{Locator, broken_later, testing};
use crate::ext::testing::{File, pipe_request};
use crate::jose::Claims;
use crate::runtime::failure::{Guard, Kind};
use crate::runtime::json::{Depth, parse};
use crate::runtime::pipe::{Meta, PipeRequest, PipeResponse, PipeStep};
use crate::runtime::request::Params;

fn request() -> PipeRequest {
    let mut headers = HeaderMap::new();
    headers.append("x-user", HeaderValue::from_static("ada"));
    headers.append("x-empty", HeaderValue::from_static(""));
    headers.append("cookie", HeaderValue::from_static("sid=7; theme=\"dark\""));
    let mut params = Params::default();
    params.0.push((Arc::from("id"), "7".to_owned()));
    PipeRequest {
        peer: None,
        method: Method::GET,
        query: Some("page=2&page=3&q=".into()),
        params,
        headers,
        client: [192, 0, 2, 7].into(),
        ..pipe_request(Bytes::new())
    }
}

fn response(data: &str) -> PipeResponse {
    PipeResponse {
        data: parse(&Bytes::copy_from_slice(data.as_bytes()), Depth::Full).unwrap(),
        complete: true,
        reply: None,
        meta: Meta::default(),
        held: Default::default(),
    }
}

/// A database in which 192.0.2.0/24 is in Spain.
fn locator() -> Locator {
    let file = tempfile::NamedTempFile::new().unwrap();
    let spain = json!({"country": {"iso_code": "ES"}});
    let bytes = testing::database("GeoLite2-City", &[("192.0.2.0/24", spain)]);
    std::fs::write(file.path(), bytes).unwrap();
    Locator::open(file.path().to_owned(), Vec::new()).unwrap()
}

fn step(block: &Value) -> Box<dyn PipeStep> {
    let mut file = File::new(&block.to_string());
    file.set_fact(locator());
    match file.endpoint(&ENDPOINT, "/e/{id}") {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        other => panic!("{other:?}: {}", file.findings()),
    }
}

fn req(policy: &str) -> Value {
    json!({"req": {"policies": [policy]}})
}

/// Whether the request passes this policy.
fn passes(policy: &str) -> bool {
    let step = step(&req(policy));
    futures::executor::block_on(step.before(&mut request())).is_ok()
}

#[test]
fn a_policy_about_a_place_that_cannot_be_read_rejects() {
    for (policy, want) in [
        ("geoIP().Country.IsoCode == 'RU'", false),
        ("geoIP().Country.IsoCode != 'RU'", false),
        ("!(geoIP().Country.IsoCode == 'RU')", false),
        ("isEmpty(geoIP().Country.IsoCode)", false),
        ("isEmpty(geoIP())", false),
        ("!has(geoIP().Country)", false),
        (
            "geoIP().Country.IsoCode != 'RU' || req_method == 'GET'",
            false,
        ),
        (
            "req_method == 'GET' || geoIP().Country.IsoCode != 'RU'",
            true,
        ),
    ] {
        let mut file = File::new(&req(policy).to_string());
        file.set_fact(broken_later());
        let EndpointPart::Piped { mut pipes, .. } = file.endpoint(&ENDPOINT, "/e/{id}") else {
            panic!("{}", file.findings());
        };
        let judged = futures::executor::block_on(pipes.remove(0).before(&mut request()));
        assert_eq!(judged.is_ok(), want, "{policy}");
        if let Err(failure) = judged {
            assert_eq!(failure.kind, Kind::Guarded(Guard::GeoIp), "{policy}");
        }
    }
}

#[test]
fn requests_pass_where_the_policy_is_true() {
    for (policy, want) in [
        ("req_method == 'GET'", true),
        ("req_headers['X-User'][0] == 'ada'", true),
        ("hasHeader('X-User')", true),
        ("hasHeader('x-user')", true),
        ("hasHeader('X-Other')", false),
        ("getHeader('X-USER') == 'ada'", true),
        ("getHeader('X-Other') != 'ada'", false),
        ("hasQuerystring('page')", true),
        ("hasQuerystring('pages')", false),
        ("getQuerystring('page') == '2'", true),
        ("hasCookie('sid')", true),
        ("hasCookie('Sid')", false),
        ("getCookie('sid') == '7'", true),
        ("getCookie('theme') == 'dark'", true),
        ("req_headers.containsCookie('sid', '7')", true),
        ("req_headers.containsCookie('sid', '8')", false),
        ("isEmpty(req_headers['X-None'])", true),
        ("isEmpty(getHeader('X-Empty'))", true),
        ("isEmpty(getHeader('X-User'))", false),
        ("isEmpty(getQuerystring('q'))", true),
        ("!isEmpty(req_params.Id)", true),
        ("between(1, 9, int(req_params.Id))", true),
        ("int(req_params.Id).between(7, 7)", true),
        ("int(req_params.Id).between(8, 9)", false),
        ("2.5.between(2, 3)", true),
        ("clientIP() == '192.0.2.7'", true),
        ("inCIDR(clientIP(), '192.0.2.0/24')", true),
        ("inCIDR(clientIP(), '10.0.0.0/8')", false),
        ("geoIP().Country.IsoCode == 'ES'", true),
        ("req_path.lowerAscii().startsWith('/e')", true),
        ("'a,b,c'.split(',')[1] == 'b'", true),
        ("['a', 'b'].join('-') == 'a-b'", true),
        ("'tacocat'.substring(0, 4) == 'taco'", true),
        ("'tacocat'.indexOf('co') == 2", true),
        ("'tacocat'.indexOf('x') == -1", true),
        ("'tacocat'.lastIndexOf('c') == 4", true),
        ("'tacocat'.charAt(3) == 'o'", true),
        ("' a '.trim() == 'a'", true),
        ("'a.b.c'.replace('.', '/') == 'a/b/c'", true),
        ("'äbc'.reverse() == 'cbä'", true),
        ("base64.encode(b'hello') == 'aGVsbG8='", true),
        ("string(base64.decode('aGVsbG8=')) == 'hello'", true),
        // A policy that fails is not true.
        ("req_headers['X-None'][0] == 'a'", false),
        ("!(req_headers['X-None'][0] == 'a')", false),
        ("'tacocat'.substring(9) == ''", false),
        ("string(base64.decode('?')) == ''", false),
        ("inCIDR('unknown', '10.0.0.0/8')", false),
        ("int('x') == 1", false),
    ] {
        assert_eq!(passes(policy), want, "{policy}");
    }
}

#[test]
fn a_missing_middle_is_empty() {
    let block =
        json!({"resp": {"policies": ["isEmpty(resp_data.a.b.c)", "!isEmpty(resp_data.x)"]}});
    let step = step(&block);
    let judged = |data: &str| {
        let (request, mut response) = (request(), response(data));
        let after = step.after(None, &request, &mut response);
        futures::executor::block_on(after).is_ok()
    };
    assert!(judged(r#"{"x": "1"}"#));
    assert!(judged(r#"{"x": "1", "a": {"b": {"c": ""}}}"#));
    assert!(!judged(r#"{"x": "1", "a": {"b": {"c": "d"}}}"#));
    assert!(!judged("{}"));
}

#[test]
fn responses_are_evaluated_together_with_their_request() {
    let policy = "resp_completed && resp_data.owner == getHeader('X-User')";
    let step = step(&json!({"resp": {"policies": [policy]}}));
    let judged = |data: &str| {
        let (request, mut response) = (request(), response(data));
        let after = step.after(None, &request, &mut response);
        futures::executor::block_on(after)
    };
    assert!(judged(r#"{"owner": "ada"}"#).is_ok());
    let failure = judged(r#"{"owner": "eve"}"#).unwrap_err();
    assert_eq!(failure.status, 500);
}

#[test]
fn the_first_policy_that_is_not_true_decides_with_the_configured_error() {
    let block = json!({"req": {
        "policies": ["true", "hasHeader('X-None')", "false"],
        "error": {"body": "{\"no\": 1}", "status": 403, "content_type": "application/json"}
    }});
    let step = step(&block);
    let before = futures::executor::block_on(step.before(&mut request()));
    let failure = before.err().unwrap();
    assert_eq!(failure.status, 403);
    assert!(failure.text.contains("#1"), "{}", failure.text);
    let (body, content_type) = failure.body.unwrap();
    assert_eq!(body, "{\"no\": 1}");
    assert_eq!(content_type.unwrap(), "application/json");
}

/// The errors of a block in an endpoint with or without a validator.
fn errors(block: &Value, validated: bool) -> (usize, String) {
    let report = Report::new();
    let mut extra = json!({"security/policies": block});
    if validated {
        extra["auth/validator"] = json!({});
    }
    let extra = crate::config::json::parse(&extra.to_string(), &report).unwrap();
    let mut file = File::new(&block.to_string());
    let pattern: Arc<str> = "/e/{id}".into();
    let site = EndpointSite {
        pattern: &pattern,
        method: &Method::GET,
        timeout: std::time::Duration::from_secs(2),
        extra: Some(Node::root(&extra, &report)),
        streams: false,
        url_claims: &[],
        inputs: None,
    };
    let node = file.node();
    (ENDPOINT.compile)(&node, &site, file.compile());
    (file.config_errors(), file.findings())
}

#[test]
fn a_guard_without_effect_stops_the_start() {
    for block in [
        json!({}),
        json!({"req": {}}),
        json!({"req": {"policies": []}}),
        json!({"req": {"policies": [7]}}),
        req("req_method =="),
        req("1 + 1"),
        req("unknown == 1"),
        req("resp_data.a == 'b'"),
        req("JWT.sub == 'ada'"),
        req("hasHeader()"),
        req("hasHeader(7)"),
        req("inCIDR(clientIP(), '10.0.0.0/40')"),
        req("geoIP().Country.IsoCode == 'ES'"),
        req("between(1, 2)"),
        json!({"jwt": {"policies": ["JWT.sub == 'ada'"]}}),
        json!({"req": {"policies": ["true"], "error": {"status": 0}}}),
        json!({"req": {"policies": ["true"], "error": {"status": 600}}}),
        json!({"req": {"policies": ["true"], "error": {"content_type": "a\nb"}}}),
        json!({"req": {"policies": ["hasHeader('X-A')"]}, "disable_macros": true}),
        json!({"req": {"policies": ["isEmpty(req_method)"]}, "disable_advanced_macros": true}),
    ] {
        let (count, findings) = errors(&block, false);
        assert!(count > 0, "{block}: {findings}");
    }
    for block in [
        json!({"jwt": {"policies": ["hasHeader('X-A')"]}}),
        json!({"jwt": {"policies": ["req_method == 'GET'"]}}),
    ] {
        assert!(errors(&block, true).0 > 0, "{block}");
    }
    for block in [
        json!({"jwt": {"policies": ["JWT.sub == 'ada'"]}, "auto_join_policies": true, "debug": true}),
        req("JWT.sub == 'ada'"),
        json!({"req": {"policies": ["between(1, 2, 3)"]}, "disable_macros": true}),
        json!({"req": {"policies": "hasHeader('X-A')"}}),
    ] {
        let (count, findings) = errors(&block, true);
        assert_eq!(count, 0, "{block}: {findings}");
    }
}

#[test]
fn an_unknown_function_is_rejected_with_the_list_of_those_that_exist() {
    let mut file = File::new(&req("hasHeaders('X-A')").to_string());
    file.endpoint(&ENDPOINT, "/e/{id}");
    let hints = file.hints().join(" ");
    for known in [
        "hasHeader",
        "isEmpty",
        "startsWith",
        "base64.encode",
        "clientIP",
    ] {
        assert!(hints.contains(known), "{known}: {hints}");
    }
}

#[test]
fn tokens_are_judged_by_their_claims() {
    let report = Report::new();
    let extra = json!({"security/policies": {"jwt": {"policies": [
        "'admin' in JWT.roles", "isEmpty(JWT.blocked)", "JWT.level.between(1, 3)"
    ]}}});
    let extra = crate::config::json::parse(&extra.to_string(), &report).unwrap();
    let pattern: Arc<str> = "/e".into();
    let site = EndpointSite {
        pattern: &pattern,
        method: &Method::GET,
        timeout: std::time::Duration::from_secs(2),
        extra: Some(Node::root(&extra, &report)),
        streams: false,
        url_claims: &[],
        inputs: None,
    };
    let demand = token_demand(&site).unwrap();
    for (claims, want) in [
        (r#"{"roles": ["admin"], "level": 2}"#, true),
        (r#"{"roles": ["admin"], "level": 4}"#, false),
        (r#"{"roles": ["user"], "level": 2}"#, false),
        (
            r#"{"roles": ["admin"], "level": 2, "blocked": "yes"}"#,
            false,
        ),
        (r#"{"level": 2}"#, false),
    ] {
        let claims = Claims::parse(claims.as_bytes()).unwrap();
        assert_eq!(demand.admits(&claims), Ok(want), "{claims:?}");
    }
}

#[test]
fn a_backend_has_policies_of_its_own() {
    let mut file = File::new(&req("req_method == 'PUT'").to_string());
    let BackendPart::Pipe(step) = file.backend(&BACKEND, "{}") else {
        panic!("{}", file.findings());
    };
    assert!(futures::executor::block_on(step.before(&mut request())).is_err());
    let mut file = File::new(r#"{"jwt": {"policies": ["true"]}}"#);
    file.backend(&BACKEND, "{}");
    assert!(file.config_errors() > 0);
}

#[test]
fn an_endless_policy_is_not_true() {
    let long = "a".repeat(2000);
    let many = format!("'{long}'.split('')");
    let policy = format!("{many}.all(a, {many}.all(b, {many}.all(c, a == b && b == c)))");
    assert!(!passes(&policy));
}
