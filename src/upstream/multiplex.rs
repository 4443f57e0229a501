//! HTTP/2 connections, shared by the calls to one peer.
//!
//! Pingora's own pool pings at a fixed interval, which gRPC servers punish, and keeps using a connection that no
//! longer responds. Here each connection records when data was last received. If it was silent while a request
//! waited, it gets a PING, and no further requests until it responds.

use std::collections::HashMap;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use pingora_core::connectors::http::v2::ConnectionRef;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_core::protocols::{Digest, Stream};
use pingora_core::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::budget::Memory;
use super::empty_frames::EmptyFrames;
use super::idle::Limits;

/// The maximum number of streams on one connection. A server may allow fewer.
const MAX_STREAMS: usize = 100;

/// How long a PING may stay unanswered before its connection is closed.
const PONG_LIMIT: Duration = Duration::from_secs(5);

/// The limits of what a server may send on a stream before its client has read it: the default of RFC 9113 §6.9.2, and
/// that of Go.
const MIN_WINDOW: u64 = 64 << 10;
const MAX_WINDOW: u64 = 4 << 20;
/// The share of the memory for one stream, so that this many streams can wait for clients that do not read.
const WINDOW_SHARE: u64 = 16_384;

/// The interval of checks whether a connection is still needed.
const LOOK: Duration = Duration::from_secs(1);

/// The number of connections tried for one call. Each may be shutting down.
const MAX_TRIED: usize = 4;

/// The HTTP/2 connections of one client.
pub(super) struct Multiplexed {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Mutex<HashMap<u64, Vec<Arc<Connection>>>>,
    /// How long a connection may be silent while a request waits, before a PING is sent.
    ping_after: Duration,
    /// How long a connection without streams is kept.
    idle: Duration,
    /// The number of connections without streams that are kept.
    limits: Limits,
}

struct Connection {
    streams: ConnectionRef,
    life: Arc<Life>,
}

/// When a connection was last used and last received data, in milliseconds since its creation.
struct Life {
    since: Instant,
    heard: AtomicU64,
    used: AtomicU64,
    /// A request has timed out. No new streams are opened until data arrives after this time. 0 if none has.
    doubted: AtomicU64,
    /// A stream was opened since the last PING.
    opened: AtomicBool,
    wake: Notify,
}

impl Life {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_doubted(&self) -> bool {
        let doubted = self.doubted.load(Ordering::Relaxed);
        doubted != 0 && self.heard.load(Ordering::Relaxed) <= doubted
    }

    fn since_heard(&self) -> Duration {
        let heard = self.heard.load(Ordering::Relaxed);
        Duration::from_millis(self.now().saturating_sub(heard))
    }

    fn since_used(&self) -> Duration {
        let used = self.used.load(Ordering::Relaxed);
        Duration::from_millis(self.now().saturating_sub(used))
    }
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.life.is_doubted() && self.streams.free_stream_slots() > 0
    }
}

impl Multiplexed {
    pub(super) fn new(ping_after: Duration, idle: Duration, limits: Limits) -> Multiplexed {
        Multiplexed {
            shared: Arc::new(Shared {
                connections: Mutex::default(),
                ping_after,
                idle,
                limits,
            }),
        }
    }

    /// A stream on an existing connection, if one has capacity.
    pub(super) async fn reuse(&self, key: u64) -> Option<Http2Session> {
        for _ in 0..MAX_TRIED {
            let connection = self.shared.usable(key)?;
            match connection.streams.spawn_stream().await {
                Ok(Some(session)) => {
                    connection.life.begin_stream();
                    return Some(session);
                }
                // Another call took the last stream.
                Ok(None) => {}
                // The connection is closed or shutting down.
                Err(_) => self.shared.forget(key, &connection.life),
            }
        }
        None
    }

    /// Starts HTTP/2 on a new connection, and shares it.
    pub(super) async fn begin(&self, stream: Stream, key: u64) -> Result<Http2Session, Box<Error>> {
        let life = Arc::new(Life {
            since: Instant::now(),
            heard: AtomicU64::new(0),
            used: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            opened: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let streams = shake_hands(stream, &life, Arc::downgrade(&self.shared), key).await?;
        let session = streams.spawn_stream().await?;
        let session = session.ok_or_else(|| Error::new(ErrorType::H2Error))?;
        life.begin_stream();
        self.shared.add(key, Connection { streams, life });
        Ok(session)
    }

    /// A request waited on this session's connection since `asked` and is given up. If the connection was silent for
    /// at least the second half of that time, it gets no further requests until it responds to a PING. The first half
    /// does not count, because the server's acknowledgement of settings or window updates may arrive then.
    ///
    /// The same holds for other connections to this peer that were silent as long: if the peer is gone, each of them
    /// would cost a request its deadline.
    ///
    /// Returns whether the peer has ever sent anything on the connection.
    pub(super) fn doubt(&self, session: &Http2Session, key: u64, asked: Instant) -> bool {
        let connections = self.shared.lock();
        let Some(list) = connections.get(&key) else {
            return true;
        };
        let id = session.conn.id();
        let Some(found) = list.iter().find(|found| found.streams.id() == id) else {
            return true;
        };
        let has_heard = found.life.heard.load(Ordering::Relaxed) > 0;
        let silence = asked.elapsed() / 2;
        if found.life.since_heard() < silence {
            return has_heard;
        }
        let silent = list.iter().map(|other| &other.life);
        for life in silent.filter(|life| life.since_heard() >= silence) {
            life.doubted.store(life.now().max(1), Ordering::Relaxed);
            life.wake.notify_one();
        }
        has_heard
    }
}

impl Life {
    fn begin_stream(&self) {
        self.used.store(self.now(), Ordering::Relaxed);
        if !self.opened.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Arc<Connection>>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Shares a new connection. If its peer has too many without streams, the oldest of them are no longer used: a peer
    /// that rejects all streams gets a new connection for each request.
    fn add(&self, key: u64, connection: Connection) {
        let mut connections = self.lock();
        let list = connections.entry(key).or_default();
        let mut surplus = idle(list).saturating_sub(self.limits.per_peer);
        list.retain(|one| {
            let goes = surplus > 0 && one.streams.is_idle();
            surplus -= usize::from(goes);
            !goes
        });
        list.push(Arc::new(connection));
    }

    fn usable(&self, key: u64) -> Option<Arc<Connection>> {
        let connections = self.lock();
        let list = connections.get(&key)?;
        list.iter().find(|one| one.is_usable()).map(Arc::clone)
    }

    fn forget(&self, key: u64, life: &Arc<Life>) {
        remove(&mut self.lock(), key, life);
    }

    /// Removes a connection without streams that has had none for long enough, or that exceeds the limits. A call that
    /// has just found it may still use it: it closes when its last user drops it.
    fn retire(&self, key: u64, life: &Arc<Life>) -> bool {
        let mut connections = self.lock();
        let Some(list) = connections.get(&key) else {
            return false;
        };
        let mut its = list.iter().filter(|one| Arc::ptr_eq(&one.life, life));
        if !its.any(|one| one.streams.is_idle()) {
            return false;
        }
        let ends = life.since_used() >= self.idle
            || idle(list) > self.limits.per_peer
            || connections.values().map(|list| idle(list)).sum::<usize>() > self.limits.all;
        if ends {
            remove(&mut connections, key, life);
        }
        ends
    }

    fn has_streams(&self, key: u64, life: &Arc<Life>) -> bool {
        let connections = self.lock();
        let list = connections.get(&key).map_or(&[][..], Vec::as_slice);
        let mut its = list.iter().filter(|one| Arc::ptr_eq(&one.life, life));
        its.any(|one| !one.streams.is_idle())
    }
}

/// The number of connections without streams.
fn idle(list: &[Arc<Connection>]) -> usize {
    list.iter().filter(|one| one.streams.is_idle()).count()
}

fn remove(connections: &mut HashMap<u64, Vec<Arc<Connection>>>, key: u64, life: &Arc<Life>) {
    if let Some(list) = connections.get_mut(&key) {
        list.retain(|one| !Arc::ptr_eq(&one.life, life));
        if list.is_empty() {
            connections.remove(&key);
        }
    }
}

async fn shake_hands(
    stream: Stream,
    life: &Arc<Life>,
    shared: Weak<Shared>,
    key: u64,
) -> Result<ConnectionRef, Box<Error>> {
    let id = stream.id();
    let digest = Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    };
    let heard = ReadMonitor {
        stream,
        life: Arc::clone(life),
        empty_frames: EmptyFrames::after(0, "a backend"),
        cut: false,
    };
    // The connection has room for all of its streams: one whose client does not read must not stop the others.
    let window = stream_window();
    let (requests, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_max_send_streams(MAX_STREAMS)
        .max_concurrent_streams(1)
        .initial_window_size(window)
        .initial_connection_window_size(window * MAX_STREAMS as u32)
        .handshake::<_, Bytes>(heard)
        .await
        .map_err(|error| Error::because(ErrorType::HandshakeError, "HTTP/2", error))?;
    let (closed, is_closed) = watch::channel(false);
    let gone = Arc::new(AtomicBool::new(false));
    let streams = ConnectionRef::new(
        requests,
        is_closed,
        Arc::clone(&gone),
        id,
        MAX_STREAMS,
        digest,
    );
    let life = Arc::clone(life);
    let pings = connection.ping_pong();
    tokio::spawn(async move {
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                log::debug!("an HTTP/2 connection to a backend ended: {error}");
            },
            () = watch_over(pings, &life, &shared, key) => {
                gone.store(true, Ordering::Relaxed);
                log::warn!("[SERVICE: Gateway] an HTTP/2 connection to a backend does not respond to PING and is closed");
            }
        }
        let _ = closed.send(true);
        if let Some(shared) = shared.upgrade() {
            shared.forget(key, &life);
        }
    });
    Ok(streams)
}

/// The window of a stream. A stream whose client does not read holds as much, so it is charged.
pub(super) fn stream_window() -> u32 {
    let memory = Memory::process().granted();
    let window = (memory / WINDOW_SHARE).clamp(MIN_WINDOW, MAX_WINDOW);
    u32::try_from(window).unwrap_or(u32::MAX)
}

/// Returns when the connection no longer responds to a PING.
async fn watch_over(
    pings: Option<h2::PingPong>,
    life: &Arc<Life>,
    shared: &Weak<Shared>,
    key: u64,
) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        let Some(pause) = pause(life, shared, key) else {
            return std::future::pending().await;
        };
        if !pause.is_zero() {
            // No wake-up is missed: one that comes before this wait is stored.
            let _ = tokio::time::timeout(pause, life.wake.notified()).await;
            continue;
        }
        life.opened.store(false, Ordering::Relaxed);
        let pong = pings.ping(h2::Ping::opaque());
        if !matches!(tokio::time::timeout(PONG_LIMIT, pong).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// The time until the next action. Zero means that a PING is due. `None` means that the connection was retired.
///
/// A PING follows only a silence in which a request was started: streams may be silent for hours, and some servers
/// close a connection that pings often.
fn pause(life: &Arc<Life>, shared: &Weak<Shared>, key: u64) -> Option<Duration> {
    let shared = shared.upgrade()?;
    if life.is_doubted() {
        return Some(Duration::ZERO);
    }
    // Cleared before the check, so that a stream that starts meanwhile wakes this task.
    if life.opened.swap(false, Ordering::Relaxed) && shared.has_streams(key, life) {
        life.opened.store(true, Ordering::Relaxed);
        let silent = life.since_heard().min(life.since_used());
        let left = shared.ping_after.saturating_sub(silent);
        return Some(left.min(LOOK));
    }
    if shared.retire(key, life) {
        return None;
    }
    Some(LOOK)
}

/// A connection that records when data was read.
///
/// A peer that closes while a request is being sent resets the connection, and writing fails while its GOAWAY is
/// still unread. Only that frame says which requests were not processed. So later writes are discarded, and reading
/// shows how the connection ended.
struct ReadMonitor {
    stream: Stream,
    life: Arc<Life>,
    empty_frames: EmptyFrames,
    /// The peer no longer accepts data.
    cut: bool,
}

impl ReadMonitor {
    /// The result of a write of `all` bytes.
    fn written<T>(&mut self, result: std::io::Result<T>, all: T) -> std::io::Result<T> {
        match result {
            Err(error) if is_cut(error.kind()) => {
                self.cut = true;
                Ok(all)
            }
            other => other,
        }
    }
}

/// Whether the peer has closed the connection, so that reading will end too.
fn is_cut(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl AsyncRead for ReadMonitor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let ReadMonitor {
            stream,
            life,
            empty_frames,
            ..
        } = self.get_mut();
        empty_frames.poll_read(buffer, |buffer| {
            let before = buffer.filled().len();
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, buffer));
            if buffer.filled().len() > before {
                life.heard.store(life.now().max(1), Ordering::Relaxed);
            }
            Poll::Ready(read)
        })
    }
}

impl AsyncWrite for ReadMonitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.cut {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.written(written, bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.cut {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.written(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.cut {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        Poll::Ready(self.written(written, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
