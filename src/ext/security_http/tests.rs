use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::SERVICE;
use crate::ext::extension::ServicePart;
use crate::ext::testing::{File, head};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::{Branding, Response};
use crate::runtime::step::ServiceStep;

fn step(block: &str) -> Box<dyn ServiceStep> {
    match File::new(block).service(&SERVICE) {
        ServicePart::Step(step) => step,
        _ => panic!("no step"),
    }
}

fn ask(
    step: &dyn ServiceStep,
    pairs: &[(&str, &str)],
    change: impl FnOnce(&mut Head<'_>),
) -> (Option<Response>, Vec<String>) {
    let headers: HeaderMap = pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        })
        .collect();
    let mut head = head(&Method::GET, "/m?a=1&b=<", &headers);
    change(&mut head);
    let mut notes = Notes::default();
    let response = step.request(&head, &mut notes);
    let fields = notes.response_fields.iter();
    let shown = fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    (response, shown.collect())
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let found = response.fields.iter().find(|(known, _)| known == name)?;
    found.1.to_str().ok()
}

#[test]
fn all_headers_are_those_of_krakend() {
    let step = step(
        r#"{"frame_deny": true, "content_type_nosniff": true, "browser_xss_filter": true,
            "content_security_policy": "default-src 'self';", "referrer_policy": "same-origin"}"#,
    );
    let (response, fields) = ask(&*step, &[], |_| {});
    assert!(response.is_none());
    assert_eq!(
        fields,
        [
            "x-frame-options: DENY",
            "x-content-type-options: nosniff",
            "x-xss-protection: 1; mode=block",
            "content-security-policy: default-src 'self';",
            "referrer-policy: same-origin",
        ]
    );
    assert!(!step.covers_health());
}

#[test]
fn an_empty_block_adds_nothing_and_a_custom_frame_option_takes_precedence() {
    assert!(ask(&*step("{}"), &[], |_| {}).1.is_empty());
    let custom =
        step(r#"{"frame_deny": true, "custom_frame_options_value": "ALLOW-FROM https://e.com"}"#);
    let (_, fields) = ask(&*custom, &[], |_| {});
    assert_eq!(fields, ["x-frame-options: ALLOW-FROM https://e.com"]);
}

#[test]
fn a_host_that_is_not_allowed_gets_500_without_the_headers() {
    let step = step(r#"{"allowed_hosts": ["api.example.com:8080"], "frame_deny": true}"#);
    let (response, fields) = ask(&*step, &[("host", "API.example.com:8080")], |_| {});
    assert!(response.is_none() && fields.len() == 1);
    let (response, fields) = ask(&*step, &[("host", "api.example.com")], |_| {});
    let response = response.unwrap();
    assert_eq!(
        (response.status.as_u16(), &response.body[..]),
        (500, &b"Bad Host\n"[..])
    );
    assert_eq!(
        field(&response, "content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(field(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(response.branding, Branding::None);
    assert!(fields.is_empty());
}

#[test]
fn patterns_of_hosts_are_anchored_and_a_bad_one_stops_the_start() {
    let step =
        step(r#"{"allowed_hosts": [".*\\.example\\.com|a"], "allowed_hosts_are_regex": true}"#);
    let allowed = |host| ask(&*step, &[("host", host)], |_| {}).0.is_none();
    assert!(allowed("api.example.com") && allowed("a"));
    assert!(!allowed("api.example.com.evil") && !allowed("ab"));
    let mut file = File::new(r#"{"allowed_hosts": ["("], "allowed_hosts_are_regex": true}"#);
    assert!(matches!(file.service(&SERVICE), ServicePart::Nothing));
    assert_eq!(file.config_errors(), 1);
}

#[test]
fn a_proxy_header_replaces_the_host() {
    let step = step(
        r#"{"allowed_hosts": ["public"], "host_proxy_headers": ["X-A", "X-Forwarded-Host"], "ssl_redirect": true}"#,
    );
    let sent = [
        ("x-a", ""),
        ("x-forwarded-host", "public"),
        ("host", "inner"),
    ];
    let response = ask(&*step, &sent, |_| {}).0.unwrap();
    assert_eq!(
        field(&response, "location"),
        Some("https://public/m?a=1&b=<")
    );
}

#[test]
fn plain_requests_are_redirected_to_https() {
    let redirecting = step(
        r#"{"ssl_redirect": true, "ssl_proxy_headers": {"X-Forwarded-Proto": "https"}, "sts_seconds": 5}"#,
    );
    let response = ask(&*redirecting, &[("host", "h:80")], |_| {}).0.unwrap();
    assert_eq!(response.status.as_u16(), 301);
    assert_eq!(field(&response, "location"), Some("https://h:80/m?a=1&b=<"));
    assert_eq!(
        &response.body[..],
        b"<a href=\"https://h:80/m?a=1&amp;b=&lt;\">Moved Permanently</a>.\n\n"
    );
    let beyond_ascii = ask(&*redirecting, &[("host", "h")], |head| {
        head.path = "/m/\u{e9}";
        head.query = Some("q=\u{e9}");
    });
    assert_eq!(
        field(&beyond_ascii.0.unwrap(), "location"),
        Some("https://h/m/%C3%A9?q=%C3%A9")
    );
    let (response, fields) = ask(&*redirecting, &[("x-forwarded-proto", "https")], |_| {});
    assert!(response.is_none());
    assert_eq!(fields, ["strict-transport-security: max-age=5"]);
    assert!(
        ask(&*redirecting, &[], |head| head.secure = true)
            .0
            .is_none()
    );
    let elsewhere = step(r#"{"ssl_redirect": true, "ssl_host": "secure.example"}"#);
    let response = ask(&*elsewhere, &[], |head| head.path = "//evil")
        .0
        .unwrap();
    assert_eq!(
        field(&response, "location"),
        Some("https://secure.example/evil?a=1&b=<")
    );
}

#[test]
fn sts_is_sent_only_over_tls_unless_forced() {
    let polite = step(r#"{"sts_seconds": 300, "sts_include_subdomains": true}"#);
    assert!(ask(&*polite, &[], |_| {}).1.is_empty());
    let (_, fields) = ask(&*polite, &[], |head| head.secure = true);
    assert_eq!(
        fields,
        ["strict-transport-security: max-age=300; includeSubDomains"]
    );
    let forced = step(r#"{"sts_seconds": 300, "force_sts_header": true}"#);
    assert_eq!(
        ask(&*forced, &[], |_| {}).1,
        ["strict-transport-security: max-age=300"]
    );
}

#[test]
fn development_disables_the_host_check_the_redirect_and_sts() {
    let step = step(
        r#"{"is_development": true, "allowed_hosts": ["x"], "ssl_redirect": true, "frame_deny": true, "sts_seconds": 5,
            "force_sts_header": true}"#,
    );
    let (response, fields) = ask(&*step, &[], |_| {});
    assert!(response.is_none());
    assert_eq!(fields, ["x-frame-options: DENY"]);
}

#[test]
fn a_nonce_differs_in_each_response() {
    let step = step(r#"{"content_security_policy": "script-src $NONCE; style-src $NONCE"}"#);
    let nonce = || {
        let (_, fields) = ask(&*step, &[], |_| {});
        let field = fields[0].clone();
        let nonces: Vec<&str> = field
            .split('\'')
            .filter(|part| part.starts_with("nonce-"))
            .collect();
        assert_eq!(nonces.len(), 2);
        assert_eq!(nonces[0], nonces[1]);
        nonces[0].to_owned()
    };
    assert_ne!(nonce(), nonce());
}

#[test]
fn invalid_header_values_stop_the_start() {
    let blocks = [
        r#"{"referrer_policy": "a\nb"}"#,
        r#"{"content_security_policy": "$NONCE\n"}"#,
        r#"{"host_proxy_headers": ["a b"]}"#,
        r#"{"ssl_proxy_headers": {"a b": "c"}}"#,
    ];
    for block in blocks {
        let mut file = File::new(block);
        file.service(&SERVICE);
        assert_eq!(file.config_errors(), 1, "{block}");
    }
}
