//! An HTTP/1 exchange of the usual form: a request without a body, and a response that announces the length of its body.
//!
//! Pingora's session keeps each head in two maps and reads each body through a buffer of 64 KiB. For most calls that costs
//! as much as everything else on the side of the upstream. A [`FastPath`] reads only the usual form. Whatever else comes is
//! read again by Pingora's session, from its first byte.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use httparse::{ParserConfig, Status};
use pingora_core::protocols::{GetTimingDigest, TimingDigest};
use pingora_core::{Error, ErrorType, RetryType};
use tokio::io::AsyncReadExt;

use super::link::Link;
use super::{read_buffer, spare_map};

/// A longer head is not usual.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// The number of headers that the gateway adds to those of a response: they need no larger map.
const MAX_ADDED: usize = 5;
/// The room for the pieces of a body that come after the head.
const PIECE_BYTES: usize = 64 * 1024;
/// The same if the piece waits until a client of HTTP/2 reads, who may have many streams: the usual size of a frame (RFC 9113
/// section 4.2).
pub(crate) const PASSED_BYTES: usize = 16 * 1024;
/// More digits of a `Content-Length` are not usual.
const MAX_DIGITS: usize = 15;

/// A connection while it serves one exchange.
pub(super) struct FastPath {
    link: Box<Link>,
    /// What was read: the head as far as it has come, later a piece of the body.
    read: BytesMut,
    response: Option<(StatusCode, HeaderMap)>,
    head_bytes: usize,
    /// The part of the body that came with the head.
    early: Bytes,
    /// That part while it is lent.
    lent: Bytes,
    /// The number of bytes of the body that were not handed out.
    left: u64,
    /// The upstream sent more than the response has.
    surplus: bool,
}

/// What was read of a head.
enum Head {
    Incomplete,
    Unusual,
    Usual(Parts),
}

/// The parts of a usual response.
struct Parts {
    status: StatusCode,
    headers: HeaderMap,
    head_bytes: usize,
    body_bytes: u64,
}

impl FastPath {
    pub(super) fn new(link: Box<Link>) -> FastPath {
        FastPath {
            link,
            read: BytesMut::new(),
            response: None,
            head_bytes: 0,
            early: Bytes::new(),
            lent: Bytes::new(),
            left: 0,
            surplus: false,
        }
    }

    /// When the layers of the connection were established.
    pub(super) fn times(&self) -> Vec<Option<TimingDigest>> {
        self.link.get_timing_digest()
    }

    /// Makes the head of the request with `fill`, which returns `None` if it cannot.
    pub(super) fn prepare(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
        self.link
            .prepare_own(|out| fill(out).is_some())
            .then_some(())
    }

    /// Sends the prepared head.
    pub(super) async fn send(&mut self) -> Result<(), Box<Error>> {
        poll_fn(|cx| self.link.poll_send(cx))
            .await
            .map_err(|error| {
                Error::because(
                    ErrorType::WriteError,
                    "while writing request headers",
                    error,
                )
            })
    }

    /// Reads the head of the response. `false`: it is not usual. `by_head`: the method of the request is HEAD.
    ///
    /// May be cancelled and called again.
    pub(super) async fn read_head(&mut self, by_head: bool) -> Result<bool, Box<Error>> {
        loop {
            let already = self.read.len();
            if already > MAX_HEAD_BYTES {
                return Ok(false);
            }
            match read_buffer::read(&mut *self.link, &mut self.read).await {
                Ok(0) => return Err(closed(already)),
                Ok(_) => {}
                Err(error) => return Err(broken(already, error)),
            }
            if let Some(is_usual) = self.parse(by_head) {
                return Ok(is_usual);
            }
        }
    }

    /// Whether the head is usual. `None`: more of it has to come.
    fn parse(&mut self, by_head: bool) -> Option<bool> {
        let bytes = std::mem::take(&mut self.read).freeze();
        let is_usual = match parse(&bytes, by_head) {
            Head::Usual(parts) => {
                self.head_bytes = parts.head_bytes;
                self.left = parts.body_bytes;
                self.early = bytes;
                bytes::Buf::advance(&mut self.early, parts.head_bytes);
                self.response = Some((parts.status, parts.headers));
                return Some(true);
            }
            Head::Unusual => Some(false),
            Head::Incomplete => None,
        };
        self.read = BytesMut::from(bytes);
        is_usual
    }

    /// Status and headers of the response, after they were read.
    pub(super) fn response(&self) -> Option<(StatusCode, &HeaderMap)> {
        let (status, headers) = self.response.as_ref()?;
        Some((*status, headers))
    }

    /// Takes the headers of the response, which has none afterwards.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        let headers = self.response.as_mut().map(|(_, headers)| headers);
        headers.map(std::mem::take).unwrap_or_default()
    }

    /// The length of the head of the response.
    pub(super) fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// The number of bytes of the body that were not handed out.
    pub(super) fn body_bytes(&self) -> u64 {
        self.left
    }

    /// Whether the whole body was handed out.
    pub(super) fn is_done(&self) -> bool {
        self.response.is_some() && self.left == 0
    }

    /// Whether the upstream sent more bytes than the response has.
    pub(super) fn has_surplus(&self) -> bool {
        self.surplus
    }

    /// The next piece of the body, or `None` after the last one.
    pub(super) async fn read_slice(&mut self) -> Result<Option<&[u8]>, Box<Error>> {
        if self.left == 0 {
            return Ok(None);
        }
        if let Some(early) = self.take_early() {
            self.lent = early;
            return Ok(Some(&self.lent));
        }
        let count = self.more(PIECE_BYTES).await?;
        Ok(self.read.get(..count))
    }

    /// The next piece of the body, as bytes of their own. It may be large if it is `collected` at once, and not kept until
    /// the client reads it.
    pub(super) async fn read_piece(
        &mut self,
        collected: bool,
    ) -> Result<Option<Bytes>, Box<Error>> {
        if self.left == 0 {
            return Ok(None);
        }
        if let Some(early) = self.take_early() {
            return Ok(Some(early));
        }
        let most = if collected { PIECE_BYTES } else { PASSED_BYTES };
        let count = self.more(most).await?;
        self.read.truncate(count);
        // Without a copy, and without a buffer that stays.
        Ok(Some(std::mem::take(&mut self.read).freeze()))
    }

    /// Hands out the part of the body that came with the head.
    fn take_early(&mut self) -> Option<Bytes> {
        let early = std::mem::take(&mut self.early);
        self.left -= early.len() as u64;
        (!early.is_empty()).then_some(early)
    }

    /// Reads once, at most `most` bytes. Returns how many of the bytes belong to the body.
    async fn more(&mut self, most: usize) -> Result<usize, Box<Error>> {
        self.read.clear();
        // One byte more shows whether the upstream sends too much.
        let capacity = usize::try_from(self.left + 1).map_or(most, |left| left.min(most));
        if self.read.capacity() < capacity {
            self.read = BytesMut::with_capacity(capacity);
        }
        let count =
            self.link.read_buf(&mut self.read).await.map_err(|error| {
                Error::because(ErrorType::ReadError, "when reading body", error)
            })?;
        if count == 0 {
            let text = "the connection was closed before the end of the body";
            return Err(Error::explain(ErrorType::ConnectionClosed, text));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        self.surplus = count > most;
        let count = count.min(most);
        self.left -= count as u64;
        Ok(count)
    }

    /// The connection after the exchange, and whether it can serve another one.
    pub(super) fn end(self) -> (Box<Link>, bool) {
        let is_reusable = self.is_done() && !self.surplus;
        (self.link, is_reusable)
    }

    /// The connection. What was read of a head is read from it again.
    pub(super) fn into_link(mut self) -> Box<Link> {
        if !self.read.is_empty() {
            self.link.replay(self.read);
        }
        self.link
    }
}

fn closed(already: usize) -> Box<Error> {
    let text = format!("while reading response headers, bytes already read: {already}");
    let mut error = Error::explain(ErrorType::ConnectionClosed, text);
    error.retry = RetryType::ReusedOnly;
    error
}

/// The same kinds as in Pingora: an error of the system on a connection that was used before may be due to its age.
fn broken(already: usize, error: io::Error) -> Box<Error> {
    let is_of_system = error.raw_os_error().is_some();
    let text = format!("while reading response headers, bytes already read: {already}");
    let mut error = Error::because(ErrorType::ReadError, text, error);
    if is_of_system {
        error.retry = RetryType::ReusedOnly;
    }
    error
}

/// Reads the head of a response. Folded lines and spaces before a colon are not usual.
fn parse(bytes: &Bytes, by_head: bool) -> Head {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
        Ok(Status::Partial) => Head::Incomplete,
        Ok(Status::Complete(head_bytes)) => {
            parts(bytes, &response, head_bytes, by_head).map_or(Head::Unusual, Head::Usual)
        }
        Err(_) => Head::Unusual,
    }
}

/// The parts of a response whose head is complete, if it is usual.
fn parts(
    bytes: &Bytes,
    response: &httparse::Response<'_, '_>,
    head_bytes: usize,
    by_head: bool,
) -> Option<Parts> {
    let status = StatusCode::from_u16(response.code?).ok()?;
    if response.version != Some(1) || status.is_informational() {
        return None;
    }
    let mut headers = spare_map::header_map(response.headers.len() + MAX_ADDED);
    let mut length = None;
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        match name {
            CONTENT_LENGTH if length.is_some() => return None,
            CONTENT_LENGTH => length = Some(decimal(field.value)?),
            CONNECTION if field.value.eq_ignore_ascii_case(b"keep-alive") => {}
            CONNECTION | TRANSFER_ENCODING | UPGRADE => return None,
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        headers.append(name, value);
    }
    // RFC 9112 section 6.3.
    let is_bodiless = by_head || matches!(status.as_u16(), 204 | 304);
    let body_bytes = if is_bodiless { 0 } else { length? };
    // No byte after the head is beyond its body.
    ((bytes.len() - head_bytes) as u64 <= body_bytes).then_some(Parts {
        status,
        headers,
        head_bytes,
        body_bytes,
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    let digit = |sum: u64, byte: &u8| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    };
    text.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests;
