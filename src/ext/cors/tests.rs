use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{ENDPOINT, SERVICE};
use crate::ext::extension::ServicePart;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::response::{Branding, Fields};
use crate::runtime::step::ServiceStep;

fn cors(block: &str) -> Box<dyn ServiceStep> {
    match File::new(block).service(&SERVICE) {
        ServicePart::Step(step) => step,
        _ => panic!("no step"),
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        })
        .collect()
}

fn shown(fields: &Fields) -> Vec<String> {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

/// Status and headers of the response to a preflight.
fn preflight(step: &dyn ServiceStep, path: &str, pairs: &[(&str, &str)]) -> (u16, Vec<String>) {
    let headers = headers(pairs);
    let mut notes = Notes::default();
    let response = step
        .request(&head(&Method::OPTIONS, path, &headers), &mut notes)
        .expect("an answer");
    assert_eq!(response.branding, Branding::None);
    (response.status.as_u16(), shown(&response.fields))
}

fn actual(step: &dyn ServiceStep, method: &Method, pairs: &[(&str, &str)]) -> Vec<String> {
    let headers = headers(pairs);
    let mut notes = Notes::default();
    let response = step.request(&head(method, "/m", &headers), &mut notes);
    assert!(response.is_none());
    shown(&notes.response_fields)
}

const FULL: &str = r#"{"allow_origins": ["https://a.example", "https://b.example"], "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type"], "expose_headers": ["content-length", "X-TOTAL"], "max_age": "12h"}"#;

const VARY: &str = "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

#[test]
fn an_allowed_preflight_names_the_method_and_the_requested_headers() {
    let step = cors(FULL);
    let asked = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "content-type, AUTHORIZATION",
        ),
    ];
    assert_eq!(
        preflight(&*step, "/nope", &asked),
        (
            204,
            vec![
                VARY.to_owned(),
                "access-control-allow-origin: https://a.example".to_owned(),
                "access-control-allow-methods: POST".to_owned(),
                "access-control-allow-headers: content-type, AUTHORIZATION".to_owned(),
                "access-control-max-age: 43200".to_owned(),
            ]
        )
    );
    assert!(step.covers_health());
}

#[test]
fn a_rejected_preflight_has_the_same_status_and_only_vary() {
    let step = cors(FULL);
    let method = ("access-control-request-method", "GET");
    let origin = ("origin", "https://a.example");
    for asked in [
        vec![method],
        vec![method, ("origin", "https://c.example")],
        vec![origin, ("access-control-request-method", "get")],
        vec![origin, ("access-control-request-method", "PUT")],
        vec![
            origin,
            method,
            ("access-control-request-headers", "x-other"),
        ],
    ] {
        assert_eq!(
            preflight(&*step, "/m", &asked),
            (204, vec![VARY.to_owned()]),
            "{asked:?}"
        );
    }
}

#[test]
fn without_lists_any_origin_and_header_and_the_simple_methods_are_allowed() {
    let step = cors("{}");
    for (method, allowed) in [
        ("GET", true),
        ("POST", true),
        ("HEAD", true),
        ("PUT", false),
    ] {
        let asked = [
            ("origin", "https://a.example"),
            ("access-control-request-method", method),
            ("access-control-request-headers", "x-a,x-b"),
        ];
        let (_, fields) = preflight(&*step, "/m", &asked);
        assert_eq!(
            fields.contains(&"access-control-allow-origin: *".to_owned()),
            allowed
        );
        let echoed = "access-control-allow-headers: x-a,x-b".to_owned();
        assert_eq!(fields.contains(&echoed), allowed);
    }
}

#[test]
fn an_actual_request_gets_headers_and_is_never_rejected() {
    let step = cors(FULL);
    let marked = [
        "vary: Origin",
        "access-control-allow-origin: HTTPS://A.EXAMPLE",
        "access-control-expose-headers: Content-Length, X-Total",
    ];
    let origin = ("origin", "HTTPS://A.EXAMPLE");
    assert_eq!(actual(&*step, &Method::GET, &[origin]), marked);
    assert_eq!(actual(&*step, &Method::OPTIONS, &[origin]), marked);
    assert_eq!(actual(&*step, &Method::PUT, &[origin]), marked[..1]);
    assert_eq!(actual(&*step, &Method::GET, &[]), marked[..1]);
    assert_eq!(
        actual(&*step, &Method::GET, &[("origin", "https://c.example")]),
        marked[..1]
    );
}

#[test]
fn credentials_and_private_networks_are_allowed_if_enabled() {
    let step = cors(
        r#"{"allow_origins": ["https://a.example"], "allow_credentials": true, "allow_private_network": true,
            "options_success_status": 200, "max_age": "-1s"}"#,
    );
    let mut asked = vec![
        ("origin", "https://a.example"),
        ("access-control-request-method", "GET"),
    ];
    let (status, fields) = preflight(&*step, "/m", &asked);
    assert_eq!(status, 200);
    assert_eq!(
        fields[0],
        format!("{VARY}, Access-Control-Request-Private-Network")
    );
    assert!(fields.contains(&"access-control-allow-credentials: true".to_owned()));
    assert!(fields.contains(&"access-control-max-age: 0".to_owned()));
    let private = "access-control-allow-private-network: true".to_owned();
    assert!(!fields.contains(&private));
    asked.push(("access-control-request-private-network", "true"));
    assert!(preflight(&*step, "/m", &asked).1.contains(&private));
    let step = cors("{}");
    assert!(!preflight(&*step, "/m", &asked).1.contains(&private));
}

#[test]
fn a_star_in_an_origin_matches_anything() {
    let step = cors(r#"{"allow_origins": ["http://*.ok.com"]}"#);
    let allowed = |origin: &str| actual(&*step, &Method::GET, &[("origin", origin)]).len() > 1;
    assert!(allowed("http://a.ok.com") && allowed("HTTP://b.c.OK.com"));
    assert!(!allowed("http://ok.com") && !allowed("https://a.ok.com") && !allowed("http://.ok.co"));
    let mut file = File::new(r#"{"allow_origins": ["http://*.*.com"]}"#);
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 1);
}

#[test]
fn passed_through_preflights_get_their_headers() {
    let step = cors(r#"{"options_passthrough": true}"#);
    let headers = headers(&[
        ("origin", "https://a.example"),
        ("access-control-request-method", "GET"),
    ]);
    let mut notes = Notes::default();
    let response = step.request(&head(&Method::OPTIONS, "/m", &headers), &mut notes);
    assert!(response.is_none());
    assert_eq!(notes.response_fields.len(), 3);
}

#[test]
fn rules_of_an_endpoint_need_a_block_in_the_service() {
    let mut file = File::new("{}");
    file.endpoint_with(&ENDPOINT, "{}", "/a", Method::GET);
    assert_eq!(file.config_errors(), 1);
}

#[test]
fn a_status_that_is_not_a_success_is_an_error() {
    let mut file = File::new(r#"{"options_success_status": 404}"#);
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 1);
    assert_eq!(StatusCode::NO_CONTENT.as_u16(), 204);
}
