//! In which order hosts and addresses are tried.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

/// Indexes in the order of trial.
pub(super) type Order = SmallVec<[usize; 8]>;

/// All of `0..count` in turns from `start`, with those that `late` names at the end.
pub(super) fn order(count: usize, start: usize, late: impl Fn(usize) -> bool) -> Order {
    if count <= 1 {
        return (0..count).collect();
    }
    let turn = |step: usize| start.wrapping_add(step) % count;
    let mut order: Order = (0..count).map(turn).filter(|index| !late(*index)).collect();
    if order.len() < count {
        order.extend((0..count).map(turn).filter(|index| late(*index)));
        // An index whose penalty ran out between the two looks would be missing or there twice.
        order.truncate(count);
    }
    order
}

/// How long an address or a host that refused a connection is tried after the others.
const PENALTY: Duration = Duration::from_secs(10);

/// A memory of a refused connection. Nothing is read but one number while there is none.
#[derive(Debug)]
pub(super) struct Penalty {
    since: Instant,
    /// Milliseconds after `since`; 0 = none.
    until: AtomicU64,
}

impl Penalty {
    pub(super) fn new() -> Penalty {
        Penalty {
            since: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    pub(super) fn holds(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.since.elapsed().as_millis() < u128::from(until)
    }

    pub(super) fn impose(&self) {
        let until = (self.since.elapsed() + PENALTY).as_millis();
        self.until
            .store(u64::try_from(until).unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn lift(&self) {
        if self.until.load(Ordering::Relaxed) != 0 {
            self.until.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refused_lately_is_tried_last() {
        assert_eq!(order(3, 1, |_| false).as_slice(), [1, 2, 0]);
        assert_eq!(order(3, 1, |index| index == 1).as_slice(), [2, 0, 1]);
        assert_eq!(order(1, usize::MAX, |_| true).as_slice(), [0]);
        assert!(order(0, 0, |_| false).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_penalty_runs_out() {
        let penalty = Penalty::new();
        penalty.impose();
        assert!(penalty.holds());
        tokio::time::advance(PENALTY * 2).await;
        assert!(!penalty.holds());
        penalty.impose();
        penalty.lift();
        assert!(!penalty.holds());
    }
}
