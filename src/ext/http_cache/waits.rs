//! How long a call waits for an equal one, learned from the responses of the backend.

use std::sync::atomic::{AtomicI8, Ordering};
use std::time::Duration;

/// After so many responses in a row that could not be shared, calls do not wait for the next one.
const ENOUGH: i8 = 3;

/// What the last responses of a backend were like.
///
/// A call that waits in vain needs the time of its own response afterwards. So it may only wait long where a response
/// can be expected that helps it.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// 1 if the last response could be shared, 0 if there was none yet, and below that the number of those in a row
    /// that could not.
    last: AtomicI8,
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

    /// How long to wait if the request ends in `remaining`.
    pub(super) fn wait(&self, remaining: Duration) -> Duration {
        match self.last.load(Ordering::Relaxed) {
            1 => remaining / 2,
            last if last <= -ENOUGH => Duration::ZERO,
            _ => remaining / 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_longer_where_the_last_response_could_be_shared() {
        let waits = Waits::default();
        let seconds = |shared: Option<bool>| {
            if let Some(shared) = shared {
                waits.learn(shared);
            }
            waits.wait(Duration::from_secs(8)).as_secs()
        };
        assert_eq!(seconds(None), 2);
        assert_eq!(seconds(Some(true)), 4);
        for expected in [2, 2, 0, 0] {
            assert_eq!(seconds(Some(false)), expected);
        }
        assert_eq!(seconds(Some(true)), 4);
        assert_eq!(seconds(Some(false)), 2);
    }
}
