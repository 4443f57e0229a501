//! How long a group of calls may take, and whether it took too long.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::runtime::service::{Composition, Order};

/// The end of a group of calls. Calls that are dropped after it has passed have failed; calls that are dropped before
/// were given up by a client, or lost a race, and count for nothing.
#[derive(Debug)]
pub struct Limit {
    at: Instant,
    passed: AtomicBool,
}

impl Limit {
    /// A limit that ends at `at`.
    pub fn at(at: Instant) -> Limit {
        Limit {
            at,
            passed: AtomicBool::new(false),
        }
    }

    /// The limit of a whole composition, as KrakenD has it: the timeout for one backend, 85 % of it for several,
    /// 75 % with `concurrent_calls`.
    pub(super) fn of(work: &Composition, started: Instant, timeout: Duration) -> Limit {
        let parallel = work.backends.len() < 2 || work.order == Order::Parallel;
        let percent = match work.backends.len() {
            _ if work.concurrent_calls > 1 && parallel => 75,
            0 | 1 => 100,
            _ => 85,
        };
        Limit::at(started + timeout * percent / 100)
    }

    /// The end of one call in a sequence with `concurrent_calls`.
    pub(super) fn step(&self, timeout: Duration) -> Limit {
        Limit::at(self.at.min(Instant::now() + timeout * 75 / 100))
    }

    /// Waits for `work` as long as this allows. What `work` borrowed is free again once the caller has dropped it.
    pub async fn wait<F: Future>(&self, work: Pin<&mut F>) -> Option<F::Output> {
        // A timer that is due waits for the next tick: long enough for a near answer to slip in.
        if Instant::now() >= self.at {
            self.passed.store(true, Ordering::Relaxed);
            return None;
        }
        match timeout_at(self.at, work).await {
            Ok(output) => Some(output),
            Err(_) => {
                self.passed.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// Whether a wait was cut by this limit.
    pub fn has_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }

    /// The end.
    pub fn end(&self) -> Instant {
        self.at
    }

    /// What is left until the end.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}
