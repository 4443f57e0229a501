//! Whether Redis responds.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::runtime::clock::Clock;

/// How long Redis is not called after it is given up. A response ends this immediately.
const REST: Duration = Duration::from_secs(1);

/// The number of consecutive queries that failed or timed out before Redis is given up.
const MAX_FAILURES: u32 = 5;

/// Redis is given up only if nothing was received from it for this time: a late response shows that it still works.
const SILENCE: Duration = Duration::from_millis(500);

/// The least time between two lines about error replies.
const LINES: Duration = Duration::from_secs(10);

/// Whether the store responds.
pub(super) struct Health {
    clock: Clock,
    /// The time until which it is not called, in nanoseconds of the clock.
    rests_until: AtomicU64,
    /// Queries without a response in time since the last response.
    failures: AtomicU32,
    /// The time of the first of them, in nanoseconds of the clock.
    silent_since: AtomicU64,
    /// Whether the last query succeeded, for the log.
    well: AtomicBool,
    /// When the connection was found lost, in nanoseconds of the clock. 0 if there was a response since.
    lost_since: AtomicU64,
    /// Whether there was ever a response.
    has_answered: AtomicBool,
    /// The time of the next line about an error reply, in nanoseconds of the clock.
    next_line: AtomicU64,
}

impl Health {
    pub(super) fn new(clock: Clock) -> Health {
        Health {
            clock,
            rests_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            silent_since: AtomicU64::new(0),
            well: AtomicBool::new(true),
            lost_since: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
            next_line: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Ordering::Acquire)
    }

    /// The time since the connection was lost, or since the first query without a response in time, if there was no
    /// response since.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        let lost = match self.lost_since.load(Ordering::Acquire) {
            0 => None,
            since => Some(Duration::from_nanos(self.now().saturating_sub(since))),
        };
        lost.max(self.late_for())
    }

    /// The time since the first query without a response in time, if there was no response since.
    fn late_for(&self) -> Option<Duration> {
        let since = self.silent_since.load(Ordering::Acquire);
        (self.failures.load(Ordering::Acquire) > 0)
            .then(|| Duration::from_nanos(self.now().saturating_sub(since)))
    }

    /// The connection is lost. It is opened again at once, so this is a silence like that of a slow server, but no
    /// reason to leave the new connection alone. A server that never responded is not there: it has no state to wait
    /// for.
    pub(super) fn lost(&self) {
        if self.has_answered.load(Ordering::Acquire) {
            let (new, old) = (Ordering::AcqRel, Ordering::Acquire);
            let now = self.now().max(1);
            // Otherwise it was found before.
            let _ = self.lost_since.compare_exchange(0, now, new, old);
        }
    }

    /// Whether the connection was lost, and there was no response since.
    pub(super) fn is_lost(&self) -> bool {
        self.lost_since.load(Ordering::Acquire) != 0
    }

    /// How much longer a late response is worth waiting for.
    pub(super) fn late_wait(&self) -> Duration {
        SILENCE.saturating_sub(self.late_for().unwrap_or_default())
    }

    pub(super) fn answered(&self) {
        self.failures.store(0, Ordering::Release);
        self.rests_until.store(0, Ordering::Release);
        self.lost_since.store(0, Ordering::Release);
        self.has_answered.store(true, Ordering::Release);
        if !self.well.swap(true, Ordering::AcqRel) {
            log::warn!("[SERVICE: Redis] shared rate limits are available again");
        }
    }

    /// A query failed or timed out. After several of them without any response for a while, the store is not called
    /// for some time.
    pub(super) fn failed(&self, why: impl Display) {
        let now = self.now();
        if self.failures.load(Ordering::Acquire) == 0 {
            self.silent_since.store(now, Ordering::Release);
        }
        let before = self.failures.fetch_add(1, Ordering::AcqRel);
        let silent = now.saturating_sub(self.silent_since.load(Ordering::Acquire));
        if before + 1 >= MAX_FAILURES && u128::from(silent) >= SILENCE.as_nanos() {
            let rest = u64::try_from(REST.as_nanos()).unwrap_or(u64::MAX);
            self.rests_until
                .store(now.saturating_add(rest), Ordering::Release);
            self.report(why);
        }
    }

    /// Redis is there, but its reply is an error. Such replies may alternate with others, so they are logged now and
    /// then.
    pub(super) fn rejected(&self, why: impl Display) {
        let now = self.now();
        let next = self.next_line.load(Ordering::Acquire);
        let until = now.saturating_add(u64::try_from(LINES.as_nanos()).unwrap_or(u64::MAX));
        let (new, old) = (Ordering::AcqRel, Ordering::Acquire);
        if now >= next
            && self
                .next_line
                .compare_exchange(next, until, new, old)
                .is_ok()
        {
            log::error!("[SERVICE: Redis] shared rate limits do not work: {why}");
        }
    }

    pub(super) fn report(&self, why: impl Display) {
        if self.well.swap(false, Ordering::AcqRel) {
            log::error!("[SERVICE: Redis] shared rate limits are not available: {why}");
        }
    }
}
