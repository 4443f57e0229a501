//! A client connection: the bytes below HTTP, plain or TLS, and the boundary between two requests.
//!
//! Pingora's session reads everything that the socket has. Behind a [`Conn`] it never sees a byte after its current
//! request: bytes that a pipelining client sends early wait here, while the end of the stream is still noticed
//! immediately.

mod facts;
mod poll;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{ALPN, Peek, SocketDigest, Stream};
use pingora_core::tls::ServerTlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::server::arriving::Arrival;
use crate::server::chunks::{BadChunk, Chunks};
use crate::server::connection_limit::StallWatch;
use crate::server::http2_streams::{ErrorFrames, PREFACE_BYTES, Streams};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{EmptyFrames, read_buffer};

/// The maximum number of bytes that a client may send before it has the response to its current request.
const MAX_AHEAD_BYTES: usize = 64 * 1024;
/// How long a client that is rejected in the middle of its request may take to read the response, and how much of what it
/// sends meanwhile is read.
const LINGER: Duration = Duration::from_millis(500);
const MAX_DISCARDED_BYTES: usize = 256 * 1024;
/// How long a client may stop within a request or a response before it makes room for others, if places are scarce.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an HTTP/2 connection may be idle between requests, as between those of HTTP/1.
const H2_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an HTTP/2 connection with open streams may be silent. It may be waiting for responses.
const H2_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that delivers one request at a time.
#[derive(Debug)]
pub(crate) struct Conn {
    wire: Wire,
    /// Data that was read from the wire and not yet delivered.
    ahead: BytesMut,
    /// The remaining number of bytes of the current request. [`u64::MAX`] if its framing determines the end (chunked,
    /// upgrades).
    budget: u64,
    /// The state of a chunked body.
    chunks: Option<Chunks>,
    alpn: Option<ALPN>,
    tls: Option<Arc<SslDigest>>,
    socket: Option<Arc<SocketDigest>>,
    /// Runs while the connection is being closed.
    farewell: Option<Pin<Box<Sleep>>>,
    discarded: usize,
    /// Written data may still be in a buffer.
    unflushed: bool,
    /// Records that the client keeps the connection waiting, if places are limited.
    watch: Option<StallWatch>,
    /// How long the client may do so. `None` for other protocols, which have their own timeouts.
    timeout: Option<Duration>,
    /// The open streams of HTTP/2.
    streams: Option<Box<Streams>>,
    /// No stream was open when the watch was last told something.
    was_idle: bool,
    /// The incomplete head of HTTP/2, and the time at which it must be complete.
    head: Option<(u32, Pin<Box<Sleep>>)>,
    head_timeout: Duration,
    /// Drops empty DATA frames of HTTP/2.
    empty_frames: Option<Box<EmptyFrames>>,
    /// The last read had to wait for the client.
    reads: bool,
    /// A request is on its way.
    pub(super) arrival: Option<Arrival>,
}

/// How many bytes after its head belong to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    /// All bytes: the client requests another protocol.
    Opaque,
}

#[derive(Debug)]
enum Wire {
    Plain(Stream),
    Tls(Box<ServerTlsStream<Stream>>),
}

impl Conn {
    /// A connection in plain text.
    pub(crate) fn plain(stream: Stream) -> Conn {
        let socket = stream.get_socket_digest();
        Conn {
            wire: Wire::Plain(stream),
            ahead: BytesMut::new(),
            budget: 0,
            chunks: None,
            alpn: None,
            tls: None,
            socket,
            farewell: None,
            discarded: 0,
            unflushed: false,
            watch: None,
            timeout: None,
            streams: None,
            was_idle: false,
            head: None,
            head_timeout: Duration::MAX,
            empty_frames: None,
            reads: false,
            arrival: None,
        }
    }

    /// A connection after its TLS handshake. `socket` is that of the underlying stream.
    pub(crate) fn tls(stream: ServerTlsStream<Stream>, socket: Option<Arc<SocketDigest>>) -> Conn {
        let (alpn, digest) = {
            let (_, session) = stream.get_ref();
            let alpn = match session.alpn_protocol() {
                Some(b"h2") => Some(ALPN::H2),
                _ => None,
            };
            let cipher = session
                .negotiated_cipher_suite()
                .map_or("", |suite| suite.suite().as_str().unwrap_or(""));
            let version = session
                .protocol_version()
                .and_then(|version| version.as_str())
                .unwrap_or("");
            (
                alpn,
                SslDigest::new(cipher, version, None, None, facts::thumbprint(session)),
            )
        };
        Conn {
            wire: Wire::Tls(Box::new(stream)),
            ahead: BytesMut::new(),
            budget: 0,
            chunks: None,
            alpn,
            tls: Some(Arc::new(digest)),
            socket,
            farewell: None,
            discarded: 0,
            unflushed: false,
            watch: None,
            timeout: None,
            streams: None,
            was_idle: false,
            head: None,
            head_timeout: Duration::MAX,
            empty_frames: None,
            reads: false,
            arrival: None,
        }
    }

    /// Whether HTTP/2 was negotiated in the TLS handshake.
    pub(crate) fn is_h2(&self) -> bool {
        self.alpn == Some(ALPN::H2)
    }

    /// The connection is below TLS: everything that was read, and everything that follows, belongs to TLS.
    pub(crate) fn become_opaque(&mut self) {
        // Closing does not wait for the client here. The connection above does.
        self.alpn = Some(ALPN::H2);
        self.budget = u64::MAX;
    }

    /// The client uses HTTP/2: everything that was read, and everything that follows, belongs to it. `metrics` count
    /// the errors that the gateway reports to the client. Each head must be complete within `head`.
    pub(crate) fn become_h2(&mut self, metrics: Arc<Metrics>, head: Duration) {
        self.head_timeout = head;
        self.alpn = Some(ALPN::H2);
        self.budget = u64::MAX;
        self.timeout = Some(H2_TIMEOUT);
        let errors = ErrorFrames::new(metrics, self.socket.clone());
        self.streams = Some(Box::new(Streams::new(errors)));
        let filter = EmptyFrames::after(PREFACE_BYTES, "a client");
        self.empty_frames = Some(Box::new(filter));
    }

    /// Sets what is told when the client keeps a request waiting.
    pub(crate) fn set_watch(&mut self, watch: Option<StallWatch>) {
        self.watch = watch;
    }

    /// Replaces the address of the peer, for a connection through a load balancer (PROXY protocol).
    pub(crate) fn set_socket(&mut self, socket: Arc<SocketDigest>) {
        self.socket = Some(socket);
    }

    /// The address of the peer, or the one in the PROXY protocol if it is used.
    pub(crate) fn peer_ip(&self) -> Option<std::net::IpAddr> {
        let address = self.socket.as_ref()?.peer_addr()?.as_inet()?;
        Some(address.ip().to_canonical())
    }

    /// Data that was read ahead.
    pub(crate) fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Reads once from the wire into [`Conn::ahead`]. 0 means the end of the stream. A connection that waits holds no
    /// buffer.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        match &mut self.wire {
            Wire::Plain(stream) => read_buffer::read(stream, &mut self.ahead).await,
            Wire::Tls(stream) => read_buffer::read(stream.as_mut(), &mut self.ahead).await,
        }
    }

    /// Returns the bytes of a request that were already read, and lets the session read the rest of it, but no more.
    /// `head` is the length of its head.
    ///
    /// # Errors
    /// The first bytes of a chunked body are not a chunk.
    pub(crate) fn begin_request(&mut self, head: usize, body: Body) -> Result<BytesMut, BadChunk> {
        self.chunks = None;
        self.timeout = (body != Body::Opaque).then_some(TIMEOUT);
        let there = self.ahead.len() as u64;
        match body {
            Body::Length(body) => {
                let whole = (head as u64).saturating_add(body);
                self.budget = whole.saturating_sub(there);
                match usize::try_from(whole) {
                    Ok(whole) if (whole as u64) < there => Ok(self.ahead.split_to(whole)),
                    _ => Ok(std::mem::take(&mut self.ahead)),
                }
            }
            Body::Chunked => {
                let mut chunks = Chunks::default();
                let end = chunks.scan(self.ahead.get(head..).unwrap_or_default())?;
                match end {
                    Some(end) => {
                        self.budget = 0;
                        Ok(self.ahead.split_to(head + end))
                    }
                    None => {
                        self.budget = u64::MAX;
                        self.chunks = Some(chunks);
                        Ok(std::mem::take(&mut self.ahead))
                    }
                }
            }
            Body::Opaque => {
                self.budget = u64::MAX;
                Ok(std::mem::take(&mut self.ahead))
            }
        }
    }

    /// Checks the data that was just read of a chunked body. Data after its end is kept for the next request.
    fn watch_chunks(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(());
        };
        let new = buf.filled().get(before..).unwrap_or_default();
        let end = chunks
            .scan(new)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(end) = end {
            self.ahead
                .extend_from_slice(new.get(end..).unwrap_or_default());
            buf.set_filled(before + end);
            self.chunks = None;
            self.budget = 0;
        }
        Ok(())
    }

    fn poll_wire(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }

    /// One small read from the wire into `ahead`. `Ok(0)` means the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let mut space = [0_u8; 256];
        let most = most.min(space.len());
        let mut buf = ReadBuf::new(&mut space[..most]);
        ready!(self.poll_wire(cx, &mut buf))?;
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Sends written data before waiting for the client: nothing more is written until the client sends something,
    /// and a stream must not wait in a buffer. A response that is written without a pause costs no additional system
    /// call.
    fn send_before_waiting(&mut self, cx: &mut Context<'_>) {
        if self.unflushed {
            // An error shows at the next write or read.
            let _ = self.poll_send(cx);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        };
        self.unflushed = sent.is_pending();
        sent
    }

    /// Tells the watch the result of a read or a write. An error if the place is needed.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let (Some(watch), Some(timeout)) = (&mut self.watch, self.timeout) else {
            return polled;
        };
        let is_idle = self.streams.as_ref().is_some_and(|all| all.is_idle());
        let timeout = if is_idle { H2_IDLE_TIMEOUT } else { timeout };
        let was_idle = std::mem::replace(&mut self.was_idle, is_idle);
        if polled.is_ready() {
            // Pings and settings between two requests are no work: they do not keep the place.
            if !(is_idle && was_idle) {
                watch.moved();
            }
            // HTTP/2 reads first and then writes: what was written starts the time of the read again.
            if self.reads && self.streams.is_some() {
                let _ = watch.poll_stalled(cx, timeout);
            }
            return polled;
        }
        watch.poll_stalled(cx, timeout).map(|()| {
            let reason = "the client is silent, and its connection is needed for others";
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }

    /// Resolves if a client of HTTP/2 takes too long for a head. Called while nothing comes from the client.
    fn poll_slow_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let streams = self.streams.as_ref();
        let Some(number) = streams.and_then(|streams| streams.incomplete_head()) else {
            self.head = None;
            return Poll::Pending;
        };
        let (_, timer) = match self.head.take() {
            Some((known, timer)) if known == number => self.head.insert((known, timer)),
            _ => {
                let timer = Box::pin(tokio::time::sleep(self.head_timeout));
                self.head.insert((number, timer))
            }
        };
        timer.as_mut().poll(cx)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            if self.budget >= buf.remaining() as u64 {
                let before = buf.filled().len();
                ready!(self.poll_wire(cx, buf))?;
                self.spend(buf.filled().len() - before);
                return Poll::Ready(self.watch_chunks(buf, before));
            }
            let most = usize::try_from(self.budget).unwrap_or(usize::MAX);
            if ready!(self.poll_fill(cx, most))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        self.deliver(buf);
        Poll::Ready(Ok(()))
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let budget = usize::try_from(self.budget).unwrap_or(usize::MAX);
        let count = self.ahead.len().min(buf.remaining()).min(budget);
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // An empty rest would keep its block of memory.
            self.ahead = BytesMut::new();
        }
        self.spend(count);
    }

    fn spend(&mut self, count: usize) {
        if self.budget != u64::MAX {
            self.budget = self.budget.saturating_sub(count as u64);
        }
    }
}

#[async_trait]
impl Peek for Conn {}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::upstream::http2_frame::{DATA, frame};

    /// A client, and the connection that was accepted from it.
    async fn connected() -> (TcpStream, Conn) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let client = client.await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let stream: pingora_core::protocols::l4::stream::Stream = accepted.into();
        (client, Conn::plain(Box::new(stream)))
    }

    #[tokio::test]
    async fn below_tls_no_byte_is_taken_for_a_frame() {
        let (mut client, mut conn) = connected().await;
        conn.become_opaque();
        // As frames of HTTP/2 these would be empty, and the last one incomplete.
        let empty = frame(DATA, 0, 1, b"");
        let sent = [&[0; PREFACE_BYTES][..], &empty.repeat(100), &empty[..5]].concat();
        client.write_all(&sent).await.unwrap();
        let mut received = vec![0; sent.len()];
        let read = conn.read_exact(&mut received);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        assert_eq!(read.expect("all bytes arrive").unwrap(), sent.len());
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn closing_waits_for_an_unread_body() {
        let (mut client, mut conn) = connected().await;
        client.write_all(&[b'x'; 50_000]).await.unwrap();
        conn.fill().await.unwrap();
        conn.begin_request(10, Body::Length(100_000)).unwrap();
        conn.write_all(b"413").await.unwrap();
        let closing = tokio::spawn(async move {
            AsyncWriteExt::shutdown(&mut conn).await.unwrap();
            conn.discarded
        });
        let mut response = String::new();
        client.write_all(&[b'x'; 10_000]).await.unwrap();
        client.read_to_string(&mut response).await.unwrap();
        assert_eq!(response, "413");
        client.shutdown().await.unwrap();
        assert!(closing.await.unwrap() > 50_000, "the rest was not read");
    }

    /// The unread rest would reset the connection, and the client might lose the response.
    #[tokio::test]
    async fn closing_waits_for_a_client_that_sends_more_than_is_read() {
        let (mut client, mut conn) = connected().await;
        let sending = tokio::spawn(async move {
            let _ = client.write_all(&[b'x'; 16 * MAX_DISCARDED_BYTES]).await;
            client
        });
        conn.fill().await.unwrap();
        conn.begin_request(10, Body::Length(1 << 30)).unwrap();
        conn.write_all(b"503").await.unwrap();
        let begun = std::time::Instant::now();
        AsyncWriteExt::shutdown(&mut conn).await.unwrap();
        assert!(conn.discarded >= MAX_DISCARDED_BYTES);
        assert!(begun.elapsed() >= LINGER);
        drop(conn);
        drop(sending.await.unwrap());
    }
}
