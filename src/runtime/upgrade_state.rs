//! What an upgrade passes to the new process besides the sockets.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::runtime::own_listener::OwnListener;

/// State that was fetched from elsewhere, and that the process which takes over would have to fetch again.
pub trait UpgradeState: fmt::Debug + Send + Sync {
    /// The state now, in lines of text. It may contain secrets.
    fn give(&self) -> String;

    /// Takes what the old process gave, for all its states. What does not belong to this one is ignored. Called once with
    /// the whole state, and then with each line that the old process sent later, by [`tell_successor`].
    fn take(&self, given: &str);

    /// The listening socket, if this is one. It is passed on with those of the server.
    fn listener(&self) -> Option<&OwnListener> {
        None
    }
}

/// The process that takes over from this one.
static SUCCESSOR: Mutex<Successor> = Mutex::new(Successor::None);

enum Successor {
    None,
    Connected(Box<dyn Write + Send>),
    /// Some of a line may not have been sent, so nothing more can be.
    Lost,
}

/// From now on, lines are sent to the process that takes over. It requests the state after this.
pub(crate) fn set_successor(connection: impl Write + Send + 'static) {
    *successor() = Successor::Connected(Box::new(connection));
}

/// The process that was to take over has ended.
pub(crate) fn forget_successor() {
    *successor() = Successor::None;
}

/// Sends a line, which ends with `\n`, to the process that takes over, after a change of state that it may have copied
/// before. Returns without effect if no process takes over: then a later copy of the state has the change.
///
/// # Errors
/// There is such a process, but this line or an earlier one did not reach it.
pub(crate) fn tell_successor(line: &str) -> Result<(), NotTold> {
    debug_assert!(line.ends_with('\n') && line.lines().count() == 1);
    successor().tell(line)
}

impl Successor {
    fn tell(&mut self, line: &str) -> Result<(), NotTold> {
        let written = match self {
            Successor::None => return Ok(()),
            Successor::Connected(connection) => connection.write_all(line.as_bytes()),
            Successor::Lost => return Err(NotTold),
        };
        written.map_err(|_| {
            *self = Successor::Lost;
            NotTold
        })
    }
}

/// A change of state did not reach the process that takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process that takes over was not told")]
pub(crate) struct NotTold;

fn successor() -> MutexGuard<'static, Successor> {
    // Every change is one assignment, so a panic leaves no partial change.
    SUCCESSOR.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    /// Takes so many bytes, then fails.
    struct Full(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = self.0.lock().unwrap();
            let space = (self.1 - taken.len()).min(bytes.len());
            if space == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            taken.extend_from_slice(&bytes[..space]);
            Ok(space)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_line_that_did_not_arrive_no_other_one_is_sent() {
        let mut successor = Successor::None;
        assert_eq!(successor.tell("nobody\n"), Ok(()));
        let taken = Arc::default();
        successor = Successor::Connected(Box::new(Full(Arc::clone(&taken), 12)));
        assert_eq!(successor.tell("first\n"), Ok(()));
        assert_eq!(successor.tell("the second\n"), Err(NotTold));
        assert_eq!(successor.tell("x\n"), Err(NotTold));
        assert_eq!(*taken.lock().unwrap(), b"first\nthe se");
    }
}
