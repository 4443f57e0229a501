//! Why a request failed, in the words of the log.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::runtime::answer::Fields;
use crate::telemetry::hidden::Hidden;
use crate::upstream::budget::Full;

/// Why a backend call, or the whole pipeline, gave no answer.
///
/// The text is what the log says and what `router.return_error_msg` shows; it follows the reference's wording
/// (spec/gateway.md §4.1). The status is what a single-backend endpoint answers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub kind: Kind,
    pub text: Cow<'static, str>,
    /// 500 unless the failure carries another, as with `return_error_code`.
    pub status: StatusCode,
    /// The upstream's own body and content type (`return_error_code` with `return_error_msg`).
    pub body: Option<(Bytes, Option<HeaderValue>)>,
    /// Show status, fields and body to the client whatever `return_error_msg` says: the operator asked for them.
    pub passed: Option<Box<Fields>>,
    /// It came of a step around the endpoint, which stands outside of `proxy.static`: no static data cover it.
    pub outside: bool,
}

/// The closed set of ways to fail: the label of the metric, and what the breaker looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `context deadline exceeded`
    Deadline,
    /// The client went away: `context canceled`.
    Canceled,
    /// Refused, reset, unresolvable, TLS: no usable connection.
    Connect,
    /// A connection that broke, or an answer that is not HTTP or ended early.
    Broken,
    /// The upstream answered with a status that counts as failure.
    Status,
    /// The answer could not be decoded.
    Decode,
    /// The answer was larger than allowed.
    TooLarge,
    /// The process holds as many bytes of bodies as it may.
    Full,
    /// `circuit breaker is open`, `rate limit exceded`: the backend is spared the call.
    Busy,
    /// A step refused the call.
    Refused,
    /// No token for the backend could be had.
    Credentials,
    /// The request cannot be turned into a call: a placeholder without a value, a body that is no JSON.
    Request,
    /// A script ended the request: an error of its own, or one that it raised on purpose.
    Script,
    /// A host list that is empty: `no hosts available`.
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
    /// A failure that answers 500.
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

    /// The same, of a step around the endpoint.
    pub fn outside(self) -> Failure {
        Failure {
            outside: true,
            ..self
        }
    }

    /// The same without what a backend's `url_pattern` keeps secret.
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

    /// What a gateway answers for it (RFC 9110 §15.6), where the file asks for more than 500.
    pub fn gateway_status(&self) -> StatusCode {
        match self.kind {
            _ if self.status != StatusCode::INTERNAL_SERVER_ERROR => self.status,
            Kind::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Kind::Connect | Kind::Broken | Kind::NoHosts => StatusCode::BAD_GATEWAY,
            Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => self.status,
        }
    }

    /// The client has gone.
    pub fn canceled() -> Failure {
        Failure::new(Kind::Canceled, "context canceled")
    }
}
