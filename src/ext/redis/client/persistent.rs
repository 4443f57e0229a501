//! Connections that are opened again whenever they are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::command::Command;
use super::connection::{Job, MAX_WAITING};
use super::error::{CallError, ConnectionError};
use super::reply::Reply;
use super::server::Server;
use super::source::Source;
use super::{ClientOptions, Status};
use crate::backoff::Backoff;
use crate::ext::reconnect::{failures_after, spread};
use crate::upstream::race::Turn;

/// Connections to one server, used in turn.
pub(super) struct PersistentConnections {
    connections: Vec<PersistentConnection>,
    next: AtomicUsize,
}

/// One connection, and the task that keeps it open until the connection is dropped.
struct PersistentConnection {
    jobs: mpsc::Sender<Job>,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    is_connected: AtomicBool,
    /// Whether the first attempt has ended.
    was_tried: AtomicBool,
}

impl PersistentConnections {
    /// Starts to connect. `lost` is notified whenever a connection is lost or cannot be opened.
    pub(super) fn new(
        source: Source,
        server: &Arc<Server>,
        options: ClientOptions,
        status: &Arc<Status>,
        lost: &Arc<Notify>,
        runtime: &Handle,
    ) -> PersistentConnections {
        let connection = |_| {
            let (jobs, receiver) = mpsc::channel(MAX_WAITING);
            let state = Arc::new(State::default());
            let keeper = Keeper {
                source: source.clone(),
                server: Arc::clone(server),
                options,
                status: Arc::clone(status),
                state: Arc::clone(&state),
                lost: Arc::clone(lost),
                jobs: receiver,
            };
            let task = runtime.spawn(keeper.run()).abort_handle();
            PersistentConnection { jobs, state, task }
        };
        PersistentConnections {
            connections: (0..options.connections.max(1)).map(connection).collect(),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connections
            .iter()
            .any(PersistentConnection::is_connected)
    }

    /// Sends a command on the next open connection. If none was ever tried, the command waits for the first one.
    ///
    /// # Errors
    /// There is no connection, or it was lost, or too many commands wait.
    pub(super) async fn call(&self, command: Command, is_asking: bool) -> Result<Reply, CallError> {
        let connection = self.connection().ok_or(CallError::NotConnected)?;
        let (reply, replied) = oneshot::channel();
        let job = Job {
            command,
            is_asking,
            reply,
        };
        connection.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::TooMany,
            mpsc::error::TrySendError::Closed(_) => CallError::NotConnected,
        })?;
        replied.await.unwrap_or(Err(CallError::Lost))
    }

    fn connection(&self) -> Option<&PersistentConnection> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        let from = |accepts: fn(&PersistentConnection) -> bool| {
            let mut turns =
                (0..count).filter_map(|turn| self.connections.get((start + turn) % count));
            turns.find(|connection| accepts(connection))
        };
        from(PersistentConnection::is_connected).or_else(|| from(PersistentConnection::is_new))
    }
}

impl PersistentConnection {
    fn is_connected(&self) -> bool {
        self.state.is_connected.load(Ordering::Acquire)
    }

    fn is_new(&self) -> bool {
        !self.state.was_tried.load(Ordering::Acquire)
    }
}

impl Drop for PersistentConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps one connection open.
struct Keeper {
    source: Source,
    server: Arc<Server>,
    options: ClientOptions,
    status: Arc<Status>,
    state: Arc<State>,
    lost: Arc<Notify>,
    jobs: mpsc::Receiver<Job>,
}

impl Keeper {
    async fn run(mut self) {
        let (turn, mut failures) = (Turn::default(), 0);
        loop {
            let limit = self.options.dial_timeout;
            let opened = self.source.open(&self.server, limit, &turn);
            let (error, lived) = match opened.await {
                Ok(connection) => {
                    let since = Instant::now();
                    self.state.is_connected.store(true, Ordering::Release);
                    self.state.was_tried.store(true, Ordering::Release);
                    self.status.connected();
                    match connection.serve(&mut self.jobs).await {
                        Some(error) => (error, Some(since.elapsed())),
                        None => return,
                    }
                }
                Err(error) => (error, None),
            };
            self.state.is_connected.store(false, Ordering::Release);
            self.state.was_tried.store(true, Ordering::Release);
            // A server that only closes a connection is still the right one.
            if lived.is_none() || !matches!(error, ConnectionError::Closed(_)) {
                turn.next();
            }
            match lived {
                Some(_) => self.status.lost(error),
                None => self.status.refused(error),
            }
            self.lost.notify_one();
            failures = failures_after(failures, lived);
            if !self.pause(pause(self.options.backoff, failures)).await {
                return;
            }
        }
    }

    /// Waits, and rejects the commands that arrive meanwhile. False if there will be no further commands.
    async fn pause(&mut self, time: Duration) -> bool {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return true,
                job = self.jobs.recv() => match job {
                    // The waiting calls end now.
                    Some(job) => drop(job.reply.send(Err(CallError::Lost))),
                    None => return false,
                }
            }
        }
    }
}

/// The pause after this many failures in a row, none after a connection that worked, up to a quarter shorter, so that
/// several gateways do not reconnect at the same moment.
pub(super) fn pause((shortest, longest): (Duration, Duration), failures: u32) -> Duration {
    spread(Backoff::doubling(shortest, longest).pause(failures))
}
