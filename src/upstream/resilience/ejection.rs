//! Hosts that are left out because they respond with errors.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::StatusCode;

use super::rules::EjectionRules;
use crate::backoff::Backoff;
use crate::upstream::failover::{Availability, FailureRecord};

/// The statuses of one host.
#[derive(Debug)]
pub(super) struct Ejection {
    failures: FailureRecord,
    /// Responses of 500 and above since the last other one.
    in_a_row: AtomicU32,
    most_in_a_row: u32,
    /// The pause is over, and one call tries the host.
    on_trial: AtomicBool,
}

/// What a response changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Ejected,
    Back,
}

impl Ejection {
    /// `None` if statuses do not matter.
    pub(super) fn new(rules: &EjectionRules) -> Option<Ejection> {
        (rules.consecutive_5xx > 0).then(|| Ejection {
            failures: FailureRecord::paced(Backoff::doubling(rules.base_time, rules.max_time)),
            in_a_row: AtomicU32::new(0),
            most_in_a_row: rules.consecutive_5xx,
            on_trial: AtomicBool::new(false),
        })
    }

    pub(super) fn availability(&self) -> Availability {
        self.failures.availability()
    }

    /// Claims the one attempt that is due.
    pub(super) fn claim(&self) -> bool {
        let claimed = self.failures.claim();
        if claimed {
            self.on_trial.store(true, Ordering::Relaxed);
        }
        claimed
    }

    /// Records a response. `has_room`: one more host may be ejected.
    pub(super) fn answered(&self, status: StatusCode, has_room: impl FnOnce() -> bool) -> Change {
        if !status.is_server_error() {
            if self.in_a_row.load(Ordering::Relaxed) != 0 {
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            return self.succeeded();
        }
        let before = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        if self.availability() != Availability::Good {
            // The claimed attempt failed: its pause has begun with the claim.
            self.on_trial.store(false, Ordering::Relaxed);
            return Change::None;
        }
        if before.saturating_add(1) < self.most_in_a_row || !has_room() {
            return Change::None;
        }
        self.failures.impose();
        Change::Ejected
    }

    /// During a pause only the claimed attempt counts: other calls may have begun before the ejection.
    fn succeeded(&self) -> Change {
        let counts = match self.availability() {
            Availability::Good => false,
            Availability::Due => true,
            Availability::Out => self.on_trial.load(Ordering::Relaxed),
        };
        if !counts {
            return Change::None;
        }
        self.on_trial.store(false, Ordering::Relaxed);
        self.failures.lift();
        Change::Back
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rules() -> EjectionRules {
        EjectionRules {
            consecutive_5xx: 3,
            base_time: Duration::from_secs(5),
            max_time: Duration::from_secs(12),
            max_percent: 50,
        }
    }

    fn answer(ejection: &Ejection, status: u16) -> Change {
        ejection.answered(StatusCode::from_u16(status).unwrap(), || true)
    }

    #[tokio::test(start_paused = true)]
    async fn errors_in_a_row_eject_and_a_success_after_the_pause_brings_back() {
        let ejection = Ejection::new(&rules()).unwrap();
        for status in [500, 502, 200, 503, 404, 500, 500] {
            assert_eq!(answer(&ejection, status), Change::None, "{status}");
        }
        assert_eq!(answer(&ejection, 500), Change::Ejected);
        assert_eq!(answer(&ejection, 200), Change::None, "of an earlier call");
        assert_eq!(ejection.availability(), Availability::Out);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(ejection.claim() && !ejection.claim(), "one attempt");
        assert_eq!(answer(&ejection, 500), Change::None);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(ejection.availability(), Availability::Out, "twice the time");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(ejection.claim());
        tokio::time::advance(Duration::from_secs(12)).await;
        assert!(ejection.claim(), "the longest pause");
        assert_eq!(answer(&ejection, 204), Change::Back);
        assert_eq!(ejection.availability(), Availability::Good);
    }

    #[tokio::test(start_paused = true)]
    async fn no_host_is_ejected_beyond_the_maximum() {
        let ejection = Ejection::new(&rules()).unwrap();
        let failed = StatusCode::INTERNAL_SERVER_ERROR;
        for _ in 0..5 {
            assert_eq!(ejection.answered(failed, || false), Change::None);
        }
        assert_eq!(ejection.answered(failed, || true), Change::Ejected);
    }
}
