//! In which order hosts and addresses are tried, and how long a failing one is left out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

/// Indexes in the order of trial.
pub(super) type Order = SmallVec<[usize; 8]>;

/// All of `0..count` in turns from `start`, with those that are left out at the end.
///
/// One whose time is up takes its turn again for a single caller, who tries it; the others still see it at the end.
pub(super) fn order<'a>(
    count: usize,
    start: usize,
    penalty: impl Fn(usize) -> Option<&'a Penalty>,
) -> Order {
    if count <= 1 {
        return (0..count).collect();
    }
    let mut order = Order::new();
    let mut late = Order::new();
    for index in (0..count).map(|step| start.wrapping_add(step) % count) {
        let standing = penalty(index).map_or(Standing::Good, Penalty::standing);
        let in_turn = match standing {
            Standing::Good => true,
            Standing::Out => false,
            // Only the first of an order is certainly called.
            Standing::Due => order.is_empty() && penalty(index).is_some_and(Penalty::claim),
        };
        if in_turn {
            order.push(index)
        } else {
            late.push(index)
        }
    }
    order.extend(late);
    order
}

/// How long a host or an address is left out after its first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest time; each failed trial doubles it up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Requests in a row without an answer that count as a failure. One alone may have been a slow request.
const UNANSWERED: u32 = 2;

/// What is known of a host or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// Left out.
    Out,
    /// It was left out long enough: one call may try it.
    Due,
}

/// A memory of failures. While there are none, only two numbers are read.
#[derive(Debug)]
pub(super) struct Penalty {
    since: Instant,
    /// Milliseconds after `since`; 0 = none.
    until: AtomicU64,
    /// Failures in a row, trials included.
    failures: AtomicU32,
    /// Requests in a row that got no answer on a connection that was there.
    unanswered: AtomicU32,
}

impl Penalty {
    pub(super) fn new() -> Penalty {
        Penalty {
            since: Instant::now(),
            until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.until.load(Ordering::Relaxed) {
            0 => Standing::Good,
            until if self.now() < until => Standing::Out,
            _ => Standing::Due,
        }
    }

    /// Takes the one trial that is due. Until it succeeds, the next one is due after twice the time.
    fn claim(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 || self.now() < until {
            return false;
        }
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        let next = self.after(failures);
        let relaxed = Ordering::Relaxed;
        let claimed = self.until.compare_exchange(until, next, relaxed, relaxed);
        if claimed.is_ok() {
            self.failures.store(failures, relaxed);
        }
        claimed.is_ok()
    }

    /// A failure. Those that come while it is left out are of calls that began earlier, or of a claimed trial, and
    /// change nothing.
    pub(super) fn impose(&self) {
        if self.standing() == Standing::Out {
            return;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let until = self.after(failures.saturating_add(1));
        self.until.store(until, Ordering::Relaxed);
    }

    /// A request that was sent and got no answer; the second in a row is a failure.
    pub(super) fn unanswered(&self) {
        let before = self.unanswered.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) >= UNANSWERED {
            self.impose();
        }
    }

    /// An answer came: all is forgotten.
    pub(super) fn lift(&self) {
        if self.unanswered.load(Ordering::Relaxed) != 0 {
            self.unanswered.store(0, Ordering::Relaxed);
        }
        if self.until.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn after(&self, failures: u32) -> u64 {
        let pause = FIRST_PAUSE * (1 << failures.saturating_sub(1).min(8));
        let pause = pause.min(LONGEST_PAUSE).as_millis();
        self.now()
            .saturating_add(u64::try_from(pause).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_failed_lately_is_tried_last() {
        let penalties = [Penalty::new(), Penalty::new(), Penalty::new()];
        let turn = |start| order(3, start, |index| penalties.get(index));
        assert_eq!(turn(1).as_slice(), [1, 2, 0]);
        penalties[1].impose();
        assert_eq!(turn(1).as_slice(), [2, 0, 1]);
        for penalty in &penalties {
            penalty.impose();
        }
        assert_eq!(turn(1).as_slice(), [1, 2, 0], "never all are left out");
        assert_eq!(order(1, usize::MAX, |_| penalties.first()).as_slice(), [0]);
        assert!(order(0, 0, |_| None).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_at_a_time_tries_a_failed_host_and_the_pauses_grow() {
        let penalties = [Penalty::new(), Penalty::new()];
        let turn = || order(2, 0, |index| penalties.get(index));
        penalties[0].impose();
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(turn().as_slice(), [1, 0]);
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert_eq!(turn().as_slice(), [0, 1], "the trial after {pause} s");
            // The trial fails, and so does a call that began before.
            penalties[0].impose();
        }
        penalties[0].lift();
        assert_eq!(turn().as_slice(), [0, 1]);
        penalties[0].impose();
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(
            penalties[0].standing(),
            Standing::Due,
            "the pause is short again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn two_requests_in_a_row_without_an_answer_are_a_failure() {
        let penalty = Penalty::new();
        penalty.unanswered();
        penalty.lift();
        penalty.unanswered();
        assert_eq!(penalty.standing(), Standing::Good);
        penalty.unanswered();
        assert_eq!(penalty.standing(), Standing::Out);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_at_once_count_as_one() {
        let penalty = Penalty::new();
        for _ in 0..50 {
            penalty.impose();
        }
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(penalty.standing(), Standing::Due);
    }
}
