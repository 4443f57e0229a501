//! The accept loop of a listener.
//!
//! Pingora's own loop sleeps for a second when no file descriptor is left, even if one is freed immediately. It also
//! cannot leave connections in the system's queue while there is no capacity for them.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::server::connection_limit::{ConnectionLimit, ConnectionSlot};
use crate::server::descriptors::Spare;

/// How often a failure to accept is logged.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// EMFILE and ENFILE (accept(2)): this process, or the system, has no file descriptor left.
const NONE_LEFT: [i32; 2] = [24, 23];

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub tcp: TcpStream,
    pub peer: SocketAddr,
    pub place: ConnectionSlot,
    /// True once idle connections must end.
    pub closing: ShutdownWatch,
}

/// Serves the connections of a listener.
pub(super) trait App: Send + Sync + 'static {
    /// A value that a connection holds while it is served.
    type Held: Send + 'static;

    /// If it returns `None`, the connection is closed immediately.
    fn admit(&self) -> Option<Self::Held>;

    /// Serves one connection until it ends.
    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send;

    /// Called after the last connection was accepted.
    fn closed(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The communication between the process and its accept loops.
#[derive(Debug)]
pub(super) struct AcceptLoops {
    /// True once no more connections are accepted and idle ones must end.
    closing: watch::Sender<bool>,
    /// The number of running accept loops.
    open: watch::Sender<usize>,
}

impl Default for AcceptLoops {
    fn default() -> AcceptLoops {
        AcceptLoops {
            closing: watch::channel(false).0,
            open: watch::channel(0).0,
        }
    }
}

impl AcceptLoops {
    /// Waits until this many loops run, for at most `limit`.
    pub(super) async fn open(&self, count: usize, limit: Duration) -> bool {
        let mut open = self.open.subscribe();
        let opened = open.wait_for(|running| *running >= count);
        matches!(tokio::time::timeout(limit, opened).await, Ok(Ok(_)))
    }

    /// Ends all loops, and waits for their end for at most `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        self.closing.send_replace(true);
        let mut open = self.open.subscribe();
        let _ = tokio::time::timeout(limit, open.wait_for(|running| *running == 0)).await;
    }
}

/// An accept loop as a Pingora service, which provides its threads.
pub(super) struct AcceptLoop<A> {
    name: &'static str,
    threads: usize,
    listener: Option<TcpListener>,
    app: Arc<A>,
    connection_limit: Arc<ConnectionLimit>,
    /// Reserved file descriptors, for when none are left.
    spare: Option<Arc<Spare>>,
    accept_loops: Arc<AcceptLoops>,
}

impl<A: App> AcceptLoop<A> {
    /// A loop that serves the connections of `listener` with `app`, as many at a time as `connection_limit` allows.
    pub(super) fn new(
        name: &'static str,
        listener: TcpListener,
        app: Arc<A>,
        connection_limit: Arc<ConnectionLimit>,
        accept_loops: &Arc<AcceptLoops>,
    ) -> AcceptLoop<A> {
        AcceptLoop {
            name,
            threads: 1,
            listener: Some(listener),
            app,
            connection_limit,
            spare: None,
            accept_loops: Arc::clone(accept_loops),
        }
    }

    /// Sets the number of worker threads. The default is one.
    pub(super) fn threads(self, threads: usize) -> AcceptLoop<A> {
        AcceptLoop { threads, ..self }
    }

    /// Adds reserved file descriptors, for when none are left.
    pub(super) fn with_spare(self, spare: Arc<Spare>) -> AcceptLoop<A> {
        AcceptLoop {
            spare: Some(spare),
            ..self
        }
    }

    async fn accept(&self, listener: &tokio::net::TcpListener, closing: &ShutdownWatch) {
        let mut closed = closing.clone();
        let mut told: Option<Instant> = None;
        loop {
            let next = async {
                let place = self.connection_limit.place().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                _ = closed.wait_for(|closing| *closing) => break,
            };
            match accepted {
                Ok((tcp, peer)) => self.begin(tcp, peer, place, closing),
                Err(error) => {
                    drop(place);
                    if told.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
                        log::error!(
                            "[SERVICE: Gateway] {}: connections cannot be accepted: {error}",
                            self.name
                        );
                        told = Some(Instant::now());
                    }
                    self.recover(&error).await;
                }
            }
        }
        // A client in the system's queue is already connected, and would see its connection reset.
        while let Some(Ok((tcp, peer))) = listener.accept().now_or_never()
            && let Some(place) = self.connection_limit.place().now_or_never()
        {
            self.begin(tcp, peer, place, closing);
        }
    }

    /// Increases the chance that the next attempt succeeds.
    async fn recover(&self, error: &std::io::Error) {
        let none_left = error
            .raw_os_error()
            .is_some_and(|code| NONE_LEFT.contains(&code));
        if none_left && self.spare.as_ref().is_some_and(|spare| spare.give()) {
            return;
        }
        if none_left {
            self.connection_limit.make_room();
        }
        self.connection_limit.change().await;
    }

    fn begin(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        place: ConnectionSlot,
        closing: &ShutdownWatch,
    ) {
        let Some(held) = self.app.admit() else { return };
        // A failing socket will report its error by itself.
        let _ = tcp.set_nodelay(true);
        let accepted = Accepted {
            tcp,
            peer,
            place,
            closing: closing.clone(),
        };
        let (app, spare) = (Arc::clone(&self.app), self.spare.clone());
        tokio::spawn(async move {
            app.serve(accepted).await;
            drop(held);
            if let Some(spare) = spare {
                spare.refill();
            }
        });
    }
}

#[async_trait]
impl<A: App> Service for AcceptLoop<A> {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                log::error!("[SERVICE: Gateway] {}: {error}", self.name);
                return;
            }
        };
        let closing = self.accept_loops.closing.subscribe();
        self.accept_loops.open.send_modify(|running| *running += 1);
        self.accept(&listener, &closing).await;
        drop(listener);
        self.accept_loops
            .open
            .send_modify(|running| *running = running.saturating_sub(1));
        self.app.closed().await;
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}
