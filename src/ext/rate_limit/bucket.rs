//! The token bucket of every limit, with KrakenD's arithmetic.
//!
//! A bucket is one 64-bit word: the remaining tokens, and the number of fill intervals that were credited since its
//! creation. The last refill is always a whole number of intervals after the creation, so counting intervals loses
//! nothing, and a compare-and-swap replaces a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The capacity and the fill rate of a bucket, fixed when the configuration is compiled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    interval_nanos: u64,
    capacity: u64,
    /// The number of bits of the word that store tokens. The others count intervals.
    token_bits: u32,
}

/// The minimum number of bits for intervals. At a million tokens per second, 24 bits are 16 s, after which an idle
/// bucket could be credited too few tokens.
const MIN_INTERVAL_BITS: u32 = 24;

/// KrakenD's slowest rate, in tokens per second.
const SLOWEST: f64 = 1e-9;

/// The result of a request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A token was available.
    Allowed {
        /// The remaining tokens.
        left: u64,
    },
    /// No token was available.
    Rejected {
        /// The time until the next token.
        retry_after: Duration,
    },
}

impl Verdict {
    /// The tokens that are left.
    pub(crate) fn left(&self) -> u64 {
        match self {
            Verdict::Allowed { left } => *left,
            Verdict::Rejected { .. } => 0,
        }
    }
}

impl Rate {
    /// A rate of `per_second` tokens (at least one in 10⁹ s) with a bucket of `capacity` (at least 1, below 2⁴⁰).
    pub(crate) fn new(per_second: f64, capacity: u64) -> Rate {
        let per_second = if per_second.is_finite() {
            per_second.max(SLOWEST)
        } else {
            SLOWEST
        };
        let capacity = capacity.clamp(1, (1 << (64 - MIN_INTERVAL_BITS)) - 1);
        Rate {
            // As in KrakenD: truncated to whole nanoseconds. Zero would cause a division by zero, where KrakenD
            // panics.
            interval_nanos: ((1e9 / per_second) as u64).max(1),
            capacity,
            token_bits: 64 - capacity.leading_zeros(),
        }
    }

    /// The number of tokens in a full bucket.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The time in which one token is added.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_nanos)
    }

    /// The word of a new, full bucket.
    pub(crate) fn full(&self) -> u64 {
        self.pack(self.capacity, 0)
    }

    /// Takes one token from the bucket `word` with this `age`. Returns the new word.
    ///
    /// 1. A bucket that is not empty gives one token and is not refilled.
    /// 2. For an empty one, the whole intervals since its last refill are counted. If there is none, the request is
    ///    rejected.
    /// 3. The tokens of these intervals are added. If they exceed the capacity, the bucket is filled and this token
    ///    is free.
    #[must_use]
    pub(crate) fn take(&self, word: u64, age: Duration) -> (u64, Verdict) {
        let (tokens, paid) = self.unpack(word);
        if tokens > 0 {
            let left = tokens - 1;
            return (self.pack(left, paid), Verdict::Allowed { left });
        }
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let passed = age / self.interval_nanos;
        let due = passed.wrapping_sub(paid) & self.interval_mask();
        if due == 0 || due > self.interval_mask() / 2 {
            // In the second case another thread has read a later time: nothing is due.
            let next = self.interval_nanos - age % self.interval_nanos;
            let retry_after = Duration::from_nanos(next);
            return (word, Verdict::Rejected { retry_after });
        }
        let left = if due > self.capacity {
            self.capacity
        } else {
            due - 1
        };
        (self.pack(left, passed), Verdict::Allowed { left })
    }

    /// The word of a bucket with this `age` that contains `tokens` now.
    pub(crate) fn holding(&self, tokens: u64, age: Duration) -> u64 {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.pack(tokens.min(self.capacity), age / self.interval_nanos)
    }

    /// The word of a bucket whose tokens are still the same, but that is not refilled for the time up to this `age`. A
    /// bucket that was idle gives its tokens once then, not twice.
    pub(crate) fn without_due(&self, word: u64, age: Duration) -> u64 {
        match self.unpack(word).0 {
            0 => word,
            tokens => self.holding(tokens, age),
        }
    }

    fn interval_mask(&self) -> u64 {
        u64::MAX >> self.token_bits
    }

    fn pack(&self, tokens: u64, intervals: u64) -> u64 {
        let shift = 64 - self.token_bits;
        (tokens.min((1 << self.token_bits) - 1) << shift) | (intervals & self.interval_mask())
    }

    fn unpack(&self, word: u64) -> (u64, u64) {
        (word >> (64 - self.token_bits), word & self.interval_mask())
    }
}

/// A bucket that several requests share.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    born: Duration,
    word: AtomicU64,
}

impl Bucket {
    /// A full bucket, created at `now`.
    pub(crate) fn new(rate: Rate, now: Duration) -> Bucket {
        Bucket {
            rate,
            born: now,
            word: AtomicU64::new(rate.full()),
        }
    }

    /// The rate of this bucket.
    pub(crate) fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Sets the number of tokens at `now`, to that of the bucket that several gateways share.
    pub(crate) fn hold(&self, tokens: u64, now: Duration) {
        let age = now.saturating_sub(self.born);
        self.word
            .store(self.rate.holding(tokens, age), Ordering::Release);
    }

    /// Does not refill the bucket for the time up to `now`, unless it is empty.
    pub(crate) fn forgo(&self, now: Duration) {
        let age = now.saturating_sub(self.born);
        let word = self.word.load(Ordering::Acquire);
        let next = self.rate.without_due(word, age);
        // If another request was faster, it has done the same.
        let _ = self
            .word
            .compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The result that [`Bucket::take`] would have. Takes nothing.
    pub(crate) fn peek(&self, now: Duration) -> Verdict {
        let age = now.saturating_sub(self.born);
        self.rate.take(self.word.load(Ordering::Acquire), age).1
    }

    /// Takes one token at `now`.
    pub(crate) fn take(&self, now: Duration) -> Verdict {
        let age = now.saturating_sub(self.born);
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let (next, verdict) = self.rate.take(word, age);
            if next == word {
                return verdict;
            }
            match self
                .word
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return verdict,
                Err(current) => word = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn allowed(bucket: &Bucket, now: Duration) -> usize {
        (0..1000)
            .take_while(|_| matches!(bucket.take(now), Verdict::Allowed { .. }))
            .count()
    }

    #[test]
    fn a_new_bucket_gives_its_capacity() {
        let bucket = Bucket::new(Rate::new(1.0, 3), SECOND);
        assert_eq!(allowed(&bucket, SECOND), 3);
    }

    #[test]
    fn a_bucket_continues_from_the_number_it_was_set_to() {
        let bucket = Bucket::new(Rate::new(1.0, 5), Duration::ZERO);
        let now = Duration::from_secs(100);
        bucket.hold(2, now);
        assert_eq!(allowed(&bucket, now), 2);
        assert_eq!(allowed(&bucket, now + SECOND), 1);
        bucket.hold(0, now + 3 * SECOND);
        assert_eq!(allowed(&bucket, now + 3 * SECOND), 0);
        bucket.hold(99, now + 3 * SECOND);
        assert_eq!(allowed(&bucket, now + 3 * SECOND), 5);
    }

    #[test]
    fn an_idle_bucket_that_forgoes_its_refill_gives_its_capacity() {
        let bucket = Bucket::new(Rate::new(1.0, 3), Duration::ZERO);
        let minute = Duration::from_secs(60);
        bucket.forgo(minute);
        assert_eq!(allowed(&bucket, minute), 3);
        bucket.forgo(minute + 2 * SECOND);
        assert_eq!(allowed(&bucket, minute + 2 * SECOND), 2);
    }

    #[test]
    fn an_idle_bucket_gives_twice_its_capacity_plus_one() {
        let bucket = Bucket::new(Rate::new(1.0, 1), Duration::ZERO);
        assert_eq!(allowed(&bucket, Duration::from_secs(60)), 3);
        let bucket = Bucket::new(Rate::new(1.0, 2), Duration::ZERO);
        assert_eq!(allowed(&bucket, Duration::from_secs(60)), 5);
    }

    #[test]
    fn a_rejection_has_the_time_of_the_next_token() {
        let bucket = Bucket::new(Rate::new(0.5, 1), Duration::ZERO);
        bucket.take(Duration::ZERO);
        let verdict = bucket.take(Duration::from_millis(500));
        let retry_after = Duration::from_millis(1500);
        assert_eq!(verdict, Verdict::Rejected { retry_after });
        assert_eq!(allowed(&bucket, Duration::from_secs(2)), 1);
    }

    #[test]
    fn unusual_rates_do_not_panic() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            for capacity in [0, 1, u64::MAX] {
                let rate = Rate::new(rate, capacity);
                assert!(matches!(
                    rate.take(rate.full(), Duration::MAX).1,
                    Verdict::Allowed { .. }
                ));
            }
        }
    }

    #[test]
    fn concurrent_requests_get_no_more_than_the_capacity() {
        let bucket = Bucket::new(Rate::new(0.001, 100), Duration::ZERO);
        let got: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| allowed(&bucket, Duration::ZERO)))
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(got, 100);
    }

    /// A direct implementation of the rule, in signed nanoseconds.
    struct Naive {
        tokens: i128,
        last: i128,
        interval: i128,
        capacity: i128,
    }

    impl Naive {
        fn allow(&mut self, now: i128) -> bool {
            if self.tokens > 0 {
                self.tokens -= 1;
                return true;
            }
            let due = (now - self.last) / self.interval;
            if due == 0 {
                return false;
            }
            self.last += due * self.interval;
            if self.tokens + due > self.capacity {
                self.tokens = self.capacity;
            } else {
                self.tokens += due - 1;
            }
            true
        }
    }

    proptest! {
        #[test]
        fn a_bucket_agrees_with_the_direct_implementation(
            per_second in 0.01f64..5000.0,
            capacity in 1u64..50,
            steps in prop::collection::vec(0u64..2_000_000_000, 1..200),
        ) {
            let rate = Rate::new(per_second, capacity);
            let bucket = Bucket::new(rate, Duration::ZERO);
            let mut naive = Naive {
                tokens: capacity.into(),
                last: 0,
                interval: i128::try_from(rate.interval().as_nanos()).unwrap(),
                capacity: capacity.into(),
            };
            let mut now = 0;
            for step in steps {
                now += step / 7;
                let ours = matches!(bucket.take(Duration::from_nanos(now)), Verdict::Allowed { .. });
                prop_assert_eq!(ours, naive.allow(now.into()));
            }
        }
    }
}
