//! The balance between a gateway and a shared bucket, for responses that arrive too late.

use std::time::Duration;

use super::bucket::Rate;

/// A late token that is not used within this time is dropped.
const CREDIT_LIFE: Duration = Duration::from_secs(1);

/// Tokens that the shared bucket gave after their requests were decided, minus those of requests that passed without
/// a token.
///
/// While the store does not respond, requests are decided with local knowledge. Their queries continue, and the results
/// are settled later: the token of a rejected request goes to the next one (a credit), and a request that passed
/// without a token costs the next one its token (a debt). So as many requests pass as the store gave tokens, however
/// late they arrive. A request that passes without a query while the store is silent is counted as a debt at once.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Balance {
    balance: i32,
    /// Hundredths of a second at the last change. Wraps after 497 days.
    changed: u32,
}

impl Balance {
    /// Whether there is a credit.
    pub(crate) fn has_credit(&mut self, rate: &Rate, now: Duration) -> bool {
        self.forget_old(rate, now);
        self.balance > 0
    }

    /// Takes one token of the existing credit. Returns the rest.
    pub(crate) fn spend(&mut self) -> u64 {
        self.balance = (self.balance - 1).max(0);
        u64::from(self.balance.unsigned_abs())
    }

    /// Whether requests passed without a token.
    pub(crate) fn owes(&mut self, rate: &Rate, now: Duration) -> bool {
        self.forget_old(rate, now);
        self.balance < 0
    }

    /// Pays a debt, if there is one, with a token that arrived in time.
    pub(crate) fn pays(&mut self, rate: &Rate, now: Duration) -> bool {
        let owes = self.owes(rate, now);
        if owes {
            self.balance += 1;
        }
        owes
    }

    /// A request passed without a query.
    pub(crate) fn owe(&mut self, rate: &Rate, now: Duration) {
        self.settle(true, false, rate, now);
    }

    /// Settles a late result: whether the request had passed, and whether there was a token for it.
    pub(crate) fn settle(&mut self, admitted: bool, given: bool, rate: &Rate, now: Duration) {
        let change = match (admitted, given) {
            (true, false) => -1,
            (false, true) => 1,
            _ => return,
        };
        self.forget_old(rate, now);
        // Credit and debt are limited to the capacity of a bucket.
        let most = i32::try_from(rate.capacity()).unwrap_or(i32::MAX);
        self.balance = (self.balance + change).clamp(-most, most);
        self.changed = hundredths(now);
    }

    fn forget_old(&mut self, rate: &Rate, now: Duration) {
        let capacity = u32::try_from(rate.capacity()).unwrap_or(u32::MAX);
        let life = match self.balance {
            0 => return,
            1.. => CREDIT_LIFE,
            // The shared bucket is full again by then, so the debt is paid.
            _ => rate.interval().saturating_mul(capacity).max(CREDIT_LIFE),
        };
        let passed = u64::from(hundredths(now).wrapping_sub(self.changed)) * 10;
        if Duration::from_millis(passed) > life {
            self.balance = 0;
        }
    }
}

fn hundredths(now: Duration) -> u32 {
    (now.as_millis() / 10) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn rate() -> Rate {
        Rate::new(10.0, 20)
    }

    #[test]
    fn a_late_token_goes_to_the_next_request() {
        let mut balance = Balance::default();
        assert!(!balance.has_credit(&rate(), NOW));
        balance.settle(false, true, &rate(), NOW);
        balance.settle(false, true, &rate(), NOW);
        assert!(balance.has_credit(&rate(), NOW));
        assert_eq!((balance.spend(), balance.spend()), (1, 0));
        assert!(!balance.has_credit(&rate(), NOW));
    }

    #[test]
    fn a_request_that_passed_without_a_token_costs_the_next_one_its_token() {
        let mut balance = Balance::default();
        balance.settle(true, false, &rate(), NOW);
        assert!(balance.pays(&rate(), NOW));
        assert!(!balance.pays(&rate(), NOW));
        balance.settle(true, false, &rate(), NOW);
        balance.settle(false, true, &rate(), NOW);
        assert!(!balance.has_credit(&rate(), NOW) && !balance.pays(&rate(), NOW));
        // The local decision was the same as that of the store.
        balance.settle(true, true, &rate(), NOW);
        balance.settle(false, false, &rate(), NOW);
        assert!(!balance.has_credit(&rate(), NOW) && !balance.pays(&rate(), NOW));
    }

    #[test]
    fn old_and_excessive_balances_are_dropped() {
        let mut balance = Balance::default();
        balance.settle(false, true, &rate(), NOW);
        assert!(!balance.has_credit(&rate(), NOW + Duration::from_millis(1100)));
        balance.settle(true, false, &rate(), NOW);
        assert!(!balance.pays(&rate(), NOW + Duration::from_millis(2100)));
        for _ in 0..100 {
            balance.settle(true, false, &rate(), NOW);
        }
        let paid = (0..100).filter(|_| balance.pays(&rate(), NOW)).count();
        assert_eq!(paid, 20);
    }
}
