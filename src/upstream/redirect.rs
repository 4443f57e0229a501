//! Which call follows a redirect.

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, HeaderName,
    LOCATION, REFERER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::error::{CallError, CallErrorKind};
use super::hosts::HostSet;
use super::message::Outgoing;
use super::rules::{HostRules, Redirects};

/// Requests in one chain, the first included, as in the reference's runtime.
pub(super) const MOST_REQUESTS: u32 = 10;

/// The call that a redirect asks for.
#[derive(Debug)]
pub struct NextCall {
    /// The one host that the redirect names.
    pub hosts: HostSet,
    pub out: Outgoing,
}

/// Where the answered call went, as far as a redirect needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) secure: bool,
    /// `host[:port]`, as in `Host`.
    pub(super) authority: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
}

/// What comes next, before a host set is made of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// `scheme://authority`.
    pub(super) origin: String,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) with_body: bool,
    /// 307 and 308: the method stays, and with it what describes the content.
    keeps_method: bool,
    same_origin: bool,
}

/// Decides whether an answer is followed: 301, 302, 303, 307, 308 with a `Location`, as far as `rules` allow.
///
/// As the reference does: 301, 302 and 303 turn everything but GET and HEAD into GET without a body; 307 and 308 keep
/// the method, and are not followed when the call had a body that cannot be sent again, or not to there.
///
/// # Errors
/// A `Location` that is no URL, or whose scheme is not HTTP.
pub(super) fn next(
    status: StatusCode,
    headers: &HeaderMap,
    from: From<'_>,
    method: &Method,
    body: Body,
    rules: &HostRules,
) -> Result<Option<Next>, CallError> {
    let keeps_method = match status.as_u16() {
        301..=303 => false,
        307 | 308 => true,
        _ => return Ok(None),
    };
    let location = headers.get(LOCATION).filter(|value| !value.is_empty());
    let Some(location) = location.filter(|_| rules.redirects != Redirects::None) else {
        return Ok(None);
    };
    if keeps_method && body == Body::Gone {
        return Ok(None);
    }
    let (origin, target) = resolve(location.as_bytes(), from)?;
    let same_origin = is_same_origin(from, &origin);
    let with_body = keeps_method && body == Body::Kept;
    if !same_origin
        && (rules.redirects == Redirects::SameOrigin || with_body && !rules.body_to_other_origins)
    {
        return Ok(None);
    }
    let becomes_get = !keeps_method && !matches!(*method, Method::GET | Method::HEAD);
    Ok(Some(Next {
        origin,
        method: if becomes_get {
            Method::GET
        } else {
            method.clone()
        },
        target,
        with_body,
        keeps_method,
        same_origin,
    }))
}

/// Whether scheme, host and port are the same (RFC 6454 §5).
fn is_same_origin(from: From<'_>, origin: &str) -> bool {
    let (secure, authority) = match origin.split_once("://") {
        Some((scheme, authority)) => (scheme == "https", authority),
        None => (false, origin),
    };
    let (name, port) = name_and_port(authority, secure);
    let (from_name, from_port) = name_and_port(from.authority, from.secure);
    secure == from.secure && port == from_port && name.eq_ignore_ascii_case(from_name)
}

/// The port in digits, the scheme's own if none is named; a name without its final dot.
fn name_and_port(authority: &str, secure: bool) -> (&str, &str) {
    let usual = if secure { "443" } else { "80" };
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (authority, usual),
    };
    let port = match port.trim_start_matches('0') {
        "" => usual,
        port => port,
    };
    (name.strip_suffix('.').unwrap_or(name), port)
}

/// What has become of the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// It is still at hand and may be sent again.
    Kept,
    /// It was passed on and cannot be sent again.
    Gone,
}

/// The headers of the next call: those of the last one, less what the new place must not see.
///
/// To another origin goes only what the client itself sent, and nothing that proves who somebody is: a redirect is the
/// backend's word alone. What a step added (claims, keys, modifiers, scripts) is marked by [`HeaderValue::is_sensitive`].
pub(super) fn headers(old: &HeaderMap, from: From<'_>, next: &Next) -> HeaderMap {
    let mut headers = match next.same_origin {
        true => old.clone(),
        false => harmless(old),
    };
    if !next.keeps_method {
        for name in CONTENT_FIELDS {
            headers.remove(name);
        }
    }
    if !next.with_body {
        for name in FRAMING_FIELDS {
            headers.remove(name);
        }
    }
    if next.same_origin && !headers.contains_key(REFERER) {
        let scheme = if from.secure { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", from.authority, from.target);
        if let Ok(value) = HeaderValue::from_str(&url) {
            headers.insert(REFERER, value);
        }
    }
    headers
}

fn harmless(old: &HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName, value: &HeaderValue| !value.is_sensitive() && !is_secret(name);
    let passing = old.iter().filter(|(name, value)| passes(name, value));
    let mut headers = HeaderMap::new();
    for (name, value) in passing {
        headers.append(name, value.clone());
    }
    headers
}

/// Whether a field is known, or named, to prove who somebody is, or tells of the network behind us.
fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    SECRET_NAMES.contains(&name)
        || name.starts_with("x-forwarded")
        || name.starts_with("proxy-")
        || SECRET_WORDS.iter().any(|word| name.contains(word))
}

const SECRET_NAMES: [&str; 7] = [
    "host",
    "cookie",
    "cookie2",
    "referer",
    "forwarded",
    "x-real-ip",
    "via",
];

/// `authorization`, `www-authenticate`, `x-api-key`, `x-amz-security-token`, `x-signature`, …
const SECRET_WORDS: [&str; 10] = [
    "auth",
    "api-key",
    "apikey",
    "api_key",
    "token",
    "secret",
    "session",
    "credential",
    "password",
    "signature",
];

const CONTENT_FIELDS: [HeaderName; 4] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
];

const FRAMING_FIELDS: [HeaderName; 2] = [CONTENT_LENGTH, TRANSFER_ENCODING];

/// Resolves `location` against the URL of the call (RFC 3986 §5.2), into origin and target.
fn resolve(location: &[u8], from: From<'_>) -> Result<(String, String), CallError> {
    let location = escaped(location)?;
    let location = location.split('#').next().unwrap_or_default();
    let scheme = if from.secure { "https" } else { "http" };
    if let Some((scheme, rest)) = absolute(location) {
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(CallError::new(
                CallErrorKind::Request,
                format!("unsupported protocol scheme \"{scheme}\""),
            ));
        }
        return origin_and_target(&scheme, rest);
    }
    if let Some(rest) = location.strip_prefix("//") {
        return origin_and_target(scheme, rest);
    }
    let origin = format!("{scheme}://{}", from.authority);
    let (path, _) = split_query(from.target);
    let target = match location.as_bytes().first() {
        None => from.target.to_owned(),
        Some(b'?') => format!("{path}{location}"),
        Some(b'/') => without_dots(location),
        Some(_) => {
            let folder = path.rfind('/').map_or("", |end| &path[..end]);
            without_dots(&format!("{folder}/{location}"))
        }
    };
    Ok((origin, target))
}

fn absolute(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    named.then(|| (scheme, rest.strip_prefix("//").unwrap_or(rest)))
}

fn origin_and_target(scheme: &str, rest: &str) -> Result<(String, String), CallError> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if authority.is_empty() {
        return Err(CallError::new(
            CallErrorKind::Request,
            "http: no Host in request URL",
        ));
    }
    let target = match target.as_bytes().first() {
        Some(b'/') => target.to_owned(),
        _ => format!("/{target}"),
    };
    Ok((format!("{scheme}://{authority}"), target))
}

/// Control characters make the URL unusable; blanks and bytes beyond ASCII are percent-encoded, as browsers do.
fn escaped(location: &[u8]) -> Result<String, CallError> {
    let mut text = String::with_capacity(location.len());
    for byte in location {
        match byte {
            0..=0x1f | 0x7f | b'\\' => {
                return Err(CallError::new(
                    CallErrorKind::Request,
                    "failed to parse Location header: invalid control character in URL",
                ));
            }
            b' ' | 0x80.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(*byte)),
        }
    }
    Ok(text)
}

fn split_query(target: &str) -> (&str, &str) {
    let end = target.find('?').unwrap_or(target.len());
    target.split_at(end)
}

/// Removes dot segments from the path of `target` (RFC 3986 §5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = split_query(target);
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
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
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        let status = StatusCode::from_u16(status).unwrap();
        next(status, &headers, FROM, &Method::POST, body, &rules).unwrap()
    }

    fn follow(status: u16, method: Method, body: Body) -> Option<(Method, bool)> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/v"))]);
        let status = StatusCode::from_u16(status).unwrap();
        next(status, &headers, FROM, &method, body, &HostRules::default())
            .unwrap()
            .map(|next| (next.method, next.with_body))
    }

    #[test]
    fn a_post_turns_into_a_get_unless_the_status_keeps_it() {
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
    fn a_redirect_without_a_location_is_an_ordinary_answer() {
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
    fn rules_say_which_redirects_are_followed() {
        let rules = |redirects| HostRules {
            redirects,
            ..HostRules::default()
        };
        let followed =
            |location, redirects| to(location, 302, Body::Gone, rules(redirects)).is_some();
        assert!(followed("http://other/", Redirects::Follow));
        assert!(!followed("http://other/", Redirects::SameOrigin));
        assert!(
            followed("http://h:1/x", Redirects::SameOrigin)
                && followed("/x", Redirects::SameOrigin)
        );
        assert!(!followed("/x", Redirects::None));
    }

    #[test]
    fn a_body_goes_to_another_origin_only_where_the_file_says_so() {
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
    fn to_another_origin_goes_only_what_the_client_sent_and_no_secret() {
        let mut old: HeaderMap = [
            "authorization",
            "cookie",
            "www-authenticate",
            "proxy-authorization",
            "host",
            "x-api-key",
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
    fn the_same_origin_learns_where_the_call_came_from() {
        let next = to("/x", 307, Body::None, HostRules::default()).unwrap();
        let headers = headers(&HeaderMap::new(), FROM, &next);
        assert_eq!(headers.get(REFERER).unwrap(), "http://h:1/a/b?c=d");
    }

    proptest! {
        #[test]
        fn any_location_gives_a_clean_target_or_an_error(bytes: Vec<u8>) {
            if let Ok((origin, target)) = resolve(&bytes, FROM) {
                prop_assert!(origin.starts_with("http://") || origin.starts_with("https://"));
                prop_assert!(target.starts_with('/'));
                prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
