use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::runtime::service::ClientAddress;

fn options() -> Options {
    Options {
        version_header: HeaderValue::from_static("Portcullis 1"),
        user_agent: HeaderValue::from_static("Portcullis/1"),
        return_error_msg: false,
        error_body_404: None,
        error_body_405: None,
        health_path: Some(Arc::from("/__health")),
        debug_endpoint: false,
        echo_endpoint: false,
        client_address: ClientAddress::default(),
        check_path_params: true,
        max_request_body_bytes: 0,
        max_upstream_body_bytes: 0,
        stream_idle_timeout: Duration::ZERO,
        stream_total_timeout: false,
        access_log_skip: Box::new([]),
        access_log: true,
        canonical_json: false,
    }
}

fn sent(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gw.test"));
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
}

fn head<'a>(headers: &'a HeaderMap) -> Head<'a> {
    let peer: IpAddr = "127.0.0.1".parse().unwrap();
    Head {
        method: &Method::GET,
        path: "/m",
        query: None,
        headers,
        host: "gw.test",
        peer,
        client: peer,
        secure: false,
    }
}

/// The fields as lines, sorted.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

fn seen(
    rules: &HeaderRules,
    notes: &Notes,
    client: &[(&'static str, &'static str)],
) -> Vec<String> {
    let headers = sent(client);
    lines(&outgoing(rules, &options(), &head(&headers), notes))
}

fn endpoint(names: &[&str]) -> HeaderRules {
    HeaderRules::endpoint(names).unwrap()
}

const TRIO: [&str; 3] = [
    "user-agent: Portcullis/1",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-host: gw.test",
];

fn with_trio(more: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = TRIO.iter().chain(more).map(|l| (*l).to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn without_a_list_only_the_content_type_passes() {
    let client = [
        ("x-foo", "1"),
        ("accept", "a/b"),
        ("user-agent", "curl/8"),
        ("content-type", "x/y"),
        ("accept-encoding", "br"),
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    let rules = endpoint(&[]);
    assert_eq!(
        seen(&rules, &Notes::default(), &client),
        with_trio(&["content-type: x/y"])
    );
}

#[test]
fn listed_fields_pass_with_all_their_lines() {
    let client = [
        ("x-foo", "1"),
        ("x-foo", "2"),
        ("user-agent", "curl/8"),
        ("accept-encoding", "br"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("content-type", "x/y"),
    ];
    let rules = endpoint(&["x-FOO", "user-agent", "accept-encoding", "cookie"]);
    assert_eq!(
        seen(&rules, &Notes::default(), &client),
        [
            "accept-encoding: br",
            "cookie: a=1",
            "cookie: b=2",
            "user-agent: curl/8",
            "x-foo: 1",
            "x-foo: 2",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: gw.test",
            "x-forwarded-via: Portcullis/1",
        ]
    );
}

#[test]
fn a_listed_user_agent_that_was_not_sent_is_ours() {
    let rules = endpoint(&["User-Agent"]);
    assert_eq!(seen(&rules, &Notes::default(), &[]), with_trio(&[]));
}

#[test]
fn listing_what_the_gateway_sets_has_no_effect() {
    let rules = endpoint(&["Host", "X-Forwarded-For", "X-Forwarded-Host", "Upgrade"]);
    let client = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil"),
        ("upgrade", "h2c"),
    ];
    assert_eq!(seen(&rules, &Notes::default(), &client), with_trio(&[]));
}

#[test]
fn hop_by_hop_fields_never_pass() {
    let client = [
        ("connection", "close, X-Hop"),
        ("connection", "X-SECRET,x-secret, x-absent,,not a name"),
        ("keep-alive", "300"),
        ("te", "trailers"),
        ("proxy-authorization", "x"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("http2-settings", "x"),
        ("upgrade", "websocket"),
        ("x-hop", "1"),
        ("x-secret", "1"),
        ("x-k", "1"),
        ("x-forwarded-via", "evil"),
        ("user-agent", "cli"),
    ];
    let want = [
        "user-agent: cli",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: gw.test",
        "x-forwarded-via: Portcullis/1",
        "x-k: 1",
    ];
    assert_eq!(seen(&endpoint(&["*"]), &Notes::default(), &client), want);
    assert_eq!(
        seen(&endpoint(&["x-hop"]), &Notes::default(), &client),
        with_trio(&[])
    );
}

#[test]
fn fields_that_a_step_set_win_and_no_twin_stands_beside_them() {
    let user = HeaderName::from_static("x-user");
    let mut notes = Notes::default();
    notes.set_header(
        &user,
        [HeaderValue::from_static("ann")].into_iter().collect(),
    );
    let client = [
        ("x-user", "eve"),
        ("x_user", "eve"),
        ("x_forwarded_for", "6.6.6.6"),
        ("connection", "x-user"),
    ];
    for names in [&["*"][..], &["X-User", "X_User"]] {
        let rules = endpoint(names).guarding(std::slice::from_ref(&user));
        assert_eq!(seen(&rules, &notes, &client), with_trio(&["x-user: ann"]));
    }
    let unlisted = endpoint(&["X-Other"]);
    assert_eq!(seen(&unlisted, &notes, &client), with_trio(&[]));
    notes.set_header(&user, [].into_iter().collect());
    let rules = endpoint(&["*"]).guarding(&[user]);
    assert_eq!(seen(&rules, &notes, &client), with_trio(&[]));
}

#[test]
fn a_backend_list_filters_the_whole_set_once_more() {
    let narrowed = |names: &[&str]| {
        let client = sent(&[("x-a", "1"), ("x-a", "2"), ("x-b", "3")]);
        let endpoint = endpoint(&["x-a", "x-b"]);
        let mut headers = outgoing(&endpoint, &options(), &head(&client), &Notes::default());
        HeaderRules::backend(names).unwrap().narrow(&mut headers);
        complete(&mut headers, &options(), true);
        lines(&headers)
    };
    assert_eq!(
        narrowed(&["X-A"]),
        [
            "accept-encoding: gzip",
            "user-agent: Portcullis/1",
            "x-a: 1",
            "x-a: 2"
        ]
    );
    assert_eq!(
        narrowed(&["X-Z", "x-forwarded-for"]),
        [
            "accept-encoding: gzip",
            "user-agent: Portcullis/1",
            "x-forwarded-for: 127.0.0.1",
        ]
    );
    assert_eq!(narrowed(&["*"]).len(), 7);
}

#[test]
fn the_chain_is_appended_only_by_key_and_from_a_trusted_peer() {
    let client = sent(&[
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
    ]);
    let mut head = head(&client);
    head.client = "1.1.1.1".parse().unwrap();
    let value = |append, trusted: &[&str]| {
        let mut options = options();
        options.client_address.append_chain = append;
        options.client_address.trusted = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let headers = outgoing(&endpoint(&[]), &options, &head, &Notes::default());
        headers["x-forwarded-for"].to_str().unwrap().to_owned()
    };
    assert_eq!(value(true, &["127.0.0.0/8"]), "1.1.1.1, 2.2.2.2, 127.0.0.1");
    assert_eq!(value(false, &["127.0.0.0/8"]), "1.1.1.1");
    assert_eq!(value(true, &[]), "1.1.1.1");
}

#[test]
fn bytes_beyond_ascii_pass_unchanged() {
    let client = sent(&[]);
    let mut client = client;
    client.insert(
        "x-name",
        HeaderValue::from_bytes("Käse".as_bytes()).unwrap(),
    );
    let headers = outgoing(
        &endpoint(&["x-name"]),
        &options(),
        &head(&client),
        &Notes::default(),
    );
    assert_eq!(headers["x-name"].as_bytes(), "Käse".as_bytes());
}

#[test]
fn the_length_is_announced_when_listed() {
    assert!(endpoint(&["content-length"]).announces_length());
    assert!(endpoint(&["*"]).announces_length());
    assert!(!endpoint(&["content-type"]).announces_length());
}
