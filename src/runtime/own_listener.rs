//! A listening socket that a part of the service serves itself. The server binds it, an upgrade passes it on, and a process
//! that stops closes it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::watch;

use crate::runtime::upgrade_state::UpgradeState;

/// The socket of one address. It is closed when this is dropped and its [`Turn`] has ended.
#[derive(Debug)]
pub struct OwnListener {
    /// The block of the configuration that asks for the address.
    pub block: &'static str,
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Debug)]
enum State {
    New,
    /// The process before this one still has the address. The server tries again.
    Waiting,
    Open(Arc<TcpListener>),
    Closed,
}

impl OwnListener {
    /// Without a socket.
    pub fn new(block: &'static str, address: SocketAddr) -> OwnListener {
        OwnListener {
            block,
            address,
            state: watch::channel(State::New).0,
        }
    }

    /// For the task that serves it.
    pub(crate) fn turn(&self) -> Turn {
        Turn(self.state.subscribe())
    }

    /// Whether nobody has tried to bind it yet.
    pub(crate) fn is_new(&self) -> bool {
        matches!(*self.state.borrow(), State::New)
    }

    /// Notes that the server binds it later.
    pub(crate) fn wait(&self) {
        self.state.send_replace(State::Waiting);
    }

    /// Whether the server still has to bind it later.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(*self.state.borrow(), State::Waiting)
    }

    /// Serves this socket, unless the listener was closed meanwhile.
    pub(crate) fn open(&self, socket: TcpListener) {
        self.state.send_if_modified(|state| {
            let is_due = !matches!(state, State::Closed);
            if is_due {
                *state = State::Open(Arc::new(socket));
            }
            is_due
        });
    }

    /// A handle of the socket, for the process that takes over. `None` if there is no socket.
    pub(crate) fn socket(&self) -> Option<io::Result<TcpListener>> {
        match &*self.state.borrow() {
            State::Open(socket) => Some(socket.try_clone()),
            _ => None,
        }
    }

    /// Ends its task and all its connections.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }
}

impl UpgradeState for OwnListener {
    fn give(&self) -> String {
        String::new()
    }

    fn take(&self, _: &str) {}

    fn listener(&self) -> Option<&OwnListener> {
        Some(self)
    }
}

/// Tells the task that serves a listener when to begin and when to end.
#[derive(Debug)]
pub(crate) struct Turn(watch::Receiver<State>);

impl Turn {
    /// Waits for the socket. `None` if the task has to end.
    pub(crate) async fn opened(&mut self) -> Option<io::Result<TcpListener>> {
        let settled = |state: &State| matches!(state, State::Open(_) | State::Closed);
        match &*self.0.wait_for(settled).await.ok()? {
            State::Open(socket) => Some(socket.try_clone()),
            _ => None,
        }
    }

    /// Returns when the task has to end.
    pub(crate) async fn closed(&mut self) {
        // An error means that the listener is dropped.
        let _ = self
            .0
            .wait_for(|state| matches!(state, State::Closed))
            .await;
    }
}
