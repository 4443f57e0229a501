//! Finds the tier of a request and applies its limits.

use http::{HeaderName, StatusCode};

#[cfg(feature = "cel")]
use crate::ext::cel::ValueRule;
use crate::ext::rate_limit::EndpointLimit;
use crate::runtime::heavy::Overload;
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
    /// # Errors
    /// The process holds too much to find out.
    fn takes(&self, value: &str) -> Result<bool, Overload> {
        match self {
            Rule::Any => Ok(true),
            Rule::Literal(known) => Ok(**known == *value),
            #[cfg(feature = "cel")]
            Rule::Policy(policy) => policy.holds(value),
        }
    }
}

impl Tiers {
    /// The first tier that the value belongs to.
    fn of(&self, value: &str) -> Result<Option<&Tier>, Overload> {
        for tier in &self.tiers {
            if tier.rule.takes(value)? {
                return Ok(Some(tier));
            }
        }
        Ok(None)
    }
}

impl EndpointStep for Tiers {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let tier = {
            let value = notes.header_values(head, &self.header).next();
            let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
            let value = value.as_deref().unwrap_or_default();
            self.of(value)
        };
        match tier {
            // No tier is skipped, because it may have the limits of this request.
            Err(overload) => {
                notes.rejected = Some(match overload {
                    Overload::Memory(_) => "buffers_full",
                    Overload::Work => "busy",
                });
                notes.errors.push(overload.to_string().into());
                Gate::Reject(Response::empty(StatusCode::SERVICE_UNAVAILABLE))
            }
            Ok(Some(tier)) => tier.check(head, notes),
            Ok(None) if self.allows_unmatched => Gate::Pass,
            Ok(None) => {
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
