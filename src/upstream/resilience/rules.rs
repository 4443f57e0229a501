//! What the file asks for.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// The care that a backend asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResilienceRules {
    pub check: Option<HealthCheck>,
    pub ejection: Option<EjectionRules>,
    /// How long the share of a host grows after it has come back.
    pub slow_start: Option<Duration>,
    /// Weights of hosts, by their URL.
    pub weights: Box<[(Box<str>, u32)]>,
    /// The hosts are chosen by the key of a call.
    pub sticky: bool,
    pub repeats: Option<RetryRules>,
    /// With fewer healthy hosts than this percentage, all are used.
    pub panic_threshold: u32,
}

impl ResilienceRules {
    /// Whether no feature is configured.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_watched() && self.weights.is_empty() && !self.sticky && self.repeats.is_none()
    }

    /// Whether the hosts have a state.
    pub(crate) fn is_watched(&self) -> bool {
        self.check.is_some() || self.ejection.is_some() || self.slow_start.is_some()
    }
}

/// A health check.
#[derive(Debug, Clone)]
pub(crate) struct HealthCheck {
    pub protocol: Protocol,
    /// The value of `Host`. `None` means that of the host.
    pub host: Option<HeaderValue>,
    pub headers: HeaderMap,
    pub interval: Duration,
    pub timeout: Duration,
    /// The number of consecutive successes after which an unhealthy host is healthy.
    pub healthy_threshold: u32,
    /// The number of consecutive failures after which a healthy host is unhealthy.
    pub unhealthy_threshold: u32,
}

/// The question of a health check.
#[derive(Debug, Clone)]
pub(crate) enum Protocol {
    Http {
        method: Method,
        /// Path and query, below the path of the host.
        target: Box<str>,
        expected: Statuses,
    },
    /// `grpc.health.v1.Health/Check` for this service. The empty name is the whole server.
    Grpc { service: Box<str> },
}

/// Ranges of statuses, inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statuses(pub Box<[(u16, u16)]>);

impl Statuses {
    pub(crate) fn contains(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        let mut ranges = self.0.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// When a host is left out because of its statuses, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EjectionRules {
    /// Consecutive responses of 500 and above. 0 means that statuses do not matter.
    pub consecutive_5xx: u32,
    /// The first pause. Each failed attempt after it doubles it.
    pub base_time: Duration,
    pub max_time: Duration,
    /// How many of the hosts may be ejected at the same time.
    pub max_percent: u32,
}

/// Which calls are made again.
#[derive(Debug, Clone)]
pub(crate) struct RetryRules {
    /// How often a failed call is made again.
    pub attempts: u32,
    pub on: RetryOn,
    pub per_try_timeout: Option<Duration>,
    /// Methods that are not idempotent are repeated, too.
    pub non_idempotent: bool,
    pub hedge: Option<Hedge>,
}

/// The failures after which a call is made again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RetryOn {
    /// No host accepts a connection.
    pub connect: bool,
    /// The connection ended, or a time limit passed, before a response.
    pub reset: bool,
    pub statuses: Box<[StatusCode]>,
}

/// A second call while the first one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hedge {
    pub after: Duration,
    pub max: u32,
}

/// The limit on repeated calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetRules {
    /// The share of calls, in percent.
    pub percent: u32,
    /// What is allowed in any case.
    pub min_per_second: u32,
}

impl Default for BudgetRules {
    fn default() -> BudgetRules {
        BudgetRules {
            percent: 20,
            min_per_second: 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_statuses_are_inclusive() {
        let statuses = Statuses(Box::new([(200, 299), (404, 404)]));
        for (status, expected) in [
            (199, false),
            (200, true),
            (299, true),
            (300, false),
            (404, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(statuses.contains(status), expected, "{status}");
        }
    }
}
