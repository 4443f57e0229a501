//! Pauses that grow with the failures in a row. Everything that tries again uses this type; what varies a pause by
//! chance does so with its own result.

use std::time::Duration;

/// How pauses grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    growth: Growth,
    first: Duration,
    longest: Duration,
    /// After this many failures in a row, the pause is the longest.
    most: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// All pauses are equal.
    #[cfg(feature = "amqp")]
    Constant,
    /// As many times the first pause as there were failures.
    #[cfg(feature = "amqp")]
    Linear,
    /// Twice as long each time.
    Doubling,
}

impl Backoff {
    /// From `first`, doubled each time, up to `longest`.
    pub(crate) const fn doubling(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            growth: Growth::Doubling,
            first,
            longest,
            most: None,
        }
    }

    /// A strategy by its name in KrakenD, which knows no wrong names, and the number of attempts after which the pause
    /// is a minute (0 is any number).
    #[cfg(feature = "amqp")]
    pub(crate) fn named(name: &str, most: u32) -> Backoff {
        let (growth, seconds) = match name.to_ascii_lowercase().as_str() {
            "linear" | "linear-jitter" => (Growth::Linear, 1),
            "exponential" | "exponential-jitter" => (Growth::Doubling, 2),
            _ => (Growth::Constant, 1),
        };
        Backoff {
            growth,
            first: Duration::from_secs(seconds),
            longest: Duration::from_secs(60),
            most: (most > 0).then_some(most),
        }
    }

    /// The pause after this many failures in a row. None without a failure.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        if self.most.is_some_and(|most| failures >= most) {
            return self.longest;
        }
        let whole = match self.growth {
            #[cfg(feature = "amqp")]
            Growth::Constant => self.first,
            #[cfg(feature = "amqp")]
            Growth::Linear => self.first.saturating_mul(failures),
            Growth::Doubling => self.first.saturating_mul(1 << (failures - 1).min(16)),
        };
        whole.min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::doubling(Duration::from_millis(250), Duration::from_secs(60));
        let pauses = [0, 1, 2, 3, 9, u32::MAX].map(|failures| backoff.pause(failures).as_millis());
        assert_eq!(pauses, [0, 250, 500, 1000, 60_000, 60_000]);
        let short = Backoff::doubling(Duration::from_secs(5), Duration::from_secs(1));
        assert_eq!(short.pause(1), Duration::from_secs(1));
    }

    #[cfg(feature = "amqp")]
    #[test]
    fn strategies_of_krakend_have_their_pauses() {
        for (name, failures, seconds) in [
            ("fallback", 9, 1),
            ("anything", 9, 1),
            ("Linear", 3, 3),
            ("linear-jitter", 100, 60),
            ("exponential", 3, 8),
            ("exponential-jitter", 40, 60),
        ] {
            let pause = Backoff::named(name, 0).pause(failures);
            assert_eq!(pause.as_secs(), seconds, "{name}");
        }
        assert_eq!(Backoff::named("", 3).pause(2).as_secs(), 1);
        assert_eq!(Backoff::named("", 3).pause(3).as_secs(), 60);
    }
}
