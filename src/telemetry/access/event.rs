//! What one line of the access log can show.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;

use crate::telemetry::sanitize::{MAX_MESSAGE, MAX_VALUE, cut};
use crate::telemetry::trace::{SpanId, TraceId};

/// A finished request.
#[derive(Debug, Clone)]
pub struct AccessEvent<'a> {
    /// The time since the Unix epoch at the end of the request.
    pub since_1970: Duration,
    pub latency: Duration,
    pub status: u16,
    pub client: IpAddr,
    pub method: &'a str,
    /// Percent-encoded, as on the wire.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// The pattern of the endpoint. `None` for 404 and similar responses.
    pub endpoint: Option<&'a str>,
    /// Why a step rejected the request: `expired`, `rate_limited`.
    pub rejected: Option<&'a str>,
    pub request_id: Option<&'a str>,
    /// The address that a streamed request was sent to.
    pub upstream: Option<&'a str>,
    pub upstream_time: Option<Duration>,
    /// The size of the request body and of the response body in bytes.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// `http` or `https`.
    pub scheme: Option<&'a str>,
    pub host: Option<&'a str>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<&'a str>,
    /// With U+FFFD in place of what is not UTF-8.
    pub user_agent: Option<Cow<'a, str>>,
    pub upstream_status: Option<u16>,
    /// `grpc-status` of a response to a gRPC client.
    pub grpc_status: Option<u32>,
    /// Trace, span, and whether they are recorded.
    pub trace: Option<(TraceId, SpanId, bool)>,
    /// The request's header fields.
    pub headers: Option<&'a HeaderMap>,
    /// The claims of the verified token.
    pub claims: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Additional lines: `Error #01: …`.
    pub errors: &'a [Cow<'static, str>],
}

impl AccessEvent<'_> {
    /// A claim of the token, as text.
    pub(super) fn claim(&self, name: &str) -> Option<String> {
        let value = self.claims?.get(name)?;
        Some(match value.as_str() {
            Some(text) => cut(text, MAX_VALUE).into_owned(),
            None => cut(&value.to_string(), MAX_VALUE).into_owned(),
        })
    }

    /// Whether a text is longer than what a line shows of it.
    pub(super) fn is_long(&self) -> bool {
        let texts = [
            Some(self.path),
            Some(self.method),
            self.query,
            self.host,
            self.upstream,
            self.user_agent.as_deref(),
        ];
        texts
            .into_iter()
            .flatten()
            .any(|text| text.len() > MAX_VALUE)
            || self.errors.iter().any(|error| error.len() > MAX_MESSAGE)
    }

    /// Passes on the event with the start of each text.
    pub(super) fn with_cut_texts(&self, write: impl FnOnce(&AccessEvent<'_>)) {
        let shown = |text| cut(text, MAX_VALUE);
        let (path, method) = (shown(self.path), shown(self.method));
        let (query, host) = (self.query.map(shown), self.host.map(shown));
        let upstream = self.upstream.map(shown);
        let errors = self.errors.iter();
        let errors: Vec<Cow<'static, str>> = errors
            .map(|error| Cow::Owned(cut(error, MAX_MESSAGE).into_owned()))
            .collect();
        write(&AccessEvent {
            path: &path,
            method: &method,
            query: query.as_deref(),
            host: host.as_deref(),
            upstream: upstream.as_deref(),
            user_agent: self.user_agent.as_deref().map(shown),
            errors: &errors,
            ..*self
        });
    }

    /// An event of which only the time is known.
    pub fn at(since_1970: Duration) -> AccessEvent<'static> {
        AccessEvent {
            since_1970,
            latency: Duration::ZERO,
            status: 0,
            client: IpAddr::from([0, 0, 0, 0]),
            method: "",
            path: "",
            query: None,
            endpoint: None,
            rejected: None,
            request_id: None,
            upstream: None,
            upstream_time: None,
            bytes_in: 0,
            bytes_out: 0,
            scheme: None,
            host: None,
            protocol: None,
            user_agent: None,
            upstream_status: None,
            grpc_status: None,
            trace: None,
            headers: None,
            claims: None,
            errors: &[],
        }
    }
}
