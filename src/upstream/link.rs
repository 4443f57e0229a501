//! A connection to an upstream that flushes written data before it waits, and that can return data that was already
//! read.
//!
//! Pingora buffers the pieces of a body of known length until the buffer is full or the body ends. If a client
//! uploads slowly, the upstream would receive nothing for a long time. A [`Link`] sends each piece as soon as there
//! is nothing more to write.
//!
//! An upstream may reject a request without reading its body and keep its connection open. Writing would then wait
//! forever, and the response would not be read. A [`Link`] that cannot write checks for such a response and makes the
//! write fail (RFC 9112 §9.3).
//!
//! Pingora takes a request head as two maps, one for the names and one for the values. Filling them costs as much as a
//! dozen heads written as bytes. So Pingora gets a head that frames the same body and has nothing else, and the [`Link`]
//! writes a prepared head in its place.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::{Charge, SMALL};

/// The number of bytes of a status line up to the first digit of its status.
const STATUS_CLASS_END: usize = "HTTP/1.1 2".len();

/// The room for the next head that an idle connection keeps. Most heads need less.
const MAX_KEPT: usize = 2048;

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Link {
    inner: Stream,
    /// Data that is read before anything else.
    ahead: BytesMut,
    /// Written data is discarded, because it was already sent.
    mute: bool,
    unflushed: bool,
    /// Written in place of the next data. The session that owns the link lends it only for reading, hence the lock.
    /// Its room stays until the next head, which then needs no allocation.
    prepared: Mutex<Prepared>,
    /// The head of a response while Pingora reads it.
    head: Mutex<Option<HeadMeter>>,
}

/// Counts the bytes of a head, and charges them to the budget of memory: the session that collects them does not.
#[derive(Debug, Default)]
struct HeadMeter {
    bytes: usize,
    charge: Charge,
}

impl HeadMeter {
    fn add(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes;
        if self.bytes <= SMALL {
            return Ok(());
        }
        let covered = self.charge.cover(2 * self.bytes);
        covered.map_err(|full| io::Error::new(io::ErrorKind::OutOfMemory, full))
    }
}

/// A request head that is written in place of Pingora's.
#[derive(Debug, Default)]
struct Prepared {
    head: Vec<u8>,
    written: usize,
    is_due: bool,
}

impl Prepared {
    fn fill(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.head.clear();
        self.written = 0;
        self.is_due = fill(&mut self.head);
        self.is_due
    }
}

impl Link {
    /// A link over `stream`, or `stream` itself if it is one: pooled connections keep their link.
    pub(super) fn over(stream: Stream) -> Option<Box<Link>> {
        if Link::is(&stream) {
            return stream.into_any().downcast().ok();
        }
        Some(Box::new(Link {
            inner: stream,
            ahead: BytesMut::new(),
            mute: false,
            unflushed: false,
            prepared: Mutex::default(),
            head: Mutex::default(),
        }))
    }

    /// Whether `stream` is a link.
    fn is(stream: &Stream) -> bool {
        (**stream).as_any().is::<Link>()
    }

    /// Writes the head that `fill` makes in place of the next data that is written to `stream`, which must be the head
    /// of Pingora. `false` if `fill` makes none.
    pub(super) fn prepare(stream: &Stream, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let Some(link) = (**stream).as_any().downcast_ref::<Link>() else {
            return false;
        };
        let mut prepared = link.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.fill(fill)
    }

    /// A head is about to be read from `stream`. May be called again while it is read.
    pub(super) fn begin_head(stream: &Stream) {
        if let Some(link) = (**stream).as_any().downcast_ref::<Link>() {
            let mut head = link.head.lock().unwrap_or_else(PoisonError::into_inner);
            head.get_or_insert_default();
        }
    }

    /// The head was read. Returns what is charged for it.
    pub(super) fn end_head(stream: &Stream) -> Charge {
        let link = (**stream).as_any().downcast_ref::<Link>();
        let meter = link.and_then(|link| {
            let mut head = link.head.lock().unwrap_or_else(PoisonError::into_inner);
            head.take()
        });
        meter.unwrap_or_default().charge
    }

    /// The owner of the connection has read the head. Returns what is charged for it.
    pub(super) fn end_own_head(&mut self) -> Charge {
        let head = self.head.get_mut();
        let meter = head.unwrap_or_else(PoisonError::into_inner).take();
        meter.unwrap_or_default().charge
    }

    /// Like [`Link::prepare`], for the owner of the connection.
    pub(super) fn prepare_own(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let prepared = self.prepared.get_mut();
        prepared.unwrap_or_else(PoisonError::into_inner).fill(fill)
    }

    /// Sends the prepared head.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_prepared() {
            self.unflushed = true;
            let written = self.poll_prepared(cx).map_ok(|()| 0);
            ready!(self.waited(cx, written))?;
        }
        Pin::new(self).poll_flush(cx)
    }

    /// Writes the prepared head to its end.
    fn poll_prepared(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let prepared = self
            .prepared
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(rest) = prepared.head.get(prepared.written..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => prepared.written += count,
            }
        }
        prepared.is_due = false;
        // An idle connection keeps neither credentials nor much memory.
        prepared.head.fill(0);
        prepared.head.clear();
        prepared.head.shrink_to(MAX_KEPT);
        Poll::Ready(Ok(()))
    }

    fn has_prepared(&mut self) -> bool {
        let prepared = self.prepared.get_mut();
        prepared.unwrap_or_else(PoisonError::into_inner).is_due
    }

    /// Whether the upstream sends a redirect or an error before it has the whole request. Reads only the beginning of
    /// the status line.
    fn is_turned_down(&mut self, cx: &mut Context<'_>) -> bool {
        while self.ahead.len() < STATUS_CLASS_END {
            let mut space = [0; STATUS_CLASS_END];
            let mut missing = ReadBuf::new(&mut space[self.ahead.len()..]);
            let read = Pin::new(&mut self.inner).poll_read(cx, &mut missing);
            let some = missing.filled();
            if !matches!(read, Poll::Ready(Ok(()))) || some.is_empty() {
                return false;
            }
            self.ahead.extend_from_slice(some);
        }
        let class = self.ahead.get(STATUS_CLASS_END - 1);
        self.ahead.starts_with(b"HTTP/1.") && matches!(class, Some(b'3'..=b'5'))
    }

    /// The result of a write that may have to wait.
    fn waited(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending if self.is_turned_down(cx) => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            written => written,
        }
    }

    /// Counts bytes that were read, if they belong to a head.
    #[inline]
    fn count_head(&mut self, bytes: usize) -> io::Result<()> {
        let head = self.head.get_mut();
        match head.unwrap_or_else(PoisonError::into_inner) {
            Some(head) => head.add(bytes),
            None => Ok(()),
        }
    }

    /// Makes `bytes` the next data to be read. Written data is discarded until then.
    pub(super) fn replay(&mut self, mut bytes: BytesMut) {
        bytes.unsplit(std::mem::take(&mut self.ahead));
        self.ahead = bytes;
        self.mute = true;
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.mute = false;
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(count));
            return Poll::Ready(this.count_head(count));
        }
        if this.unflushed {
            // An error shows at the next write or read.
            this.unflushed = Pin::new(&mut this.inner).poll_flush(cx).is_pending();
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        Poll::Ready(this.count_head(buf.filled().len() - before))
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.mute {
            return Poll::Ready(Ok(buf.len()));
        }
        this.unflushed = true;
        let written = if this.has_prepared() {
            this.poll_prepared(cx).map_ok(|()| buf.len())
        } else {
            Pin::new(&mut this.inner).poll_write(cx, buf)
        };
        this.waited(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.mute {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        this.unflushed = true;
        let written = if this.has_prepared() {
            let length = bufs.iter().map(|buf| buf.len()).sum();
            this.poll_prepared(cx).map_ok(|()| length)
        } else {
            Pin::new(&mut this.inner).poll_write_vectored(cx, bufs)
        };
        this.waited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.inner).poll_flush(cx);
        this.unflushed = sent.is_pending();
        let sent = sent.map_ok(|()| 0);
        this.waited(cx, sent).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Link {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

impl UniqueID for Link {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Link {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Link {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Link {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Link {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[async_trait]
impl Peek for Link {}
