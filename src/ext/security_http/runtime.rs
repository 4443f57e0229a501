//! The step: host check, redirect to TLS, and headers.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::bytes::RegexSet;

use crate::runtime::request::{Head, Notes};
use crate::runtime::response::{Fields, Response};
use crate::runtime::router::moved_permanently;
use crate::runtime::step::{EndpointStep, Gate, ServiceStep};

const NONCE: &str = "$NONCE";

/// The accepted values of `Host`.
#[derive(Debug)]
pub(crate) enum AllowedHosts {
    Any,
    /// Compared case-insensitively, including the port.
    Exact(Box<[Box<str>]>),
    /// Anchored at both ends.
    Patterns(RegexSet),
}

/// The compiled `security/http`, without the parts that `is_development` disables.
#[derive(Debug)]
pub(crate) struct SecurityHttp {
    pub hosts: AllowedHosts,
    pub host_headers: Box<[HeaderName]>,
    /// Redirects requests without TLS.
    pub redirect: bool,
    pub redirect_host: Option<Box<str>>,
    pub headers: SecurityHeaders,
}

/// The headers of a block. Those of an endpoint replace those of the service.
#[derive(Debug)]
pub(crate) struct SecurityHeaders {
    /// Headers and values that mean that the client used TLS.
    pub secure_headers: Box<[(HeaderName, HeaderValue)]>,
    pub sts: Option<HeaderValue>,
    /// Also sent without TLS.
    pub sts_always: bool,
    /// Headers with constant values.
    pub fields: Fields,
    /// A policy with a nonce that differs in each response: the parts around the nonces.
    pub policy_parts: Option<Box<[Box<str>]>>,
}

impl ServiceStep for SecurityHttp {
    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        let host = self.host(head);
        if !self.hosts.allow(host) {
            log::warn!("[SERVICE: Gin][HTTPsecure] Bad host name: {host}");
            notes.rejected = Some("bad_host");
            return Some(bad_host());
        }
        if self.redirect && !self.headers.is_secure(head) {
            notes.rejected = Some("ssl_redirect");
            return Some(self.redirect(head, host));
        }
        let fields = &mut notes.response_fields;
        self.headers
            .each(head, |name, value| fields.push((name, value)));
        None
    }
}

impl SecurityHttp {
    fn host<'a>(&self, head: &Head<'a>) -> &'a str {
        self.host_headers
            .iter()
            .filter_map(|name| head.header(name))
            .find(|value| !value.is_empty())
            .unwrap_or_else(|| head.host())
    }

    fn redirect(&self, head: &Head<'_>, host: &str) -> Response {
        let host = self.redirect_host.as_deref().unwrap_or(host);
        let query = head
            .query
            .map(|query| format!("?{}", ascii(query)))
            .unwrap_or_default();
        // Two slashes at the start of a path would name another host in some clients.
        let path = format!("/{}", ascii(head.path.trim_start_matches('/')));
        let location = format!("https://{host}{path}{query}");
        let Ok(value) = HeaderValue::try_from(location.as_str()) else {
            return bad_host();
        };
        let mut response = Response::empty(StatusCode::MOVED_PERMANENTLY).with(LOCATION, value);
        if matches!(*head.method, Method::GET | Method::HEAD) {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response = response.with(CONTENT_TYPE, html);
        }
        if *head.method == Method::GET {
            response.body = Bytes::from(moved_permanently(&location));
        }
        response
    }
}

impl SecurityHeaders {
    /// Calls `set` with each header of the response.
    fn each(&self, head: &Head<'_>, mut set: impl FnMut(HeaderName, HeaderValue)) {
        for (name, value) in &self.fields {
            set(name.clone(), value.clone());
        }
        if let Some(sts) = &self.sts
            && (self.sts_always || self.is_secure(head))
        {
            set(STRICT_TRANSPORT_SECURITY, sts.clone());
        }
        if let Some(policy) = self.policy_parts.as_deref().and_then(with_nonce) {
            set(CONTENT_SECURITY_POLICY, policy);
        }
    }

    fn is_secure(&self, head: &Head<'_>) -> bool {
        let mut all = self.secure_headers.iter();
        head.secure || all.any(|(name, value)| head.headers.get(name) == Some(value))
    }
}

impl EndpointStep for SecurityHeaders {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let fields = &mut notes.response_fields;
        self.each(head, |name, value| {
            fields.retain(|(known, _)| *known != name);
            fields.push((name, value));
        });
        Gate::Pass
    }
}

impl AllowedHosts {
    fn allow(&self, host: &str) -> bool {
        match self {
            AllowedHosts::Any => true,
            AllowedHosts::Exact(hosts) => {
                hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
            }
            AllowedHosts::Patterns(patterns) => patterns.is_match(host.as_bytes()),
        }
    }
}

/// A `Location` is ASCII (RFC 9110 §10.2.2, RFC 3986): other bytes are percent-encoded.
fn ascii(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS)
}

fn bad_host() -> Response {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = Response::empty(StatusCode::INTERNAL_SERVER_ERROR)
        .with(CONTENT_TYPE, text)
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.body = Bytes::from_static(b"Bad Host\n");
    response
}

/// Inserts `'nonce-<random>'` between the parts. Without randomness no policy is sent, which is better than one with
/// a predictable nonce: browsers then use the policy of the page itself.
fn with_nonce(parts: &[Box<str>]) -> Option<HeaderValue> {
    let mut random = [0u8; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    let nonce = format!("'nonce-{}'", STANDARD.encode(random));
    HeaderValue::try_from(parts.join(nonce.as_str())).ok()
}

/// The parts of a policy around its nonces. `None` if it has none.
pub(super) fn policy_parts(policy: &str) -> Option<Box<[Box<str>]>> {
    policy
        .contains(NONCE)
        .then(|| policy.split(NONCE).map(Box::from).collect())
}
