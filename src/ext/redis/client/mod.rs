//! A client for the few commands that the gateway sends to Redis, in RESP2.
//!
//! Whatever responds at the address of a Redis can be broken or hostile. So every reply is bounded in bytes and in depth,
//! and is parsed without recursion.
//!
//! | module | content |
//! |---|---|
//! | `reply` | replies, and the bounded parser |
//! | `command` | the bytes of commands, and the slots of keys |
//! | `server` | addresses and credentials |
//! | `url` | URLs of servers |
//! | `error` | why a call failed or a connection ended |
//! | `connection` | one open connection |
//! | `persistent` | one connection that is opened again whenever it is lost, and several of them |
//! | `source` | where a persistent connection leads: an address, or what a sentinel names |
//! | `cluster` | the nodes of a cluster, and redirections |

mod cluster;
mod command;
mod connection;
mod error;
mod persistent;
mod reply;
mod server;
mod source;
#[cfg(test)]
mod tests;
mod url;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::watch;

use cluster::Cluster;
pub(crate) use command::Command;
pub(crate) use error::CallError;
use error::ConnectionError;
use persistent::PersistentConnections;
pub(crate) use reply::Reply;
pub use reply::parse_anything;
pub(crate) use server::{Address, Credentials, Server, ServerKind};
use source::Source;

/// How connections are opened, and for how long commands wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientOptions {
    /// The number of connections to each server.
    pub connections: usize,
    /// The time in which a connection must be open.
    pub dial_timeout: Duration,
    /// The longest wait for a reply.
    pub timeout: Duration,
    /// The shortest and the longest pause before a lost connection is opened again.
    pub backoff: (Duration, Duration),
}

/// A handle of the connections to one server or cluster. They are closed when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    server: Arc<Server>,
    options: ClientOptions,
    status: Arc<Status>,
    connections: OnceLock<Connections>,
}

enum Connections {
    Server(PersistentConnections),
    Cluster(Cluster),
}

/// What is known about the connections.
#[derive(Debug, Default)]
struct Status {
    /// True after the first attempt to connect, whatever its result.
    tried: watch::Sender<bool>,
    /// Whether the last attempt to connect failed.
    is_refused: AtomicBool,
    /// Why the last connection was lost or could not be opened.
    error: ArcSwapOption<ConnectionError>,
}

impl Status {
    fn connected(&self) {
        self.is_refused.store(false, Ordering::Release);
        self.tried.send_replace(true);
    }

    /// The attempt to connect failed.
    fn refused(&self, error: ConnectionError) {
        self.is_refused.store(true, Ordering::Release);
        self.lost(error);
    }

    /// A connection that was open is lost.
    fn lost(&self, error: ConnectionError) {
        crate::telemetry::redis::connection_failed(error.reason());
        self.error.store(Some(Arc::new(error)));
        self.tried.send_replace(true);
    }
}

impl Client {
    /// Connections are only opened by [`Client::connect`].
    pub(crate) fn new(server: Server, options: ClientOptions) -> Client {
        Client(Arc::new(Inner {
            server: Arc::new(server),
            options,
            status: Arc::default(),
            connections: OnceLock::new(),
        }))
    }

    /// Opens the connections in the background, and opens them again whenever they are lost.
    pub(crate) fn connect(&self) {
        let inner = &*self.0;
        inner.connections.get_or_init(|| {
            let server = Arc::clone(&inner.server);
            let status = Arc::clone(&inner.status);
            let runtime = Handle::current();
            match &inner.server.kind {
                ServerKind::Cluster(_) => {
                    Connections::Cluster(Cluster::new(server, inner.options, status, runtime))
                }
                ServerKind::One(address) => {
                    let source = Source::Address(address.clone());
                    let lost = Arc::default();
                    Connections::Server(PersistentConnections::new(
                        source,
                        &server,
                        inner.options,
                        &status,
                        &lost,
                        &runtime,
                    ))
                }
                ServerKind::Sentinel(_) => {
                    let lost = Arc::default();
                    Connections::Server(PersistentConnections::new(
                        Source::Sentinel,
                        &server,
                        inner.options,
                        &status,
                        &lost,
                        &runtime,
                    ))
                }
            }
        });
    }

    /// Whether there is an open connection.
    pub(crate) fn is_connected(&self) -> bool {
        match self.0.connections.get() {
            Some(Connections::Server(connections)) => connections.is_connected(),
            Some(Connections::Cluster(cluster)) => cluster.is_connected(),
            None => false,
        }
    }

    /// Whether the last attempt to connect failed.
    pub(crate) fn is_refused(&self) -> bool {
        self.0.status.is_refused.load(Ordering::Acquire)
    }

    /// Whether a first attempt to connect has ended.
    pub(crate) fn was_tried(&self) -> bool {
        *self.0.status.tried.borrow()
    }

    /// Waits for the end of the first attempt to connect.
    pub(crate) async fn tried(&self) {
        let mut tried = self.0.status.tried.subscribe();
        // The sender lives as long as this client.
        let _ = tried.wait_for(|tried| *tried).await;
    }

    /// Why the last connection was lost or could not be opened.
    pub(crate) fn last_error(&self) -> Option<String> {
        let error = self.0.status.error.load();
        error.as_ref().map(|error| error.to_string())
    }

    /// Sends a command whose keys are in the slot of `key`, and waits for its reply.
    ///
    /// # Errors
    /// The server replied with an error, or there is no connection, or it was lost, or there was no reply in time.
    pub(crate) async fn call(&self, key: &str, command: Command) -> Result<Reply, CallError> {
        let sent = command.clone();
        let called = async {
            match self.0.connections.get() {
                Some(Connections::Server(connections)) => connections.call(command, false).await,
                Some(Connections::Cluster(cluster)) => {
                    cluster.call(command::slot(key.as_bytes()), command).await
                }
                None => Err(CallError::NotConnected),
            }
        };
        match tokio::time::timeout(self.0.options.timeout, called).await {
            Ok(Ok(Reply::Error(why))) => Err(CallError::Server(why.to(sent))),
            Ok(result) => result,
            Err(_) => Err(CallError::Timeout),
        }
    }
}
