//! The state of one host.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::ejection::{Change, Ejection};
use super::rules::EjectionRules;
use crate::telemetry::sanitize::without_password;
use crate::upstream::failover::Availability;

/// No check has ended yet. The host is used.
const UNKNOWN: u8 = 0;
const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;
/// The share of a host that has just come back, in thousandths.
const FIRST_SHARE: u64 = 100;
const WHOLE_SHARE: u64 = 1000;

/// What is known of a host, shared by all sets that have it with the same rules.
#[derive(Debug)]
pub(in crate::upstream) struct HostHealth {
    url: Box<str>,
    /// The URL for log lines.
    shown: Box<str>,
    since: Instant,
    slow_start: Option<Duration>,
    checked: AtomicU8,
    /// Consecutive results that contradict `checked`.
    against: AtomicU32,
    ejection: Option<Ejection>,
    /// When the host came back, in milliseconds after `since`, plus one. 0 means that it has its whole share.
    back: AtomicU64,
    /// Adds up shares: with each whole one a turn is taken.
    share: AtomicU64,
    failed: AtomicU64,
    recovered: AtomicU64,
    ejected: AtomicU64,
}

/// The state of a host, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HostReport {
    /// Neither unhealthy nor ejected.
    pub usable: bool,
    /// How often it became unhealthy, healthy again, and was ejected.
    pub failed: u64,
    pub recovered: u64,
    pub ejected: u64,
}

impl HostHealth {
    pub(super) fn new(
        url: &str,
        ejection: Option<&EjectionRules>,
        slow_start: Option<Duration>,
    ) -> HostHealth {
        HostHealth {
            url: url.into(),
            shown: without_password(url).into(),
            since: Instant::now(),
            slow_start,
            checked: AtomicU8::new(UNKNOWN),
            against: AtomicU32::new(0),
            ejection: ejection.and_then(Ejection::new),
            back: AtomicU64::new(0),
            share: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            ejected: AtomicU64::new(0),
        }
    }

    /// `scheme://authority`, as configured.
    pub(super) fn address(&self) -> Box<str> {
        self.url.clone()
    }

    /// Whether health checks say that the host is unhealthy.
    pub(super) fn is_down(&self) -> bool {
        self.checked.load(Ordering::Relaxed) == UNHEALTHY
    }

    /// Whether its statuses leave it out.
    pub(super) fn ejection(&self) -> Availability {
        self.ejection
            .as_ref()
            .map_or(Availability::Good, Ejection::availability)
    }

    pub(in crate::upstream) fn is_ejected(&self) -> bool {
        self.ejection() != Availability::Good
    }

    /// Claims the one attempt that is due after a pause.
    pub(super) fn claim(&self) -> bool {
        self.ejection.as_ref().is_some_and(Ejection::claim)
    }

    /// Records the result of a health check. The first one counts at once, later ones by the thresholds.
    pub(super) fn checked(&self, result: Result<(), String>, healthy: u32, unhealthy: u32) {
        let now = if result.is_ok() { HEALTHY } else { UNHEALTHY };
        let before = self.checked.load(Ordering::Relaxed);
        if now == before {
            self.against.store(0, Ordering::Relaxed);
            return;
        }
        let threshold = match (before, now) {
            (UNKNOWN, _) => 1,
            (_, HEALTHY) => healthy,
            _ => unhealthy,
        };
        let against = self.against.load(Ordering::Relaxed).saturating_add(1);
        if against < threshold {
            self.against.store(against, Ordering::Relaxed);
            return;
        }
        self.against.store(0, Ordering::Relaxed);
        self.checked.store(now, Ordering::Relaxed);
        match result {
            Ok(()) if before == UNKNOWN => log::debug!("[HOST: {}] Healthy", self.shown),
            Ok(()) => {
                self.recovered.fetch_add(1, Ordering::Relaxed);
                log::info!("[HOST: {}] Healthy again", self.shown);
                self.has_come_back();
            }
            Err(reason) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                log::warn!("[HOST: {}] Unhealthy: {reason}", self.shown);
            }
        }
    }

    /// Records a response. `has_room`: one more host may be ejected.
    pub(in crate::upstream) fn answered(
        &self,
        status: StatusCode,
        has_room: impl FnOnce() -> bool,
    ) {
        let Some(ejection) = &self.ejection else {
            return;
        };
        match ejection.answered(status, has_room) {
            Change::None => {}
            Change::Ejected => {
                self.ejected.fetch_add(1, Ordering::Relaxed);
                log::warn!(
                    "[HOST: {}] Ejected: too many errors in a row, the last one is {}",
                    self.shown,
                    status.as_u16()
                );
            }
            Change::Back => {
                log::info!("[HOST: {}] No longer ejected", self.shown);
                self.has_come_back();
            }
        }
    }

    /// The host can be used again: its share begins to grow.
    pub(in crate::upstream) fn has_come_back(&self) {
        if self.slow_start.is_some() {
            let now = self.now().saturating_add(1);
            self.back.store(now, Ordering::Relaxed);
        }
    }

    /// Whether the host takes its turn. While its share grows it passes some of them on.
    pub(super) fn takes_turn(&self) -> bool {
        let back = self.back.load(Ordering::Relaxed);
        let Some(slow_start) = self.slow_start.filter(|_| back != 0) else {
            return true;
        };
        let passed = self.now().saturating_sub(back - 1);
        let whole = u64::try_from(slow_start.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        if passed >= whole {
            self.back.store(0, Ordering::Relaxed);
            return true;
        }
        let share = (passed.saturating_mul(WHOLE_SHARE) / whole).max(FIRST_SHARE);
        let before = self.share.fetch_add(share, Ordering::Relaxed);
        before % WHOLE_SHARE + share >= WHOLE_SHARE
    }

    pub(in crate::upstream) fn report(&self) -> HostReport {
        HostReport {
            usable: !self.is_down() && !self.is_ejected(),
            failed: self.failed.load(Ordering::Relaxed),
            recovered: self.recovered.load(Ordering::Relaxed),
            ejected: self.ejected.load(Ordering::Relaxed),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(health: &HostHealth, results: &[bool]) -> bool {
        for good in results {
            let result = if *good { Ok(()) } else { Err("no".to_owned()) };
            health.checked(result, 2, 3);
        }
        !health.is_down()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_check_counts_at_once_and_later_ones_by_the_thresholds() {
        let health = HostHealth::new("http://h", None, None);
        assert!(!health.is_down(), "unknown hosts are used");
        assert!(!check(&health, &[false]));
        assert!(!check(&health, &[true, false, true]));
        assert!(check(&health, &[true]));
        assert!(check(&health, &[false, false, true, false, false]));
        assert!(!check(&health, &[false]));
        let report = health.report();
        assert_eq!((report.failed, report.recovered), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_of_a_host_grows_after_it_has_come_back() {
        let health = HostHealth::new("http://h", None, Some(Duration::from_secs(30)));
        let turns = || (0..100).filter(|_| health.takes_turn()).count();
        assert_eq!(turns(), 100, "at the start all hosts have their share");
        health.has_come_back();
        let mut shares = Vec::new();
        for _ in 0..4 {
            shares.push(turns());
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(shares, [10, 33, 66, 100]);
    }
}
