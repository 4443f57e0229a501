//! The log lines and metrics about shared revocations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Exchanged;
use crate::telemetry::revocations;

/// Sharing that is behind for longer than this is reported: a revocation should reach all gateways within a second.
const LATE: Duration = Duration::from_secs(2);

/// The minimum interval between two lines about dropped revocations.
const LINES: Duration = Duration::from_secs(10);

/// Whether sharing works and is in time.
pub(super) struct Progress {
    is_well: bool,
    /// The last time at which everything was sent and read.
    current: Instant,
    is_late: bool,
    dropped: u64,
    next_line: Instant,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Progress {
        Progress {
            is_well: true,
            current: now,
            is_late: false,
            dropped: 0,
            next_line: now,
        }
    }

    /// Whether Redis responded last time.
    pub(super) fn is_well(&self) -> bool {
        self.is_well
    }

    /// Notes the result of an exchange. `unsent` is the number of revocations that wait to be sent, and `has_arrived` is
    /// whether the list was ever read.
    pub(super) fn note(
        &mut self,
        exchanged: Result<&Exchanged, &String>,
        unsent: usize,
        has_arrived: bool,
        now: Instant,
    ) {
        match exchanged {
            Ok(exchanged) => {
                if !std::mem::replace(&mut self.is_well, true) {
                    log::warn!("[SERVICE: Revoker] revocations are shared again");
                }
                self.moved(*exchanged, unsent, now);
            }
            Err(why) if self.is_well => {
                self.is_well = false;
                failed(why, has_arrived);
            }
            Err(_) => {}
        }
    }

    /// Notes how many revocations were dropped.
    pub(super) fn dropped(&mut self, dropped: u64) {
        self.dropped += dropped;
        let now = Instant::now();
        if self.dropped > 0 && now >= self.next_line {
            log::error!(
                "[SERVICE: Revoker] too many revocations wait for Redis: {} may be lost for the other gateways",
                self.dropped
            );
            self.dropped = 0;
            self.next_line = now + LINES;
        }
    }

    fn moved(&mut self, exchanged: Exchanged, unsent: usize, now: Instant) {
        if !exchanged.is_behind {
            self.current = now;
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            revocations::current(since.map_or(0.0, |since| since.as_secs_f64()));
            if std::mem::replace(&mut self.is_late, false) {
                log::warn!("[SERVICE: Revoker] revocations are shared in time again");
            }
        } else if now.duration_since(self.current) > LATE && !self.is_late {
            self.is_late = true;
            log::warn!(
                "[SERVICE: Revoker] revocations are shared late, because there are many of them: {unsent} wait to be sent to Redis"
            );
        }
    }
}

fn failed(why: &str, has_arrived: bool) {
    if has_arrived {
        log::error!("[SERVICE: Revoker] revocations cannot be shared through Redis: {why}");
    } else {
        log::error!(
            "[SERVICE: Revoker] revocations cannot be read from Redis: {why}. Until they are read, tokens that were revoked before the start are accepted"
        );
    }
}
