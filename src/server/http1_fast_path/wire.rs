//! The connection of a client, as requests of the usual form use it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::poll_fn;
use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use pingora_core::protocols::{Digest, GetSocketDigest, Ssl};
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::server::conn::Conn;
use crate::upstream::{content_length, read_buffer, within};

/// Pieces of a body without a length are sent together up to this size if nothing waits between them.
const HELD: usize = 16 << 10;

/// What is left to write of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Its head, and then a body.
    Head,
    /// So many bytes.
    Length(u64),
    /// Chunks up to an empty one.
    Chunks,
    /// Bytes up to the end of the connection.
    UntilClose,
    /// The same after the protocol was switched: each piece is sent at once.
    Tunnel,
    Nothing,
}

impl Rest {
    /// The body after a head (RFC 9112 §6.3).
    pub(super) fn after(method: &Method, status: StatusCode, headers: &HeaderMap) -> Rest {
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        if bodiless || *method == Method::HEAD {
            return Rest::Length(0);
        }
        if let Some(codings) = headers.get(TRANSFER_ENCODING) {
            let last = codings.as_bytes().rsplit(|byte| *byte == b',').next();
            let last = last.unwrap_or_default().trim_ascii();
            if last.eq_ignore_ascii_case(b"chunked") {
                return Rest::Chunks;
            }
        }
        content_length(headers).map_or(Rest::UntilClose, Rest::Length)
    }
}

/// A connection and its current response. The session of a request and the pipeline both write to it, one after the
/// other: Pingora gives a session of another kind only whole buffers, and the pipeline lends its own.
#[derive(Debug, Clone)]
pub(in crate::server) struct Wire(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    digest: Digest,
    write_timeout: Option<Duration>,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    /// `None` between two requests.
    conn: Option<Box<Conn>>,
    rest: Rest,
    /// What is written together with the next data, or before the response waits.
    held: BytesMut,
    body_bytes: u64,
    /// Of a tunnel: how many bytes the client has sent, and whether it sends much.
    received: u64,
    flows: bool,
}

impl Line {
    fn new(conn: Option<Box<Conn>>, rest: Rest) -> Line {
        Line {
            conn,
            rest,
            held: BytesMut::new(),
            body_bytes: 0,
            received: 0,
            flows: false,
        }
    }

    fn conn(&mut self) -> io::Result<Pin<&mut Conn>> {
        let conn = self.conn.as_deref_mut();
        conn.map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes what is held, and then `data`.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &mut impl Buf) -> Poll<io::Result<()>> {
        let conn = self.conn.as_deref_mut();
        let conn = conn.ok_or(io::ErrorKind::NotConnected)?;
        let mut all = (&mut self.held).chain(data);
        while all.has_remaining() {
            let mut parts = [io::IoSlice::new(&[]); 4];
            let count = all.chunks_vectored(&mut parts);
            let parts = parts.get(..count).unwrap_or_default();
            match ready!(Pin::new(&mut *conn).poll_write_vectored(cx, parts))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => all.advance(count),
            }
        }
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Writes what is held, as far as the connection takes it at once.
    fn write_held(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        match self.poll_write(cx, &mut Bytes::new()) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    /// The connection ends. A response that breaks off still has the pieces that have come.
    fn write_last(&mut self) {
        // An error shows nowhere: the connection is closed.
        let _ = self.write_held(&mut Context::from_waker(Waker::noop()));
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn()?.poll_flush(cx)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.write_last();
    }
}

impl Wire {
    /// For the requests of `conn`.
    pub(in crate::server) fn new(conn: &Conn, write_timeout: Option<Duration>) -> Wire {
        Wire(Arc::new(Shared {
            digest: Digest {
                ssl_digest: conn.get_ssl_digest(),
                socket_digest: conn.get_socket_digest(),
                ..Digest::default()
            },
            write_timeout,
            line: Mutex::new(Line::new(None, Rest::Nothing)),
        }))
    }

    /// Begins a request on `conn`.
    pub(super) fn begin(&self, conn: Box<Conn>) {
        *self.line() = Line::new(Some(conn), Rest::Head);
    }

    /// Continues on `conn` after its protocol was switched. The client has sent so many bytes since.
    pub(super) fn begin_tunnel(&self, conn: Box<Conn>, received: u64) {
        let mut line = Line::new(Some(conn), Rest::Tunnel);
        line.received = received;
        *self.line() = line;
    }

    /// The next bytes of a tunnel, which are none at the end. May be cancelled.
    pub(in crate::server) async fn read(&self) -> io::Result<Bytes> {
        poll_fn(|cx| {
            let mut line = self.line();
            let mut flows = line.flows;
            let piece = read_buffer::poll_piece(&mut *line.conn()?, cx, &mut flows);
            line.flows = flows;
            if let Poll::Ready(Ok(piece)) = &piece {
                line.received += piece.len() as u64;
            }
            piece
        })
        .await
    }

    /// How many bytes the client has sent into a tunnel.
    pub(super) fn received(&self) -> u64 {
        self.line().received
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing that is done while the lock is held leaves a half-changed state.
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn digest(&self) -> &Digest {
        &self.0.digest
    }

    pub(super) fn write_timeout(&self) -> Option<Duration> {
        self.0.write_timeout
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.line().body_bytes
    }

    /// Writes the head of the response, after which `rest` comes.
    pub(super) async fn write_head(&self, head: &[u8], rest: Rest) -> Result<()> {
        // Pieces of the body may follow at once. Otherwise the wait for the client sends the head.
        let flush = !matches!(rest, Rest::Length(1..) | Rest::Chunks | Rest::UntilClose);
        self.write_data(head, flush).await?;
        self.line().rest = rest;
        Ok(())
    }

    /// Writes a piece of the body, as far as it belongs to the response. `false`: nothing of it does.
    pub(in crate::server) async fn write(&self, piece: &[u8]) -> Result<bool> {
        let rest = self.line().rest;
        match rest {
            Rest::Head | Rest::Nothing | Rest::Length(0) => return Ok(false),
            Rest::Length(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let piece = piece.get(..most).unwrap_or(piece);
                let left = left - piece.len() as u64;
                self.write_data(piece, left == 0).await?;
                self.wrote(piece.len(), Rest::Length(left));
            }
            Rest::Chunks if piece.is_empty() => {}
            Rest::Chunks => {
                let size = format!("{:X}\r\n", piece.len());
                let chunk = size.as_bytes().chain(piece).chain(&b"\r\n"[..]);
                self.hold(chunk).await?;
                self.wrote(piece.len(), rest);
            }
            Rest::UntilClose => {
                self.hold(piece).await?;
                self.wrote(piece.len(), rest);
            }
            Rest::Tunnel => {
                self.write_data(piece, true).await?;
                self.wrote(piece.len(), rest);
            }
        }
        Ok(true)
    }

    /// Writes a piece of the body, which may be the last one.
    pub(in crate::server) async fn put(&self, piece: &[u8], end: bool) -> Result<()> {
        self.write(piece).await?;
        if end { self.end().await } else { Ok(()) }
    }

    fn wrote(&self, count: usize, rest: Rest) {
        let mut line = self.line();
        line.body_bytes += count as u64;
        line.rest = rest;
    }

    /// Ends the body. May be called again.
    ///
    /// # Errors
    /// The response is shorter than it announced.
    pub(in crate::server) async fn end(&self) -> Result<()> {
        let rest = std::mem::replace(&mut self.line().rest, Rest::Nothing);
        match rest {
            Rest::Length(1..) => Error::e_explain(
                ErrorType::ConnectionClosed,
                "the response is shorter than announced",
            ),
            Rest::Chunks => self.write_data(&b"0\r\n\r\n"[..], true).await,
            Rest::UntilClose | Rest::Tunnel => self.write_data(&b""[..], true).await,
            Rest::Length(0) | Rest::Head | Rest::Nothing => Ok(()),
        }
    }

    /// Holds data, or writes it together with what is held.
    async fn hold(&self, data: impl Buf) -> Result<()> {
        {
            let mut line = self.line();
            if line.held.len() + data.remaining() <= HELD {
                line.held.put(data);
                return Ok(());
            }
        }
        self.write_data(data, false).await
    }

    /// Writes data and perhaps sends what is in buffers.
    async fn write_data(&self, mut data: impl Buf, flush: bool) -> Result<()> {
        let writing = poll_fn(|cx| {
            let mut line = self.line();
            ready!(line.poll_write(cx, &mut data))?;
            if flush {
                line.poll_flush(cx)
            } else {
                Poll::Ready(Ok(()))
            }
        });
        let written = match self.0.write_timeout {
            Some(limit) => within(limit, writing).await,
            None => Some(writing.await),
        };
        let written = match written {
            Some(written) => written.or_err(ErrorType::WriteError, "writing to the client"),
            None => Error::e_explain(ErrorType::WriteTimedout, "writing to the client"),
        };
        written.map_err(|error| error.into_down())
    }

    /// Waits until the client closes its connection. It has nothing else to send for this request.
    pub(in crate::server) async fn closed(&self) -> Box<Error> {
        let mut space = [0; 1];
        let mut space = ReadBuf::new(&mut space);
        let read = poll_fn(|cx| {
            let mut line = self.line();
            line.write_held(cx)?;
            line.conn()?.poll_read(cx, &mut space)
        });
        match read.await {
            Ok(()) => Error::explain(ErrorType::ConnectionClosed, "the client has closed it"),
            Err(error) => Error::because(ErrorType::ReadError, "waiting for the response", error),
        }
    }

    /// Ends the request. Returns the connection if another request may follow (`keeps`).
    pub(in crate::server) async fn finish(&self, keeps: bool) -> Option<Box<Conn>> {
        let is_delimited = !matches!(self.line().rest, Rest::UntilClose | Rest::Tunnel);
        let ended = self.end().await;
        let mut conn = self.line().conn.take()?;
        if ended.is_ok() && keeps && is_delimited {
            return Some(conn);
        }
        if ended.is_ok() {
            // The client may have closed it already.
            let _ = conn.shutdown().await;
        }
        None
    }

    /// Closes the connection.
    pub(super) async fn shutdown(&self) {
        let conn = {
            let mut line = self.line();
            line.write_last();
            line.conn.take()
        };
        if let Some(mut conn) = conn {
            let _ = conn.shutdown().await;
        }
    }
}
