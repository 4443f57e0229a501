//! Lines of the log that somebody else can cause at any rate: a broker, its senders, the readers of a page.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time in which only so many lines are written.
const PAUSE: Duration = Duration::from_secs(10);

/// Writes at most so many lines in ten seconds. The next line says how many were left out.
#[derive(Debug)]
pub(crate) struct Calm {
    /// The most lines.
    most: u32,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// When the first line of the last ten seconds was written.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Default for Calm {
    /// One line.
    fn default() -> Calm {
        Calm::after(1)
    }
}

impl Calm {
    pub(crate) fn after(most: u32) -> Calm {
        Calm {
            most,
            told: Mutex::default(),
        }
    }

    pub(crate) fn warn(&self, text: impl FnOnce() -> String) {
        self.write(log::Level::Warn, text);
    }

    #[cfg(any(feature = "nats", feature = "amqp"))]
    pub(crate) fn info(&self, text: impl FnOnce() -> String) {
        self.write(log::Level::Info, text);
    }

    #[cfg(feature = "amqp")]
    pub(crate) fn error(&self, text: impl FnOnce() -> String) {
        self.write(log::Level::Error, text);
    }

    fn write(&self, level: log::Level, text: impl FnOnce() -> String) {
        match self.turn(Instant::now()) {
            Some(0) => log::log!(level, "{}", text()),
            Some(left_out) => {
                log::log!(level, "{} ({left_out} similar lines suppressed)", text());
            }
            None => {}
        }
    }

    /// How many lines were left out before this one. `None` if this one is left out, too.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= PAUSE)
        {
            told.since = Some(now);
            told.lines = 0;
        }
        if told.lines >= self.most {
            told.left_out += 1;
            return None;
        }
        told.lines += 1;
        Some(std::mem::take(&mut told.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_left_out_and_counted() {
        let start = Instant::now();
        let seen = |calm: &Calm| {
            [0, 1, 9, 10, 11, 30].map(|seconds| calm.turn(start + Duration::from_secs(seconds)))
        };
        let one = [Some(0), None, None, Some(2), None, Some(1)];
        assert_eq!(seen(&Calm::default()), one);
        let two = [Some(0), Some(0), None, Some(1), Some(0), Some(0)];
        assert_eq!(seen(&Calm::after(2)), two);
    }
}
