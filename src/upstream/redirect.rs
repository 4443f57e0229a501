//! The call that follows a redirect.

use std::sync::Arc;

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, HeaderName,
    LOCATION, REFERER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::error::{CallError, CallErrorKind};
use super::host_rules::{HostRules, Redirects};
use super::hosts::HostSet;
use super::message::Outgoing;
use crate::telemetry::mask::{self, KnownSecrets};

/// The maximum number of requests in one chain, including the first, as in Go.
pub(super) const MAX_REQUESTS: u32 = 10;

/// The call that a redirect requires.
#[derive(Debug)]
pub struct NextCall {
    /// The only host, which the redirect names.
    pub hosts: HostSet,
    pub out: Outgoing,
    /// It is not the origin of the call before.
    pub elsewhere: bool,
}

/// What is known of the call before all redirects.
pub(super) struct Start {
    /// The host that was called, as written in the configuration.
    pub(super) origin: Option<Arc<str>>,
    secrets: KnownSecrets,
}

impl Start {
    pub(super) fn of(origin: Option<Arc<str>>, headers: &HeaderMap) -> Start {
        let mut secrets = KnownSecrets::default();
        let is_sent = |(name, value): &(&HeaderName, &HeaderValue)| {
            value.is_sensitive() || mask::is_secret(name.as_str())
        };
        for (_, value) in headers.iter().filter(is_sent) {
            // A scheme and its credentials, or pairs of a cookie.
            let parts = value.to_str().unwrap_or_default().split([' ', ';', ',']);
            for part in parts {
                let value = part.split_once('=').map_or(part, |(_, value)| value);
                secrets.add_long(if value.trim_matches('=').is_empty() {
                    part
                } else {
                    value
                });
            }
        }
        Start { origin, secrets }
    }

    /// An error of a call that follows. A backend may redirect to a URL with a credential that it got from the client.
    pub(super) fn hide(&self, mut error: CallError) -> CallError {
        if let Some(call) = &mut error.call
            && !self.secrets.may_show(&call.1)
        {
            call.1 = HIDDEN.to_owned();
        }
        if !self.secrets.may_show(&error.text) {
            error.text = HIDDEN.into();
        }
        error
    }
}

/// The error of a call as it may be shown. `start` is known if redirects led to the call.
pub(super) fn shown(start: Option<&Start>, error: CallError) -> CallError {
    match start {
        Some(start) => start.hide(error),
        None => error,
    }
}

/// Stands for what a redirect brought.
const HIDDEN: &str = "(not shown, because it may contain a credential)";

/// The destination of the redirected call, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) secure: bool,
    /// `host[:port]`, as in `Host`.
    pub(super) authority: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
}

/// The next call, before a host set is created for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// `scheme://authority`.
    pub(super) origin: String,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) with_body: bool,
    /// True for 307 and 308: the method is kept, and so are the headers that describe the content.
    keeps_method: bool,
    pub(super) same_origin: bool,
}

impl Next {
    /// Whether the call leaves TLS.
    pub(super) fn leaves_tls(&self, from: From<'_>) -> bool {
        from.secure && !self.origin.starts_with("https:")
    }
}

/// Decides whether a response is followed: 301, 302, 303, 307 and 308 with a `Location`, as far as `rules` allow.
///
/// As in KrakenD, 301, 302 and 303 turn every method except GET and HEAD into GET without a body. 307 and 308 keep
/// the method, and are not followed if the call had a body that cannot be sent again, or must not be sent to that
/// origin.
///
/// # Errors
/// The `Location` is not a URL, or its scheme is not HTTP.
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
    let (origin, target) = match resolve(location.as_bytes(), from) {
        // An authority that cannot be parsed counts as another origin.
        Err(_) if rules.redirects == Redirects::SameOrigin => return Ok(None),
        resolved => resolved?,
    };
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

/// The name without a final dot, and the port in digits: the default port of the scheme if none is named.
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

/// The state of the request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// It is still available and can be sent again.
    Kept,
    /// It was passed on and cannot be sent again.
    Gone,
}

/// The headers of the next call: those of the last one, without the ones that the new destination must not see.
///
/// Another origin receives only headers that the client itself sent, and no credentials, because only the backend
/// decided on the redirect. Headers that a step added (claims, keys, modifiers, scripts) are marked with
/// [`HeaderValue::is_sensitive`].
pub(super) fn headers(old: &HeaderMap, from: From<'_>, next: &Next) -> HeaderMap {
    let mut headers = if next.same_origin {
        old.clone()
    } else {
        harmless(old, next.with_body)
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

fn harmless(old: &HeaderMap, with_body: bool) -> HeaderMap {
    let passes = |name: &HeaderName, value: &HeaderValue| {
        let is_harmless = !value.is_sensitive() && !is_secret(name);
        // A body that the rules send to any origin is useless without its type.
        is_harmless || with_body && CONTENT_FIELDS.contains(name)
    };
    let passing = old.iter().filter(|(name, value)| passes(name, value));
    let mut headers = HeaderMap::new();
    for (name, value) in passing {
        headers.append(name, value.clone());
    }
    headers
}

/// Whether a header carries credentials, judged by its name or because the file says so, or reveals the network behind the
/// gateway.
fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    mask::is_secret(name)
        || SECRET_NAMES.contains(&name)
        || name.starts_with("x-forwarded")
        || name.starts_with("proxy-")
        // `x-key`, `ocp-apim-subscription-key`.
        || name.ends_with("key")
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

/// Resolves `location` against the URL of the call (RFC 3986 §5.2) and returns origin and target.
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

/// A control character makes the URL invalid. Spaces and bytes beyond ASCII are percent-encoded, as in browsers.
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
mod tests;
