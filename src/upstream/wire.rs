//! The request head on the wire.

use bytes::Bytes;
use http::header::{self, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{Method, Request, Uri};
use pingora_core::Error;
use pingora_http::RequestHeader;

use super::error::{CallError, CallErrorKind};
use super::exchange::RequestBody;
use super::host::{Forward, Place};
use super::message::Outgoing;

/// The default `User-Agent` of calls.
pub(crate) const OUR_USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("Portcullis/", env!("CARGO_PKG_VERSION")));

/// What the head on the wire depends on, besides the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    pub(super) body: RequestBody,
    /// The connection is closed after this exchange.
    pub(super) close: bool,
    /// HTTP/1: header names in title case, and explicit framing.
    pub(super) h1: bool,
}

/// The head on the wire: `Host` first, framing according to the body, and no hop-by-hop header except our own.
pub(super) fn request_header(
    head: &Outgoing,
    place: &Place,
    wire: Wire,
) -> Result<Box<RequestHeader>, CallError> {
    let target = place.target(&head.target);
    let host = head.headers.get(HOST).unwrap_or(&place.authority);
    let header = match place.route.forward() {
        _ if !wire.h1 => {
            let scheme = if place.secure {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            };
            plain_header(head, (scheme, &target), host, wire)
        }
        None => titled_header(head, &target, host, wire),
        Some(forward) => forwarded_header(head, &target, host, wire, forward),
    };
    header.map(Box::new).ok_or_else(unwritable)
}

/// The error for a target with spaces or control characters.
pub(super) fn unwritable() -> CallError {
    CallError::new(
        CallErrorKind::Request,
        "net/http: request target or header cannot be written",
    )
}

/// HTTP/1: every name in title case, as KrakenD writes it and some old servers require.
fn titled_header(
    head: &Outgoing,
    target: &str,
    host: &HeaderValue,
    wire: Wire,
) -> Option<RequestHeader> {
    let build = || -> Result<RequestHeader, Box<Error>> {
        let size = head.headers.len() + 3;
        let mut header = RequestHeader::build(head.method.clone(), target.as_bytes(), Some(size))?;
        header.append_header("Host", host.clone())?;
        for (name, value) in passing(&head.headers) {
            header.append_header(titled(name), trimmed(value))?;
        }
        if !head.headers.contains_key(USER_AGENT) {
            header.append_header("User-Agent", OUR_USER_AGENT)?;
        }
        match length(head, wire) {
            Some(length) => {
                header.append_header("Content-Length", length)?;
            }
            None if wire.body == RequestBody::Chunked => {
                let chunked = HeaderValue::from_static("chunked");
                header.append_header("Transfer-Encoding", chunked)?;
            }
            None => {}
        }
        if wire.close {
            header.append_header("Connection", HeaderValue::from_static("close"))?;
        }
        Ok(header)
    };
    build().ok()
}

/// HTTP/1 to a proxy: the absolute URL as target (RFC 9112 §3.2.2), which Pingora writes unchanged, and our
/// credentials.
fn forwarded_header(
    head: &Outgoing,
    target: &str,
    host: &HeaderValue,
    wire: Wire,
    forward: &Forward,
) -> Option<RequestHeader> {
    // Never uses a `Host` that a step set, perhaps from the client's input: the proxy would connect to it.
    let url = format!("{}{target}", forward.origin);
    let mut header = titled_header(head, &url, host, wire)?;
    if let Some(authorization) = &forward.authorization {
        let added = header.insert_header("Proxy-Authorization", authorization.clone());
        added.ok()?;
    }
    Some(header)
}

/// HTTP/2: names are in lower case, the protocol frames the body, and `:authority` replaces `Host` (RFC 9113 §8.3.1).
fn plain_header(
    head: &Outgoing,
    (scheme, target): (Scheme, &str),
    host: &HeaderValue,
    wire: Wire,
) -> Option<RequestHeader> {
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host.as_bytes())
        .path_and_query(target)
        .build()
        .ok()?;
    let request = Request::builder()
        .method(head.method.clone())
        .uri(uri)
        .body(())
        .ok()?;
    let (mut parts, ()) = request.into_parts();
    parts.headers.reserve(head.headers.len() + 1);
    for (name, value) in passing(&head.headers) {
        parts.headers.append(name, trimmed(value));
    }
    if !head.headers.contains_key(USER_AGENT) {
        parts.headers.insert(USER_AGENT, OUR_USER_AGENT);
    }
    if let Some(length) = length(head, wire) {
        parts.headers.insert(CONTENT_LENGTH, length);
    }
    Some(RequestHeader::from(parts))
}

/// An empty `User-Agent` is dropped: it carries no information, and some servers reject it.
fn passing(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, value)| match **name {
        HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION => false,
        USER_AGENT => !value.as_bytes().trim_ascii().is_empty(),
        _ => true,
    })
}

/// The length that a message announces (RFC 9110 §8.6). `None` if it announces none, or one that is not a number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim();
    // `parse` alone would accept a sign.
    text.starts_with(|c: char| c.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The value without surrounding whitespace, which is not part of a header value (RFC 9110 §5.5) and which HTTP/2
/// forbids (RFC 9113 §8.2.1). A value read from a connection has none, but a script's value may.
pub(crate) fn trimmed(value: &HeaderValue) -> HeaderValue {
    let bytes = value.as_bytes();
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !blank(bytes.first()) && !blank(bytes.last()) {
        return value.clone();
    }
    // A part of a valid value is valid.
    HeaderValue::from_bytes(bytes.trim_ascii()).unwrap_or_else(|_| value.clone())
}

fn length(head: &Outgoing, wire: Wire) -> Option<HeaderValue> {
    match wire.body {
        RequestBody::Length(length) => Some(HeaderValue::from(length)),
        RequestBody::Empty if says_zero(&head.method) => Some(HeaderValue::from_static("0")),
        RequestBody::Empty | RequestBody::Chunked => None,
    }
}

fn says_zero(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// A name in title case. Common names cost no allocation.
fn titled(name: &HeaderName) -> Bytes {
    let usual = match *name {
        header::ACCEPT => "Accept",
        header::ACCEPT_ENCODING => "Accept-Encoding",
        header::ACCEPT_LANGUAGE => "Accept-Language",
        header::AUTHORIZATION => "Authorization",
        header::CACHE_CONTROL => "Cache-Control",
        header::CONTENT_ENCODING => "Content-Encoding",
        header::CONTENT_TYPE => "Content-Type",
        header::COOKIE => "Cookie",
        header::IF_NONE_MATCH => "If-None-Match",
        header::ORIGIN => "Origin",
        header::REFERER => "Referer",
        header::USER_AGENT => "User-Agent",
        _ => match name.as_str() {
            "x-forwarded-for" => "X-Forwarded-For",
            "x-forwarded-host" => "X-Forwarded-Host",
            "x-forwarded-via" => "X-Forwarded-Via",
            "x-forwarded-proto" => "X-Forwarded-Proto",
            "x-request-id" => "X-Request-Id",
            other => return title_case(other).into(),
        },
    };
    Bytes::from_static(usual.as_bytes())
}

/// The name of a header in Go's canonical form: the first letter and each letter after a hyphen in upper case.
pub(crate) fn title_case(name: &str) -> String {
    let mut first = true;
    let letter = |c: char| {
        let titled = if first {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        first = c == '-';
        titled
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_in_krakend() {
        for (name, wire) in [
            ("x-foo-bar", "X-Foo-Bar"),
            ("user-agent", "User-Agent"),
            ("x-forwarded-for", "X-Forwarded-For"),
            ("x_user", "X_user"),
            ("te", "Te"),
        ] {
            let titled = titled(&HeaderName::from_static(name));
            assert_eq!(titled, wire);
        }
    }

    #[test]
    fn whitespace_around_a_value_is_not_written() {
        for (value, wire) in [("a", "a"), (" a b\t", "a b"), ("  ", ""), ("", "")] {
            assert_eq!(trimmed(&HeaderValue::from_static(value)), wire);
        }
    }

    #[test]
    fn an_empty_user_agent_is_not_written() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(" "));
        headers.insert("x-empty", HeaderValue::from_static(""));
        let names: Vec<&str> = passing(&headers).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-empty"]);
        headers.insert(USER_AGENT, HeaderValue::from_static("curl"));
        assert_eq!(passing(&headers).count(), 2);
    }
}
