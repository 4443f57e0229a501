use proptest::prelude::*;

use super::*;

const FROM: From<'static> = From {
    secure: false,
    authority: "h:1",
    target: "/a/b?c=d",
};

fn location(text: &str) -> (String, String) {
    resolve(text.as_bytes(), FROM).unwrap()
}

fn place(origin: &str, target: &str) -> (String, String) {
    (origin.to_owned(), target.to_owned())
}

#[test]
fn locations_are_resolved_against_the_call() {
    assert_eq!(location("/v"), place("http://h:1", "/v"));
    assert_eq!(location("v?x"), place("http://h:1", "/a/v?x"));
    assert_eq!(location("../v"), place("http://h:1", "/v"));
    assert_eq!(location("../../../v/."), place("http://h:1", "/v/"));
    assert_eq!(location("?x=1"), place("http://h:1", "/a/b?x=1"));
    assert_eq!(location("//other/v#frag"), place("http://other", "/v"));
    assert_eq!(location("HTTPS://o:2"), place("https://o:2", "/"));
    assert_eq!(location("http://u:p@o?q"), place("http://o", "/?q"));
    assert_eq!(location("/a b"), place("http://h:1", "/a%20b"));
}

#[test]
fn a_location_that_cannot_be_called_is_an_error() {
    assert!(resolve(b"ftp://x/", FROM).is_err());
    assert!(resolve(b"http:///x", FROM).is_err());
    assert!(resolve(b"/a\x01", FROM).is_err());
}

fn to(location: &'static str, status: u16, body: Body, rules: HostRules) -> Option<Next> {
    try_to(location, status, body, rules).unwrap()
}

fn try_to(
    location: &'static str,
    status: u16,
    body: Body,
    rules: HostRules,
) -> Result<Option<Next>, CallError> {
    let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
    let status = StatusCode::from_u16(status).unwrap();
    next(status, &headers, FROM, &Method::POST, body, &rules)
}

fn follow(status: u16, method: Method, body: Body) -> Option<(Method, bool)> {
    let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/v"))]);
    let status = StatusCode::from_u16(status).unwrap();
    next(status, &headers, FROM, &method, body, &HostRules::default())
        .unwrap()
        .map(|next| (next.method, next.with_body))
}

#[test]
fn a_post_becomes_a_get_unless_the_status_keeps_the_method() {
    assert_eq!(
        follow(302, Method::POST, Body::Gone),
        Some((Method::GET, false))
    );
    assert_eq!(
        follow(303, Method::PUT, Body::Kept),
        Some((Method::GET, false))
    );
    assert_eq!(
        follow(301, Method::HEAD, Body::None),
        Some((Method::HEAD, false))
    );
    assert_eq!(
        follow(307, Method::POST, Body::None),
        Some((Method::POST, false))
    );
    assert_eq!(
        follow(308, Method::POST, Body::Kept),
        Some((Method::POST, true))
    );
    assert_eq!(follow(307, Method::POST, Body::Gone), None);
    assert_eq!(follow(304, Method::GET, Body::None), None);
}

#[test]
fn a_redirect_without_a_location_is_an_ordinary_response() {
    let none = HeaderMap::new();
    let rules = HostRules::default();
    let found = next(
        StatusCode::FOUND,
        &none,
        FROM,
        &Method::GET,
        Body::None,
        &rules,
    );
    assert_eq!(found.unwrap(), None);
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    let from = |authority, secure| From {
        secure,
        authority,
        target: "/",
    };
    for (authority, secure, origin, same) in [
        ("h:1", false, "http://h:1", true),
        ("h:1", false, "http://H:01", true),
        ("h", false, "http://h:80", true),
        ("h:443", true, "https://h", true),
        ("h", false, "http://h.", true),
        ("h:1", false, "http://h:2", false),
        ("h", true, "http://h", false),
        ("h", true, "http://h:443", false),
        ("h", false, "http://a.h", false),
        ("[::1]", false, "http://[::1]:80", true),
    ] {
        let found = is_same_origin(from(authority, secure), origin);
        assert_eq!(found, same, "{authority} {secure} {origin}");
    }
}

#[test]
fn rules_decide_which_redirects_are_followed() {
    let rules = |redirects| HostRules {
        redirects,
        ..HostRules::default()
    };
    let followed = |location, redirects| to(location, 302, Body::Gone, rules(redirects)).is_some();
    assert!(followed("http://other/", Redirects::Follow));
    assert!(!followed("http://other/", Redirects::SameOrigin));
    assert!(
        followed("http://h:1/x", Redirects::SameOrigin) && followed("/x", Redirects::SameOrigin)
    );
    assert!(!followed("/x", Redirects::None));
}

#[test]
fn a_body_is_sent_to_another_origin_only_if_configured() {
    let usual = HostRules::default();
    assert!(to("/x", 307, Body::Kept, usual).unwrap().with_body);
    assert!(to("http://other/", 308, Body::Kept, usual).is_none());
    assert!(to("http://other/", 307, Body::None, usual).is_some());
    assert!(to("http://other/", 302, Body::Kept, usual).is_some());
    let open = HostRules {
        body_to_other_origins: true,
        ..usual
    };
    assert!(
        to("http://other/", 307, Body::Kept, open)
            .unwrap()
            .with_body
    );
}

#[test]
fn a_location_that_cannot_be_followed_is_passed_on_if_only_the_same_origin_is() {
    let rules = |redirects| HostRules {
        redirects,
        ..HostRules::default()
    };
    for location in [
        "file:///etc/passwd",
        "myapp://login",
        "http:\\\\h",
        "mailto:a@b",
    ] {
        let same = try_to(location, 302, Body::None, rules(Redirects::SameOrigin));
        assert!(matches!(same, Ok(None)), "{location}: {same:?}");
    }
    let followed = try_to(
        "file:///etc/passwd",
        302,
        Body::None,
        rules(Redirects::Follow),
    );
    assert!(followed.is_err());
}

#[test]
fn another_origin_receives_only_client_headers_and_no_credentials() {
    let mut old: HeaderMap = [
        "authorization",
        "cookie",
        "www-authenticate",
        "proxy-authorization",
        "host",
        "x-api-key",
        "x-key",
        "ocp-apim-subscription-key",
        "x-forwarded-for",
        "referer",
        "x-session-id",
        "accept",
        "range",
        "content-type",
        "x-a",
    ]
    .into_iter()
    .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")))
    .collect();
    let mut added = HeaderValue::from_static("alice");
    added.set_sensitive(true);
    old.insert("x-user", added);
    let names = |location, status| {
        let next = to(location, status, Body::None, HostRules::default()).unwrap();
        let mut names: Vec<_> = headers(&old, FROM, &next)
            .keys()
            .map(|name| name.to_string())
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("http://h:2/", 307), "accept content-type range x-a");
    assert_eq!(names("http://other/", 307), "accept content-type range x-a");
    assert_eq!(names("http://other/", 302), "accept range x-a");
    let next = to("/x", 302, Body::None, HostRules::default()).unwrap();
    let same = headers(&old, FROM, &next);
    assert!(same.contains_key("authorization") && same.contains_key("x-user"));
    assert!(
        !same.contains_key(CONTENT_TYPE),
        "302 has no content to describe"
    );
}

#[test]
fn the_same_origin_receives_a_referer() {
    let next = to("/x", 307, Body::None, HostRules::default()).unwrap();
    let headers = headers(&HeaderMap::new(), FROM, &next);
    assert_eq!(headers.get(REFERER).unwrap(), "http://h:1/a/b?c=d");
}

proptest! {
    #[test]
    fn an_arbitrary_location_gives_a_valid_target_or_an_error(bytes: Vec<u8>) {
        if let Ok((origin, target)) = resolve(&bytes, FROM) {
            prop_assert!(origin.starts_with("http://") || origin.starts_with("https://"));
            prop_assert!(target.starts_with('/'));
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
