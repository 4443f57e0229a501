//! Optional features of host sets: health checks, ejection, weights, slow start, sticky hosts, retries and hedged
//! requests. A host set without any of them has no [`Resilience`].
//!
//! | module | content |
//! |---|---|
//! | `rules` | [`ResilienceRules`]: what the file asks for |
//! | `monitor` | [`Monitor`]: the states of hosts, kept across reloads |
//! | `host_health` | [`HostHealth`]: the state of one host |
//! | `ejection` | hosts that are left out because of their statuses |
//! | `health_check` | health checks in the background |
//! | `balance` | [`Balance`]: the order in which the hosts of a call are tried |
//! | `round_robin` | smooth weighted round robin, without a lock |
//! | `sticky` | consistent hashing |
//! | `budget` | [`RetryBudget`]: the limit on calls that are made again |
//! | `retry` | retries and hedged requests |

mod balance;
mod budget;
mod ejection;
mod health_check;
mod host_health;
mod monitor;
mod retry;
mod round_robin;
mod rules;
#[cfg(test)]
mod simulation;
mod sticky;

use std::sync::Arc;

pub(super) use balance::{Pick, Tried};
pub(crate) use budget::{RetryBudget, Spent};
pub(super) use host_health::HostHealth;
pub(crate) use host_health::HostReport;
pub(crate) use monitor::Monitor;
pub(crate) use retry::is_idempotent;
pub(crate) use rules::{
    BudgetRules, EjectionRules, HealthCheck, Hedge, Protocol, ResilienceRules, RetryOn, RetryRules,
    Statuses,
};
pub(crate) use sticky::{AffinityKey, affinity};

use balance::Balance;

use super::host::Host;
use super::hosts::HostSet;

/// The care for the hosts of one set.
#[derive(Debug)]
pub(crate) struct Resilience {
    pub(super) balance: Balance,
    /// `None` if every call is made once.
    pub(super) retry: Option<Arc<Retry>>,
    monitor: Option<Arc<Monitor>>,
    /// The weights that the file gives to hosts, by their URL. Others have the weight 1.
    weights: Box<[(Box<str>, u32)]>,
    max_ejected: usize,
}

/// The rules for calls that are made again, and their limit.
#[derive(Debug)]
pub(super) struct Retry {
    rules: RetryRules,
    pub(super) budget: Arc<RetryBudget>,
}

/// What a set knows of one of its hosts.
#[derive(Debug)]
pub(super) struct HostResilience {
    pub(super) health: Option<Arc<HostHealth>>,
    pub(super) weight: u32,
    /// The place of the host among hashes.
    pub(super) hash: u64,
    max_ejected: usize,
}

impl HostResilience {
    /// How many of so many hosts may be ejected at the same time: always one, never all.
    pub(super) fn most_ejected(&self, hosts: usize) -> usize {
        (hosts * self.max_ejected / 100)
            .max(1)
            .min(hosts.saturating_sub(1))
    }
}

impl Resilience {
    /// `monitor` watches the hosts, and `budget` limits repeated calls. Without a budget every call is made once.
    pub(crate) fn new(
        rules: ResilienceRules,
        monitor: Option<Arc<Monitor>>,
        budget: Option<Arc<RetryBudget>>,
    ) -> Resilience {
        let retry = rules.repeats.zip(budget);
        Resilience {
            max_ejected: rules.ejection.as_ref().map_or(0, |ejection| {
                usize::try_from(ejection.max_percent).unwrap_or(100)
            }),
            balance: Balance::new(rules.panic_threshold),
            retry: retry.map(|(rules, budget)| Arc::new(Retry { rules, budget })),
            weights: rules.weights,
            monitor,
        }
    }

    /// Registers `host`. Call this before the first call to it.
    pub(super) fn adopt(&self, host: &mut Host) {
        let weight = self.weights.iter().find(|(url, _)| **url == *host.url);
        let health = match &host.place {
            Ok(_) => self
                .monitor
                .as_ref()
                .map(|monitor| monitor.health(&host.url)),
            Err(_) => None,
        };
        if let (Ok(place), Some(pauses)) = (
            &mut host.place,
            self.monitor.as_ref().and_then(|monitor| monitor.pauses()),
        ) {
            place.failures = super::failover::FailureRecord::paced(pauses);
        }
        host.resilience = Some(Box::new(HostResilience {
            health,
            weight: weight.map_or(1, |(_, weight)| *weight),
            hash: sticky::hash(host.url.as_bytes()),
            max_ejected: self.max_ejected,
        }));
    }
}

impl HostSet {
    /// The same hosts, chosen by the key that the rule with this id finds in a request.
    pub(crate) fn sticking(mut self, rule: Option<u64>) -> HostSet {
        self.sticky = rule;
        self
    }

    /// The id of the rule that finds the key of a call.
    pub(crate) fn sticky(&self) -> Option<u64> {
        self.sticky
    }

    /// What calls that are made again need. `None` if every call is made once.
    pub(in crate::upstream) fn retry(&self) -> Option<Arc<Retry>> {
        self.resilience.as_ref()?.retry.clone()
    }
}
