//! Memory that scripts have freed, but that the allocator still holds.
//!
//! An interpreter frees many small objects at once. The allocator gives their pages back to the system after a second or
//! two, and they do not fit the bodies of other requests. Without a charge, these bodies would be admitted on top of
//! them, and a small container would be killed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use once_cell::sync::Lazy;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::Charge;
use super::memory::{MUCH, Memory};
use crate::telemetry::process::resident_bytes;

/// How often the system is asked whether it has the memory back.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long the memory stays charged after the last script if the system does not have it back.
const LATEST: Duration = Duration::from_secs(5);

static COOLING: Lazy<Mutex<Cooling>> = Lazy::new(|| Mutex::new(Cooling::default()));

/// The charge for what was freed.
#[derive(Debug, Default)]
struct Cooling {
    charge: Charge,
    /// The resident memory when it was last compared.
    resident: u64,
    /// When the last script has freed much.
    last: Option<Instant>,
    /// Whether a task compares.
    is_watched: bool,
}

impl Cooling {
    /// A script has freed what `charge` is for.
    fn add(&mut self, charge: Charge, resident: u64, excess: i64) {
        self.charge.join(charge);
        self.last = Some(Instant::now());
        self.compare(resident, excess);
    }

    /// What the system has got back is no longer charged, as far as the process may grow by it. What the allocator holds in
    /// addition is charged: others have freed it, or it was garbage before. False once all is back.
    ///
    /// `excess` is what the budgets have left, minus the bytes by which the process may grow.
    fn compare(&mut self, resident: u64, excess: i64) -> bool {
        let back = self.resident.saturating_sub(resident);
        self.resident = resident;
        let change = excess.max(0_i64.saturating_sub_unsigned(back));
        let bytes = usize::try_from(change.unsigned_abs()).unwrap_or(usize::MAX);
        if change < 0 {
            let rest = self.charge.bytes().saturating_sub(bytes);
            self.charge.lower(rest as u64);
        } else {
            self.charge.admit(bytes);
        }
        let is_late = self.last.is_none_or(|last| last.elapsed() >= LATEST);
        if is_late || self.charge.bytes() == 0 {
            self.charge.lower(0);
            self.is_watched = false;
        }
        self.is_watched
    }
}

fn cooling() -> MutexGuard<'static, Cooling> {
    // Every change is complete after each statement, so a panic leaves nothing wrong.
    COOLING.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch() {
    loop {
        sleep(ASK_EVERY).await;
        let memory = Memory::process();
        let (excess, resident) = (memory.excess(), resident_bytes());
        if !cooling().compare(resident, excess) {
            return;
        }
    }
}

impl Charge {
    /// Lowers the charge of a script to `bytes`, as [`Charge::lower`]. But what was freed stays charged, if it is much, until
    /// the system has it back.
    pub(crate) fn lower_later(&mut self, bytes: u64) {
        let freed = self.bytes.saturating_sub(bytes);
        if freed < MUCH {
            return self.lower(bytes);
        }
        let Ok(runtime) = Handle::try_current() else {
            return self.lower(bytes);
        };
        self.bytes -= freed;
        let freed = Charge {
            budget: self.budget,
            bytes: freed,
        };
        // With the freed bytes still in use.
        let (excess, resident) = (Memory::process().excess(), resident_bytes());
        let mut cooling = cooling();
        let is_watched = std::mem::replace(&mut cooling.is_watched, true);
        cooling.add(freed, resident, excess);
        if !is_watched {
            runtime.spawn(watch());
        }
    }
}

impl Memory {
    /// What the budgets have left, minus the bytes by which the process may grow. The lowest number if these are unknown.
    fn excess(&self) -> i64 {
        let left = self.limit().saturating_sub(self.taken());
        self.room(MUCH, true).map_or(i64::MIN, |room| {
            let (left, room) = (left.cast_signed(), room.cast_signed());
            left.saturating_sub(room)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::budget::Budget;

    const MIB: u64 = 1 << 20;

    fn charge(budget: &'static Budget, bytes: u64) -> Charge {
        let mut charge = budget.charge();
        charge.cover(usize::try_from(bytes).unwrap()).unwrap();
        charge
    }

    fn budget() -> &'static Budget {
        let memory: &'static Memory = Box::leak(Box::new(Memory::new(1 << 30)));
        Box::leak(Box::new(Budget::new(1 << 30, memory)))
    }

    fn hot(budget: &'static Budget) -> Cooling {
        Cooling {
            charge: budget.charge(),
            is_watched: true,
            ..Cooling::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_freed_stays_charged_until_the_system_has_it_back() {
        let budget = budget();
        let mut cooling = hot(budget);
        cooling.add(charge(budget, 40 * MIB), 100 * MIB, 0);
        // A second script has freed more than its charge at any time.
        cooling.add(charge(budget, 10 * MIB), 130 * MIB, 5 * MIB as i64);
        assert_eq!(budget.used(), 55 * MIB);
        // Bodies of others make the process larger.
        assert!(cooling.compare(140 * MIB, 0));
        assert_eq!(budget.used(), 55 * MIB);
        assert!(cooling.compare(120 * MIB, -(5 * MIB as i64)));
        assert_eq!(budget.used(), 50 * MIB, "the process may not grow by more");
        assert!(cooling.compare(110 * MIB, -(30 * MIB as i64)));
        assert_eq!(budget.used(), 40 * MIB, "this was freed by the others");
        assert!(!cooling.compare(70 * MIB, i64::MIN), "all is back");
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_that_does_not_come_back_is_charged_for_some_seconds() {
        let budget = budget();
        let mut cooling = hot(budget);
        cooling.add(charge(budget, 40 * MIB), 100 * MIB, 0);
        sleep(LATEST - ASK_EVERY).await;
        assert!(cooling.compare(100 * MIB, 0));
        cooling.add(charge(budget, MIB), 100 * MIB, 0);
        sleep(ASK_EVERY).await;
        assert!(cooling.compare(100 * MIB, 0), "scripts still run");
        assert_eq!(budget.used(), 41 * MIB);
        sleep(LATEST).await;
        assert!(!cooling.compare(100 * MIB, 7 * MIB as i64));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_a_runtime_it_is_released_at_once() {
        let budget = budget();
        let mut charge = charge(budget, 4 * MIB);
        charge.lower_later(MIB);
        assert_eq!(budget.used(), MIB);
    }
}
