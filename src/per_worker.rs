//! What each worker thread has for itself, so that workers do not change the same memory.
//!
//! If all workers change one counter, its cache line wanders between the processors, and only one at a time has it. That
//! also applies to the reference count of what all requests use. Here each worker changes a part of its own, and who reads
//! adds the parts up.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// More workers than this share parts.
const MAX_PARTS: usize = 128;
/// The threads besides the workers that change parts: those of admin listeners, and those for blocking work.
const OTHERS: usize = 4;

static NUMBER: OnceLock<usize> = OnceLock::new();

/// Sets the number of workers, before there is any part. Otherwise it is the number of processors.
pub(crate) fn set_workers(workers: usize) {
    // A process that starts twice, as in tests, keeps its first number.
    let _ = NUMBER.set(parts_for(workers));
}

fn parts_for(workers: usize) -> usize {
    workers.saturating_add(OTHERS).min(MAX_PARTS)
}

/// The number of parts.
pub(crate) fn number() -> usize {
    *NUMBER.get_or_init(|| {
        let processors = std::thread::available_parallelism();
        parts_for(processors.map_or(1, usize::from))
    })
}

/// The part of this thread, below [`number`].
#[inline]
pub(crate) fn own() -> usize {
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    #[cold]
    fn assign() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let own = NEXT.fetch_add(1, Ordering::Relaxed) % number();
        OWN.set(own);
        own
    }
    match OWN.get() {
        usize::MAX => assign(),
        own => own,
    }
}

/// One `T` for each worker, made when the worker needs it first. A large `T` should be in a box: all of them have room here.
pub(crate) struct Parts<T>(OnceLock<Box<[OnceLock<T>]>>);

impl<T> Parts<T> {
    pub(crate) const fn new() -> Parts<T> {
        Parts(OnceLock::new())
    }

    /// The part of this worker.
    #[inline]
    pub(crate) fn own_or(&self, make: impl FnOnce() -> T) -> &T {
        let own = self.0.get().and_then(|all| all.get(own())?.get());
        own.unwrap_or_else(|| self.add_own(make))
    }

    #[cold]
    fn add_own(&self, make: impl FnOnce() -> T) -> &T {
        let make_all = || (0..number()).map(|_| OnceLock::new()).collect();
        // The index is below the number.
        self.0.get_or_init(make_all)[own()].get_or_init(make)
    }

    /// The parts that exist.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.get().into_iter().flatten().filter_map(OnceLock::get)
    }
}

impl<T: Default> Parts<T> {
    /// The part of this worker.
    pub(crate) fn own(&self) -> &T {
        self.own_or(T::default)
    }
}

impl<T> Default for Parts<T> {
    fn default() -> Parts<T> {
        Parts::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Parts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

/// A value on cache lines of its own. Processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// A sum to which each worker adds in its own part.
#[derive(Debug, Default)]
pub(crate) struct Sum(Parts<Box<Apart<AtomicI64>>>);

impl Sum {
    pub(crate) fn add(&self, number: i64) {
        self.0.own().0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0
            .all()
            .map(|part| part.0.load(Ordering::Relaxed))
            .sum()
    }
}

/// A value with a reference count for each worker.
///
/// What a request keeps is an [`OwnArc`], which only counts references of this worker. The value is dropped when the
/// `Spread` and all of them are.
#[derive(Debug)]
pub(crate) struct Spread<T: ?Sized> {
    value: Arc<T>,
    copies: Parts<OwnArc<T>>,
}

/// A reference to a value that has another count for each worker.
#[allow(
    clippy::redundant_allocation,
    reason = "the outer count is that of one worker"
)]
pub(crate) type OwnArc<T> = Arc<Arc<T>>;

impl<T> Spread<T> {
    pub(crate) fn new(value: T) -> Spread<T> {
        Arc::new(value).into()
    }
}

impl<T: ?Sized> Clone for Spread<T> {
    /// The same value, with counts of its own.
    fn clone(&self) -> Spread<T> {
        Arc::clone(&self.value).into()
    }
}

impl<T: ?Sized> From<Arc<T>> for Spread<T> {
    fn from(value: Arc<T>) -> Spread<T> {
        Spread {
            value,
            copies: Parts::new(),
        }
    }
}

impl<T: ?Sized> Spread<T> {
    /// A reference that this worker counts.
    pub(crate) fn share(&self) -> OwnArc<T> {
        let copy = || Arc::new(Arc::clone(&self.value));
        Arc::clone(self.copies.own_or(copy))
    }
}

impl<T: ?Sized> std::ops::Deref for Spread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_made_by_the_workers_that_use_them() {
        let parts = Parts::<AtomicUsize>::default();
        assert_eq!(parts.all().count(), 0);
        for _ in 0..2 {
            parts.own().fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(parts.all().count(), 1);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| parts.own().fetch_add(1, Ordering::Relaxed));
            }
        });
        let counts = parts.all().map(|part| part.load(Ordering::Relaxed));
        assert_eq!(counts.sum::<usize>(), 10);
        assert!((2..=number()).contains(&parts.all().count()));
    }

    #[test]
    fn a_sum_contains_what_all_threads_added() {
        let sum = Sum::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| sum.add(2));
            }
        });
        std::thread::spawn(move || {
            sum.add(-15);
            assert_eq!(sum.get(), 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_value_is_dropped_with_its_last_reference() {
        let value = Arc::new(());
        let spread = Spread::new(Arc::clone(&value));
        let (one, two) = (spread.share(), spread.share());
        assert!(Arc::ptr_eq(&one, &two), "one count for a worker");
        std::thread::scope(|scope| {
            scope.spawn(|| drop(spread.share()));
        });
        drop((spread, one));
        assert_eq!(Arc::strong_count(&value), 2);
        drop(two);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn parts_do_not_share_cache_lines() {
        assert_eq!(align_of::<Apart<u8>>(), 128);
        assert_eq!(size_of::<Apart<u8>>(), 128);
    }
}
