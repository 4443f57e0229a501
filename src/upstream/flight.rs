//! Work that a background task does and that requests wait for, together.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};

/// One piece of work at a time, asked for by any number of requests. A request that gives up waiting stops nothing:
/// the work belongs to the background task.
#[derive(Debug)]
pub(super) struct Flight {
    wanted: Notify,
    pending: AtomicBool,
    done: watch::Sender<u64>,
}

impl Default for Flight {
    fn default() -> Flight {
        Flight {
            wanted: Notify::new(),
            pending: AtomicBool::new(false),
            done: watch::Sender::new(0),
        }
    }
}

impl Flight {
    /// Whether the work was asked for and is not done.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Asks for the work without waiting.
    pub(super) fn ask(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.wanted.notify_one();
        }
    }

    /// Asks for the work, or joins the one under way, and waits for its end, at most `limit`.
    pub(super) async fn join(&self, limit: Duration) -> bool {
        let mut done = self.done.subscribe();
        self.ask();
        matches!(
            tokio::time::timeout(limit, done.changed()).await,
            Ok(Ok(()))
        )
    }

    /// For the background task: waits until someone asks.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// For the background task: the work begins, whoever asked for it.
    pub(super) fn begin(&self) {
        self.pending.store(true, Ordering::Release);
    }

    /// For the background task: the work is done, well or badly.
    pub(super) fn finish(&self) {
        self.pending.store(false, Ordering::Release);
        self.done.send_modify(|count| *count += 1);
    }
}

/// Tends whatever appears in `fresh`, each by a future of its own, until `shutdown` turns true: one that hangs holds up
/// no other. `added` says that something has appeared.
pub(super) async fn tend_all<T, F: Future<Output = ()>>(
    fresh: &Mutex<Vec<T>>,
    added: &Notify,
    tend: impl Fn(T) -> F,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut tended = FuturesUnordered::new();
    loop {
        let new = std::mem::take(&mut *fresh.lock().unwrap_or_else(PoisonError::into_inner));
        tended.extend(new.into_iter().map(&tend));
        tokio::select! {
            Some(()) = tended.next() => {}
            () = added.notified() => {}
            changed = shutdown.changed() => {
                if changed.is_err() || *shutdown.borrow() {
                    return;
                }
            }
        }
    }
}
