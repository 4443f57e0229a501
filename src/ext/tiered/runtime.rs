//! Finds the tier of a request and applies its limits.

use http::{HeaderName, StatusCode};

#[cfg(feature = "cel")]
use crate::ext::cel::ValueRule;
use crate::ext::rate_limit::EndpointLimit;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};

/// The tiers of one block, in their order.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(super) header: HeaderName,
    pub(super) tiers: Box<[Tier]>,
    pub(super) allows_unmatched: bool,
}

#[derive(Debug)]
pub(super) struct Tier {
    pub(super) rule: Rule,
    /// The local limit comes before the limit in Redis, which may wait.
    pub(super) limits: Vec<EndpointLimit>,
}

/// The requests that belong to a tier.
#[derive(Debug)]
pub(super) enum Rule {
    Any,
    Literal(Box<str>),
    #[cfg(feature = "cel")]
    Policy(Box<ValueRule>),
}

impl Rule {
    fn takes(&self, value: &str) -> bool {
        match self {
            Rule::Any => true,
            Rule::Literal(known) => **known == *value,
            #[cfg(feature = "cel")]
            Rule::Policy(policy) => policy.holds(value),
        }
    }
}

impl EndpointStep for Tiers {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let tier = {
            let value = notes.header_values(head, &self.header).next();
            let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
            let value = value.as_deref().unwrap_or_default();
            self.tiers.iter().find(|tier| tier.rule.takes(value))
        };
        match tier {
            Some(tier) => tier.check(head, notes),
            None if self.allows_unmatched => Gate::Pass,
            None => {
                notes.rejected = Some("tier");
                notes.errors.push("no tier matches the request".into());
                Gate::Reject(Response::empty(StatusCode::FORBIDDEN))
            }
        }
    }
}

impl Tier {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        for limit in &self.limits {
            match limit.check(head, notes) {
                Gate::Pass => {}
                // Only the last limit may have to wait.
                decided => return decided,
            }
        }
        Gate::Pass
    }
}
