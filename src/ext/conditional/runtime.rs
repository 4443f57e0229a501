//! Decides whether a backend is called.

use http::HeaderName;

use crate::runtime::condition::Condition;
use crate::runtime::heavy::Overload;
use crate::runtime::pipe::PipeRequest;

/// A header has this value, in one of its lines.
#[derive(Debug)]
pub(super) struct ByHeader {
    pub(super) name: HeaderName,
    pub(super) value: Box<[u8]>,
}

impl Condition for ByHeader {
    fn holds(&self, request: &PipeRequest) -> Result<bool, Overload> {
        let mut lines = request.headers.get_all(&self.name).iter();
        Ok(lines.any(|line| line.as_bytes() == &*self.value))
    }
}

#[cfg(feature = "cel")]
pub(super) use by_policy::ByPolicy;

#[cfg(feature = "cel")]
mod by_policy {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use crate::ext::cel::{Denied, Policy, PolicyFacts};
    use crate::ext::geoip::Locator;
    use crate::runtime::clock::Clock;
    use crate::runtime::condition::Condition;
    use crate::runtime::heavy::Overload;
    use crate::runtime::pipe::PipeRequest;

    /// The interval between two lines of the log about a policy that fails.
    const QUIET: Duration = Duration::from_secs(60);

    /// A policy is true. One that fails by itself is not: this decides about the way of a request and does not guard anything.
    #[derive(Debug)]
    pub(in crate::ext::conditional) struct ByPolicy {
        pub(in crate::ext::conditional) policy: Policy,
        pub(in crate::ext::conditional) log: Box<str>,
        pub(in crate::ext::conditional) locator: Option<Arc<Locator>>,
        pub(in crate::ext::conditional) clock: Clock,
        /// When the next line may be logged, in milliseconds of the clock.
        pub(in crate::ext::conditional) next_line: AtomicU64,
    }

    impl Condition for ByPolicy {
        fn holds(&self, request: &PipeRequest) -> Result<bool, Overload> {
            let scene = PolicyFacts::request(self.clock.wall(), request, self.locator.as_deref());
            match self.policy.judge(&scene, request.deadline.into_std()) {
                Ok(()) => Ok(true),
                Err(Denied::Overload(overload)) => Err(overload),
                Err(Denied::For(why)) => {
                    if why != "false" {
                        self.complain(&why);
                    }
                    Ok(false)
                }
            }
        }

        fn responses(&self) -> Vec<String> {
            let params = self.policy.params().into_iter();
            params
                .filter(|name| name.starts_with("Resp"))
                .map(|name| name.replacen('R', "r", 1))
                .collect()
        }
    }

    impl ByPolicy {
        fn complain(&self, why: &str) {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let now = millis(self.clock.now());
            let next = self.next_line.load(Ordering::Relaxed);
            let later = now.saturating_add(millis(QUIET));
            let mine = now >= next
                && self
                    .next_line
                    .compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            if mine {
                log::warn!("{} the policy {why}", self.log);
            }
        }
    }
}
