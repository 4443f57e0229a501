//! Reads the whole body of a request, within a limit.

use std::io::ErrorKind;

use bytes::Bytes;
use http::{Version, header};
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;

use crate::runtime::failure::{Failure, Kind};
use crate::server::client::unread;
use crate::upstream::budget::{Full, SMALL};
use crate::upstream::collect::{Overflow, Pieces, whole};
use crate::upstream::content_length;

/// The size of the buffer that a connection reads bodies into.
const CONNECTION_BUFFER: usize = 64 * 1024;

/// Reads the body of the request. Sends `100 Continue` first if the client waits for it.
///
/// # Errors
/// A body of more than `most` bytes is rejected before it is buffered, if it announces its length.
pub(super) async fn read(session: &mut Session, most: u64) -> Result<Bytes, Failure> {
    if session.as_downstream_mut().is_body_empty() {
        return Ok(Bytes::new());
    }
    let announced = content_length(&session.req_header().headers);
    if announced.is_some_and(|length| length > most) {
        return Err(Session::overflow(Overflow::TooLarge, most));
    }
    let asked = ask_for_it(session).await;
    asked.map_err(|error| unread(&error))?;
    whole(session, announced, most, 1).await
}

/// A body above its limit.
pub(super) fn too_large() -> Failure {
    Failure::new(Kind::BodyTooLarge, "the body is too large")
}

impl Pieces for Session {
    type Error = Failure;

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
        let read = self.read_request_body().await;
        read.map_err(|error| unread(&error))
    }

    fn overflow(overflow: Overflow, _: u64) -> Failure {
        match overflow {
            Overflow::TooLarge => too_large(),
            Overflow::Full => Failure::new(Kind::BodyUnbuffered, Full.to_string()),
        }
    }
}

/// Sends `100 Continue` to a client that waits for it. HTTP/1.0 does not have it, whatever the client sent (RFC 9110
/// §10.1.1).
///
/// # Errors
/// Writing to the client failed.
pub(super) async fn ask_for_it(session: &mut Session) -> Result<(), Box<Error>> {
    let request = session.req_header();
    let waits = request.version != Version::HTTP_10
        && request
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
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
