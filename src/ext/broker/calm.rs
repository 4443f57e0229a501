//! Warnings that a broker or its senders can cause at any rate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Writes a line at most once in ten seconds. The next line says how many were left out.
#[derive(Debug, Default)]
pub(crate) struct Calm(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    left_out: u64,
}

impl Calm {
    pub(crate) fn warn(&self, text: impl FnOnce() -> String) {
        if let Some(left_out) = self.turn(Instant::now()) {
            match left_out {
                0 => log::warn!("{}", text()),
                _ => log::warn!("{} ({left_out} similar lines suppressed)", text()),
            }
        }
    }

    /// How many lines were left out before this one. `None` if this one is left out, too.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
        {
            told.left_out += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_left_out_and_counted() {
        let calm = Calm::default();
        let start = Instant::now();
        let at = |seconds| calm.turn(start + Duration::from_secs(seconds));
        let seen = [0, 1, 9, 10, 11, 30].map(at);
        assert_eq!(seen, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
