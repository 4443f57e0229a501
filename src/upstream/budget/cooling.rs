//! Memory that scripts have freed, but that the allocator still holds.
//!
//! An interpreter frees many small objects at once. The allocator gives their pages back to the system some time
//! later, and they do not fit the bodies of other requests. Without a charge, these bodies would be admitted on top of
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

/// What the system says, in bytes.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// The resident memory.
    resident: u64,
    /// The part of it that requests have added.
    added: u64,
    /// What the budgets have left, minus the bytes by which the process may grow. The lowest number if these are unknown.
    excess: i64,
}

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
    fn add(&mut self, charge: Charge, seen: Seen) {
        self.charge.join(charge);
        self.last = Some(Instant::now());
        self.compare(seen);
    }

    /// What the system has got back is no longer charged, as far as the process may grow by it. What the allocator holds in
    /// addition is charged: others have freed it, or it was garbage before. Scripts may use the same pages one after the other,
    /// so no more is charged than what requests have added to the resident memory. False once all is back.
    fn compare(&mut self, seen: Seen) -> bool {
        let back = self.resident.saturating_sub(seen.resident);
        self.resident = seen.resident;
        let change = seen.excess.max(0_i64.saturating_sub_unsigned(back));
        let charged = (self.charge.bytes() as u64).saturating_add_signed(change);
        let charged = charged.min(seen.added);
        let more = charged.saturating_sub(self.charge.bytes() as u64);
        self.charge
            .admit(usize::try_from(more).unwrap_or(usize::MAX));
        self.charge.lower(charged);
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
        let seen = Memory::process().seen();
        if !cooling().compare(seen) {
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
        let seen = Memory::process().seen();
        let mut cooling = cooling();
        let is_watched = std::mem::replace(&mut cooling.is_watched, true);
        cooling.add(freed, seen);
        if !is_watched {
            runtime.spawn(watch());
        }
    }
}

impl Memory {
    fn seen(&self) -> Seen {
        let limit = self.limit();
        let left = limit.saturating_sub(self.taken());
        let Some(room) = self.room(MUCH, true) else {
            return Seen {
                resident: resident_bytes(),
                added: u64::MAX,
                excess: i64::MIN,
            };
        };
        Seen {
            resident: self.last_resident(),
            added: limit.saturating_sub(room),
            excess: left.cast_signed().saturating_sub(room.cast_signed()),
        }
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

    /// All in MiB.
    fn seen(resident: u64, added: u64, excess: i64) -> Seen {
        Seen {
            resident: resident * MIB,
            added: added * MIB,
            excess: excess * MIB as i64,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_freed_stays_charged_until_the_system_has_it_back() {
        let budget = budget();
        let mut cooling = hot(budget);
        cooling.add(charge(budget, 40 * MIB), seen(100, 60, 0));
        // A second script has freed more than its charge at any time.
        cooling.add(charge(budget, 10 * MIB), seen(130, 90, 5));
        assert_eq!(budget.used(), 55 * MIB);
        // Bodies of others make the process larger.
        assert!(cooling.compare(seen(140, 100, 0)));
        assert_eq!(budget.used(), 55 * MIB);
        assert!(cooling.compare(seen(120, 80, -5)));
        assert_eq!(budget.used(), 50 * MIB, "the process may not grow by more");
        assert!(cooling.compare(seen(110, 70, -30)));
        assert_eq!(budget.used(), 40 * MIB, "this was freed by the others");
        assert!(!cooling.compare(seen(70, 30, -99)), "all is back");
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn scripts_that_use_the_same_pages_are_charged_once() {
        let budget = budget();
        let mut cooling = hot(budget);
        for _ in 0..100 {
            cooling.add(charge(budget, 10 * MIB), seen(40, 15, -900));
        }
        assert_eq!(budget.used(), 15 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_that_does_not_come_back_is_charged_for_some_seconds() {
        let budget = budget();
        let mut cooling = hot(budget);
        let same = seen(100, 60, 0);
        cooling.add(charge(budget, 40 * MIB), same);
        sleep(LATEST - ASK_EVERY).await;
        assert!(cooling.compare(same));
        cooling.add(charge(budget, MIB), same);
        sleep(ASK_EVERY).await;
        assert!(cooling.compare(same), "scripts still run");
        assert_eq!(budget.used(), 41 * MIB);
        sleep(LATEST).await;
        assert!(!cooling.compare(seen(100, 60, 7)));
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
