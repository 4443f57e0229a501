//! How long to wait before a broker is tried again.

use std::time::Duration;

use crate::ext::reconnect::{doubled, spread};

const LONGEST: Duration = Duration::from_secs(60);

/// How pauses grow with the failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// From a quarter of a second, doubled each time.
    Quick,
    /// `fallback` of KrakenD: a second.
    #[cfg(feature = "amqp")]
    Constant,
    /// As many seconds as there were failures.
    #[cfg(feature = "amqp")]
    Linear,
    /// From two seconds, doubled each time.
    #[cfg(feature = "amqp")]
    Exponential,
}

/// A strategy. No pause is longer than a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    growth: Growth,
    /// After this many failures in a row, the pause is a minute.
    most: Option<u32>,
}

impl Backoff {
    /// For addresses that name no strategy.
    pub(crate) const QUICK: Backoff = Backoff {
        growth: Growth::Quick,
        most: None,
    };

    /// A strategy by its name in KrakenD, which knows no wrong names, and the number of attempts (0 is any number).
    #[cfg(feature = "amqp")]
    pub(crate) fn named(name: &str, most: u32) -> Backoff {
        let growth = match name.to_ascii_lowercase().as_str() {
            "linear" | "linear-jitter" => Growth::Linear,
            "exponential" | "exponential-jitter" => Growth::Exponential,
            _ => Growth::Constant,
        };
        Backoff {
            growth,
            most: (most > 0).then_some(most),
        }
    }

    /// The pause after this many failures in a row, up to a quarter shorter, so that several gateways do not reconnect
    /// at the same moment.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let whole = match self.growth {
            // The connection has worked.
            _ if failures == 0 => Duration::ZERO,
            _ if self.most.is_some_and(|most| failures >= most) => LONGEST,
            Growth::Quick => doubled(Duration::from_millis(250), failures),
            #[cfg(feature = "amqp")]
            Growth::Constant => Duration::from_secs(1),
            #[cfg(feature = "amqp")]
            Growth::Linear => Duration::from_secs(failures.into()),
            #[cfg(feature = "amqp")]
            Growth::Exponential => doubled(Duration::from_secs(2), failures),
        };
        spread(whole.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(pause: Duration, seconds: f64) -> bool {
        let pause = pause.as_secs_f64();
        pause <= seconds && pause >= seconds * 0.74
    }

    #[test]
    fn pauses_grow_up_to_a_minute() {
        assert!(near(Backoff::QUICK.pause(1), 0.25));
        assert!(near(Backoff::QUICK.pause(3), 1.0));
        assert!(near(Backoff::QUICK.pause(u32::MAX), 60.0));
    }

    #[cfg(feature = "amqp")]
    #[test]
    fn strategies_of_krakend_have_their_pauses() {
        for (name, failures, seconds) in [
            ("fallback", 9, 1.0),
            ("anything", 9, 1.0),
            ("Linear", 3, 3.0),
            ("linear-jitter", 100, 60.0),
            ("exponential", 3, 8.0),
            ("exponential-jitter", 40, 60.0),
        ] {
            let pause = Backoff::named(name, 0).pause(failures);
            assert!(near(pause, seconds), "{name}: {pause:?}");
        }
        assert!(near(Backoff::named("", 3).pause(2), 1.0));
        assert!(near(Backoff::named("", 3).pause(3), 60.0));
    }
}
