//! The file descriptors that connections to upstreams may use.
//!
//! An endpoint with several backends, or a client of HTTP/2, needs more than one connection at a time. Without a limit
//! they would take the descriptors that the process needs to accept clients, to reload its configuration and to respond to
//! its operator. Calls beyond the limit wait in a line, as long as their deadlines allow. Idle connections are closed
//! for them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::telemetry::calm::Calm;

/// How long the first in the line waits before it checks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The descriptors for connections to upstreams.
#[derive(Debug)]
pub(crate) struct Sockets {
    most: AtomicUsize,
    taken: AtomicUsize,
    /// The number of calls in the line.
    waiting: AtomicUsize,
    line: Mutex<()>,
    changed: Notify,
    calm: Calm,
}

/// A descriptor for a connection that is being opened. Freed on drop: an open connection counts by itself.
#[derive(Debug)]
pub(super) struct Socket<'a>(&'a Sockets);

/// The first place in the line.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    sockets: &'a Sockets,
    _first: MutexGuard<'a, ()>,
    _place: Place<'a>,
}

/// A place in the line.
#[derive(Debug)]
struct Place<'a>(&'a Sockets);

impl Sockets {
    fn new() -> Sockets {
        Sockets {
            most: AtomicUsize::new(usize::MAX),
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::const_new(()),
            changed: Notify::const_new(),
            calm: Calm::default(),
        }
    }

    /// Those of this process. Without a limit until [`Sockets::allow`] is called.
    pub(crate) fn process() -> &'static Sockets {
        static PROCESS: LazyLock<Sockets> = LazyLock::new(Sockets::new);
        &PROCESS
    }

    /// Sets the limit.
    pub(crate) fn allow(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Whether calls wait. Then others take their place in the line, too.
    pub(super) fn is_scarce(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A descriptor, if one is free and no call waits for it.
    pub(super) fn take(&self) -> Option<Socket<'_>> {
        (!self.is_scarce()).then(|| self.try_take()).flatten()
    }

    fn try_take(&self) -> Option<Socket<'_>> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Socket(self))
    }

    /// Waits until all calls that came before have what they need.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        self.calm.warn(|| {
            let most = self.most.load(Ordering::Relaxed);
            format!(
                "[SERVICE: Gateway] calls wait: the limit of file descriptors allows at most {most} connections to backends at a time"
            )
        });
        Turn {
            sockets: self,
            _first: self.line.lock().await,
            _place: place,
        }
    }

    /// A connection was opened.
    pub(super) fn opened(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was closed.
    pub(super) fn closed(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.changed();
    }

    /// A connection was closed or became idle.
    pub(super) fn changed(&self) {
        if self.is_scarce() {
            self.changed.notify_one();
        }
    }
}

impl<'a> Turn<'a> {
    /// A descriptor, if one is free.
    pub(super) fn take(&self) -> Option<Socket<'a>> {
        self.sockets.try_take()
    }

    /// Waits until a connection is closed or becomes idle, at most [`LOOK_AGAIN`].
    pub(super) async fn change(&self) {
        let _ = tokio::time::timeout(LOOK_AGAIN, self.sockets.changed.notified()).await;
    }
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn calls_wait_in_line_for_a_descriptor() {
        let sockets = Sockets::new();
        sockets.allow(2);
        let (one, two) = (sockets.take().unwrap(), sockets.take().unwrap());
        assert!(sockets.take().is_none());
        let first = sockets.turn().await;
        assert!(first.take().is_none());
        let mut second = std::pin::pin!(sockets.turn());
        assert!(second.as_mut().now_or_never().is_none());
        drop(one);
        assert!(sockets.take().is_none(), "others came before");
        let one = first.take().unwrap();
        drop(first);
        let second = second.await;
        drop(two);
        second.change().await;
        let two = second.take().unwrap();
        drop(second);
        // An open connection counts until it is closed.
        sockets.opened();
        drop((one, two));
        let one = sockets.take().unwrap();
        assert!(sockets.take().is_none());
        sockets.closed();
        assert!(sockets.take().is_some());
        drop(one);
        assert_eq!(sockets.taken.load(Ordering::Relaxed), 0);
    }
}
