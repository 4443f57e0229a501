//! Work that a background task does and that several requests wait for together.

use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};

use super::registry::Registry;

/// One piece of work at a time, requested by any number of requests. A request that stops waiting does not cancel the
/// work, because it belongs to the background task.
#[derive(Debug)]
pub(super) struct SharedWork {
    wanted: Notify,
    pending: AtomicBool,
    done: watch::Sender<u64>,
}

impl Default for SharedWork {
    fn default() -> SharedWork {
        SharedWork {
            wanted: Notify::new(),
            pending: AtomicBool::new(false),
            done: watch::Sender::new(0),
        }
    }
}

impl SharedWork {
    /// Whether the work was requested and is not finished.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Requests the work without waiting.
    pub(super) fn ask(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.wanted.notify_one();
        }
    }

    /// Requests the work, or joins the work in progress, and waits for its end, at most `limit`.
    pub(super) async fn join(&self, limit: Duration) -> bool {
        let ask = || {
            self.ask();
            true
        };
        self.join_until(limit, ask, || false).await
    }

    /// Requests the work with `ask`, which may refuse, and waits until it ends or `enough` of it is done, at most
    /// `limit`. Returns `false` if neither has happened. It may also have happened just before.
    pub(super) async fn join_until(
        &self,
        limit: Duration,
        ask: impl FnOnce() -> bool,
        enough: impl Fn() -> bool,
    ) -> bool {
        let mut done = self.done.subscribe();
        let before = *done.borrow_and_update();
        if !ask() {
            return enough();
        }
        let ended = done.wait_for(|count| *count != before || enough());
        matches!(tokio::time::timeout(limit, ended).await, Ok(Ok(_)))
    }

    /// For the background task: waits until the work is requested.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Makes the background task check its conditions again, without requesting the work.
    pub(super) fn nudge(&self) {
        self.wanted.notify_one();
    }

    /// For the background task: marks the work as started.
    pub(super) fn begin(&self) {
        self.pending.store(true, Ordering::Release);
    }

    /// For the background task: a part of the work is done. Those who wait look whether it is enough.
    pub(super) fn progress(&self) {
        self.done.send_modify(|_| ());
    }

    /// For the background task: marks the work as finished, successful or not.
    pub(super) fn finish(&self) {
        self.pending.store(false, Ordering::Release);
        self.done.send_modify(|count| *count += 1);
    }
}

/// Sources by the key that defines them. Equal keys share a source for as long as it is in use.
#[derive(Debug)]
pub(super) struct Sources<K, T> {
    known: Mutex<Registry<K, T>>,
    /// Sources that have no background task yet.
    fresh: Mutex<Vec<Weak<T>>>,
    added: Notify,
}

impl<K, T> Default for Sources<K, T> {
    fn default() -> Sources<K, T> {
        Sources {
            known: Mutex::default(),
            fresh: Mutex::default(),
            added: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T> Sources<K, T> {
    /// The source of `key`: the existing one, after `found` has checked it, or a new one from `make`.
    ///
    /// # Errors
    /// Those of `found` and `make`. A source that could not be made is not kept.
    pub(super) fn get<E>(
        &self,
        key: &K,
        found: impl FnOnce(&T) -> Result<(), E>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, is_new) = known.try_shared(key.clone(), make)?;
        drop(known);
        if !is_new {
            found(&source)?;
            return Ok(source);
        }
        self.fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&source));
        self.added.notify_one();
        Ok(source)
    }

    /// The sources in use.
    pub(super) fn alive(&self) -> Vec<Arc<T>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.in_use()
    }

    /// Runs a future for each source until `shutdown` becomes true. A source that hangs does not delay others.
    pub(super) async fn tend_all<F: Future<Output = ()>>(
        &self,
        tend: impl Fn(Weak<T>) -> F,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut tended = FuturesUnordered::new();
        loop {
            let new = {
                let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *fresh)
            };
            tended.extend(new.into_iter().map(&tend));
            tokio::select! {
                Some(()) = tended.next() => {}
                () = self.added.notified() => {}
                changed = shutdown.changed() => {
                    if changed.is_err() || *shutdown.borrow() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_ended_before_it_was_requested_is_enough() {
        let work = SharedWork::default();
        let limit = Duration::from_secs(60);
        assert!(!work.join_until(limit, || false, || false).await);
        assert!(work.join_until(limit, || false, || true).await);
    }
}
