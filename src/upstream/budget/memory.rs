//! The memory that the process may use. Budgets and connections share it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{add_within, available};
use crate::telemetry::process::resident_bytes;

pub(super) static PROCESS: Memory = Memory::new(u64::MAX);

/// The minimum memory of a process without traffic, including its threads.
const IDLE: u64 = 40 << 20;

/// The bytes that are granted, and those that are taken.
#[derive(Debug)]
pub(crate) struct Memory {
    granted: AtomicU64,
    taken: AtomicU64,
}

impl Memory {
    pub(super) const fn new(granted: u64) -> Memory {
        Memory {
            granted: AtomicU64::new(granted),
            taken: AtomicU64::new(0),
        }
    }

    /// The memory of this process.
    pub(crate) fn process() -> &'static Memory {
        &PROCESS
    }

    /// Sets the limit: the available memory without what the process uses now, before it has clients.
    pub(crate) fn grant(&self) {
        let bytes = left(available(), resident_bytes());
        self.granted.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
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
        self.taken().saturating_add(bytes) <= most
    }

    /// Takes the bytes unless more than `most` would be taken.
    pub(super) fn take(&self, bytes: u64, most: u64) -> bool {
        add_within(&self.taken, bytes, most)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What remains after the `resident` bytes. An eighth is for what is not counted, and for pages that the allocator
/// keeps. A quarter is granted in any case: a configuration that leaves less may run at its own risk.
fn left(available: u64, resident: u64) -> u64 {
    let usable = available - available / 8;
    usable.saturating_sub(resident.max(IDLE)).max(available / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_process_uses_itself_is_not_granted() {
        let mib = |count: u64| count << 20;
        assert_eq!(left(mib(256), mib(20)), mib(184));
        assert_eq!(left(mib(256), mib(100)), mib(124));
        assert_eq!(left(mib(256), mib(300)), mib(64));
    }
}
