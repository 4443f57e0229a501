//! How two processes divide the memory during an upgrade.
//!
//! The process that takes over gets what the old one leaves. The old one leaves what its requests do not need to end, and
//! more as they end. It lowers its own limit before it reports it, so the limits of both together never exceed the
//! memory.

/// The minimum memory of a process without traffic, including its threads.
const IDLE: u64 = 40 << 20;

/// What is known about the memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sharing {
    /// The memory that the system grants.
    pub available: u64,
    /// What the process uses without traffic. 0 before that is known.
    pub own: u64,
    /// The maximum that the processes use from which this one took over.
    pub others: u64,
    /// What the process uses that takes over from this one.
    pub successor: Option<u64>,
}

impl Sharing {
    pub(super) const UNKNOWN: Sharing = Sharing {
        available: 0,
        own: 0,
        others: 0,
        successor: None,
    };

    /// What may be taken of the memory, if `taken` is in use and `granted` was the limit until now.
    pub(super) fn granted(&self, taken: u64, granted: u64) -> u64 {
        match self.successor {
            None => self.left(),
            Some(successor) => self.left_for_the_end(successor, taken).min(granted),
        }
    }

    /// What remains after the memory that the process uses itself. An eighth is for what is not counted, and for pages
    /// that the allocator keeps. A quarter is granted in any case: a configuration that leaves less may run at its own
    /// risk. It is a sixteenth as long as another process ends.
    fn left(&self) -> u64 {
        let used = self.own.max(IDLE);
        if self.others == 0 {
            return self.usable().saturating_sub(used).max(self.available / 4);
        }
        let used = used.saturating_add(self.others);
        self.usable().saturating_sub(used).max(self.available / 16)
    }

    /// The limit of a process that ends: its requests may take half of what is left, but not more than they have, or
    /// than a thirty-second part of the memory.
    fn left_for_the_end(&self, successor: u64, taken: u64) -> u64 {
        let used = self.own.max(IDLE) + successor.max(IDLE);
        let both = self
            .usable()
            .saturating_sub(used.saturating_add(self.others));
        let more = both.saturating_sub(taken) / 2;
        taken + more.min(taken.max(self.available / 32))
    }

    /// The maximum that this process uses, and those from which it took over. The system may not have got back yet what
    /// is no longer taken: then `resident` is more than what is counted.
    pub(super) fn claim(&self, taken: u64, granted: u64, resident: u64) -> u64 {
        let may_grow = granted.saturating_sub(taken);
        let most = (self.own.max(IDLE) + granted).max(resident + may_grow);
        self.others.saturating_add(most)
    }

    /// Whether the memory has no space for a process that takes over, although it would have if no request used any.
    pub(super) fn must_wait(&self, taken: u64, resident: u64) -> bool {
        let needed = |resident: u64| resident + self.own + self.others > self.usable();
        needed(resident) && !needed(resident.saturating_sub(taken).max(self.own))
    }

    fn usable(&self) -> u64 {
        self.available - self.available / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn alone(available: u64, own: u64) -> Sharing {
        Sharing {
            available: available * MIB,
            own: own * MIB,
            ..Sharing::UNKNOWN
        }
    }

    #[test]
    fn memory_that_the_process_uses_itself_is_not_granted() {
        let left = |available, own| alone(available, own).granted(0, u64::MAX) / MIB;
        assert_eq!(left(256, 20), 184);
        assert_eq!(left(256, 100), 124);
        assert_eq!(left(256, 300), 64);
    }

    #[test]
    fn two_processes_stay_within_the_memory_whatever_the_old_one_holds() {
        for own in [20, 40, 60] {
            for taken in [0, 1, 10, 40, 72, 100, 130] {
                let mut old = alone(256, own);
                let before = old.granted(0, u64::MAX);
                old.successor = Some(own * MIB);
                let taken = taken * MIB;
                let granted = old.granted(taken, before);
                assert!(granted >= taken && granted <= before);
                let mut new = alone(256, own);
                new.others = old.claim(taken, granted, own * MIB + taken);
                let left = new.granted(0, u64::MAX);
                assert!(left >= 16 * MIB, "the new process must serve");
                let base = 2 * own.max(40) * MIB;
                if base + taken + 16 * MIB <= 224 * MIB {
                    assert!(base + granted + left <= 224 * MIB, "{own} {taken}");
                }
            }
        }
    }

    #[test]
    fn the_old_process_leaves_more_as_its_requests_end() {
        let mut old = alone(256, 40);
        let mut granted = old.granted(0, u64::MAX);
        old.successor = Some(40 * MIB);
        let mut claims = Vec::new();
        for taken in [100, 120, 60, 10, 0, 0] {
            granted = old.granted(taken * MIB, granted);
            claims.push(old.claim(taken * MIB, granted, (40 + taken) * MIB) / MIB);
        }
        assert_eq!(claims, [162, 162, 142, 60, 48, 48]);
        // Freed memory that the system does not have back yet is not free.
        assert_eq!(old.claim(0, granted, 140 * MIB) / MIB, 148);
        // A third process learns about both.
        old.others = 50 * MIB;
        assert_eq!(old.claim(0, granted, 40 * MIB) / MIB, 98);
    }

    #[test]
    fn an_upgrade_waits_only_for_what_requests_hold() {
        let waits = |own, taken: u64| {
            let resident = (own + taken) * MIB;
            alone(256, own).must_wait(taken * MIB, resident)
        };
        assert!(!waits(20, 100) && !waits(20, 184));
        assert!(waits(20, 190) && waits(100, 124) && !waits(100, 20));
        assert!(!waits(150, 50), "it would never end");
    }
}
