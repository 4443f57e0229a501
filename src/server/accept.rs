//! The accept loop of a listener.
//!
//! Pingora's own loop sleeps for a second when no file descriptor is left, even if one is freed immediately. It also
//! cannot leave connections in the system's queue while there is no capacity for them.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::protocols::Stream;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::server::accept_queue::AcceptQueue;
use crate::server::connection_limit::{ConnectionLimit, ConnectionSlot};
use crate::server::descriptors::Spare;
use crate::server::socket;

/// How often a failure to accept is logged.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// EMFILE and ENFILE (accept(2)): this process, or the system, has no file descriptor left.
const NONE_LEFT: [i32; 2] = [24, 23];

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub stream: Stream,
    pub place: ConnectionSlot,
    /// True once idle connections must end.
    pub closing: ShutdownWatch,
}

/// What a connection holds until its socket is closed.
struct Counted<T> {
    /// Only kept.
    _held: T,
    spare: Option<Arc<Spare>>,
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        if let Some(spare) = &self.spare {
            spare.refill();
        }
    }
}

/// Serves the connections of a listener.
pub(super) trait App: Send + Sync + 'static {
    /// A value that a connection holds while it is served.
    type Held: Send + 'static;

    /// If it returns `None`, the connection is closed immediately.
    fn admit(&self) -> Option<Self::Held>;

    /// Serves one connection until it ends, or until what is left needs less memory than this future has: then it
    /// returns the rest.
    fn serve(
        self: Arc<Self>,
        accepted: Accepted,
    ) -> impl Future<Output = Option<impl Future<Output = ()> + Send + 'static>> + Send;

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

    async fn accept(&self, queue: &mut AcceptQueue, closing: &ShutdownWatch) {
        let mut closed = closing.clone();
        let mut told: Option<Instant> = None;
        loop {
            let next = async {
                let place = match self.connection_limit.try_place() {
                    Some(place) => place,
                    // No connection is closed while no client waits.
                    None => {
                        queue.has_waiting().await?;
                        self.connection_limit.place().await
                    }
                };
                let (tcp, peer) = queue.next().await?;
                Ok((tcp, peer, place))
            };
            let accepted: std::io::Result<_> = tokio::select! {
                next = next => next,
                _ = closed.wait_for(|closing| *closing) => break,
            };
            match accepted {
                Ok((tcp, peer, place)) => self.begin(tcp, peer, place, closing),
                Err(error) => {
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
        // A client in the system's queue is already connected, and would see its connection reset. Those for whom there is no
        // place stay there for the process that takes over.
        while let Some(place) = self.connection_limit.try_place()
            && let Some((tcp, peer)) = queue.waiting()
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
        let accepted = Accepted {
            stream: socket::stream(tcp, peer),
            place,
            closing: closing.clone(),
        };
        let app = Arc::clone(&self.app);
        let spare = self.spare.clone();
        let end = Counted { _held: held, spare };
        tokio::spawn(async move {
            match app.serve(accepted).await {
                None => drop(end),
                Some(rest) => {
                    tokio::spawn(async move {
                        rest.await;
                        drop(end);
                    });
                }
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
        let mut queue = match AcceptQueue::new(listener) {
            Ok(queue) => queue,
            Err(error) => {
                log::error!("[SERVICE: Gateway] {}: {error}", self.name);
                return;
            }
        };
        let closing = self.accept_loops.closing.subscribe();
        self.accept_loops.open.send_modify(|running| *running += 1);
        self.accept(&mut queue, &closing).await;
        drop(queue);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Each connection lasts until the process ends.
    struct Endless;

    impl App for Endless {
        type Held = ();

        fn admit(&self) -> Option<()> {
            Some(())
        }

        async fn serve(
            self: Arc<Self>,
            accepted: Accepted,
        ) -> Option<impl Future<Output = ()> + Send + 'static> {
            accepted.place.serves_anyone(Duration::MAX);
            std::future::pending::<()>().await;
            None::<std::future::Ready<()>>
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_place_is_left_to_the_process_that_takes_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let next = listener.try_clone().unwrap();
        listener.set_nonblocking(true).unwrap();
        let loops = Arc::new(AcceptLoops::default());
        let limit = ConnectionLimit::new(1, 100);
        let mut accept = AcceptLoop::new("test", listener, Arc::new(Endless), limit, &loops);
        let (_stop, stopping) = watch::channel(false);
        let running = tokio::spawn(async move { accept.start_service(None, stopping, 1).await });
        assert!(loops.open(1, Duration::from_secs(20)).await);
        let _first = TcpStream::connect(address).await.unwrap();
        let mut waits = std::net::TcpStream::connect(address).unwrap();
        // It has a place, or waits for one.
        tokio::time::sleep(Duration::from_millis(100)).await;
        loops.close(Duration::from_secs(20)).await;
        running.await.unwrap();
        next.set_nonblocking(false).unwrap();
        let (mut taken, peer) = next.accept().unwrap();
        assert_eq!(peer, waits.local_addr().unwrap());
        taken.write_all(b"x").unwrap();
        let mut byte = [0];
        waits.read_exact(&mut byte).unwrap();
    }
}
