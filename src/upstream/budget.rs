//! A limit on the bytes of bodies that the whole process holds at a time.
//!
//! A limit for each body bounds one request, but not many at once: sixty slow uploads of 7 MiB, or eight responses of
//! 50 MB, exceed the memory of a small container. So every body that is read whole is charged here, in both
//! directions, and released when its last copy is dropped. The head of a request is charged until the request ends.
//! What is small is not charged: the limit on connections bounds it. Streams are not charged either, because each holds
//! only a few kilobytes.
//!
//! Stored responses and pages of admin listeners have budgets of their own, so that they never take what a request needs. Calls to backends have
//! no limit of their own. All of these and the connections together stay within the [`Memory`] that the system grants.

#[cfg(feature = "lua")]
mod cooling;
mod ledger;
mod memory;
mod sharing;
mod stores;
mod system;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use super::large_buffer::{LARGE, LargeBuffer};

#[cfg(feature = "lua")]
pub(crate) use memory::MUCH;
pub(crate) use memory::Memory;
pub(crate) use stores::{Store, register, register_copy};

pub(crate) use system::{available, half_of_memory};

/// What a client or a backend sends of one head or body is not charged up to this size.
pub(crate) const SMALL: usize = 4 * 1024;
/// What is made of a body is not charged up to this size.
pub(crate) const FREE: usize = 16 * 1024;

static PROCESS: Budget = Budget::new(u64::MAX, &memory::PROCESS);
static STORES: Budget = Budget::new(u64::MAX, &memory::PROCESS);
static PAGES: Budget = Budget::new(u64::MAX, &memory::PROCESS);
static CALLS: Budget = Budget::without_limit(&memory::PROCESS);

/// The bytes that are held, and the limit.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: AtomicU64,
    used: AtomicU64,
    rejected: AtomicU64,
    memory: &'static Memory,
    /// Only the memory limits it, and its own bytes are not counted.
    has_limit: bool,
}

/// The limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes of bodies are buffered")]
pub struct Full;

/// Charged bytes, released on drop.
#[derive(Debug)]
pub struct Charge {
    budget: &'static Budget,
    bytes: u64,
}

impl Budget {
    const fn new(limit: u64, memory: &'static Memory) -> Budget {
        Budget {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            memory,
            has_limit: true,
        }
    }

    const fn without_limit(memory: &'static Memory) -> Budget {
        Budget {
            has_limit: false,
            ..Budget::new(u64::MAX, memory)
        }
    }

    /// The budget of this process.
    pub(crate) fn process() -> &'static Budget {
        &PROCESS
    }

    /// The budget of all stored responses, and of the copies from which they are made: half of what requests may use.
    pub(crate) fn stores() -> &'static Budget {
        &STORES
    }

    /// The budget of the pages of admin listeners: half of what requests may use, also if requests use all of theirs.
    pub(crate) fn pages() -> &'static Budget {
        &PAGES
    }

    /// What is made of the heads of requests, and calls to backends: only the memory of the process limits them.
    pub(crate) fn calls() -> &'static Budget {
        &CALLS
    }

    /// Sets the limit of the process. Bytes that are already held are not affected.
    pub(crate) fn set_limits(bytes: u64) {
        PROCESS.limit.store(bytes, Ordering::Relaxed);
        STORES.limit.store(bytes / 2, Ordering::Relaxed);
        PAGES.limit.store(bytes / 2, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The bytes that are held now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bytes that may still be taken, without those that could be evicted.
    #[cfg(any(feature = "lua", feature = "nats", feature = "amqp"))]
    pub(crate) fn left(&'static self) -> u64 {
        let own = self.limit().saturating_sub(self.used());
        let most = self.memory.own_part(self.memory.most(self.reserve()));
        own.min(most.saturating_sub(self.memory.taken()))
    }

    /// Counts a rejection by a limit that follows from what this budget has left.
    pub(crate) fn count_rejection(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of charges rejected since the start.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.memory.add(bytes);
        if self.has_limit {
            self.used.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn release(&self, bytes: u64) {
        if !self.has_limit {
            return self.memory.release_part(bytes);
        }
        self.memory.release(bytes);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes the bytes if they fit. A failed attempt never holds bytes, so it cannot
    /// make a concurrent smaller one fail.
    fn take(&'static self, bytes: u64) -> bool {
        let left = self.memory.most(self.reserve());
        if !self.has_limit {
            return self.memory.take_part(bytes, left);
        }
        let most = self.limit();
        if !self.memory.has(bytes, left) || !add_within(&self.used, bytes, most) {
            return false;
        }
        let fits = self.memory.take(bytes, left);
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// The memory that this budget leaves to others: responses are no longer stored before requests are rejected.
    fn reserve(&'static self) -> u64 {
        if self.is_of_stores() {
            self.memory.granted() / 8
        } else {
            0
        }
    }

    fn is_of_stores(&'static self) -> bool {
        std::ptr::eq(self, &STORES)
    }

    /// Takes the bytes after others were evicted from the stores.
    #[cold]
    fn take_by_eviction(&'static self, bytes: u64) -> bool {
        let would_help = self.is_of_stores() || self.used().saturating_add(bytes) <= self.limit();
        if !would_help || !std::ptr::eq(self.memory, &memory::PROCESS) {
            return false;
        }
        // What is evicted is not freed while a response is sent from it, so that one attempt may not be enough.
        while stores::evict(bytes) {
            if self.take(bytes) {
                return true;
            }
        }
        // Copies that are to be stored give way to requests.
        !self.is_of_stores() && stores::evict_copies(bytes) && self.take(bytes)
    }

    /// An empty charge, to be extended.
    pub(crate) fn charge(&'static self) -> Charge {
        Charge {
            budget: self,
            bytes: 0,
        }
    }
}

impl Charge {
    /// The bytes that are charged.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Raises the charge to at least this many bytes.
    ///
    /// # Errors
    /// The limit is reached. The earlier charge is kept.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Full> {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        if !self.budget.take(more) && !self.budget.take_by_eviction(more) {
            self.budget.count_rejection();
            return Err(Full);
        }
        self.bytes += more;
        Ok(())
    }

    /// Raises the charge by this many bytes for something optional, which may use half of the limit. `false` if that is
    /// reached, which does not count as a rejection.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        let after = self.budget.used().saturating_add(bytes as u64);
        after <= self.budget.limit() / 2 && self.try_more(bytes)
    }

    /// Raises the charge by this many bytes for something optional that does not last. `false` if the limit is reached,
    /// which does not count as a rejection.
    pub(crate) fn try_more(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes as u64);
        if taken {
            self.bytes += bytes as u64;
        }
        taken
    }

    /// Makes the charge `bytes`, or releases it if they are not more than `free`.
    ///
    /// # Errors
    /// The limit is reached. The earlier charge is kept.
    pub(crate) fn follow(&mut self, bytes: usize, free: usize) -> Result<(), Full> {
        let bytes = if bytes > free { bytes } else { 0 };
        if bytes as u64 == self.bytes {
            return Ok(());
        }
        self.lower(bytes as u64);
        self.cover(bytes)
    }

    /// Like [`Charge::cover`], for bytes that already exist. It always succeeds.
    fn admit(&mut self, bytes: usize) {
        self.budget.add(bytes as u64);
        self.bytes += bytes as u64;
    }

    /// Releases what exceeds `bytes`.
    pub(crate) fn lower(&mut self, bytes: u64) {
        let over = self.bytes.saturating_sub(bytes);
        if over > 0 {
            self.budget.release(over);
            self.bytes -= over;
        }
    }

    /// Takes over another charge of the same budget.
    pub(crate) fn join(&mut self, mut other: Charge) {
        debug_assert!(std::ptr::eq(self.budget, other.budget));
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The body that this charge is for. Its own size stays charged until its last copy is dropped.
    pub fn settle(mut self, body: BytesMut) -> Bytes {
        if self.bytes == 0 {
            return body.freeze();
        }
        self.lower(body.capacity() as u64);
        self.hold(body.freeze())
    }

    /// As [`Charge::settle`].
    pub(crate) fn settle_large(mut self, body: LargeBuffer) -> Bytes {
        self.lower(body.len() as u64);
        self.hold(body.into_bytes())
    }

    /// A copy of this body, for which this charge is.
    pub(crate) fn hold_copy(self, body: &[u8]) -> Bytes {
        if body.len() < LARGE {
            return self.hold(Bytes::copy_from_slice(body));
        }
        let mut copy = LargeBuffer::new(body.len());
        copy.push(body);
        self.hold(copy.into_bytes())
    }

    /// The body that this charge is for, which stays charged until its last copy is dropped.
    pub(crate) fn hold(self, body: Bytes) -> Bytes {
        if self.bytes == 0 {
            return body;
        }
        Bytes::from_owner(Held {
            body,
            _charge: self,
        })
    }
}

impl Default for Charge {
    /// An empty charge to the budget of this process.
    fn default() -> Charge {
        Budget::process().charge()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.lower(0);
    }
}

/// Adds the bytes unless there would be more than `most`.
fn add_within(counter: &AtomicU64, bytes: u64, most: u64) -> bool {
    let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= most);
    let order = Ordering::Relaxed;
    counter.fetch_update(order, order, more).is_ok()
}

struct Held {
    body: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Charges a body that was made here, until it is sent. The bodies it was made from were charged before, so it always
/// succeeds.
pub(crate) fn charged(body: Bytes) -> Bytes {
    if body.len() <= FREE {
        return body;
    }
    let mut charge = Budget::process().charge();
    charge.admit(body.len());
    Bytes::from_owner(Held {
        body,
        _charge: charge,
    })
}

/// Evicts all stored responses.
pub(crate) fn evict_all() {
    stores::evict(u64::MAX);
}

/// Whether the memory of the process has this many bytes left, if necessary without some stored responses.
pub(crate) fn has_space(bytes: u64) -> bool {
    while memory::PROCESS.is_short(bytes) {
        if !stores::evict(bytes) {
            return stores::evict_copies(bytes) && !memory::PROCESS.is_short(bytes);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: u64) -> &'static Budget {
        let memory = Box::leak(Box::new(Memory::new(u64::MAX)));
        Box::leak(Box::new(Budget::new(limit, memory)))
    }

    #[test]
    fn budgets_share_the_memory_with_connections() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new(1000)));
        let requests: &'static Budget = Box::leak(Box::new(Budget::new(800, memory)));
        let others: &'static Budget = Box::leak(Box::new(Budget::new(800, memory)));
        let (mut one, mut two) = (requests.charge(), others.charge());
        one.cover(700).unwrap();
        assert_eq!(two.cover(301), Err(Full));
        two.cover(200).unwrap();
        memory.add(100);
        assert_eq!(two.cover(201), Err(Full));
        drop(one);
        two.cover(800).unwrap();
        drop(two);
        assert!(!memory.is_short(900) && memory.is_short(901));
    }

    #[test]
    fn bytes_are_released_with_the_last_copy() {
        let budget = budget(100_000);
        let mut charge = budget.charge();
        let body = BytesMut::from(vec![7; 40_000].as_slice());
        charge.cover(80_000).unwrap();
        assert_eq!(budget.used(), 80_000);
        let body = charge.settle(body);
        assert_eq!(budget.used(), 40_000);
        let copy = body.slice(..10);
        drop(body);
        assert_eq!(budget.used(), 40_000);
        drop(copy);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn beyond_the_limit_nothing_is_charged_and_the_rejection_is_counted() {
        let budget = budget(1000);
        let (mut one, mut two) = (budget.charge(), budget.charge());
        one.cover(700).unwrap();
        assert_eq!(two.cover(301), Err(Full));
        assert_eq!((budget.used(), budget.rejected()), (700, 1));
        two.cover(300).unwrap();
        // Covering bytes that are already covered costs nothing.
        one.cover(500).unwrap();
        drop(one);
        two.cover(1000).unwrap();
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_attempt_that_fails_does_not_make_a_smaller_one_fail() {
        let budget = budget(1000);
        let mut held = budget.charge();
        held.cover(500).unwrap();
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert_eq!(budget.charge().cover(501), Err(Full));
                }
            });
            let failed = (0..100_000).any(|_| budget.charge().cover(500).is_err());
            is_done.store(true, Ordering::Relaxed);
            assert!(!failed);
        });
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_only_the_memory_limits_is_taken_from_an_allowance_of_the_worker() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new(1 << 30)));
        let calls: &'static Budget = Box::leak(Box::new(Budget::without_limit(memory)));
        let mut one = calls.charge();
        one.cover(5000).unwrap();
        assert_eq!(memory.taken(), 5000, "without the allowance");
        assert!(memory.is_short((1 << 30) - 4999) && !memory.is_short((1 << 30) - 5000));
        drop(one);
        assert_eq!(memory.taken(), 0);
        // An allowance is taken back if the memory is used up.
        calls.charge().cover(5000).unwrap();
        let mut most = calls.charge();
        most.cover(1 << 30).unwrap();
        let mut other = calls.charge();
        assert_eq!(other.cover(1), Err(Full));
        drop(most);
        other.cover(5000).unwrap();
        // A charge may end on another worker.
        std::thread::spawn(move || drop(other)).join().unwrap();
        assert_eq!(memory.taken(), 0);
        assert!(!memory.is_short(1 << 30), "nothing is left over");
    }

    #[test]
    fn what_is_optional_leaves_half_of_the_limit() {
        let budget = budget(1000);
        let (mut one, mut two) = (budget.charge(), budget.charge());
        assert!(one.reserve(400));
        assert!(!two.reserve(101) && budget.rejected() == 0);
        two.cover(600).unwrap();
        assert!(!one.reserve(1));
        drop((one, two));
        assert_eq!(budget.used(), 0);
    }
}
