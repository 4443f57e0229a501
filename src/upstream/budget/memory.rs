//! The memory that the process may use. Budgets and connections share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "lua")]
use std::time::Instant;

#[cfg(feature = "lua")]
use once_cell::sync::Lazy;

use super::sharing::{Decision, Division, Report, Sharing};
use super::{add_within, available};
use crate::per_worker::{Apart, Parts};
use crate::telemetry::process::resident_bytes;

pub(super) static PROCESS: Memory = Memory::new(u64::MAX);

/// What a worker takes at once for many small charges.
const ALLOWANCE: u64 = 256 * 1024;
/// The maximum size of a small charge.
const SMALL: u64 = ALLOWANCE / 4;
/// How long the resident memory is known.
#[cfg(feature = "lua")]
const KNOWN_MILLIS: u64 = 4;
/// Something of this size is not made before the resident memory is known.
#[cfg(feature = "lua")]
pub(crate) const MUCH: u64 = 1 << 20;
#[cfg(feature = "lua")]
static STARTED: Lazy<Instant> = Lazy::new(Instant::now);

/// The bytes that are granted, and those that are taken.
#[derive(Debug)]
pub(crate) struct Memory {
    granted: AtomicU64,
    /// With the unused part of the allowances.
    taken: AtomicU64,
    /// What each worker has taken and does not use now. So workers do not change `taken` for each call.
    unused: Parts<Box<Apart<AtomicU64>>>,
    /// The resident memory of the process if all that is granted is taken, and nothing else.
    #[cfg(feature = "lua")]
    ceiling: AtomicU64,
    /// The resident memory, and when the system was asked for it.
    #[cfg(feature = "lua")]
    resident: AtomicU64,
    #[cfg(feature = "lua")]
    asked: AtomicU64,
    /// From what the limit is computed. Requests do not use it.
    sharing: Mutex<Sharing>,
}

impl Memory {
    pub(super) const fn new(granted: u64) -> Memory {
        Memory {
            granted: AtomicU64::new(granted),
            taken: AtomicU64::new(0),
            unused: Parts::new(),
            #[cfg(feature = "lua")]
            ceiling: AtomicU64::new(u64::MAX),
            #[cfg(feature = "lua")]
            resident: AtomicU64::new(0),
            #[cfg(feature = "lua")]
            asked: AtomicU64::new(0),
            sharing: Mutex::new(Sharing::UNKNOWN),
        }
    }

    /// The memory of this process.
    pub(crate) fn process() -> &'static Memory {
        &PROCESS
    }

    /// Sets the limit: the available memory without what the process uses now, before it has clients, and without what a
    /// process uses from which it takes over.
    pub(crate) fn grant(&self) {
        let resident = resident_bytes();
        self.share(|sharing| sharing.own = resident.max(1));
    }

    /// Another process, from which this one takes over, reports what it uses. Returns what to tell it.
    pub(crate) fn divide(&self, division: &mut Division, old: &Report) -> Option<Decision> {
        let mut decision = None;
        self.share(|sharing| {
            (sharing.others, decision) = division.decide(sharing, old, self.taken());
        });
        decision
    }

    /// That process has ended.
    pub(crate) fn is_alone(&self) {
        self.share(|sharing| sharing.others = 0);
    }

    /// The limit, if it is known and no other process takes over from this one.
    pub(crate) fn settled(&self) -> Option<u64> {
        let sharing = *self.sharing();
        (sharing.own > 0 && sharing.cap.is_none()).then(|| self.granted())
    }

    /// A process starts that will take over.
    pub(crate) fn expect_successor(&self) {
        self.share(|sharing| sharing.cap = Some(sharing.before_successor()));
    }

    /// The process that takes over has started, and uses `successor` bytes without traffic.
    pub(crate) fn leave_to_successor(&self, successor: u64) {
        self.share(|sharing| sharing.cap = Some(sharing.beside_successor(successor, self.taken())));
    }

    /// That process has decided about the limit of this one.
    pub(crate) fn follow(&self, decision: &Decision) {
        self.share(|sharing| sharing.cap = Some(decision.limit()));
    }

    /// What to report to it, after the decision with this number.
    pub(crate) fn report(&self, number: u64) -> Report {
        let resident = resident_bytes();
        self.sharing().report(self.taken(), resident, number)
    }

    /// No process takes over any more.
    pub(crate) fn keep(&self) {
        self.share(|sharing| sharing.cap = None);
    }

    /// Whether a process that takes over has no space before some requests have ended.
    pub(crate) fn must_wait(&self) -> bool {
        let resident = resident_bytes();
        self.sharing().must_wait(self.taken(), resident)
    }

    /// Changes what is known, and the limit with it.
    fn share(&self, change: impl FnOnce(&mut Sharing)) {
        let mut sharing = self.sharing();
        if sharing.available == 0 {
            sharing.available = available();
        }
        change(&mut sharing);
        if sharing.own > 0 {
            let bytes = sharing.granted();
            #[cfg(feature = "lua")]
            self.ceiling.store(sharing.own + bytes, Ordering::Relaxed);
            self.granted.store(bytes, Ordering::Relaxed);
        }
    }

    fn sharing(&self) -> MutexGuard<'_, Sharing> {
        // Every change is complete after each statement, so a panic leaves nothing wrong.
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// The bytes by which the process may still grow, as the system counts it: with the pages that the allocator has
    /// not given back. It is for something that takes `size` bytes. The system is asked if `now` is set, and otherwise
    /// at most every few milliseconds.
    ///
    /// Not known, and of no interest, while little is taken, unless `size` is large: one after the other may leave its
    /// pages to the allocator, although little is taken at any time.
    #[cfg(feature = "lua")]
    pub(crate) fn room(&self, size: u64, now: bool) -> Option<u64> {
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        if ceiling == u64::MAX {
            return None;
        }
        let granted = self.granted();
        let last = ceiling.saturating_sub(self.resident.load(Ordering::Relaxed));
        if size < MUCH && last >= granted / 2 && self.taken() <= granted / 8 {
            return None;
        }
        let time = u64::try_from(STARTED.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now || time.saturating_sub(self.asked.load(Ordering::Relaxed)) > KNOWN_MILLIS {
            self.resident.store(resident_bytes(), Ordering::Relaxed);
            self.asked.store(time, Ordering::Relaxed);
        }
        Some(ceiling.saturating_sub(self.resident.load(Ordering::Relaxed)))
    }

    /// The bytes in use.
    pub(crate) fn taken(&self) -> u64 {
        let unused = self.unused.all();
        let unused: u64 = unused.map(|own| own.0.load(Ordering::Relaxed)).sum();
        self.taken.load(Ordering::Relaxed).saturating_sub(unused)
    }

    /// Whether more is taken than the granted memory without `reserve`.
    pub(crate) fn is_short(&self, reserve: u64) -> bool {
        !self.has(0, self.most(reserve))
    }

    /// What may be taken if `reserve` is left.
    pub(super) fn most(&self, reserve: u64) -> u64 {
        self.granted().saturating_sub(reserve)
    }

    /// Whether the bytes fit into `most`.
    pub(super) fn has(&self, bytes: u64, most: u64) -> bool {
        let fits = || self.taken.load(Ordering::Relaxed).saturating_add(bytes) <= most;
        fits() || (self.collect() && fits())
    }

    /// Takes the bytes unless more than `most` would be taken.
    pub(super) fn take(&self, bytes: u64, most: u64) -> bool {
        let take = || add_within(&self.taken, bytes, most);
        take() || (self.collect() && take())
    }

    /// The same from the allowance of this worker, if the bytes are few. To be released with [`Memory::release_part`].
    pub(super) fn take_part(&self, bytes: u64, most: u64) -> bool {
        if bytes > SMALL {
            return self.take(bytes, most);
        }
        let own = &self.unused.own().0;
        if subtract(own, bytes) {
            return true;
        }
        if add_within(&self.taken, bytes + ALLOWANCE, most) {
            own.fetch_add(ALLOWANCE, Ordering::Relaxed);
            return true;
        }
        self.take(bytes, most)
    }

    /// Releases bytes into the allowance of this worker, and from it what is too much.
    pub(super) fn release_part(&self, bytes: u64) {
        if bytes > SMALL {
            return self.release(bytes);
        }
        let own = &self.unused.own().0;
        let unused = own
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        if unused > 2 * ALLOWANCE && subtract(own, unused - ALLOWANCE) {
            self.release(unused - ALLOWANCE);
        }
    }

    /// Takes back what workers do not use. `false` if there is nothing.
    #[cold]
    fn collect(&self) -> bool {
        let unused = self.unused.all();
        let unused: u64 = unused.map(|own| own.0.swap(0, Ordering::Relaxed)).sum();
        self.release(unused);
        unused > 0
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Subtracts the bytes if there are so many.
fn subtract(counter: &AtomicU64, bytes: u64) -> bool {
    let less = |held: u64| held.checked_sub(bytes);
    let order = Ordering::Relaxed;
    counter.fetch_update(order, order, less).is_ok()
}

#[cfg(all(test, feature = "lua"))]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_counts_for_something_large_although_little_is_taken() {
        let memory = Memory::new(1 << 30);
        memory.ceiling.store(1 << 40, Ordering::Relaxed);
        assert_eq!(memory.room(MUCH - 1, true), None);
        let room = memory.room(MUCH, true).unwrap();
        assert!(room < 1 << 40 && room > 1 << 39, "{room}");
        // Nothing is taken, but the pages that were freed are not given back yet.
        memory
            .ceiling
            .store(resident_bytes() / 2, Ordering::Relaxed);
        assert_eq!(memory.room(MUCH, true), Some(0));
        assert_eq!(memory.room(1, false), Some(0));
    }
}
