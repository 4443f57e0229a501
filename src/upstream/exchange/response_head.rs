//! Reads the response head, and rejects responses with ambiguous framing.

use std::io;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;

use super::long_head::{HEAD_TOO_LARGE, HEAD_UNBUFFERED, MAX_FIELDS, TOO_MANY_FIELDS};
use super::stream::Exchange;
use crate::telemetry::mask::without_password;
use crate::upstream::budget::Full;
use crate::upstream::error::{CallError, CallErrorKind, ConnectFailure};
use crate::upstream::session::Session;

impl Exchange<'_> {
    /// Reads one header section. Returns `false` if it was an interim response.
    pub(super) async fn read_one_header(&mut self) -> Result<bool, Box<Error>> {
        let deadline = self.header_deadline;
        let reading = self.next_header();
        match deadline {
            None => reading.await?,
            Some(at) => tokio::time::timeout_at(at, reading)
                .await
                .map_err(|_| Error::new(ErrorType::ReadTimedout))??,
        }
        let status = self.response().map(|(status, _)| status);
        Ok(status.is_none_or(|status| {
            !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
        }))
    }

    /// Rejects ambiguous framing (RFC 9112 §6.3) and a protocol switch that was not requested. Conflicting lengths
    /// were already rejected when the head was read.
    pub(super) fn check_header(&mut self) -> Result<(), CallError> {
        let response = match &self.session {
            // It was read only because its framing has one meaning.
            Some(Session::FastPath(_)) => return Ok(()),
            Some(Session::Pingora(session)) => session.response_header(),
            None => None,
        };
        let Some(response) = response else {
            return Err(CallError::truncated());
        };
        let coded = response.headers.contains_key(TRANSFER_ENCODING);
        let doubt = if response.status == StatusCode::SWITCHING_PROTOCOLS {
            Some("net/http: unexpected 101 Switching Protocols response")
        } else if coded && !is_plainly_chunked(response) {
            Some("net/http: unsupported transfer encoding")
        } else {
            None
        };
        if response.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && self
                .place()
                .is_some_and(|place| place.route.forward().is_some())
        {
            // RFC 9110 §11.7.1: it is about the connection to the proxy, of which the client knows nothing.
            let text = "407 Proxy Authentication Required";
            let rejected = CallError::no_connection(ConnectFailure::Other, text);
            let error = self.failed(rejected.through(true));
            self.session = None;
            return Err(error);
        }
        let collapsed = collapsed(self.fields.as_deref().unwrap_or(&response.headers));
        if let Some(text) = doubt {
            let error = self.failed(CallError::framing(text));
            self.session = None;
            return Err(error);
        }
        if coded && self.raw_length() {
            self.spoil(
                "sent Content-Length together with Transfer-Encoding, which takes precedence",
            );
        }
        if collapsed.is_some() {
            self.fields = collapsed;
        }
        Ok(())
    }

    /// The error for a head that could not be read.
    pub(super) fn head_error(&self, error: &Error) -> CallError {
        // Pingora reports its own limit only in its error text.
        let beyond = |text: &str| text.starts_with("Response header larger than");
        let context = error.context.as_ref();
        if *error.etype() == HEAD_TOO_LARGE || context.is_some_and(|text| beyond(text.as_str())) {
            let most = self.client.settings.max_response_header_bytes;
            let text = format!("net/http: server response headers exceeded {most} bytes; aborted");
            return CallError::new(CallErrorKind::TooLarge, text);
        }
        if *error.etype() == TOO_MANY_FIELDS {
            let text =
                format!("net/http: server response has more than {MAX_FIELDS} headers; aborted");
            return CallError::new(CallErrorKind::TooLarge, text);
        }
        if is_unbuffered(error) {
            return CallError::full(Full);
        }
        CallError::header(error)
    }

    /// Prevents the connection from being reused, and logs why.
    fn spoil(&mut self, what: &'static str) {
        self.spoiled = true;
        let url = without_password(self.host_url());
        log::warn!("[SERVICE: Gateway] {url} {what} (RFC 9112 §6.3); its connection is closed");
    }

    /// Marks the response body as complete. Surplus bytes after it belong to no response.
    pub(super) fn end_response(&mut self) {
        self.body_done = true;
        if let Some(trip) = &mut self.trip {
            trip.read_whole();
        }
        if !self.spoiled && self.has_surplus() {
            self.spoil("sent more bytes than its response has");
        }
    }

    /// Whether the raw head has a `Content-Length`. Pingora removes it if there is a `Transfer-Encoding`.
    fn raw_length(&self) -> bool {
        let Some(session) = self.session.as_ref().and_then(Session::http1) else {
            return false;
        };
        let name = CONTENT_LENGTH.as_str().as_bytes();
        session
            .get_headers_raw_bytes()
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.get(..name.len()))
            .any(|start| start.eq_ignore_ascii_case(name))
    }

    fn has_surplus(&mut self) -> bool {
        if self.client.settings.disable_keep_alives {
            return false;
        }
        let bodiless = self.head.method == Method::HEAD;
        match self.session.as_mut() {
            Some(Session::FastPath(session)) => session.has_surplus(),
            Some(Session::Pingora(session)) => match &mut **session {
                HttpSession::H1(session) => has_surplus(session, bodiless),
                _ => false,
            },
            None => false,
        }
    }
}

/// Whether the upstream sent more bytes than the response has, to a HEAD request (`bodiless`) or to another one.
/// Pingora does not report this, but does not keep such a connection, although nothing else prevents it.
pub(crate) fn has_surplus(session: &mut Http1, bodiless: bool) -> bool {
    let keepable = session.resp_header().is_some_and(|response| {
        let headers = &response.headers;
        let framed =
            headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        let bodiless = bodiless || matches!(response.status.as_u16(), 204 | 304);
        let mut connection = headers.get_all(CONNECTION).iter();
        let keeps = connection.all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
        response.version == Version::HTTP_11 && keeps && (framed || bodiless)
    });
    if !keepable {
        return false;
    }
    session.respect_keepalive();
    !session.will_keepalive()
}

/// The headers with a single `Content-Length`, if it was repeated with equal values in several lines or in one (RFC
/// 9110 §8.6).
fn collapsed(headers: &HeaderMap) -> Option<Box<HeaderMap>> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next()?;
    let alone = lengths.next().is_none() && memchr::memchr(b',', first.as_bytes()).is_none();
    if alone {
        return None;
    }
    let text = first.to_str().ok()?.split(',').next()?.trim();
    let length: u64 = text.parse().ok()?;
    let mut headers = headers.clone();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Some(Box::new(headers))
}

/// Whether the only transfer coding is `chunked`, which HTTP/1.0 does not have. With any other coding the end of the
/// body would be a guess (RFC 9112 §6.1).
fn is_plainly_chunked(response: &ResponseHeader) -> bool {
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|coding| {
        coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    });
    chunked && codings.next().is_none() && response.version != Version::HTTP_10
}

/// Whether the budget of memory has no space for a head.
pub(super) fn is_unbuffered(error: &Error) -> bool {
    let by_link = error.root_cause().downcast_ref::<io::Error>();
    *error.etype() == HEAD_UNBUFFERED
        || by_link.is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
}
