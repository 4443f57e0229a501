//! Reads the whole body of a request, within a limit.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;

use crate::runtime::failure::{Failure, Kind};
use crate::server::client::unread;
use crate::upstream::budget::{Full, SMALL};
use crate::upstream::collect::{Overflow, Pieces, whole};
use crate::upstream::content_length;

/// The size of the buffer that a connection reads bodies into.
const CONNECTION_BUFFER: usize = 64 * 1024;

/// Reads the body of the request. Sends `100 Continue` first if the client waits for it. `silence`: see [`in_time`].
///
/// # Errors
/// A body of more than `most` bytes is rejected before it is buffered, if it announces its length.
pub(super) async fn read(
    session: &mut Session,
    most: u64,
    silence: Option<Duration>,
) -> Result<Bytes, Failure> {
    if session.as_downstream_mut().is_body_empty() {
        return Ok(Bytes::new());
    }
    let announced = content_length(&session.req_header().headers);
    if announced.is_some_and(|length| length > most) {
        return Err(ClientBody::overflow(Overflow::TooLarge, most));
    }
    let asked = ask_for_it(session).await;
    asked.map_err(|error| unread(&error))?;
    whole(&mut ClientBody { session, silence }, announced, most, 1).await
}

/// Limits one read of a body over HTTP/2 to `silence` (`read_timeout`). Pingora has this limit only for HTTP/1.
///
/// # Errors
/// Those of `read`, or the client is silent for too long.
pub(super) async fn in_time<T>(
    silence: Duration,
    read: impl Future<Output = Result<T, Box<Error>>>,
) -> Result<T, Box<Error>> {
    match pingora_timeout::timeout(silence, read).await {
        Ok(read) => read,
        Err(_) => Error::e_explain(ErrorType::ReadTimedout, "the client is silent"),
    }
}

/// The body of a request that is read whole.
struct ClientBody<'s> {
    session: &'s mut Session,
    silence: Option<Duration>,
}

/// A body above its limit.
pub(super) fn too_large() -> Failure {
    Failure::new(Kind::BodyTooLarge, "the body is too large")
}

impl Pieces for ClientBody<'_> {
    type Error = Failure;

    const KEEPS_BUFFER: bool = true;

    /// Thousands of clients may each send a few kilobytes and stop. What they have sent is also in the buffer of their
    /// connection.
    fn charged(length: usize, _: usize) -> usize {
        if length > SMALL {
            length + length.min(CONNECTION_BUFFER)
        } else {
            0
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let read = match self.silence {
            None => self.session.read_request_body().await,
            Some(silence) => Box::pin(in_time(silence, self.session.read_request_body())).await,
        };
        read.map_err(|error| unread(&error))
    }

    fn overflow(overflow: Overflow, _: u64) -> Failure {
        match overflow {
            Overflow::TooLarge => too_large(),
            Overflow::Full => Failure::new(Kind::BodyUnbuffered, Full.to_string()),
        }
    }
}

/// What a client expects before it sends its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    Nothing,
    /// `100 Continue`.
    Continue,
    /// Something that the gateway cannot meet.
    Unknown,
}

/// Reads `Expect`, which few requests have.
#[inline]
pub(super) fn expectation(headers: &HeaderMap) -> Expectation {
    if headers.contains_key(header::EXPECT) {
        listed(headers)
    } else {
        Expectation::Nothing
    }
}

/// `Expect` is a list (RFC 9110 §10.1.1). Empty members count for nothing (§5.6.1.2).
#[cold]
fn listed(headers: &HeaderMap) -> Expectation {
    let values = headers.get_all(header::EXPECT).iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut found = Expectation::Nothing;
    for member in members.map(<[u8]>::trim_ascii) {
        if member.eq_ignore_ascii_case(b"100-continue") {
            found = Expectation::Continue;
        } else if !member.is_empty() {
            return Expectation::Unknown;
        }
    }
    found
}

/// Sends `100 Continue` to a client that waits for it. HTTP/1.0 does not have it, whatever the client sent (RFC 9110
/// §10.1.1).
///
/// # Errors
/// Writing to the client failed.
pub(super) async fn ask_for_it(session: &mut Session) -> Result<(), Box<Error>> {
    let request = session.req_header();
    let waits = request.version != Version::HTTP_10
        && expectation(&request.headers) == Expectation::Continue;
    if !waits {
        return Ok(());
    }
    let downstream = session.as_downstream_mut();
    // Otherwise the interim response would mark the connection for closing.
    downstream.set_close_on_response_before_downstream_finish(false);
    let written = downstream.write_continue_response().await;
    downstream.set_close_on_response_before_downstream_finish(true);
    written
}

/// Whether reading a body failed because the client stopped sending, or because another client needed its place.
pub(super) fn is_slow(error: &Error) -> bool {
    *error.etype() == ErrorType::ReadTimedout || io_kind(error) == Some(ErrorKind::TimedOut)
}

/// The reason of our own connection for a failed read.
fn io_kind(error: &Error) -> Option<ErrorKind> {
    let by_us = error.root_cause().downcast_ref::<std::io::Error>();
    by_us.map(std::io::Error::kind)
}

/// Whether reading a body failed because the client sent something that is not a body.
pub(super) fn is_malformed(error: &Error) -> bool {
    io_kind(error) == Some(ErrorKind::InvalidData)
        || matches!(
            error.etype(),
            ErrorType::InvalidHTTPHeader | ErrorType::Custom(_)
        )
}
