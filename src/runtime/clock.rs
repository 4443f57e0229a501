//! The clock of limits, circuit breakers and caches. It is passed as a value, so that tests can control it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock with its own origin, together with the wall clock.
///
/// Clones share the same clock. Readings never go backwards, whatever the wall clock does.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant),
    /// Nanoseconds since the origin. The wall clock is `EPOCH_OF_TESTS` later.
    Manual(Arc<AtomicU64>),
}

/// The wall time at the origin of a manual clock: a Friday in November 2023.
const EPOCH_OF_TESTS: Duration = Duration::from_secs(1_700_000_000);

impl Clock {
    /// The clock of this machine. Its origin is now.
    pub fn system() -> Clock {
        Clock(Source::System(Instant::now()))
    }

    /// A clock that moves only with [`Clock::advance`].
    pub fn manual() -> Clock {
        Clock(Source::Manual(Arc::default()))
    }

    /// Time since the origin.
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::System(origin) => origin.elapsed(),
            Source::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Acquire)),
        }
    }

    /// Time since the Unix epoch, only for dates in headers.
    pub fn wall(&self) -> Duration {
        match &self.0 {
            // A machine whose date is before 1970 reports 1970. Nothing may depend on this value.
            Source::System(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            Source::Manual(_) => EPOCH_OF_TESTS + self.now(),
        }
    }

    /// Advances a manual clock. The system clock is not affected.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            nanos.fetch_add(by, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_advanced() {
        let clock = Clock::manual();
        let same = clock.clone();
        assert_eq!(clock.now(), Duration::ZERO);
        same.advance(Duration::from_secs(3));
        assert_eq!(clock.now(), Duration::from_secs(3));
        assert_eq!(clock.wall(), EPOCH_OF_TESTS + Duration::from_secs(3));
    }
}
