//! Why a request failed, and what follows from it: status, gRPC status, log line, metric and note.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::jose::Reason;
use crate::runtime::response::{Fields, Response};
use crate::runtime::step::Answer;
use crate::telemetry::observe::{self, ErrorType, Wait};
use crate::telemetry::url_secrets::UrlSecrets;
use crate::upstream::ConnectFailure;
use crate::upstream::budget::Full;

mod guard;
mod statuses;

pub(crate) use guard::Guard;
use statuses::Statuses;

/// Why a request got no response from its backends.
///
/// The text is the log message and what `router.return_error_msg` shows. It follows KrakenD's wording. The status is
/// the one that an endpoint with a single backend responds with.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub kind: Kind,
    pub text: Cow<'static, str>,
    /// The status of the kind unless the failure has another one, as with `return_error_code`.
    pub status: StatusCode,
    /// The body and content type of the upstream (`return_error_code` with `return_error_msg`).
    pub body: Option<(Bytes, Option<HeaderValue>)>,
    /// Headers of the upstream, or of the gateway for this failure. If present, status, headers and body are sent to
    /// the client regardless of `return_error_msg`, because the configuration requests it.
    pub passed: Option<Box<Fields>>,
    /// The failure comes from a step around the endpoint, outside of `proxy.static`, so static data does not apply.
    pub outside: bool,
    /// A step of the gateway decided it, by what it knows of the request: it says nothing about the upstream.
    pub by_step: bool,
    /// The status of the upstream, if it has responded.
    pub answered: Option<StatusCode>,
    /// [`Backend::index`](crate::runtime::service::Backend::index) of the backend that failed, if it is one of several.
    pub backend: Option<u16>,
}

/// The closed list of failures. What follows from a kind (status, log line, metric, note) is decided below, and only
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `context deadline exceeded`
    Deadline,
    /// The same in a call, or a limit of the call passed: it was waiting for this.
    Late(Wait),
    /// The client closed its connection: `context canceled`.
    ClientGone,
    /// The client's body is not framed as HTTP.
    BodyMalformed,
    /// The client stopped in the middle of its body.
    BodySlow,
    /// The client's body is larger than what may be kept.
    BodyTooLarge,
    /// The process holds as many bytes of bodies as it may: no room for the client's.
    BodyUnbuffered,
    /// The `Origin` of the request must not open a WebSocket.
    Origin,
    /// The maximum number of WebSockets is open.
    Tunnels,
    /// No usable connection.
    Connect(ConnectFailure),
    /// The connection broke, or the response is not HTTP or ended early.
    Broken,
    /// The connection broke after a part of the response was sent to the client.
    CutOff,
    /// The upstream fell silent after a part of the response was sent to the client.
    Silent,
    /// The status of the upstream counts as a failure.
    Status,
    /// The response could not be decoded.
    Decode,
    /// The response was larger than allowed.
    TooLarge,
    /// The process holds as many bytes of bodies as it may: no room for the response.
    Full,
    /// `circuit breaker is open`: the backend is not called.
    Busy,
    /// A step rejected the response of the backend, or could not make one in its place.
    Rejected,
    /// A step rejected the request before its backend was called.
    Guarded(Guard),
    /// No token for the backend could be obtained.
    Credentials,
    /// The request has no token that could be exchanged.
    TokenMissing,
    /// The token server does not exchange the client's token.
    ExchangeRefused,
    /// The client may not have a token for the backend.
    ExchangeForbidden,
    /// The request cannot be turned into a call: a placeholder has no value, or the body is not JSON.
    Request,
    /// A script ended the request with an error of its own, or with one that it raised deliberately.
    Script,
    /// The host list is empty: `no hosts available`.
    NoHosts,
    /// There was no message in a queue.
    Empty,
}

/// The reason of a request whose client closed its connection. No guard rejected it.
pub(crate) const CLIENT_GONE: &str = "client_gone";

/// How a failure is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A line in the log at ERROR and one below the access line; `portcullis_upstream_errors_total` with this reason.
    Upstream(&'static str),
    /// `portcullis_http_bad_requests_total` with this reason.
    BadRequest(&'static str),
    /// The field `refused` of the access log, and `portcullis_requests_refused_total` with this reason, except
    /// [`CLIENT_GONE`].
    Note(&'static str),
    /// The lines of [`Report::Upstream`] in the log; in metrics and in the access log the same as [`Report::Note`].
    Guard(&'static str),
    /// The lines and metrics of [`Report::Guard`] for a token, and `portcullis_jwt_rejected_total` with this reason.
    Token(&'static str),
}

impl Kind {
    /// How a failure of this kind is reported.
    pub fn report(self) -> Report {
        match self {
            Kind::Deadline => Report::Upstream("deadline"),
            Kind::Late(wait) | Kind::Connect(ConnectFailure::Timeout(wait)) => {
                Report::Upstream(wait.reason())
            }
            Kind::Silent => Report::Upstream(Wait::Body.reason()),
            Kind::ClientGone => Report::Note(CLIENT_GONE),
            Kind::BodyMalformed => Report::BadRequest("body"),
            Kind::BodySlow => Report::BadRequest("slow_body"),
            Kind::BodyTooLarge => Report::Note("body_too_large"),
            Kind::BodyUnbuffered => Report::Note("buffers_full"),
            Kind::Origin => Report::Note("origin"),
            Kind::Tunnels => Report::Note("connections"),
            Kind::Connect(_) => Report::Upstream("connect"),
            Kind::Broken | Kind::CutOff => Report::Upstream("broken"),
            Kind::Status => Report::Upstream("status"),
            Kind::Decode => Report::Upstream("decode"),
            Kind::TooLarge => Report::Upstream("too_large"),
            Kind::Full => Report::Upstream("buffers_full"),
            Kind::Busy | Kind::Rejected => Report::Upstream("refused"),
            Kind::Guarded(guard) => Report::Guard(guard.reason()),
            Kind::Credentials => Report::Upstream("credentials"),
            Kind::TokenMissing => Report::Token(Reason::Missing.as_str()),
            Kind::ExchangeRefused => Report::Token(Reason::ExchangeRefused.as_str()),
            Kind::ExchangeForbidden => Report::Token(Reason::ExchangeForbidden.as_str()),
            Kind::Request => Report::Upstream("request"),
            Kind::Script => Report::Upstream("script"),
            Kind::NoHosts => Report::Upstream("no_hosts"),
            Kind::Empty => Report::Upstream("empty"),
        }
    }

    /// The reason in traces and series.
    fn error_type(self) -> ErrorType {
        match self {
            Kind::Deadline => ErrorType::Timeout,
            Kind::Late(wait) => wait.into(),
            Kind::Silent => ErrorType::BodyTimeout,
            Kind::ClientGone
            | Kind::BodyMalformed
            | Kind::BodySlow
            | Kind::BodyTooLarge
            | Kind::BodyUnbuffered
            | Kind::Origin
            | Kind::Tunnels => ErrorType::Canceled,
            Kind::Connect(failure) => failure.observed(),
            Kind::Broken | Kind::CutOff => ErrorType::Reset,
            Kind::Status => ErrorType::Status,
            Kind::Decode => ErrorType::BodyInvalid,
            Kind::TooLarge => ErrorType::BodyTooLarge,
            Kind::Full => ErrorType::BuffersFull,
            Kind::Busy => ErrorType::CircuitOpen,
            Kind::Rejected => ErrorType::Policy,
            Kind::Guarded(guard) => guard.error_type(),
            Kind::Credentials
            | Kind::TokenMissing
            | Kind::ExchangeRefused
            | Kind::ExchangeForbidden => ErrorType::Credentials,
            Kind::Request => ErrorType::Request,
            Kind::Script => ErrorType::Script,
            Kind::NoHosts => ErrorType::NoHosts,
            Kind::Empty => ErrorType::Empty,
        }
    }

    /// What the client gets, unless a step or an upstream chose another status.
    pub fn status(self) -> StatusCode {
        self.statuses().usual
    }

    /// The statuses of this kind.
    fn statuses(self) -> Statuses {
        match self {
            Kind::BodyMalformed => Statuses::of(StatusCode::BAD_REQUEST),
            Kind::BodySlow => Statuses::of(StatusCode::REQUEST_TIMEOUT),
            Kind::BodyTooLarge => Statuses::of(StatusCode::PAYLOAD_TOO_LARGE),
            Kind::Origin | Kind::ExchangeForbidden => Statuses::of(StatusCode::FORBIDDEN),
            Kind::TokenMissing | Kind::ExchangeRefused => Statuses::of(StatusCode::UNAUTHORIZED),
            Kind::BodyUnbuffered | Kind::Tunnels => Statuses::of(StatusCode::SERVICE_UNAVAILABLE),
            Kind::Full => {
                Statuses::of(StatusCode::SERVICE_UNAVAILABLE).grpc(StatusCode::SERVICE_UNAVAILABLE)
            }
            Kind::Deadline | Kind::Late(_) => Statuses::of(StatusCode::INTERNAL_SERVER_ERROR)
                .gateway(StatusCode::GATEWAY_TIMEOUT)
                .grpc(StatusCode::GATEWAY_TIMEOUT),
            Kind::Connect(_) | Kind::NoHosts => Statuses::of(StatusCode::INTERNAL_SERVER_ERROR)
                .gateway(StatusCode::BAD_GATEWAY)
                .grpc(StatusCode::SERVICE_UNAVAILABLE),
            Kind::Broken | Kind::CutOff | Kind::Silent => {
                Statuses::of(StatusCode::INTERNAL_SERVER_ERROR).gateway(StatusCode::BAD_GATEWAY)
            }
            Kind::Busy | Kind::Guarded(Guard::RateLimit) => {
                Statuses::of(StatusCode::INTERNAL_SERVER_ERROR)
                    .gateway(StatusCode::SERVICE_UNAVAILABLE)
                    .grpc(StatusCode::SERVICE_UNAVAILABLE)
            }
            Kind::Rejected => Statuses::of(StatusCode::INTERNAL_SERVER_ERROR)
                .grpc(StatusCode::SERVICE_UNAVAILABLE),
            Kind::ClientGone
            | Kind::Status
            | Kind::Decode
            | Kind::TooLarge
            | Kind::Guarded(_)
            | Kind::Credentials
            | Kind::Request
            | Kind::Script
            | Kind::Empty => Statuses::of(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The side that caused the failure, and what happens to the rest of the client's body.
    fn cause(self) -> (Side, Rest) {
        match self {
            Kind::ClientGone | Kind::BodyMalformed | Kind::BodySlow | Kind::BodyUnbuffered => {
                (Side::Client, Rest::Abandoned)
            }
            // A response before the end of a body closes the connection anyway, unless little is left of it.
            Kind::BodyTooLarge | Kind::Origin | Kind::Tunnels => (Side::Client, Rest::Read),
            Kind::Deadline | Kind::Late(_) => (Side::Upstream, Rest::Abandoned),
            Kind::Connect(_)
            | Kind::Broken
            | Kind::CutOff
            | Kind::Silent
            | Kind::Status
            | Kind::Decode
            | Kind::TooLarge
            | Kind::Full
            | Kind::Busy
            | Kind::Rejected
            | Kind::Guarded(_)
            | Kind::Credentials
            | Kind::TokenMissing
            | Kind::ExchangeRefused
            | Kind::ExchangeForbidden
            | Kind::Request
            | Kind::Script
            | Kind::NoHosts
            | Kind::Empty => (Side::Upstream, Rest::Read),
        }
    }

    /// Whether the time was too short.
    pub(crate) fn is_late(self) -> bool {
        matches!(self, Kind::Deadline | Kind::Late(_))
    }

    /// Whether the client caused it. Such a failure says nothing about the upstream, and static data do not replace
    /// the response.
    pub fn is_of_client(self) -> bool {
        matches!(self.cause(), (Side::Client, _))
    }

    /// Whether the rest of the client's body is not read: its connection is closed after the response.
    pub fn abandons_body(self) -> bool {
        matches!(self.cause(), (_, Rest::Abandoned))
    }
}

/// The side that caused a failure.
enum Side {
    Client,
    Upstream,
}

/// What happens to the rest of the client's body.
enum Rest {
    Read,
    Abandoned,
}

impl Failure {
    /// A failure with the status of its kind.
    pub fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure {
            kind,
            text: text.into(),
            status: kind.status(),
            body: None,
            passed: None,
            outside: false,
            by_step: false,
            answered: None,
            backend: None,
        }
    }

    /// The outcome at the upstream. Failures caused by the client or by a step say nothing about it.
    pub fn answer(&self) -> Answer {
        if let Some(status) = self.answered {
            return Answer::Status(status);
        }
        match self.kind {
            _ if self.by_step => Answer::NotAsked,
            Kind::Deadline
            | Kind::Late(_)
            | Kind::Connect(_)
            | Kind::Broken
            | Kind::CutOff
            | Kind::Silent
            | Kind::Status
            | Kind::Decode
            | Kind::TooLarge
            | Kind::NoHosts => Answer::Nothing,
            Kind::ClientGone
            | Kind::BodyMalformed
            | Kind::BodySlow
            | Kind::BodyTooLarge
            | Kind::BodyUnbuffered
            | Kind::Origin
            | Kind::Tunnels
            | Kind::Full
            | Kind::Busy
            | Kind::Rejected
            | Kind::Guarded(_)
            | Kind::Credentials
            | Kind::TokenMissing
            | Kind::ExchangeRefused
            | Kind::ExchangeForbidden
            | Kind::Request
            | Kind::Script
            | Kind::Empty => Answer::NotAsked,
        }
    }

    /// The failure of a call with this response status.
    pub fn of_answer(self, status: StatusCode) -> Failure {
        Failure {
            answered: Some(status),
            ..self
        }
    }

    /// The failure of one of several backends.
    pub fn of_backend(self, index: u16) -> Failure {
        Failure {
            backend: Some(index),
            ..self
        }
    }

    /// The request contains a value of which no call can be made: no backend is called.
    pub fn bad_input(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure {
            status,
            ..Failure::new(Kind::Guarded(Guard::BadInput), text)
        }
    }

    /// The same failure of a step that runs before the call: it says that no backend was called.
    pub fn before_call(self) -> Failure {
        match self.kind {
            Kind::Script => Failure {
                kind: Kind::Guarded(Guard::Script),
                ..self
            },
            _ => self,
        }
    }

    /// Marks the failure as the decision of a step that knows the request.
    pub fn by_step(self) -> Failure {
        Failure {
            by_step: true,
            ..self
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
    pub fn hiding(mut self, hidden: &UrlSecrets) -> Failure {
        if let Cow::Owned(cleaned) = hidden.clean(&self.text) {
            self.text = cleaned.into();
        }
        self
    }

    /// The endpoint's deadline has passed.
    pub fn deadline() -> Failure {
        Failure::new(Kind::Deadline, "context deadline exceeded")
    }

    /// The endpoint's deadline has passed, and its call was dropped directly before this.
    pub(crate) fn late() -> Failure {
        let kind = Wait::noted().map_or(Kind::Deadline, Kind::Late);
        Wait::forget();
        Failure {
            kind,
            ..Failure::deadline()
        }
    }

    /// The process holds as many bytes of bodies as it may.
    pub fn full() -> Failure {
        Failure::new(Kind::Full, Full.to_string())
    }

    /// The client has closed its connection.
    pub fn client_closed() -> Failure {
        Failure::new(Kind::ClientGone, "context canceled")
    }

    /// A request target that is not text.
    pub fn bad_target() -> Failure {
        Failure::bad_input(StatusCode::BAD_REQUEST, "the request target is not text")
    }

    /// A response that ended early, after its head was sent.
    pub fn cut_off(why: &'static str) -> Failure {
        Failure::new(Kind::CutOff, why)
    }

    /// The status for the client. `as_gateway`: the configuration asks for more than 500 (`gateway_status_codes`).
    pub fn status(&self, as_gateway: bool) -> StatusCode {
        let statuses = self.kind.statuses();
        if as_gateway && self.status == statuses.usual {
            statuses.gateway.unwrap_or(statuses.usual)
        } else {
            self.status
        }
    }

    /// The failure as traces and series name it. A call does not count as failed if the client ended it or has received
    /// the head of the response.
    pub fn observed(&self) -> observe::Outcome {
        if self.kind.is_of_client() {
            return observe::Outcome::Canceled;
        }
        match self.kind {
            Kind::CutOff | Kind::Silent => observe::Outcome::Answered(true),
            kind => observe::Outcome::Failed(kind.error_type()),
        }
    }

    /// The response to a client that caused the failure: plain text, as for requests that are rejected before routing.
    pub fn response(&self) -> Response {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut response = Response::empty(self.status).with(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        response.body = format!("{} {reason}", self.status.as_str()).into();
        response
    }

    /// The same failure for a client that speaks gRPC.
    pub fn for_grpc(mut self) -> Failure {
        self.status = self.kind.statuses().grpc.unwrap_or(self.status);
        self
    }
}
