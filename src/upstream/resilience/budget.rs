//! The limit on calls that are made again: without one, a short failure of a backend multiplies its load, and the
//! backend does not recover.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::time::Instant;

use super::rules::BudgetRules;

/// The price of one repeated call.
const ONE: i64 = 1000;

/// A number of repeated calls: a share of all calls, and a few per second in any case. Retries and hedged requests of
/// all backends with the same hosts and rules share it. There is no lock.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    since: Instant,
    rules: BudgetRules,
    /// In thousandths of a call.
    balance: AtomicI64,
    /// The milliseconds after `since` up to which the part per second was added.
    filled: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
    rejected: AtomicU64,
}

/// What a budget was used for since it exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub retries: u64,
    pub hedges: u64,
    /// Calls that were not made again because of the budget.
    pub rejected: u64,
}

impl Spent {
    /// Both together.
    pub(crate) fn and(self, other: Spent) -> Spent {
        Spent {
            retries: self.retries + other.retries,
            hedges: self.hedges + other.hedges,
            rejected: self.rejected + other.rejected,
        }
    }
}

impl RetryBudget {
    pub(crate) fn new(rules: BudgetRules) -> RetryBudget {
        RetryBudget {
            since: Instant::now(),
            rules,
            balance: AtomicI64::new(i64::from(rules.min_per_second) * ONE),
            filled: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// What a quiet time may save: ten seconds of the part per second, and ten calls of the share.
    fn most(&self) -> i64 {
        let share = if self.rules.percent == 0 { 0 } else { 10 * ONE };
        i64::from(self.rules.min_per_second) * ONE * 10 + share
    }

    fn add(&self, amount: i64) {
        let most = self.most();
        let relaxed = Ordering::Relaxed;
        let _ = self.balance.fetch_update(relaxed, relaxed, |balance| {
            (balance < most).then(|| balance.saturating_add(amount).min(most))
        });
    }

    /// Records a call of a client.
    pub(super) fn deposit(&self) {
        self.add(i64::from(self.rules.percent) * ONE / 100);
    }

    fn refill(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = self.filled.fetch_max(now, Ordering::Relaxed);
        let passed = i64::try_from(now.saturating_sub(before)).unwrap_or(0);
        if passed > 0 {
            // Thousandths per millisecond are calls per second.
            self.add(passed.saturating_mul(i64::from(self.rules.min_per_second)));
        }
    }

    /// Takes the price of one call, if there is enough.
    fn withdraw(&self) -> bool {
        self.refill();
        let relaxed = Ordering::Relaxed;
        let taken = self.balance.fetch_update(relaxed, relaxed, |balance| {
            (balance >= ONE).then(|| balance - ONE)
        });
        if taken.is_err() {
            self.rejected.fetch_add(1, relaxed);
        }
        taken.is_ok()
    }

    /// Whether a failed call may be made again.
    pub(super) fn may_retry(&self) -> bool {
        let may = self.withdraw();
        self.retries.fetch_add(u64::from(may), Ordering::Relaxed);
        may
    }

    /// Whether a call may be made a second time while the first one waits.
    pub(super) fn may_hedge(&self) -> bool {
        let may = self.withdraw();
        self.hedges.fetch_add(u64::from(may), Ordering::Relaxed);
        may
    }

    pub(crate) fn spent(&self) -> Spent {
        Spent {
            retries: self.retries.load(Ordering::Relaxed),
            hedges: self.hedges.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend(budget: &RetryBudget) -> usize {
        (0..10_000).take_while(|_| budget.may_retry()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_calls_are_a_share_of_all_and_a_few_per_second() {
        let budget = RetryBudget::new(BudgetRules {
            percent: 20,
            min_per_second: 3,
        });
        assert_eq!(spend(&budget), 3, "the first second");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(spend(&budget), 1, "half a second");
        for _ in 0..50 {
            budget.deposit();
        }
        assert_eq!(spend(&budget), 10, "a fifth of 50, and the rest of before");
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..10_000 {
            budget.deposit();
        }
        assert_eq!(spend(&budget), 40, "what is saved is limited");
        assert_eq!(budget.spent().retries, 54);
        assert!(budget.spent().rejected >= 4);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_share_there_is_only_the_part_per_second() {
        let budget = RetryBudget::new(BudgetRules {
            percent: 0,
            min_per_second: 1,
        });
        for _ in 0..100 {
            budget.deposit();
        }
        assert_eq!(spend(&budget), 1);
        assert!(!budget.may_hedge());
    }
}
