//! How long a call waits for an equal one, learned from the responses of the backend.

use std::sync::atomic::{AtomicI8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// After so many responses in a row that could not be shared, calls do not wait for the next one.
const ENOUGH: i8 = 3;

/// A call waits for this part of its time, less `RESERVE`, if nothing is known about the responses to equal calls. It
/// is small because the response may be one that cannot be shared and takes most of the time.
const PART: u32 = 5;

/// What a call may need beyond the usual time, for example for a new connection.
const RESERVE: Duration = Duration::from_millis(50);

/// The slowest call is forgotten if for so long no other took about as much time.
const MEMORY: Duration = Duration::from_secs(600);

/// What the last responses of a backend were like.
///
/// A call that waits in vain needs the time of its own response afterwards. So it may only wait as long as enough time
/// remains for that.
#[derive(Debug)]
pub(super) struct Waits {
    /// 1 if the last response could be shared, 0 if there was none yet, and below that the number of those in a row
    /// that could not.
    last: AtomicI8,
    /// The duration of the slowest call in milliseconds, and in the upper half the second in which the last call took
    /// about as much. 0 if there was none yet.
    slowest: AtomicU64,
    /// Seconds count from here.
    start: Instant,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            last: AtomicI8::new(0),
            slowest: AtomicU64::new(0),
            start: Instant::now(),
        }
    }
}

impl Waits {
    /// A response came, and could be shared with equal calls or not.
    pub(super) fn learn(&self, is_shared: bool) {
        let next = if is_shared {
            1
        } else {
            let before = self.last.load(Ordering::Relaxed).min(0);
            (before - 1).max(-ENOUGH)
        };
        self.last.store(next, Ordering::Relaxed);
    }

    /// A call got a response after `took`.
    pub(super) fn took(&self, took: Duration) {
        self.took_at(took, self.start.elapsed());
    }

    fn took_at(&self, took: Duration, now: Duration) {
        // 0 means that nothing is known.
        let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX).max(1);
        let now = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let (slowest, seen) = halves(self.slowest.load(Ordering::Relaxed));
        let is_forgotten = u64::from(now.saturating_sub(seen)) >= MEMORY.as_secs();
        let kept = if is_forgotten || took > slowest {
            took
        } else if took >= slowest / 8 * 7 {
            slowest
        } else {
            return;
        };
        // Two calls that end at once may lose the duration of one of them. The next slow call brings it back.
        let both = (u64::from(now) << 32) | u64::from(kept);
        self.slowest.store(both, Ordering::Relaxed);
    }

    /// Whether the response to the next call is not expected to be of use for others.
    pub(super) fn are_useless(&self) -> bool {
        self.last.load(Ordering::Relaxed) <= -ENOUGH
    }

    /// How long to wait, if the request ends in `remaining`. `is_known` says that a response to an equal call was
    /// shared before.
    pub(super) fn wait(&self, remaining: Duration, is_known: bool) -> Duration {
        let most = if is_known && self.slowest().is_some() {
            remaining / 2
        } else {
            (remaining / PART).saturating_sub(RESERVE)
        };
        most.min(self.spare(remaining))
    }

    /// The time of the request that its own call does not need.
    pub(super) fn spare(&self, remaining: Duration) -> Duration {
        // An eighth more, because no two calls take the same time.
        let own = self.slowest().map(|own| own + own / 8 + RESERVE);
        remaining.saturating_sub(own.unwrap_or_default())
    }

    fn slowest(&self) -> Option<Duration> {
        let (slowest, _) = halves(self.slowest.load(Ordering::Relaxed));
        (slowest > 0).then(|| Duration::from_millis(slowest.into()))
    }
}

/// The duration in milliseconds and the second.
fn halves(both: u64) -> (u32, u32) {
    let lower = u32::try_from(both & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let upper = u32::try_from(both >> 32).unwrap_or(u32::MAX);
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn after_some_responses_that_could_not_be_shared_calls_do_not_wait() {
        let waits = Waits::default();
        for (is_shared, expected) in [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (false, true),
            (true, false),
        ] {
            waits.learn(is_shared);
            assert_eq!(waits.are_useless(), expected);
        }
    }

    #[test]
    fn a_wait_leaves_the_time_that_the_slowest_call_took() {
        let waits = Waits::default();
        let both = || (waits.wait(ms(2000), false), waits.wait(ms(2000), true));
        assert_eq!(both(), (ms(350), ms(350)));
        for (took, expected) in [(10, (350, 1000)), (1200, (350, 600)), (1600, (150, 150))] {
            waits.took(ms(took));
            assert_eq!(both(), (ms(expected.0), ms(expected.1)));
        }
        // Fast responses between slow ones change nothing.
        waits.took(ms(10));
        assert_eq!(both(), (ms(150), ms(150)));
        waits.took(ms(1900));
        assert_eq!(both(), (Duration::ZERO, Duration::ZERO));
        assert_eq!(
            waits.spare(ms(3000)),
            ms(3000 - 1900) - ms(1900) / 8 - RESERVE
        );
    }

    #[test]
    fn a_slow_call_is_forgotten_when_no_other_is_as_slow() {
        let waits = Waits::default();
        waits.took_at(ms(800), ms(0));
        // About as slow.
        waits.took_at(ms(750), MEMORY / 2);
        waits.took_at(ms(10), MEMORY);
        assert_eq!(waits.slowest(), Some(ms(800)));
        waits.took_at(ms(10), MEMORY * 2);
        assert_eq!(waits.slowest(), Some(ms(10)));
    }
}
