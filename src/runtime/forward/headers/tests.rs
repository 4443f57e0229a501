use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::runtime::request::RequestId;

fn options() -> Options {
    Options {
        version_header: HeaderValue::from_static("Portcullis 1"),
        user_agent: HeaderValue::from_static("Portcullis/1"),
        ..Options::default()
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
        host: Host::Given("gw.test"),
        peer,
        client: peer,
        secure: false,
        certificate: None,
    }
}

/// The headers as sorted lines.
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
fn listed_headers_pass_with_all_their_lines() {
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
fn a_listed_user_agent_that_was_not_sent_is_that_of_the_gateway() {
    let rules = endpoint(&["User-Agent"]);
    assert_eq!(seen(&rules, &Notes::default(), &[]), with_trio(&[]));
}

#[test]
fn listing_headers_that_the_gateway_sets_has_no_effect() {
    let rules = endpoint(&["Host", "X-Forwarded-For", "X-Forwarded-Host", "Upgrade"]);
    let client = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil"),
        ("upgrade", "h2c"),
    ];
    assert_eq!(seen(&rules, &Notes::default(), &client), with_trio(&[]));
}

#[test]
fn hop_by_hop_headers_never_pass() {
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
fn headers_set_by_a_step_win_and_similar_names_are_removed() {
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
        // A step that did not announce the header.
        let rules = endpoint(names);
        assert_eq!(seen(&rules, &notes, &client), with_trio(&["x-user: ann"]));
    }
    let unlisted = endpoint(&["X-Other"]);
    assert_eq!(seen(&unlisted, &notes, &client), with_trio(&[]));
    notes.set_header(&user, [].into_iter().collect());
    let rules = endpoint(&["*"]).guarding(&[user]);
    assert_eq!(seen(&rules, &notes, &client), with_trio(&[]));
}

#[test]
fn similar_names_are_recognised_in_any_spelling_and_both_directions() {
    for (set, twins) in [
        ("x-user", &["x_user", "x.user", "x~user", "x!user"][..]),
        ("x_user", &["x-user", "x.user"]),
        ("x.grp", &["x-grp", "x_grp"]),
    ] {
        let name = HeaderName::from_static(set);
        let mut notes = Notes::default();
        let ours = [HeaderValue::from_static("ann")];
        notes.set_header(&name, ours.into_iter().collect());
        let mut client: Vec<(&str, &str)> = twins.iter().map(|twin| (*twin, "eve")).collect();
        client.extend([
            ("x-users", "1"),
            ("xuser", "2"),
            ("x-forwarded.host", "evil"),
        ]);
        let rules = endpoint(&["*"]).guarding(std::slice::from_ref(&name));
        let mut want = with_trio(&[&format!("{set}: ann"), "x-users: 1", "xuser: 2"]);
        want.sort();
        assert_eq!(seen(&rules, &notes, &client), want);
        let listed: Vec<&str> = twins.iter().copied().chain([set]).collect();
        let rules = endpoint(&listed).guarding(&[name]);
        let want = with_trio(&[&format!("{set}: ann")]);
        assert_eq!(seen(&rules, &notes, &client), want);
    }
}

#[test]
fn headers_that_a_step_checks_are_not_for_other_origins() {
    let key = HeaderName::from_static("x-key");
    let client = sent(&[("x-key", "k-1"), ("x-other", "o")]);
    for names in [&["*"][..], &["X-Key", "X-Other"]] {
        let rules = endpoint(names).guarding(std::slice::from_ref(&key));
        let headers = outgoing(&rules, &options(), &head(&client), &Notes::default());
        assert!(headers["x-key"].is_sensitive());
        assert!(!headers["x-other"].is_sensitive());
        let open = outgoing(
            &endpoint(names),
            &options(),
            &head(&client),
            &Notes::default(),
        );
        assert!(!open["x-key"].is_sensitive());
    }
}

#[test]
fn other_spellings_of_headers_that_frame_a_message_or_that_the_gateway_sets_never_pass() {
    let names = [
        "transfer_encoding",
        "content_length",
        "content.length",
        "proxy",
        "proxy_authorization",
        "keep_alive",
        "http2_settings",
        "x_forwarded_host",
        "user_agent",
        "accept.encoding",
        "content_type",
        "x_forwarded_via",
    ];
    let client = names.map(|name| (name, "x"));
    for rules in [endpoint(&["*"]), endpoint(&names)] {
        assert_eq!(seen(&rules, &Notes::default(), &client), with_trio(&[]));
    }
    let harmless = [("x_trace", "1"), ("proxy_x", "1")];
    let want = with_trio(&["proxy_x: 1", "x_trace: 1"]);
    assert_eq!(seen(&endpoint(&["*"]), &Notes::default(), &harmless), want);
}

#[test]
fn setting_a_header_removes_similar_names() {
    let mut headers = sent(&[
        ("x_key", "eve"),
        ("x.key", "eve"),
        ("x-key", "eve"),
        ("x-keys", "1"),
    ]);
    let name = HeaderName::from_static("x-key");
    set_alone(&mut headers, &name, HeaderValue::from_static("ours"));
    assert_eq!(
        lines(&headers),
        ["host: gw.test", "x-key: ours", "x-keys: 1"]
    );
}

#[test]
fn a_byte_outside_ascii_does_not_hide_the_names_in_connection() {
    let mut client = sent(&[("x-hop", "1")]);
    client.insert(
        "connection",
        HeaderValue::from_bytes(b"\xff, x-hop").unwrap(),
    );
    let headers = outgoing(
        &endpoint(&["*"]),
        &options(),
        &head(&client),
        &Notes::default(),
    );
    assert!(!headers.contains_key("x-hop"));
}

#[test]
fn a_backend_list_filters_the_whole_set_again() {
    let narrowed = |names: &[&str]| {
        let client = sent(&[("x-a", "1"), ("x-a", "2"), ("x-b", "3")]);
        let endpoint = endpoint(&["x-a", "x-b"]);
        let mut headers = outgoing(&endpoint, &options(), &head(&client), &Notes::default());
        HeaderRules::backend(names).unwrap().narrow(&mut headers);
        complete(&mut headers, &options(), &Method::GET, true);
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
fn the_chain_is_appended_only_if_enabled_and_from_a_trusted_peer() {
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

/// `X-Forwarded-Proto` and `Forwarded` with all options enabled, for a client that sends these headers itself.
fn told(head: &Head<'_>, append: bool, trusted: &[&str]) -> [String; 2] {
    let mut options = options();
    let rules = &mut options.client_address;
    (rules.proto, rules.forwarded, rules.append_chain) = (true, true, append);
    rules.trusted = trusted.iter().map(|net| net.parse().unwrap()).collect();
    let headers = outgoing(&endpoint(&["*"]), &options, head, &Notes::default());
    ["x-forwarded-proto", "forwarded"].map(|name| {
        let lines: Vec<&str> = headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap())
            .collect();
        lines.join(" | ")
    })
}

#[test]
fn backends_receive_scheme_and_host_if_enabled_and_only_from_trusted_peers() {
    let client = sent(&[
        ("x-forwarded-proto", "HTTPS"),
        ("forwarded", "for=1.1.1.1;proto=gopher"),
        ("forwarded", "for=2.2.2.2"),
    ]);
    let mut head = head(&client);
    head.client = "1.1.1.1".parse().unwrap();
    let own = |proto: &str, node: &str| {
        [
            proto.to_owned(),
            format!("for={node};host=\"gw.test\";proto={proto}"),
        ]
    };
    assert_eq!(told(&head, true, &[]), own("http", "1.1.1.1"));
    assert_eq!(
        told(&head, false, &["127.0.0.1/32"]),
        own("https", "1.1.1.1")
    );
    let [_, chain] = told(&head, true, &["127.0.0.1/32"]);
    assert_eq!(
        chain,
        "for=1.1.1.1;proto=gopher, for=2.2.2.2, for=127.0.0.1;host=\"gw.test\";proto=https"
    );
    head.secure = true;
    head.client = "2001:db8::1".parse().unwrap();
    assert_eq!(told(&head, false, &[]), own("https", "\"[2001:db8::1]\""));
    head.host = Host::Given("a\"b");
    let [_, without] = told(&head, false, &[]);
    assert_eq!(without, "for=\"[2001:db8::1]\";proto=https");
}

#[test]
fn without_the_options_these_headers_are_like_any_other() {
    let lines = [("forwarded", "for=9.9.9.9"), ("x-forwarded-proto", "https")];
    assert_eq!(seen(&endpoint(&[]), &Notes::default(), &lines), TRIO);
    assert_eq!(seen(&endpoint(&["*"]), &Notes::default(), &lines).len(), 5);
}

#[test]
fn a_request_id_passes_with_any_list() {
    let notes = Notes {
        request_id: Some(RequestId {
            header: HeaderName::from_static("x-request-id"),
            value: HeaderValue::from_static("7"),
        }),
        ..Notes::default()
    };
    for names in [&[][..], &["x-a"], &["*"], &["x-request-id"]] {
        let seen = seen(&endpoint(names), &notes, &[("x-request-id", "forged")]);
        assert!(seen.contains(&"x-request-id: 7".to_owned()), "{seen:?}");
        assert!(!seen.join("").contains("forged"));
    }
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
fn the_length_is_shown_to_steps_if_listed() {
    assert!(endpoint(&["content-length"]).announces_length());
    assert!(endpoint(&["*"]).announces_length());
    assert!(!endpoint(&["content-type"]).announces_length());
}

#[test]
fn a_pragma_of_the_client_becomes_cache_control_where_that_may_pass() {
    let has = |rules: &HeaderRules, client: &[(&'static str, &'static str)]| {
        seen(rules, &Notes::default(), client).contains(&"cache-control: no-cache".to_owned())
    };
    let pragma = [("pragma", "no-cache")];
    assert!(has(&endpoint(&["Cache-Control"]), &pragma));
    assert!(has(&endpoint(&["*"]), &pragma));
    assert!(!has(&endpoint(&["Pragma"]), &pragma));
    assert!(!has(&endpoint(&[]), &pragma));
    assert!(!has(&endpoint(&["Cache-Control"]), &[("pragma", "x")]));
    let both = [("pragma", "no-cache"), ("cache-control", "max-age=0")];
    assert!(!has(&endpoint(&["*"]), &both));
}

#[test]
fn an_empty_user_agent_of_a_client_is_not_replaced() {
    let client = sent(&[("user-agent", "")]);
    let rules = endpoint(&["User-Agent"]);
    let mut headers = outgoing(&rules, &options(), &head(&client), &Notes::default());
    complete(&mut headers, &options(), &Method::GET, false);
    assert_eq!(headers[USER_AGENT], "");
}

#[test]
fn gzip_is_requested_where_go_requests_it() {
    let asked = |method: Method, fields: &[(&'static str, &'static str)], compression: bool| {
        let mut out = Outgoing {
            method,
            headers: sent(fields),
            ..Outgoing::default()
        };
        let gzip = complete(&mut out.headers, &options(), &out.method, compression);
        (gzip, out)
    };
    assert!(asked(Method::GET, &[], true).0);
    assert!(!asked(Method::GET, &[], false).0);
    assert!(!asked(Method::HEAD, &[], true).0);
    assert!(!asked(Method::GET, &[("range", "bytes=0-9")], true).0);
    assert!(!asked(Method::GET, &[("accept-encoding", "br")], true).0);
    // A step turns it into a call for which Go would not request gzip.
    let (_, mut out) = asked(Method::GET, &[], true);
    assert!(keeps_gzip(&mut out));
    out.headers
        .insert(RANGE, HeaderValue::from_static("bytes=0-9"));
    assert!(!keeps_gzip(&mut out) && !out.headers.contains_key(ACCEPT_ENCODING));
}
