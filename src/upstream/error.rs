//! Why a call failed, with the text for the log.

use std::borrow::Cow;
use std::fmt;

use http::Method;
use pingora_core::{Error, ErrorType};

use super::budget::Full;
use super::handshake_error;
use crate::telemetry::observe::{ErrorType as Observed, Wait};
use crate::telemetry::sanitize::{MAX_VALUE, cut_arguments, masked};

/// Why a call gave no response.
///
/// The text follows KrakenD: `Get "http://h:1/x": dial tcp h:1: connect: connection refused`.
#[derive(Debug, Clone, thiserror::Error)]
pub struct CallError {
    pub kind: CallErrorKind,
    /// The method and the URL of the call, which is cut if it is long. `None` if KrakenD's message contains neither.
    pub call: Option<Box<(Method, String)>>,
    pub text: Cow<'static, str>,
}

/// The closed list of ways in which a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallErrorKind {
    /// The host list is empty.
    NoHosts,
    /// No usable connection. Nothing was sent.
    Connect(ConnectFailure),
    /// The connection broke, or the response is not valid HTTP or ended early.
    Broken,
    /// The response was larger than allowed.
    TooLarge,
    /// The process holds as many bytes of bodies as it may.
    Full,
    /// A limit of the call itself passed, such as `response_header_timeout`.
    Late(Wait),
    /// More than ten requests in a chain of redirects.
    Redirects,
    /// The call cannot be written as a request: it has no scheme, or its target contains spaces.
    Request,
}

/// Why there is no usable connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    Refused,
    /// This took too long.
    Timeout(Wait),
    /// The name of the host has no address.
    Dns,
    /// The TLS handshake.
    Tls,
    Other,
}

/// The proxy did not open the connection in time.
pub(super) const PROXY_TIMEOUT: ErrorType = ErrorType::Custom("ProxyTimeout");
/// The peer of a new HTTP/2 connection was silent.
pub(super) const HTTP2_TIMEOUT: ErrorType = ErrorType::Custom("Http2Timeout");

/// The error of a connection that was given up while it waited for this.
pub(super) fn late(wait: Option<Wait>) -> ErrorType {
    match wait {
        Some(Wait::Proxy) => PROXY_TIMEOUT,
        Some(Wait::Tls) => ErrorType::TLSHandshakeTimedout,
        Some(Wait::Http2) => HTTP2_TIMEOUT,
        _ => ErrorType::ConnectTimedout,
    }
}

impl ConnectFailure {
    pub(crate) fn observed(self) -> Observed {
        match self {
            ConnectFailure::Refused => Observed::ConnectRefused,
            ConnectFailure::Timeout(wait) => wait.into(),
            ConnectFailure::Dns => Observed::Dns,
            ConnectFailure::Tls => Observed::Tls,
            ConnectFailure::Other => Observed::Connect,
        }
    }
}

impl CallError {
    /// The reason of the failure in traces and series.
    pub(super) fn observed(&self) -> Observed {
        match self.kind {
            CallErrorKind::NoHosts => Observed::NoHosts,
            CallErrorKind::Connect(failure) => failure.observed(),
            CallErrorKind::Broken | CallErrorKind::Redirects => Observed::Reset,
            CallErrorKind::TooLarge => Observed::BodyTooLarge,
            CallErrorKind::Full => Observed::BuffersFull,
            CallErrorKind::Late(wait) => wait.into(),
            CallErrorKind::Request => Observed::Request,
        }
    }

    pub(super) fn new(kind: CallErrorKind, text: impl Into<Cow<'static, str>>) -> CallError {
        CallError {
            kind,
            call: None,
            text: text.into(),
        }
    }

    /// Prepends the method and the URL, as KrakenD does for all errors before the body.
    pub(super) fn of(mut self, method: &Method, (host, target): (&str, &str)) -> CallError {
        let url = cut_arguments(format_args!("{host}{target}"), MAX_VALUE);
        self.call = Some(Box::new((method.clone(), url)));
        self
    }

    /// The same error of a proxy instead of its host, in KrakenD's words.
    pub(super) fn through(self, proxy: bool) -> CallError {
        if proxy {
            CallError {
                text: format!("proxyconnect tcp: {}", self.text).into(),
                ..self
            }
        } else {
            self
        }
    }

    /// `no hosts available`, in KrakenD's words.
    pub(super) fn no_hosts() -> CallError {
        CallError::new(CallErrorKind::NoHosts, "no hosts available")
    }

    /// A transfer that ended early.
    pub(super) fn truncated() -> CallError {
        CallError::new(CallErrorKind::Broken, "unexpected EOF")
    }

    /// A response that exceeds the configured size.
    pub(super) fn too_large(limit: u64) -> CallError {
        CallError::new(
            CallErrorKind::TooLarge,
            format!("response body larger than {limit} bytes"),
        )
    }

    /// The budget has no space for more of the response.
    pub(super) fn full(full: Full) -> CallError {
        CallError::new(CallErrorKind::Full, full.to_string())
    }

    /// Why connecting failed. `address` is the `host:port` that was called.
    pub(super) fn connect(error: &Error, address: &str) -> CallError {
        let (failure, cause): (_, Cow<'static, str>) = match error.root_etype() {
            ErrorType::ConnectRefused => (
                ConnectFailure::Refused,
                "connect: connection refused".into(),
            ),
            ErrorType::ConnectNoRoute => {
                (ConnectFailure::Other, "connect: no route to host".into())
            }
            ErrorType::ConnectTimedout => {
                (ConnectFailure::Timeout(Wait::Connect), "i/o timeout".into())
            }
            kind if *kind == PROXY_TIMEOUT => {
                let text = "the proxy has not responded to CONNECT in time";
                return CallError::no_connection(ConnectFailure::Timeout(Wait::Proxy), text);
            }
            kind if *kind == HTTP2_TIMEOUT => {
                let text = "http2: the backend has not sent its settings in time";
                return CallError::no_connection(ConnectFailure::Timeout(Wait::Http2), text);
            }
            // The response of the proxy. `through` adds the rest.
            ErrorType::ConnectProxyFailure => {
                let text = error.root_cause().to_string();
                return CallError::no_connection(ConnectFailure::Other, text);
            }
            ErrorType::TLSHandshakeTimedout => {
                let text = "net/http: TLS handshake timeout";
                return CallError::no_connection(ConnectFailure::Timeout(Wait::Tls), text);
            }
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
                let text = handshake_error::reason(error);
                return CallError::no_connection(ConnectFailure::Tls, text);
            }
            _ => (
                ConnectFailure::Other,
                format!("connect: {}", error.root_cause()).into(),
            ),
        };
        CallError::no_connection(failure, format!("dial tcp {address}: {cause}"))
    }

    /// There is no usable connection.
    pub(super) fn no_connection(
        failure: ConnectFailure,
        text: impl Into<Cow<'static, str>>,
    ) -> CallError {
        CallError::new(CallErrorKind::Connect(failure), text)
    }

    /// Why the call failed between connecting and the end of the response head.
    pub(super) fn header(error: &Error) -> CallError {
        let text: Cow<'static, str> = match error.root_etype() {
            ErrorType::ConnectionClosed => "EOF".into(),
            ErrorType::ReadTimedout => {
                return CallError::new(
                    CallErrorKind::Late(Wait::Header),
                    "net/http: timeout awaiting response headers",
                );
            }
            ErrorType::InvalidHTTPHeader => "net/http: malformed HTTP response".into(),
            ErrorType::ReadError | ErrorType::WriteError => io_text(error),
            ErrorType::H2Downgrade => {
                "http2: the backend requires HTTP/1.1 (HTTP_1_1_REQUIRED): set \"http_version\": \"h1\"".into()
            }
            _ => format!("net/http: transport: {}", error.etype().as_str()).into(),
        };
        CallError::new(CallErrorKind::Broken, text)
    }

    /// Why reading the body failed. Any end before the announced one counts as truncation.
    pub(super) fn body(error: &Error) -> CallError {
        match error.root_etype() {
            ErrorType::ReadTimedout => {
                CallError::new(CallErrorKind::Late(Wait::Body), "i/o timeout")
            }
            _ => CallError::truncated(),
        }
    }

    /// A response with ambiguous framing (RFC 9112 §6.3).
    pub(super) fn framing(what: &'static str) -> CallError {
        CallError::new(CallErrorKind::Broken, what)
    }
}

/// The error of the operating system, as Go spells it.
fn io_text(error: &Error) -> Cow<'static, str> {
    let cause = error.root_cause();
    match cause.downcast_ref::<std::io::Error>() {
        Some(io) => match io.kind() {
            std::io::ErrorKind::ConnectionReset => "read: connection reset by peer".into(),
            std::io::ErrorKind::BrokenPipe => "write: broken pipe".into(),
            std::io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
            _ => {
                let text = io.to_string();
                handshake_error::alert(&text).unwrap_or(text).into()
            }
        },
        None => error.etype().as_str().into(),
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((method, url)) = self.call.as_deref() {
            let (first, rest) = method.as_str().split_at(1);
            let url = masked(url); // the query may contain a client's token
            write!(f, "{first}{} \"{url}\": ", rest.to_ascii_lowercase())?;
        }
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts whose names contain the words of another reason.
    #[test]
    fn the_reason_does_not_depend_on_the_name_of_the_host() {
        for (error, want) in [
            (ErrorType::ConnectNoRoute, Observed::Connect),
            (ErrorType::ConnectRefused, Observed::ConnectRefused),
            (ErrorType::ConnectTimedout, Observed::ConnectTimeout),
            (ErrorType::TLSHandshakeTimedout, Observed::TlsTimeout),
            (PROXY_TIMEOUT, Observed::ProxyTimeout),
            (HTTP2_TIMEOUT, Observed::Http2Timeout),
            (ErrorType::TLSHandshakeFailure, Observed::Tls),
        ] {
            for host in ["tls-gateway", "lookup-service", "refused-claims", "a"] {
                let error = CallError::connect(&Error::new(error.clone()), &format!("{host}:80"));
                assert_eq!(error.observed(), want, "{error}");
            }
        }
    }

    #[test]
    fn a_token_in_the_query_is_not_logged() {
        let url = ("http://h:1", "/x?a=b&access_token=secret");
        let text = CallError::truncated().of(&Method::GET, url).to_string();
        assert_eq!(
            text,
            "Get \"http://h:1/x?a=b&access_token=***\": unexpected EOF"
        );
        let target = format!("/{}", "x".repeat(1_000_000));
        let text = CallError::truncated()
            .of(&Method::GET, ("http://h", &target))
            .to_string();
        assert!(text.ends_with("x… (991817 bytes more)\": unexpected EOF"));
        assert!(text.len() < MAX_VALUE + 100);
    }
}
