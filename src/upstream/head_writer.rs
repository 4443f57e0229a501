//! The request head on the wire.

use bytes::Bytes;
use http::header::{self, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::header::{HeaderMap, TE, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{Method, Request, Uri};
use pingora_core::Error;
use pingora_http::RequestHeader;

use super::error::{CallError, CallErrorKind};
use super::exchange::RequestBody;
use super::host::{Forward, Place};
use super::message::{Outgoing, is_of_connection};
use crate::telemetry::trace::context::Outbound;

/// The default `User-Agent` of calls.
pub(crate) const OUR_USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("Portcullis/", env!("CARGO_PKG_VERSION")));

/// What the head on the wire depends on, besides the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadOptions {
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
    wire: HeadOptions,
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
    wire: HeadOptions,
) -> Option<RequestHeader> {
    let size = head.headers.len() + 3;
    let header = RequestHeader::build(head.method.clone(), target.as_bytes(), Some(size));
    let mut header = header.ok()?;
    each_field(head, host, wire, |name, value| {
        let added = header.append_header(titled(name), trimmed(value));
        added.ok().map(|_| ())
    })?;
    Some(header)
}

/// Calls `add` with each header of an HTTP/1 head, in the order in which they are written. `None` as soon as it returns
/// `None`.
fn each_field(
    head: &Outgoing,
    host: &HeaderValue,
    wire: HeadOptions,
    mut add: impl FnMut(&HeaderName, &HeaderValue) -> Option<()>,
) -> Option<()> {
    add(&HOST, host)?;
    let mut has_agent = false;
    for (name, value) in &head.headers {
        has_agent |= *name == USER_AGENT;
        if passes(name, value) {
            add(name, value)?;
        }
    }
    if !has_agent {
        add(&USER_AGENT, &OUR_USER_AGENT)?;
    }
    match length(head, wire) {
        Some(length) => add(&CONTENT_LENGTH, &length)?,
        None if wire.body == RequestBody::Chunked => {
            add(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked"))?;
        }
        None => {}
    }
    if wire.close {
        add(&CONNECTION, &HeaderValue::from_static("close"))?;
    }
    Some(())
}

/// The head of an HTTP/1 request as bytes.
///
/// `None` for what Pingora has to see or to check: the calls through a proxy, the last call of a connection, and a
/// target with characters that are unusual. The context of a trace replaces headers with the same names.
pub(super) fn prepared_head(
    head: &Outgoing,
    place: &Place,
    wire: HeadOptions,
    context: Option<&Outbound<'_>>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let target = place.target(&head.target);
    if place.route.forward().is_some() || wire.close || !is_usual(&target) {
        return None;
    }
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = head.headers.get(HOST).unwrap_or(&place.authority);
    each_field(head, host, wire, |name, value| {
        if !context.is_some_and(|context| context.replaces(name)) {
            push_titled(name, out);
            push_value(value.as_bytes(), out);
        }
        Some(())
    })?;
    if let Some(context) = context {
        context.each(|_, titled, value| {
            if let Some(value) = value {
                out.extend_from_slice(titled.as_bytes());
                push_value(value, out);
            }
        });
    }
    out.extend_from_slice(b"\r\n");
    Some(())
}

/// Ends the line of a header whose name is written.
fn push_value(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.trim_ascii());
    out.extend_from_slice(b"\r\n");
}

/// The head from which Pingora learns how the bodies are framed, if the head itself is written as bytes.
pub(super) fn framing(
    method: &Method,
    body: RequestBody,
) -> Result<Box<RequestHeader>, Box<Error>> {
    let mut header = RequestHeader::build_no_case(method.clone(), b"/", Some(0))?;
    match body {
        RequestBody::Length(length) => header.insert_header(CONTENT_LENGTH, length)?,
        RequestBody::Chunked => header.insert_header(TRANSFER_ENCODING, "chunked")?,
        RequestBody::Empty => {}
    }
    Ok(Box::new(header))
}

/// Whether a target is a path and a query whose characters RFC 3986 allows there, and no longer than the `http` crate
/// allows.
fn is_usual(target: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b'-' | b'.' | b'_' | b'~' | b'%' | b'?' | b'&' | b'=' | b':' | b'@'
            )
            || matches!(
                byte,
                b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            )
    };
    let is_short = target.len() < usize::from(u16::MAX);
    is_short && target.starts_with('/') && target.bytes().all(allowed)
}

/// HTTP/1 to a proxy: the absolute URL as target (RFC 9112 §3.2.2), which Pingora writes unchanged, and our
/// credentials.
fn forwarded_header(
    head: &Outgoing,
    target: &str,
    host: &HeaderValue,
    wire: HeadOptions,
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
    wire: HeadOptions,
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

/// The `User-Agent` that is written for a call with these headers.
pub(super) fn user_agent(headers: &HeaderMap) -> Option<HeaderValue> {
    match headers.get(USER_AGENT) {
        Some(value) => passes(&USER_AGENT, value).then(|| value.clone()),
        None => Some(OUR_USER_AGENT),
    }
}

fn passing(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, value)| passes(name, value))
}

/// Whether a header of the call is written as it is. Headers of the connection, which a script may have set, are ours.
/// An empty `User-Agent` is dropped: it carries no information, and some servers reject it.
fn passes(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        HOST | CONTENT_LENGTH | TRANSFER_ENCODING => false,
        // For gRPC. HTTP/2 allows no other value (RFC 9113 §8.2.2).
        TE => value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        USER_AGENT => !value.as_bytes().trim_ascii().is_empty(),
        _ => !is_of_connection(name),
    }
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
    if is_trimmed(value) {
        return value.clone();
    }
    // A part of a valid value is valid.
    HeaderValue::from_bytes(value.as_bytes().trim_ascii()).unwrap_or_else(|_| value.clone())
}

/// Whether a value has no surrounding whitespace.
pub(crate) fn is_trimmed(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(bytes.first()) && !blank(bytes.last())
}

fn length(head: &Outgoing, wire: HeadOptions) -> Option<HeaderValue> {
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
    match usual_title(name) {
        Some(usual) => Bytes::from_static(usual.as_bytes()),
        None => title_case(name.as_str()).into(),
    }
}

/// Appends a name in title case.
fn push_titled(name: &HeaderName, out: &mut Vec<u8>) {
    match usual_title(name) {
        Some(usual) => out.extend_from_slice(usual.as_bytes()),
        None => out.extend_from_slice(title_case(name.as_str()).as_bytes()),
    }
}

/// The title of a common name.
fn usual_title(name: &HeaderName) -> Option<&'static str> {
    let title = match *name {
        header::ACCEPT => "Accept",
        header::ACCEPT_ENCODING => "Accept-Encoding",
        header::ACCEPT_LANGUAGE => "Accept-Language",
        header::AUTHORIZATION => "Authorization",
        header::CACHE_CONTROL => "Cache-Control",
        CONNECTION => "Connection",
        header::CONTENT_ENCODING => "Content-Encoding",
        CONTENT_LENGTH => "Content-Length",
        header::CONTENT_TYPE => "Content-Type",
        header::COOKIE => "Cookie",
        HOST => "Host",
        header::IF_NONE_MATCH => "If-None-Match",
        header::ORIGIN => "Origin",
        header::REFERER => "Referer",
        TRANSFER_ENCODING => "Transfer-Encoding",
        USER_AGENT => "User-Agent",
        _ => match name.as_str() {
            "x-forwarded-for" => "X-Forwarded-For",
            "x-forwarded-host" => "X-Forwarded-Host",
            "x-forwarded-via" => "X-Forwarded-Via",
            "x-forwarded-proto" => "X-Forwarded-Proto",
            "x-request-id" => "X-Request-Id",
            _ => return None,
        },
    };
    Some(title)
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
    use crate::telemetry::trace::context::Formats;
    use crate::telemetry::trace::{SpanId, TraceId};
    use crate::upstream::client::Settings;
    use crate::upstream::dns::DnsTable;

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

    /// The head that is written for a call, by both ways.
    fn written(out: &Outgoing, body: RequestBody, origin: &str) -> (Option<String>, String) {
        let dns = DnsTable::with_resolver(None);
        let place = Place::parse(origin, &dns, &Settings::default()).unwrap();
        let wire = HeadOptions {
            body,
            close: false,
            h1: true,
        };
        let mut fast = Vec::new();
        let prepared = prepared_head(out, &place, wire, None, &mut fast);
        let slow = request_header(out, &place, wire).unwrap();
        let slow =
            pingora_core::protocols::http::v1::client::http_req_header_to_wire(&slow).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (prepared.map(|_| text(&fast)), text(&slow))
    }

    #[test]
    fn a_trace_context_replaces_that_of_the_client() {
        let mut out = Outgoing {
            target: "/".into(),
            ..Outgoing::default()
        };
        for name in ["traceparent", "tracestate", "x-a"] {
            let name = HeaderName::from_static(name);
            out.headers.append(name, HeaderValue::from_static("client"));
        }
        let context = Outbound {
            formats: Formats::default(),
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
            sampled: false,
            debug: false,
            random: false,
            state: None,
            baggage: None,
        };
        let dns = DnsTable::with_resolver(None);
        let place = Place::parse("http://a.test", &dns, &Settings::default()).unwrap();
        let wire = HeadOptions {
            body: RequestBody::Empty,
            close: false,
            h1: true,
        };
        let mut head = Vec::new();
        prepared_head(&out, &place, wire, Some(&context), &mut head).unwrap();
        let head = String::from_utf8(head).unwrap();
        let (trace, span) = ("01".repeat(16), "02".repeat(8));
        let last = format!("\r\nTraceparent: 00-{trace}-{span}-00\r\n\r\n");
        assert!(head.ends_with(&last), "{head}");
        assert_eq!(head.matches("client").count(), 1, "{head}");
        assert!(!head.contains("Tracestate"), "{head}");
    }

    #[test]
    fn a_prepared_head_equals_the_one_of_pingora() {
        let mut out = Outgoing {
            method: Method::POST,
            target: "/a%20b?x=1&y[]".into(),
            ..Outgoing::default()
        };
        for (name, value) in [
            ("x-foo-bar", " a b\t"),
            ("accept", "*/*"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("connection", "x-foo"),
            ("upgrade", "x"),
            ("content-length", "7"),
            ("x-empty", ""),
        ] {
            let name = HeaderName::from_static(name);
            out.headers.append(name, HeaderValue::from_static(value));
        }
        let bodies = [
            RequestBody::Empty,
            RequestBody::Length(12),
            RequestBody::Chunked,
        ];
        for agent in [None, Some("curl"), Some(" ")] {
            if let Some(agent) = agent {
                out.headers
                    .insert(USER_AGENT, HeaderValue::from_static(agent));
            }
            for body in bodies {
                out.target = "/a%20b?x=1&y".into();
                let (fast, slow) = written(&out, body, "http://a.test:81/base");
                assert_eq!(fast.unwrap(), slow);
                out.target = "/a?y[]=1".into();
                assert_eq!(written(&out, body, "http://a.test").0, None, "unusual");
            }
        }
    }

    #[test]
    fn whitespace_around_a_value_is_not_written() {
        for (value, wire) in [("a", "a"), (" a b\t", "a b"), ("  ", ""), ("", "")] {
            assert_eq!(trimmed(&HeaderValue::from_static(value)), wire);
        }
    }

    #[test]
    fn an_empty_user_agent_and_headers_of_a_connection_are_not_written() {
        let mut headers = HeaderMap::new();
        for name in ["upgrade", "te", "keep-alive", "proxy-connection", "trailer"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(" "));
        headers.insert("x-empty", HeaderValue::from_static(""));
        let names: Vec<&str> = passing(&headers).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-empty"]);
        headers.insert(USER_AGENT, HeaderValue::from_static("curl"));
        assert_eq!(passing(&headers).count(), 2);
    }
}
