//! Counters in parts: each worker changes its own cache lines, and a page shows the sums.
//!
//! One counter for all workers would be changed by each request, and its cache line would wander between the
//! processors.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};

/// More workers than this share parts.
const MAX_PARTS: usize = 64;

/// As many as processors.
static NUMBER: LazyLock<usize> = LazyLock::new(|| {
    std::thread::available_parallelism().map_or(1, |all| all.get().min(MAX_PARTS))
});

/// How many parts there are.
pub(super) fn number() -> usize {
    *NUMBER
}

/// The part of this thread.
pub(super) fn own() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.get().unwrap_or_else(|| {
        let own = NEXT.fetch_add(1, Ordering::Relaxed) % number();
        OWN.set(Some(own));
        own
    })
}

/// A part of what counts all requests.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Requests {
    pub(super) in_flight: AtomicI64,
    pub(super) panics: AtomicU64,
}

/// One part for each worker, which is allocated when the worker changes it first.
#[derive(Debug)]
pub(super) struct Parts<T>(OnceLock<Box<[OnceLock<Box<T>>]>>);

impl<T> Default for Parts<T> {
    fn default() -> Parts<T> {
        Parts(OnceLock::new())
    }
}

impl<T: Default> Parts<T> {
    /// The part of this thread.
    pub(super) fn own(&self) -> &T {
        let parts = self
            .0
            .get_or_init(|| (0..number()).map(|_| OnceLock::new()).collect());
        // `own` is below `number`.
        parts[own()].get_or_init(Box::default)
    }

    /// The parts that exist.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        let parts = self.0.get().into_iter().flatten();
        parts.filter_map(|part| part.get().map(|part| &**part))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn parts_are_created_by_the_workers_that_use_them() {
        let parts = Parts::<AtomicU64>::default();
        assert_eq!(parts.all().count(), 0);
        for _ in 0..2 {
            parts.own().fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(parts.all().count(), 1);
        let other = || parts.own().fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(other);
            }
        });
        let sum: u64 = parts.all().map(|part| part.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 10);
        assert!(parts.all().count() <= number());
    }

    #[test]
    fn parts_of_requests_do_not_share_cache_lines() {
        let first = Arc::new(Requests::default());
        let second = Arc::new(Requests::default());
        let distance = Arc::as_ptr(&first)
            .addr()
            .abs_diff(Arc::as_ptr(&second).addr());
        assert!(distance >= 256, "each has its reference counts before it");
    }
}
