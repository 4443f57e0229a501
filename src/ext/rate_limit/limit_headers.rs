//! The headers that inform a client about its limits.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::runtime::response::Fields;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The families of headers that an endpoint sends (`limit_headers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Families {
    /// `RateLimit` and `RateLimit-Policy` of the IETF draft.
    pub draft: bool,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, for the client's limit or else for the endpoint's.
    pub legacy: bool,
}

/// One limit, as the headers describe it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitDescription {
    pub name: &'static str,
    /// The number of tokens in a window.
    pub quota: u64,
    pub window: Duration,
    /// The time in which one token is added.
    pub interval: Duration,
}

/// The state of a limit after a request: the remaining tokens, and the wait for the next one if there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitState {
    pub tokens: u64,
    pub wait: Option<Duration>,
}

/// Writes the headers for an endpoint's limits.
#[derive(Debug)]
pub(crate) struct LimitHeaders {
    families: Families,
    limits: Box<[LimitDescription]>,
    policy: Option<HeaderValue>,
}

impl LimitHeaders {
    /// The headers for `limits`, the client's before the endpoint's.
    pub(crate) fn new(families: Families, limits: Vec<LimitDescription>) -> LimitHeaders {
        let policy: Vec<String> = limits
            .iter()
            .map(|limit| {
                let window = seconds_up(limit.window);
                format!("\"{}\";q={};w={window}", limit.name, limit.quota)
            })
            .collect();
        LimitHeaders {
            families,
            limits: limits.into(),
            policy: HeaderValue::try_from(policy.join(", ")).ok(),
        }
    }

    /// Whether any headers are sent.
    pub(crate) fn are_wanted(&self) -> bool {
        self.families.draft || self.families.legacy
    }

    /// Adds the headers for the current state, with one item for each limit that was checked, by name.
    pub(crate) fn write(&self, left: &[(&'static str, LimitState)], into: &mut Fields) {
        if self.families.draft {
            into.extend(self.policy.clone().map(|policy| (POLICY, policy)));
            let state: Vec<String> = left.iter().map(|(name, left)| state(name, left)).collect();
            // An empty list is sent as no header (RFC 9651 §3.1): no limit was checked.
            if !state.is_empty() {
                push(into, STATE, &state.join(", "));
            }
        }
        let Some(((name, left), limit)) = left.first().and_then(|first| {
            let limit = self.limits.iter().find(|limit| limit.name == first.0)?;
            Some((first, limit))
        }) else {
            return;
        };
        debug_assert_eq!(*name, limit.name);
        if self.families.legacy {
            push(into, LIMIT, itoa::Buffer::new().format(limit.quota));
            push(into, REMAINING, itoa::Buffer::new().format(left.tokens));
            let reset = seconds_up(left.wait.unwrap_or(limit.interval));
            push(into, RESET, itoa::Buffer::new().format(reset));
        }
    }
}

/// Rounded up to whole seconds: `Retry-After` has no fractions (RFC 9110 §10.2.3).
pub(crate) fn seconds_up(duration: Duration) -> u64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(up).max(1)
}

fn state(name: &str, left: &LimitState) -> String {
    match left.wait {
        Some(wait) => format!("\"{name}\";r=0;t={}", seconds_up(wait)),
        None => format!("\"{name}\";r={}", left.tokens),
    }
}

fn push(into: &mut Fields, name: HeaderName, value: &str) {
    into.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
}
