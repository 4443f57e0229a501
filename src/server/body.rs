//! Reading a request's body whole, bounded.

use bytes::Bytes;
use http::{Version, header};
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;

use crate::upstream::collect::{Collector, Overflow};

/// Why a body was not had.
#[derive(Debug)]
pub enum BodyError {
    /// More than the limit, announced or sent: 413, and the connection ends.
    TooLarge,
    /// The process holds as many bytes of bodies as it may: 503.
    Full,
    /// Chunks that are none.
    Malformed,
    /// The client paused for longer than `read_timeout`.
    Slow,
    /// The connection broke.
    Gone(Box<Error>),
}

/// Reads the body of the session's request, answering `Expect: 100-continue` first.
///
/// # Errors
/// A body above `most` bytes is refused before it is buffered, by its announced length where it has one.
pub async fn read(session: &mut Session, most: u64) -> Result<Bytes, BodyError> {
    if session.as_downstream_mut().is_body_empty() {
        return Ok(Bytes::new());
    }
    let headers = &session.req_header().headers;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(BodyError::TooLarge);
    }
    ask_for_it(session).await.map_err(BodyError::Gone)?;
    let Some(first) = next(session).await? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 > most {
        return Err(BodyError::TooLarge);
    }
    // The usual small body is one chunk: it is handed on as it came.
    let Some(second) = next(session).await? else {
        return Ok(first);
    };
    let expected = announced.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut whole = Collector::new(expected.max(first.len() + second.len()), most, 1);
    whole.push(&first)?;
    let mut chunk = Some(second);
    while let Some(bytes) = chunk {
        whole.push(&bytes)?;
        chunk = next(session).await?;
    }
    Ok(whole.done())
}

impl From<Overflow> for BodyError {
    fn from(overflow: Overflow) -> BodyError {
        match overflow {
            Overflow::TooLarge => BodyError::TooLarge,
            Overflow::Full => BodyError::Full,
        }
    }
}

/// Tells a client that waits for `100 Continue` to go on. HTTP/1.0 does not know it, whatever the client sent (RFC 9110
/// §10.1.1).
///
/// # Errors
/// When the client cannot be written to.
pub async fn ask_for_it(session: &mut Session) -> Result<(), Box<Error>> {
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
    // Otherwise the interim answer would mark the connection for closing.
    downstream.set_close_on_response_before_downstream_finish(false);
    let written = downstream.write_continue_response().await;
    downstream.set_close_on_response_before_downstream_finish(true);
    written
}

async fn next(session: &mut Session) -> Result<Option<Bytes>, BodyError> {
    session
        .read_request_body()
        .await
        .map_err(|error| match error.etype() {
            ErrorType::ReadTimedout => BodyError::Slow,
            _ if is_malformed(&error) => BodyError::Malformed,
            _ => BodyError::Gone(error),
        })
}

/// Whether reading a body failed because the client sent something that is no body.
pub fn is_malformed(error: &Error) -> bool {
    let by_us = error.root_cause().downcast_ref::<std::io::Error>();
    by_us.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
        || matches!(
            error.etype(),
            ErrorType::InvalidHTTPHeader | ErrorType::Custom(_)
        )
}
