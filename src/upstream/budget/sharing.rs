//! How much of the memory requests may take, alone and during an upgrade.
//!
//! The processes of an upgrade share the memory: what their requests take together has one limit. Each process computes
//! it from what all of them use without requests. What the requests of each process have taken is in the
//! [`Ledger`](super::ledger::Ledger).

use super::ledger::Use;

/// The minimum memory of a process without traffic, including its threads.
const IDLE: u64 = 40 << 20;

/// What is known about the memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sharing {
    /// The memory that the system grants.
    pub available: u64,
    /// What the process uses without traffic, with the program. 0 before that is known.
    pub own: u64,
    /// The same without what it has in common with the others, while another process serves: the program.
    pub apart: u64,
    /// What the other processes use.
    pub others: Option<Use>,
    /// Whether a process starts that will take over.
    pub is_expecting: bool,
    /// Whether another process serves now.
    pub is_replaced: bool,
}

impl Sharing {
    pub(super) const UNKNOWN: Sharing = Sharing {
        available: 0,
        own: 0,
        apart: 0,
        others: None,
        is_expecting: false,
        is_replaced: false,
    };

    /// What the requests of all processes may take. It is what remains after the memory that the processes use themselves.
    /// An eighth is for what is not counted, and for pages that the allocator keeps. A quarter is granted in any case: a
    /// configuration that leaves less may run at its own risk. It is a sixteenth as long as there is another process.
    pub(super) fn granted(&self) -> u64 {
        let others = self.others.unwrap_or_default().base;
        let expected = if self.is_expecting {
            self.own.max(IDLE)
        } else {
            0
        };
        let used = self.base().saturating_add(others).saturating_add(expected);
        let left = self.usable().saturating_sub(used);
        if self.others.is_some() || self.is_expecting {
            left.max(self.least())
        } else {
            left.max(self.available / 4)
        }
    }

    /// What the requests of each process may take, whatever those of the others have taken.
    pub(super) fn least(&self) -> u64 {
        self.available / 16
    }

    /// Whether the memory has no space for a process that takes over, although it would have if no request of this one
    /// used any.
    pub(super) fn must_wait(&self, taken: u64, resident: u64) -> bool {
        let others = self.others.unwrap_or_default();
        let others = others.base.saturating_add(others.taken);
        let needed = |resident: u64| resident + self.own + others > self.usable();
        needed(resident) && !needed(resident.saturating_sub(taken).max(self.own))
    }

    /// What this process uses without its requests.
    pub(super) fn base(&self) -> u64 {
        if self.is_replaced {
            self.apart
        } else {
            self.own.max(IDLE)
        }
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

    fn used(base: u64, taken: u64) -> Use {
        Use {
            base: base * MIB,
            taken: taken * MIB,
        }
    }

    #[test]
    fn memory_that_the_process_uses_itself_is_not_granted() {
        let left = |available, own| alone(available, own).granted() / MIB;
        assert_eq!(left(256, 20), 184);
        assert_eq!(left(256, 100), 124);
        assert_eq!(left(256, 300), 64);
    }

    #[test]
    fn memory_that_another_process_uses_itself_is_not_granted() {
        let beside = |own, others| {
            let mut sharing = alone(256, own);
            sharing.others = Some(others);
            sharing.granted() / MIB
        };
        assert_eq!(beside(20, used(25, 0)), 159);
        // What it has taken counts where more is taken.
        assert_eq!(beside(20, used(25, 100)), 159);
        assert_eq!(beside(100, used(120, 0)), 16);
    }

    #[test]
    fn what_a_process_needs_that_starts_is_not_granted() {
        let expecting = |own| {
            let mut sharing = alone(256, own);
            sharing.is_expecting = true;
            sharing.granted() / MIB
        };
        assert_eq!(expecting(20), 144);
        assert_eq!(expecting(60), 104);
        assert_eq!(expecting(100), 24);
        assert_eq!(expecting(110), 16);
    }

    #[test]
    fn a_process_that_is_replaced_counts_without_the_program() {
        let mut old = alone(256, 30);
        old.apart = 8 * MIB;
        assert_eq!(old.base() / MIB, 40);
        old.is_replaced = true;
        assert_eq!(old.base() / MIB, 8);
        old.others = Some(used(40, 0));
        assert_eq!(old.granted() / MIB, 224 - 48);
    }

    #[test]
    fn an_upgrade_waits_only_for_what_requests_hold() {
        let waits = |own, taken: u64, others| {
            let mut sharing = alone(256, own);
            sharing.others = others;
            sharing.must_wait(taken * MIB, (own + taken) * MIB)
        };
        assert!(!waits(20, 100, None) && !waits(20, 184, None));
        assert!(waits(20, 190, None) && waits(100, 124, None) && !waits(100, 20, None));
        assert!(!waits(150, 50, None), "it would never end");
        assert!(!waits(20, 100, Some(used(20, 60))) && waits(20, 100, Some(used(20, 70))));
    }
}
