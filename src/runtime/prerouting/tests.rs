use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Method};

use super::*;
use crate::runtime::request::Host;

fn text(text: &str) -> Box<[Piece]> {
    [Piece::Text(text.into())].into()
}

fn to(path: &str) -> Target {
    Target {
        path: text(path),
        query: Box::default(),
    }
}

fn rewrites() -> Rewrites {
    let regex = |pattern: &str| regex::bytes::Regex::new(pattern).unwrap();
    let mut all = Rewrites::default();
    all.literals.insert("/old".into(), to("/new"));
    all.literals.insert("/caf\u{e9}".into(), to("/coffee shop"));
    all.literals.insert(
        "/search".into(),
        Target {
            path: text("/find"),
            query: [("kind".into(), text("all things"))].into(),
        },
    );
    let group = |before: &str, after: &str| Target {
        path: [
            Piece::Text(before.into()),
            Piece::Group(1),
            Piece::Text(after.into()),
        ]
        .into(),
        query: Box::default(),
    };
    all.expressions
        .push((regex("^/user/([^/]+)$"), group("/users/", "/profile")));
    all.expressions.push((regex("v1"), to("v2")));
    all.expressions.push((regex("^/up/(.*)$"), group("/", "")));
    all
}

fn routed(prerouting: &Prerouting, host: &str, target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head {
        method: &method,
        path,
        query,
        headers: &headers,
        host: Host::Given(host),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        secure: false,
        certificate: None,
    };
    let routed = prerouting.route(&head, Some("/healthz"));
    let query = routed
        .query
        .map_or(String::new(), |query| format!("?{query}"));
    match routed.way {
        Destination::Nowhere => "nowhere".to_owned(),
        Destination::Router => format!("{}{query}", routed.path),
        Destination::Site(site, rest) => format!("{}: {rest}", site.shown()),
    }
}

#[test]
fn paths_are_rewritten_once_in_their_decoded_form() {
    let prerouting = Prerouting {
        rewrites: Some(rewrites()),
        ..Prerouting::default()
    };
    for (asked, expected) in [
        ("/old", "/new"),
        ("/%6fld?x=1", "/new?x=1"),
        ("/old/", "/old/"),
        ("/caf%C3%A9", "/coffee%20shop"),
        ("/search?kind=x&q=1", "/find?kind=all%20things&q=1"),
        ("/search?%6bind=x", "/find?kind=all%20things"),
        ("/search", "/find?kind=all%20things"),
        ("/user/7", "/users/7/profile"),
        ("/user/a%3Fb", "/users/a%3Fb/profile"),
        ("/user/7/x", "/user/7/x"),
        ("/api/v1/x/v1", "/api/v2/x/v1"),
        // Not what the router would take from a client.
        ("/up/../x", "/up/../x"),
        ("/up/%2e%2e/x", "/up/%2e%2e/x"),
        ("/up/a%2fb", "/up/a%2fb"),
        ("/up//x", "nowhere"),
        ("/up/__debug/x", "nowhere"),
        ("/up/__virtual/a/x", "nowhere"),
        ("/up/%zz", "/up/%zz"),
        ("/__health", "/__health"),
        ("/healthz", "/healthz"),
    ] {
        assert_eq!(routed(&prerouting, "h", asked), expected, "{asked}");
    }
}

#[test]
fn hosts_and_wildcards_follow_the_rewrites() {
    let (mut hosts, mut wildcards) = (Hosts::default(), Wildcards::default());
    hosts.add("a.example", Some("a"));
    wildcards.add("/foo", "/__wildcard/foo");
    let prerouting = Prerouting {
        rewrites: Some(rewrites()),
        hosts: Some(Arc::new(hosts)),
        wildcards: Some(Arc::new(wildcards)),
        sites: Vec::new(),
    };
    for (host, asked, expected) in [
        ("a.example", "/old", "/__virtual/a/new"),
        ("b.example", "/old", "/new"),
        ("a.example", "/foo/x", "/__wildcard/foo/x"),
        ("a.example", "/__health", "/__health"),
        ("a.example", "/healthz", "/healthz"),
        ("a.example", "/", "/__virtual/a/"),
    ] {
        assert_eq!(routed(&prerouting, host, asked), expected, "{host}{asked}");
    }
    assert!(prerouting.is_internal("/__virtual/a/x"));
    assert!(prerouting.is_internal("/__wildcard/foo/*"));
    assert!(!prerouting.is_internal("/x"));
}
