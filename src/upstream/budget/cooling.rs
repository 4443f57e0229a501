//! Memory that scripts have freed, but that the allocator still holds.
//!
//! An interpreter frees many small objects at once. The allocator gives their pages back to the system after a second or
//! two, and they do not fit the bodies of other requests. Without the charge, these bodies would be admitted on top of
//! them, and a small container would be killed.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::Charge;
use super::memory::{MUCH, Memory};

/// How long freed memory stays charged in any case: twice as long as the allocator keeps pages.
const HELD: Duration = Duration::from_secs(2);
/// How long it stays charged if the system says that it is not back.
const LATEST: Duration = Duration::from_secs(4);
/// How often the system is asked then.
const ASK_EVERY: Duration = Duration::from_millis(250);

impl Charge {
    /// Lowers the charge to `bytes`, as [`Charge::lower`], but what was freed stays charged for a while if it is much.
    pub(crate) fn lower_later(&mut self, bytes: u64) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes -= freed;
        let mut freed = Charge {
            budget: self.budget,
            bytes: freed,
        };
        let Some(runtime) = Handle::try_current().ok().filter(|_| freed.bytes >= MUCH) else {
            return;
        };
        let memory = freed.budget.memory;
        // A script may have freed more than it was charged at any time.
        freed.admit(usize::try_from(memory.unseen()).unwrap_or(usize::MAX));
        runtime.spawn(async move {
            let began = Instant::now();
            sleep(HELD).await;
            while began.elapsed() < LATEST && !memory.has_back(freed.bytes) {
                sleep(ASK_EVERY).await;
            }
            drop(freed);
        });
    }
}

impl Memory {
    /// By how much the process may grow less than its budgets say, because the allocator holds freed pages.
    fn unseen(&self) -> u64 {
        let left = self.limit().saturating_sub(self.taken());
        self.room(MUCH, true)
            .map_or(0, |room| left.saturating_sub(room))
    }

    /// Whether the process may grow as its budgets say, also if `bytes` are no longer charged.
    fn has_back(&self, bytes: u64) -> bool {
        let left = self.limit().saturating_sub(self.taken());
        self.room(MUCH, true)
            .is_none_or(|room| room >= left.saturating_add(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::budget::Budget;

    #[tokio::test(start_paused = true)]
    async fn what_was_freed_stays_charged_for_a_while_if_it_is_much() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new(1 << 30)));
        let budget: &'static Budget = Box::leak(Box::new(Budget::new(1 << 30, memory)));
        let mut charge = budget.charge();
        charge.cover(4 << 20).unwrap();
        charge.lower_later(3 << 20);
        assert_eq!((charge.bytes(), budget.used()), (3 << 20, 4 << 20));
        charge.lower_later((3 << 20) - 1);
        assert_eq!(budget.used(), (4 << 20) - 1, "it was little");
        drop(charge);
        assert_eq!(budget.used(), 1 << 20);
        sleep(HELD - Duration::from_millis(1)).await;
        assert_eq!(budget.used(), 1 << 20);
        sleep(LATEST).await;
        assert_eq!((budget.used(), memory.taken()), (0, 0));
    }

    #[test]
    fn without_a_runtime_it_is_released_at_once() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new(1 << 30)));
        let budget: &'static Budget = Box::leak(Box::new(Budget::new(1 << 30, memory)));
        let mut charge = budget.charge();
        charge.cover(4 << 20).unwrap();
        charge.lower_later(0);
        assert_eq!(budget.used(), 0);
    }
}
