//! A client's request of the usual form: HTTP/1.1 without a body, an upgrade or `Expect`.
//!
//! Pingora's session checks a head again that the front loop has checked, keeps it in two maps, and is made anew for
//! each request. For such a request that is a quarter of all the work. A [`FastSession`] is the session that Pingora
//! gets instead. It uses the head as the front loop has left it. All other requests are read by Pingora's own session.

mod wire;

use std::cell::Cell;
use std::io::Cursor;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{CONNECTION, DATE, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as CustomSession;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use self::wire::Rest;
use crate::server::conn::Conn;
use crate::server::head::{BodyFraming, HeadFacts};
use crate::upstream::spare_map;

pub(super) use self::wire::Wire;

/// More headers are not usual.
const MAX_FIELDS: usize = 64;
/// The room for the head of a response. Most heads fit.
const HEAD_BYTES: usize = 512;
/// The room of a longer head is not kept.
const MAX_KEPT_HEAD: usize = 4096;

thread_local! {
    /// The frame that Pingora puts around a session, between two requests.
    static FRAME: Cell<Option<Box<Session>>> = const { Cell::new(None) };
    /// Room for the head of a response, while none is written.
    static HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Marks a request as the last one of its connection.
#[derive(Debug, Clone, Copy)]
struct Last;

/// Ends the connection of a client after the current response.
pub(super) fn end_connection(session: &mut Session) {
    match session.as_downstream_mut() {
        ServerSession::Custom(session) => {
            session.req_header_mut().extensions_mut().insert(Last);
        }
        session => session.set_keepalive(None),
    }
}

fn is_last(head: &RequestHeader) -> bool {
    head.extensions.get::<Last>().is_some()
}

/// The head of a usual request, or the bytes of one that is not. `request` was accepted by the front loop with these
/// `facts`.
pub(super) fn head(
    request: BytesMut,
    facts: &HeadFacts,
) -> std::result::Result<RequestHeader, BytesMut> {
    let is_usual = facts.simple
        && facts.body == BodyFraming::None
        && !facts.raw_target
        && facts.fields <= MAX_FIELDS;
    if !is_usual {
        return Err(request);
    }
    let request = request.freeze();
    read_head(&request, facts.fields).ok_or_else(|| request.into())
}

/// Each line was checked before. `None` for `CONNECT`, and for a target that a [`Uri`] does not hold as it is.
fn read_head(bytes: &Bytes, fields: usize) -> Option<RequestHeader> {
    let mut head = http::Request::new(()).into_parts().0;
    let mut lines = memchr::memchr_iter(b'\n', bytes);
    let first = lines.next()?;
    let mut words = bytes.get(..first)?.split(|byte| *byte == b' ');
    head.method = Method::from_bytes(words.next()?).ok()?;
    if head.method == Method::CONNECT {
        return None;
    }
    let target = words.next()?;
    let path = PathAndQuery::from_maybe_shared(bytes.slice_ref(target)).ok()?;
    if path.as_str().as_bytes() != target || !target.is_ascii() {
        return None;
    }
    head.uri = Uri::from(path);
    head.headers = HeaderMap::with_capacity(fields);
    let mut start = first + 1;
    for end in lines {
        let line = bytes.get(start..end)?.trim_ascii_end();
        start = end + 1;
        let Some(colon) = memchr::memchr(b':', line) else {
            break;
        };
        let (name, value) = line.split_at_checked(colon)?;
        let value = bytes.slice_ref(value.get(1..)?.trim_ascii_start());
        let name = HeaderName::from_bytes(name).ok()?;
        head.headers
            .append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(RequestHeader::from(head))
}

/// A session of Pingora for the request with this head on `conn`.
pub(super) fn begin(wire: &Wire, conn: Box<Conn>, head: RequestHeader) -> Box<Session> {
    wire.begin(conn);
    let fast = FastSession {
        head,
        response: None,
        wire: wire.clone(),
    };
    let mut session = FRAME
        .take()
        .unwrap_or_else(|| Box::new(Session::new_h1(Box::new(Cursor::new(Vec::new())))));
    *session.downstream_session = ServerSession::new_custom(Box::new(fast));
    session
}

/// Ends a request that [`begin`] has begun. Returns whether another one may follow.
pub(super) fn end(mut session: Box<Session>) -> bool {
    let keeps = !is_last(session.req_header());
    // A session for nobody. The frame must not keep the head of a request.
    *session.downstream_session = ServerSession::new_custom(Box::new(()));
    let _ = FRAME.try_with(|frame| frame.set(Some(session)));
    keeps
}

/// Continues after the protocol was switched, without Pingora's session: its buffers would stay as long as the tunnel is
/// open. Returns the connection, and what the client has already sent. `None`: the client has closed it.
pub(super) fn tunnel(session: &mut Session) -> Option<(Wire, Bytes)> {
    // Returns at once what the session has already read.
    let early = session.as_downstream_mut().read_body_or_idle(false);
    let early = match early.now_or_never() {
        None => Bytes::new(),
        Some(read) => read.ok()??,
    };
    let http1 = session.as_http1()?;
    let conn = (**http1.stream()).as_any().downcast_ref::<Conn>()?;
    let wire = Wire::new(conn, http1.get_write_timeout());
    let fast = FastSession {
        head: http1.req_header().clone(),
        response: http1.response_written().cloned().map(Box::new),
        wire: wire.clone(),
    };
    let fast = ServerSession::new_custom(Box::new(fast));
    if let ServerSession::H1(http1) = std::mem::replace(&mut *session.downstream_session, fast) {
        let received = http1.body_bytes_read() as u64;
        let conn = http1.into_inner().into_any().downcast().ok()?;
        wire.begin_tunnel(conn, received);
    }
    Some((wire, early))
}

/// The session of a usual request, or of a tunnel.
struct FastSession {
    head: RequestHeader,
    /// The head of the response, once it was written.
    response: Option<Box<ResponseHeader>>,
    wire: Wire,
}

impl Drop for FastSession {
    fn drop(&mut self) {
        if let Some(head) = self.response.take() {
            spare_map::keep(http::response::Parts::from(*head).headers);
        }
    }
}

impl FastSession {
    fn socket(&self) -> Option<&SocketDigest> {
        self.wire.digest().socket_digest.as_deref()
    }
}

/// Writes the bytes of a head, with the headers that Pingora adds.
fn put_head(head: &mut ResponseHeader, keeps: bool, out: &mut Vec<u8>) -> Result<()> {
    let date = get_cached_date();
    let connection = if keeps { "keep-alive" } else { "close" };
    // They are written without a detour through the map, unless they replace others.
    let replaces = head
        .headers
        .keys()
        .any(|name| [DATE, CONNECTION].contains(name));
    if replaces {
        head.insert_header(DATE, date.clone())?;
        head.insert_header(CONNECTION, HeaderValue::from_static(connection))?;
    }
    out.clear();
    out.reserve(HEAD_BYTES);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    let reason = head.get_reason_phrase().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    head.header_to_h1_wire(out);
    if !replaces {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\nConnection: ");
        out.extend_from_slice(connection.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The error of what a usual request does not do.
fn unusual<T>() -> Result<T> {
    Error::e_explain(ErrorType::InternalError, "not for a usual request")
}

#[async_trait]
impl CustomSession for FastSession {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn write_response_header(
        &mut self,
        mut head: Box<ResponseHeader>,
        _: bool,
    ) -> Result<()> {
        if head.status.is_informational() {
            return unusual();
        }
        if self.response.is_some() {
            return Ok(());
        }
        let rest = Rest::after(&self.head.method, head.status, &head.headers);
        let keeps = !is_last(&self.head) && rest != Rest::UntilClose;
        let mut bytes = HEAD.take();
        put_head(&mut head, keeps, &mut bytes)?;
        self.wire.write_head(&bytes, rest).await?;
        if bytes.capacity() <= MAX_KEPT_HEAD {
            HEAD.set(bytes);
        }
        self.response = Some(head);
        Ok(())
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end)
            .await
    }

    async fn write_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        self.wire.put(&piece, end).await
    }

    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.wire.end().await
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.wire.shutdown().await;
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    fn body_bytes_sent(&self) -> usize {
        usize::try_from(self.wire.body_bytes()).unwrap_or(usize::MAX)
    }

    fn digest(&self) -> Option<&Digest> {
        Some(self.wire.digest())
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.socket()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.socket()?.local_addr()
    }

    fn request_summary(&self) -> String {
        self.head.method.to_string()
    }

    // The request has no body.

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn read_body_or_idle(&mut self, _: bool) -> Result<Option<Bytes>> {
        Err(self.wire.closed().await)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_done(&mut self) -> bool {
        true
    }

    fn is_body_empty(&mut self) -> bool {
        true
    }

    fn body_bytes_read(&self) -> usize {
        usize::try_from(self.wire.received()).unwrap_or(usize::MAX)
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    // The timeouts are those of the connection.

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        self.wire.write_timeout()
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    // Only for Pingora's way to an upstream and for other protocols.

    async fn response_duplex_vec(&mut self, _: Vec<HttpTask>) -> Result<bool> {
        unusual()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }

    fn restore_custom_message_reader(&mut self, _: MessageReader) -> Result<()> {
        unusual()
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        unusual()
    }
}

type MessageReader = Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync>;

#[cfg(test)]
mod tests;
