//! Which call follows a redirect.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_TYPE, COOKIE, HOST, HeaderName, LOCATION, PROXY_AUTHORIZATION, REFERER,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::error::{CallError, CallErrorKind};
use super::hosts::HostSet;
use super::message::Outgoing;

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
}

/// Decides whether an answer is followed: 301, 302, 303, 307, 308 with a `Location`.
///
/// As the reference does: 301, 302 and 303 turn everything but GET and HEAD into GET without a body; 307 and 308 keep
/// the method, and are not followed when the call had a body that cannot be sent again.
///
/// # Errors
/// A `Location` that is no URL, or whose scheme is not HTTP.
pub(super) fn next(
    status: StatusCode,
    headers: &HeaderMap,
    from: From<'_>,
    method: &Method,
    body: Body,
) -> Result<Option<Next>, CallError> {
    let keeps_method = match status.as_u16() {
        301..=303 => false,
        307 | 308 => true,
        _ => return Ok(None),
    };
    let Some(location) = headers.get(LOCATION).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    if keeps_method && body == Body::Gone {
        return Ok(None);
    }
    let (origin, target) = resolve(location.as_bytes(), from)?;
    let becomes_get = !keeps_method && !matches!(*method, Method::GET | Method::HEAD);
    Ok(Some(Next {
        origin,
        method: if becomes_get {
            Method::GET
        } else {
            method.clone()
        },
        target,
        with_body: keeps_method && body == Body::Kept,
    }))
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
pub(super) fn headers(old: &HeaderMap, from: From<'_>, origin: &str, with_body: bool) -> HeaderMap {
    let mut headers = old.clone();
    if !with_body {
        for name in BODY_FIELDS {
            headers.remove(name);
        }
    }
    let (secure, authority) = match origin.split_once("://") {
        Some((scheme, authority)) => (scheme == "https", authority),
        None => (false, origin),
    };
    if authority != from.authority {
        headers.remove(HOST);
    }
    let downgrade = from.secure && !secure;
    if downgrade || !name_of(authority).eq_ignore_ascii_case(name_of(from.authority)) {
        for name in SECRET_FIELDS {
            headers.remove(name);
        }
    }
    if !downgrade && !headers.contains_key(REFERER) {
        let scheme = if from.secure { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", from.authority, from.target);
        if let Ok(value) = HeaderValue::from_str(&url) {
            headers.insert(REFERER, value);
        }
    }
    headers
}

const BODY_FIELDS: [HeaderName; 6] = [
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
];

const SECRET_FIELDS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    }
}

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

    fn follow(status: u16, method: Method, body: Body) -> Option<(Method, bool)> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/v"))]);
        let status = StatusCode::from_u16(status).unwrap();
        next(status, &headers, FROM, &method, body)
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
        let found = next(StatusCode::FOUND, &none, FROM, &Method::GET, Body::None);
        assert_eq!(found.unwrap(), None);
    }

    #[test]
    fn secrets_do_not_follow_to_another_name() {
        let old = HeaderMap::from_iter([
            (AUTHORIZATION, HeaderValue::from_static("Bearer x")),
            (COOKIE, HeaderValue::from_static("a=b")),
            (CONTENT_TYPE, HeaderValue::from_static("text/plain")),
        ]);
        let other = headers(&old, FROM, "http://other:1", true);
        assert!(!other.contains_key(AUTHORIZATION) && !other.contains_key(COOKIE));
        assert!(other.contains_key(CONTENT_TYPE));
        let port = headers(&old, FROM, "http://h:2", false);
        assert!(port.contains_key(AUTHORIZATION) && !port.contains_key(CONTENT_TYPE));
        assert_eq!(port.get(REFERER).unwrap(), "http://h:1/a/b?c=d");
        let secure = From {
            secure: true,
            ..FROM
        };
        let plain = headers(&old, secure, "http://h:1", false);
        assert!(!plain.contains_key(AUTHORIZATION) && !plain.contains_key(REFERER));
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
