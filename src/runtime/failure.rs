//! Why a request failed, with the text for the log.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::runtime::answer::Fields;
use crate::telemetry::hidden::Hidden;
use crate::telemetry::observe;
use crate::upstream::budget::Full;

/// Why a backend call, or the whole pipeline, gave no response.
///
/// The text is the log message and what `router.return_error_msg` shows. It follows KrakenD's wording. The status is
/// the one that an endpoint with a single backend responds with.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub kind: Kind,
    pub text: Cow<'static, str>,
    /// 500 unless the failure has another one, as with `return_error_code`.
    pub status: StatusCode,
    /// The body and content type of the upstream (`return_error_code` with `return_error_msg`).
    pub body: Option<(Bytes, Option<HeaderValue>)>,
    /// Headers of the upstream. If present, status, headers and body are sent to the client regardless of
    /// `return_error_msg`, because the configuration requests it.
    pub passed: Option<Box<Fields>>,
    /// The failure comes from a step around the endpoint, outside of `proxy.static`, so static data does not apply.
    pub outside: bool,
}

/// The closed list of failures. A kind is the label of the metric, and the circuit breaker evaluates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `context deadline exceeded`
    Deadline,
    /// The client closed its connection: `context canceled`.
    Canceled,
    /// No usable connection: refused, reset, unresolvable, or a TLS error.
    Connect,
    /// The connection broke, or the response is not HTTP or ended early.
    Broken,
    /// The status of the upstream counts as a failure.
    Status,
    /// The response could not be decoded.
    Decode,
    /// The response was larger than allowed.
    TooLarge,
    /// The process holds as many bytes of bodies as it may.
    Full,
    /// `circuit breaker is open`, `rate limit exceded`: the backend is not called.
    Busy,
    /// A step rejected the call.
    Refused,
    /// No token for the backend could be obtained.
    Credentials,
    /// The request cannot be turned into a call: a placeholder has no value, or the body is not JSON.
    Request,
    /// A script ended the request with an error of its own, or with one that it raised deliberately.
    Script,
    /// The host list is empty: `no hosts available`.
    NoHosts,
}

impl Kind {
    /// The label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Deadline => "deadline",
            Kind::Canceled => "canceled",
            Kind::Connect => "connect",
            Kind::Broken => "broken",
            Kind::Status => "status",
            Kind::Decode => "decode",
            Kind::TooLarge => "too_large",
            Kind::Full => "buffers_full",
            Kind::Busy | Kind::Refused => "refused",
            Kind::Credentials => "credentials",
            Kind::Request => "request",
            Kind::Script => "script",
            Kind::NoHosts => "no_hosts",
        }
    }
}

impl Failure {
    /// A failure with status 500.
    pub fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure {
            kind,
            text: text.into(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            body: None,
            passed: None,
            outside: false,
        }
    }

    /// Marks the failure as one of a step around the endpoint.
    pub fn outside(self) -> Failure {
        Failure {
            outside: true,
            ..self
        }
    }

    /// Removes secret parts of a backend's `url_pattern` from the text.
    pub fn hiding(mut self, hidden: &Hidden) -> Failure {
        if let Cow::Owned(cleaned) = hidden.clean(&self.text) {
            self.text = cleaned.into();
        }
        self
    }

    /// The endpoint's deadline has passed.
    pub fn deadline() -> Failure {
        Failure::new(Kind::Deadline, "context deadline exceeded")
    }

    /// The process holds as many bytes of bodies as it may.
    pub fn full() -> Failure {
        Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Failure::new(Kind::Full, Full.to_string())
        }
    }

    /// The status of a gateway for this failure (RFC 9110 §15.6), if the configuration asks for more than 500.
    pub fn gateway_status(&self) -> StatusCode {
        match self.kind {
            _ if self.status != StatusCode::INTERNAL_SERVER_ERROR => self.status,
            Kind::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Kind::Connect | Kind::Broken | Kind::NoHosts => StatusCode::BAD_GATEWAY,
            Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => self.status,
        }
    }

    /// The name of the failure in traces and series.
    pub fn observed(&self) -> observe::Outcome {
        match self.kind {
            Kind::Canceled => observe::Outcome::Canceled,
            kind => observe::Outcome::Failed(observe::error_type(kind.as_str(), &self.text)),
        }
    }

    /// The client closed its connection.
    pub fn canceled() -> Failure {
        Failure::new(Kind::Canceled, "context canceled")
    }
}
