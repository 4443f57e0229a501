//! The time that limits, breakers and caches live by, handed in so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock with an origin of its own, and the wall clock beside it.
///
/// Cloning gives the same clock. Two readings of one clock never run backwards, whatever the wall clock does.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant),
    /// Nanoseconds since the origin; the wall clock is `EPOCH_OF_TESTS` later.
    Manual(Arc<AtomicU64>),
}

/// Wall time at the origin of a manual clock: a Friday in November 2023.
const EPOCH_OF_TESTS: Duration = Duration::from_secs(1_700_000_000);

impl Clock {
    /// The clock of this machine, its origin now.
    pub fn system() -> Clock {
        Clock(Source::System(Instant::now()))
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
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

    /// Time since 1970, for dates in headers only.
    pub fn wall(&self) -> Duration {
        match &self.0 {
            // A machine whose date is before 1970 gets 1970: nothing here may depend on it.
            Source::System(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            Source::Manual(_) => EPOCH_OF_TESTS + self.now(),
        }
    }

    /// Moves a manual clock forward; the system's clock is not moved.
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
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual();
        let same = clock.clone();
        assert_eq!(clock.now(), Duration::ZERO);
        same.advance(Duration::from_secs(3));
        assert_eq!(clock.now(), Duration::from_secs(3));
        assert_eq!(clock.wall(), EPOCH_OF_TESTS + Duration::from_secs(3));
    }
}
