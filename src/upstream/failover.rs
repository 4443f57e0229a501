//! The order in which hosts and addresses are tried, and how long a failing one is skipped.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Indexes in the order in which they are tried.
pub(super) type Order = SmallVec<[usize; 8]>;

/// All of `0..count`, round-robin from `start`, with the failed ones at the end.
///
/// When the pause of a failed one is over, a single caller tries it in its turn again. Others still get it at the end.
pub(super) fn order<'a>(
    count: usize,
    start: usize,
    failures: impl Fn(usize) -> Option<&'a FailureRecord>,
) -> Order {
    let mut order = Order::new();
    if count <= 1 {
        order.extend_from_slice(if count == 1 { &[0] } else { &[] });
        return order;
    }
    let mut late = Order::new();
    for index in (0..count).map(|step| start.wrapping_add(step) % count) {
        let availability = failures(index).map_or(Availability::Good, FailureRecord::availability);
        let in_turn = match availability {
            Availability::Good => true,
            Availability::Out => false,
            // Only the first of an order is certainly called.
            Availability::Due => {
                order.is_empty() && failures(index).is_some_and(FailureRecord::claim)
            }
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

/// How long a host or an address is skipped. Each failed attempt doubles the pause.
const SKIPPED: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_secs(60));

/// The number of consecutive requests without a response that count as a failure. A single one may have been slow.
const UNANSWERED: u32 = 2;

/// The state of a host or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    Good,
    /// It is skipped.
    Out,
    /// Its pause is over: one call may try it.
    Due,
}

/// A record of failures. While there are none, only two numbers are read.
#[derive(Debug)]
pub(super) struct FailureRecord {
    since: Instant,
    pauses: Backoff,
    /// Milliseconds after `since`. 0 means none.
    until: AtomicU64,
    /// Consecutive failures, including failed attempts after a pause.
    failures: AtomicU32,
    /// Consecutive requests that got no response on an open connection.
    unanswered: AtomicU32,
}

impl FailureRecord {
    pub(super) fn new() -> FailureRecord {
        FailureRecord::paced(SKIPPED)
    }

    /// With these pauses.
    pub(super) fn paced(pauses: Backoff) -> FailureRecord {
        FailureRecord {
            since: Instant::now(),
            pauses,
            until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
        }
    }

    /// A record without failures that has the same pauses.
    pub(super) fn like(&self) -> FailureRecord {
        FailureRecord::paced(self.pauses)
    }

    pub(super) fn availability(&self) -> Availability {
        match self.until.load(Ordering::Relaxed) {
            0 => Availability::Good,
            until if self.now() < until => Availability::Out,
            _ => Availability::Due,
        }
    }

    /// Claims the one attempt that is due. Until it succeeds, the next one is due after twice the time.
    pub(super) fn claim(&self) -> bool {
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

    /// Records a failure. Failures during a pause belong to earlier calls or to the claimed attempt, and change
    /// nothing.
    pub(super) fn impose(&self) {
        if self.availability() == Availability::Out {
            return;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let until = self.after(failures.saturating_add(1));
        self.until.store(until, Ordering::Relaxed);
    }

    /// Records a request that got no response. The second in a row counts as a failure. Returns whether this one does.
    pub(super) fn unanswered(&self) -> bool {
        let before = self.unanswered.fetch_add(1, Ordering::Relaxed);
        let counts = before.saturating_add(1) >= UNANSWERED;
        if counts {
            self.impose();
        }
        counts
    }

    /// Records a response, which clears all failures. Returns whether there was a pause.
    pub(super) fn lift(&self) -> bool {
        if self.unanswered.load(Ordering::Relaxed) != 0 {
            self.unanswered.store(0, Ordering::Relaxed);
        }
        let was_out = self.until.load(Ordering::Relaxed) != 0;
        if was_out {
            self.failures.store(0, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
        }
        was_out
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn after(&self, failures: u32) -> u64 {
        let pause = self.pauses.pause(failures).as_millis();
        self.now()
            .saturating_add(u64::try_from(pause).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn recent_failures_are_tried_last() {
        let records = [
            FailureRecord::new(),
            FailureRecord::new(),
            FailureRecord::new(),
        ];
        let turn = |start| order(3, start, |index| records.get(index));
        assert_eq!(turn(1).as_slice(), [1, 2, 0]);
        records[1].impose();
        assert_eq!(turn(1).as_slice(), [2, 0, 1]);
        for failures in &records {
            failures.impose();
        }
        assert_eq!(turn(1).as_slice(), [1, 2, 0], "never all are left out");
        assert_eq!(order(1, usize::MAX, |_| records.first()).as_slice(), [0]);
        assert!(order(0, 0, |_| None).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_host_is_tried_by_one_call_at_a_time_and_the_pauses_grow() {
        let records = [FailureRecord::new(), FailureRecord::new()];
        let turn = || order(2, 0, |index| records.get(index));
        records[0].impose();
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(turn().as_slice(), [1, 0]);
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert_eq!(turn().as_slice(), [0, 1], "the trial after {pause} s");
            // The attempt fails, and so does a call that started earlier.
            records[0].impose();
        }
        records[0].lift();
        assert_eq!(turn().as_slice(), [0, 1]);
        records[0].impose();
        tokio::time::advance(SKIPPED.pause(1)).await;
        assert_eq!(
            records[0].availability(),
            Availability::Due,
            "the pause is short again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn two_consecutive_requests_without_a_response_are_a_failure() {
        let failures = FailureRecord::new();
        failures.unanswered();
        failures.lift();
        failures.unanswered();
        assert_eq!(failures.availability(), Availability::Good);
        failures.unanswered();
        assert_eq!(failures.availability(), Availability::Out);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_at_once_count_as_one() {
        let failures = FailureRecord::new();
        for _ in 0..50 {
            failures.impose();
        }
        tokio::time::advance(SKIPPED.pause(1)).await;
        assert_eq!(failures.availability(), Availability::Due);
    }
}
