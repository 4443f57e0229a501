//! Whether the gateway is ready to handle requests, for `GET /__ready`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::runtime::upgrade_state::UpgradeState;

/// What a ready process tells the one that takes over.
const READY: &str = "ready";

/// Waits for resources that requests need from elsewhere, such as key sets. Once ready it stays ready: a reload that
/// adds a provider does not take a running instance out of service, and neither does an upgrade.
pub struct Readiness {
    until: Instant,
    ready: AtomicBool,
    has_all: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl Readiness {
    /// Ready when `has_all` returns true, and after `limit` at the latest.
    pub fn new(limit: Duration, has_all: impl Fn() -> bool + Send + Sync + 'static) -> Readiness {
        let now = Instant::now();
        Readiness {
            until: now.checked_add(limit).unwrap_or(now),
            ready: AtomicBool::new(limit.is_zero()),
            has_all: Box::new(has_all),
        }
    }

    /// Whether requests should be sent to this instance.
    pub fn is_ready(&self) -> bool {
        if self.ready.load(Ordering::Relaxed) {
            return true;
        }
        let ready = (self.has_all)() || Instant::now() >= self.until;
        if ready {
            self.ready.store(true, Ordering::Relaxed);
        }
        ready
    }
}

impl UpgradeState for Readiness {
    fn give(&self) -> String {
        if self.is_ready() {
            format!("{READY}\n")
        } else {
            String::new()
        }
    }

    fn take(&self, given: &str) {
        if given.lines().any(|line| line == READY) {
            self.ready.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_stays_ready_once_it_was_ready() {
        let has_all = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&has_all);
        let readiness = Readiness::new(Duration::from_secs(3600), move || {
            asked.load(Ordering::Relaxed)
        });
        assert!(!readiness.is_ready());
        has_all.store(true, Ordering::Relaxed);
        assert!(readiness.is_ready());
        has_all.store(false, Ordering::Relaxed);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_process_that_takes_over_from_a_ready_one_is_ready() {
        let hour = Duration::from_secs(3600);
        let (old, new) = (
            Readiness::new(hour, || false),
            Readiness::new(hour, || false),
        );
        new.take(&old.give());
        assert!(!new.is_ready());
        old.ready.store(true, Ordering::Relaxed);
        new.take(&old.give());
        assert!(new.is_ready());
    }

    #[test]
    fn it_is_ready_after_the_limit() {
        assert!(Readiness::new(Duration::ZERO, || false).is_ready());
        let soon = Readiness::new(Duration::from_millis(20), || false);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !soon.is_ready() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
    }
}
