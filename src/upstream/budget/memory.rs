//! The memory that the process may use. Budgets and connections share it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
#[cfg(any(feature = "lua", feature = "cel"))]
use std::time::Instant;

#[cfg(any(feature = "lua", feature = "cel"))]
use once_cell::sync::Lazy;

use super::ledger::{Ledger, Use};
use super::sharing::Sharing;
#[cfg(any(feature = "lua", feature = "cel"))]
use super::{Budget, Full};
use super::{add_within, available};
use crate::per_worker::{Apart, Parts};
use crate::telemetry::process::{anonymous_bytes, resident_bytes};

pub(super) static PROCESS: Memory = Memory::new(u64::MAX);

/// What a worker takes at once for many small charges.
const ALLOWANCE: u64 = 256 * 1024;
/// What a process uses at least without requests and the program: more may be taken than is filled yet.
const LEAST_APART: u64 = 8 << 20;
/// The maximum size of a small charge.
const SMALL: u64 = ALLOWANCE / 4;
/// How long the resident memory is known.
#[cfg(any(feature = "lua", feature = "cel"))]
const KNOWN_MILLIS: u64 = 4;
/// Something of this size is not made before the resident memory is known.
#[cfg(any(feature = "lua", feature = "cel"))]
pub(crate) const MUCH: u64 = 1 << 20;
#[cfg(any(feature = "lua", feature = "cel"))]
static STARTED: Lazy<Instant> = Lazy::new(Instant::now);

/// The bytes that are granted, and those that are taken.
#[derive(Debug)]
pub(crate) struct Memory {
    /// To this process, or to all those of an upgrade together.
    granted: AtomicU64,
    /// What is granted to this process in any case.
    least: AtomicU64,
    /// Whether other processes take from what is granted.
    is_shared: AtomicBool,
    /// What each of these takes.
    ledger: OnceLock<Ledger>,
    /// With the unused part of the allowances.
    taken: AtomicU64,
    /// What each worker has taken and does not use now. So workers do not change `taken` for each call.
    unused: Parts<Box<Apart<AtomicU64>>>,
    /// The resident memory of the process if all that is granted is taken, and nothing else.
    #[cfg(any(feature = "lua", feature = "cel"))]
    ceiling: AtomicU64,
    /// The resident memory, and when the system was asked for it.
    #[cfg(any(feature = "lua", feature = "cel"))]
    resident: AtomicU64,
    #[cfg(any(feature = "lua", feature = "cel"))]
    asked: AtomicU64,
    /// From what the limit is computed. Requests do not use it.
    sharing: Mutex<Sharing>,
}

impl Memory {
    pub(super) const fn new(granted: u64) -> Memory {
        Memory {
            granted: AtomicU64::new(granted),
            least: AtomicU64::new(0),
            is_shared: AtomicBool::new(false),
            ledger: OnceLock::new(),
            taken: AtomicU64::new(0),
            unused: Parts::new(),
            #[cfg(any(feature = "lua", feature = "cel"))]
            ceiling: AtomicU64::new(u64::MAX),
            #[cfg(any(feature = "lua", feature = "cel"))]
            resident: AtomicU64::new(0),
            #[cfg(any(feature = "lua", feature = "cel"))]
            asked: AtomicU64::new(0),
            sharing: Mutex::new(Sharing::UNKNOWN),
        }
    }

    /// The memory of this process.
    pub(crate) fn process() -> &'static Memory {
        &PROCESS
    }

    /// Sets the limit: the available memory without what the process uses now, before it has clients, and without what
    /// processes use from which it takes over.
    pub(crate) fn grant(&self) {
        let resident = resident_bytes();
        self.share(|sharing| sharing.own = resident.max(1));
        self.refresh();
    }

    /// Shares the memory with a process from which this one takes over, and which has passed on this file.
    ///
    /// # Errors
    /// Too many processes share it already.
    pub(crate) fn join(&self, file: OwnedFd) -> io::Result<()> {
        let _ = self.ledger.set(Ledger::join(file)?);
        self.refresh();
        Ok(())
    }

    /// The file for a process that takes over from this one. `None` if the system makes no such file.
    pub(crate) fn to_share(&self) -> Option<BorrowedFd<'_>> {
        if self.ledger.get().is_none() {
            let _ = self.ledger.set(Ledger::create().ok()?);
        }
        self.refresh();
        self.ledger.get().map(Ledger::file)
    }

    /// Computes the limit again from what other processes use, and tells them what this one uses. Returns whether there are
    /// any. To be called often while there are.
    pub(crate) fn refresh(&self) -> bool {
        let Some(ledger) = self.ledger.get() else {
            return false;
        };
        let taken = self.taken.load(Ordering::Relaxed);
        let others = ledger.others_in_use();
        self.share(|sharing| {
            sharing.others = others;
            // The system may not have got back yet what is no longer taken.
            sharing.apart = anonymous_bytes().saturating_sub(taken).max(LEAST_APART);
            let base = sharing.base();
            ledger.set(Use { base, taken });
        });
        self.is_shared.store(others.is_some(), Ordering::Relaxed);
        others.is_some()
    }

    /// The process with this id has ended.
    pub(crate) fn ended(&self, id: u64) {
        if let Some(ledger) = self.ledger.get() {
            ledger.free_of(id);
        }
        self.refresh();
    }

    /// What the requests of this process and others may take, if that is known and no other process takes over from this
    /// one.
    pub(crate) fn settled(&self) -> Option<u64> {
        let sharing = *self.sharing();
        let is_settled = sharing.own > 0 && !sharing.is_expecting && !sharing.is_replaced;
        is_settled.then(|| self.granted())
    }

    /// A process starts that will take over, or it has started or failed.
    pub(crate) fn expect_successor(&self, is_expecting: bool) {
        self.share(|sharing| sharing.is_expecting = is_expecting);
    }

    /// Another process takes over, or has ended.
    pub(crate) fn replaced(&self, is_replaced: bool) {
        self.share(|sharing| sharing.is_replaced = is_replaced);
        self.refresh();
    }

    /// This process ends. What it has taken is free for others.
    pub(crate) fn leave(&self) {
        self.ledger.get().into_iter().for_each(Ledger::leave);
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
            #[cfg(any(feature = "lua", feature = "cel"))]
            {
                let others = sharing.others.unwrap_or_default().taken;
                let ceiling = sharing.own + bytes.saturating_sub(others).max(sharing.least());
                self.ceiling.store(ceiling, Ordering::Relaxed);
            }
            self.granted.store(bytes, Ordering::Relaxed);
            self.least.store(sharing.least(), Ordering::Relaxed);
        }
    }

    fn sharing(&self) -> MutexGuard<'_, Sharing> {
        // Every change is complete after each statement, so a panic leaves nothing wrong.
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// What requests of this process may take now.
    pub(crate) fn limit(&self) -> u64 {
        self.own_part(self.granted())
    }

    /// The bytes by which the process may still grow, as the system counts it: with the pages that the allocator has
    /// not given back. It is for something that takes `size` bytes. The system is asked if `now` is set, and otherwise
    /// at most every few milliseconds.
    ///
    /// Not known, and of no interest, while little is taken, unless `size` is large: one after the other may leave its
    /// pages to the allocator, although little is taken at any time.
    #[cfg(any(feature = "lua", feature = "cel"))]
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

    /// The resident memory that [`Memory::room`] has asked for last.
    #[cfg(feature = "lua")]
    pub(super) fn last_resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Asks the system whether the process may grow by `needed` bytes for something that takes `size`.
    ///
    /// # Errors
    /// It may not, which counts as a rejection.
    #[cfg(any(feature = "lua", feature = "cel"))]
    pub(crate) fn ask(&self, size: u64, needed: u64) -> Result<(), Full> {
        if self.room(size, true).is_some_and(|room| room < needed) {
            Budget::process().count_rejection();
            return Err(Full);
        }
        Ok(())
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

    /// What this process may take of `most`.
    pub(super) fn own_part(&self, most: u64) -> u64 {
        let is_shared = self.is_shared.load(Ordering::Relaxed);
        let Some(ledger) = self.ledger.get().filter(|_| is_shared) else {
            return most;
        };
        let left = most.saturating_sub(ledger.taken_by_others());
        left.max(most.min(self.least.load(Ordering::Relaxed)))
    }

    /// Whether the bytes fit into `most`.
    pub(super) fn has(&self, bytes: u64, most: u64) -> bool {
        let most = self.own_part(most);
        let fits = || self.taken.load(Ordering::Relaxed).saturating_add(bytes) <= most;
        fits() || (self.collect() && fits())
    }

    /// Takes the bytes unless more than `most` would be taken.
    pub(super) fn take(&self, bytes: u64, most: u64) -> bool {
        self.take_within(bytes, most) || (self.collect() && self.take_within(bytes, most))
    }

    fn take_within(&self, bytes: u64, most: u64) -> bool {
        let taken = add_within(&self.taken, bytes, self.own_part(most));
        if taken {
            self.tell();
        }
        taken
    }

    /// Tells other processes what this one has taken. Another thread may tell less at the same time: that is corrected soon.
    fn tell(&self) {
        if self.is_shared.load(Ordering::Relaxed)
            && let Some(ledger) = self.ledger.get()
        {
            ledger.set_taken(self.taken.load(Ordering::Relaxed));
        }
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
        if self.take_within(bytes + ALLOWANCE, most) {
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
        self.tell();
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.tell();
    }
}

/// Subtracts the bytes if there are so many.
fn subtract(counter: &AtomicU64, bytes: u64) -> bool {
    let less = |held: u64| held.checked_sub(bytes);
    let order = Ordering::Relaxed;
    counter.fetch_update(order, order, less).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Processes of an upgrade that may take 150 MiB together, and each of them 10 in any case.
    fn processes(count: usize) -> Vec<Memory> {
        let first = Memory::new(150 * MIB);
        let mut all = vec![first];
        for _ in 1..count {
            let file = all[0].to_share().unwrap().try_clone_to_owned().unwrap();
            let memory = Memory::new(150 * MIB);
            memory.join(file).unwrap();
            all.push(memory);
        }
        for memory in &all {
            memory.least.store(10 * MIB, Ordering::Relaxed);
            assert!(memory.refresh());
        }
        all
    }

    #[test]
    fn what_one_process_takes_no_other_one_can_take() {
        let all = processes(3);
        let take = |number: usize, mib: u64| all[number].take(mib * MIB, all[number].most(0));
        assert!(take(0, 100) && take(1, 20) && take(2, 30));
        assert!(!take(0, 1) && !take(1, 1) && !take(2, 1));
        assert!(all[1].is_short(1) && !all[0].has(1, all[0].most(0)));
        all[0].release(60 * MIB);
        assert!(take(2, 60) && !take(1, 1));
        // One that ends leaves it to the others.
        all[2].leave();
        assert!(all[0].refresh() && take(0, 90) && !take(1, 1));
        all[1].leave();
        assert!(!all[0].refresh(), "it is alone");
        assert!(take(0, 20) && !take(0, 1));
    }

    #[test]
    fn each_process_may_take_a_little_although_another_one_has_all() {
        let all = processes(2);
        let take = |number: usize, bytes: u64| all[number].take(bytes, all[number].most(0));
        assert!(take(0, 150 * MIB));
        assert!(take(1, 10 * MIB) && !take(1, 1));
        // Small charges come from an allowance, which the other process sees.
        let part = |bytes| all[0].take_part(bytes, all[0].most(0));
        all[0].release(150 * MIB);
        assert!(part(SMALL) && take(1, 139 * MIB) && !take(1, MIB));
    }

    proptest::proptest! {
        #[test]
        fn all_processes_together_stay_within_the_limit(
            steps in proptest::collection::vec((0_usize..4, 0_u64..100, proptest::bool::ANY), 0..300),
        ) {
            let all = processes(4);
            for (number, mib, takes) in steps {
                let memory = &all[number];
                if takes {
                    let before: u64 = all.iter().map(Memory::taken).sum();
                    let fits = before + mib * MIB <= 150 * MIB;
                    let is_little = memory.taken() + mib * MIB <= 10 * MIB;
                    let taken = memory.take(mib * MIB, memory.most(0));
                    proptest::prop_assert_eq!(taken, fits || is_little);
                } else {
                    memory.release(memory.taken().min(mib * MIB));
                }
            }
        }
    }

    #[cfg(any(feature = "lua", feature = "cel"))]
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
