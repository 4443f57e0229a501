//! The time limit of a group of calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::runtime::service::{Composition, Order};
use crate::telemetry::observe::Wait;

/// The end of a group of calls. Calls that are dropped after the end have failed. Calls that are dropped before it
/// were cancelled by the client, or lost a race, and count for nothing.
#[derive(Debug)]
pub(super) struct TimeLimit {
    at: Instant,
    passed: AtomicBool,
}

impl TimeLimit {
    /// A limit that ends at `at`.
    pub(super) fn at(at: Instant) -> TimeLimit {
        TimeLimit {
            at,
            passed: AtomicBool::new(false),
        }
    }

    /// The limit of a whole composition, as KrakenD has it: the timeout for one backend, 85 % of it for several,
    /// 75 % with `concurrent_calls`.
    pub(super) fn of(work: &Composition, started: Instant, timeout: Duration) -> TimeLimit {
        let parallel = work.backends.len() < 2 || work.order == Order::Parallel;
        let percent = match work.backends.len() {
            _ if work.concurrent_calls > 1 && parallel => 75,
            0 | 1 => 100,
            _ => 85,
        };
        TimeLimit::at(started + timeout * percent / 100)
    }

    /// The end of one call in a sequence with `concurrent_calls`.
    pub(super) fn step(&self, timeout: Duration) -> TimeLimit {
        TimeLimit::at(self.at.min(Instant::now() + timeout * 75 / 100))
    }

    /// Waits for `work` until the limit. What `work` borrows is free again when the caller drops it. After that,
    /// [`Failure::late`](crate::runtime::failure::Failure::late) knows what it was waiting for.
    pub(super) async fn wait<F: Future>(&self, work: Pin<&mut F>) -> Option<F::Output> {
        // A timer that is due fires at the next tick, and a response could arrive until then.
        if Instant::now() >= self.at {
            self.passed.store(true, Ordering::Relaxed);
            Wait::forget();
            return None;
        }
        match timeout_at(self.at, work).await {
            Ok(output) => Some(output),
            Err(_) => {
                self.passed.store(true, Ordering::Relaxed);
                Wait::forget();
                None
            }
        }
    }

    /// Whether this limit ended a wait.
    pub(super) fn has_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }

    /// The end.
    pub(super) fn end(&self) -> Instant {
        self.at
    }

    /// The time until the end.
    pub(super) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}
