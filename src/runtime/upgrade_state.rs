//! What an upgrade passes to the new process besides the sockets.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// State that was fetched from elsewhere, and that the process which takes over would have to fetch again.
pub trait UpgradeState: fmt::Debug + Send + Sync {
    /// The state now, in lines of text. It may contain secrets.
    fn give(&self) -> String;

    /// Takes what the old process gave, for all its states. What does not belong to this one is ignored. Called once with
    /// the whole state, and then with each line that the old process sent later, by [`tell_successor`].
    fn take(&self, given: &str);
}

/// The connection to the process that takes over from this one.
static SUCCESSOR: Mutex<Option<Connection>> = Mutex::new(None);

type Connection = Box<dyn Write + Send>;

/// From now on, lines are sent to the process that takes over. It requests the state after this.
pub(crate) fn set_successor(connection: Option<Connection>) {
    *successor() = connection;
}

/// Sends a line, which ends with `\n`, to the process that takes over, after a change of state that it may have copied
/// before. Returns without effect if no process takes over: then a later copy of the state has the change.
///
/// # Errors
/// There is such a process, but the line did not reach it.
pub(crate) fn tell_successor(line: &str) -> Result<(), NotTold> {
    debug_assert!(line.ends_with('\n') && line.lines().count() == 1);
    let mut successor = successor();
    let Some(connection) = successor.as_mut() else {
        return Ok(());
    };
    let written = connection.write_all(line.as_bytes());
    written.map_err(|_| NotTold)
}

/// A change of state did not reach the process that takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process that takes over was not told")]
pub(crate) struct NotTold;

fn successor() -> MutexGuard<'static, Option<Connection>> {
    // A panic leaves no partial change.
    SUCCESSOR.lock().unwrap_or_else(PoisonError::into_inner)
}
