//! Counts the connections to a host, and looks at what is known about it, for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pingora_core::upstreams::peer::{Tracer, Tracing};

use super::resilience::{HostReport, Resilience, RetryBudget, Spent};
use super::sockets::Sockets;
use crate::per_worker::Sum;
use crate::telemetry::timestamp;

/// The connections of one client to one host.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    open: AtomicUsize,
    /// The calls in progress.
    calls: Sum,
    /// The host has failed, and has not responded since.
    failing: AtomicBool,
    /// The seconds, after 1970, of the last lines in the log about its failure and about its return.
    told: [AtomicU64; 2],
}

impl Usage {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Open connections without a call. With HTTP/2 the number can be too low, because several calls share a
    /// connection.
    pub(crate) fn idle(&self) -> usize {
        let calls = usize::try_from(self.calls.get()).unwrap_or_default();
        self.open().saturating_sub(calls)
    }

    pub(super) fn begin_call(&self) {
        self.calls.add(1);
    }

    pub(super) fn end_call(&self) {
        self.calls.add(-1);
    }

    /// Records a failure of the host. Returns whether the log gets a line about it: one for all host sets of the host, until
    /// it has responded again, and not more than one per second.
    pub(super) fn fails(&self) -> bool {
        !self.failing.swap(true, Ordering::Relaxed) && is_new_second(&self.told[0])
    }

    /// Records a response. Returns whether the log gets a line about it: one for all host sets of the host, and not more
    /// than one per second for a host whose state changes often.
    pub(super) fn comes_back(&self) -> bool {
        self.failing.swap(false, Ordering::Relaxed) && is_new_second(&self.told[1])
    }

    /// Makes Pingora report the connections of a peer.
    pub(super) fn tracer(self: &Arc<Usage>) -> Tracer {
        Tracer(Box::new(Counted(Arc::clone(self))))
    }
}

fn is_new_second(last: &AtomicU64) -> bool {
    let now = timestamp::now().as_secs();
    last.swap(now, Ordering::Relaxed) != now
}

/// A connection that is used by one call until the end: a WebSocket.
#[derive(Debug)]
pub(super) struct InUse(Arc<Usage>);

impl InUse {
    pub(super) fn begin(usage: &Arc<Usage>) -> InUse {
        usage.begin_call();
        InUse(Arc::clone(usage))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.end_call();
    }
}

#[derive(Debug)]
struct Counted(Arc<Usage>);

impl Tracing for Counted {
    fn on_connected(&self) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Sockets::process().opened();
    }

    fn on_disconnected(&self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        Sockets::process().closed();
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Counted(Arc::clone(&self.0)))
    }
}

/// The hosts and names of host sets.
#[derive(Debug, Default)]
pub(crate) struct HostStates {
    /// By `scheme://authority`, or by the name of a service whose hosts come from SRV records.
    hosts: BTreeMap<Box<str>, Vec<Arc<Usage>>>,
    pub names: BTreeMap<Box<str>, NameState>,
    /// Hosts with a state, by their URL.
    pub health: BTreeMap<Box<str>, HostReport>,
    /// Calls that were made again, by the name of their host set.
    spent: BTreeMap<Box<str>, Vec<Arc<RetryBudget>>>,
}

/// The result of the last successful lookup of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameState {
    /// `None` before the first one.
    pub age: Option<Duration>,
    /// The number of addresses, or of hosts for an SRV name.
    pub found: usize,
}

impl HostStates {
    /// Several host sets may share a host.
    pub(super) fn add(&mut self, host: &str, usage: &Arc<Usage>) {
        let known = self.hosts.entry(host.into()).or_default();
        if !known.iter().any(|it| Arc::ptr_eq(it, usage)) {
            known.push(Arc::clone(usage));
        }
    }

    /// A host with different rules has several states, of which the worst is shown.
    pub(super) fn add_health(&mut self, host: &str, report: HostReport) {
        let known = self.health.entry(host.into()).or_insert(report);
        known.usable &= report.usable;
        known.failed = known.failed.max(report.failed);
        known.recovered = known.recovered.max(report.recovered);
        known.ejected = known.ejected.max(report.ejected);
    }

    /// Several host sets may share a budget.
    pub(super) fn add_spent(&mut self, name: &str, resilience: &Resilience) {
        let Some(budget) = resilience.retry.as_ref().map(|retry| &retry.budget) else {
            return;
        };
        let known = self.spent.entry(name.into()).or_default();
        if !known.iter().any(|it| Arc::ptr_eq(it, budget)) {
            known.push(Arc::clone(budget));
        }
    }

    /// The calls that were made again for each host set.
    pub(crate) fn spent(&self) -> impl Iterator<Item = (&str, Spent)> {
        self.spent.iter().map(|(name, all)| {
            let spent = all.iter().map(|budget| budget.spent());
            (&**name, spent.fold(Spent::default(), Spent::and))
        })
    }

    /// Each host with its open and its idle connections.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.hosts.iter().map(|(host, all)| {
            let sum = |of: fn(&Usage) -> usize| all.iter().map(|it| of(it)).sum();
            (&**host, sum(Usage::open), sum(Usage::idle))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_a_call_is_idle() {
        let usage = Arc::new(Usage::default());
        let tracer = usage.tracer();
        let (one, other) = (tracer.clone(), tracer);
        one.0.on_connected();
        other.0.on_connected();
        let call = InUse::begin(&usage);
        assert_eq!((usage.open(), usage.idle()), (2, 1));
        drop(call);
        one.0.on_disconnected();
        assert_eq!((usage.open(), usage.idle()), (1, 1));
    }

    #[test]
    fn a_host_of_several_sets_is_counted_once() {
        let (a, b) = (Arc::new(Usage::default()), Arc::new(Usage::default()));
        a.tracer().0.on_connected();
        b.tracer().0.on_connected();
        let mut states = HostStates::default();
        for usage in [&a, &a, &b] {
            states.add("http://h", usage);
        }
        assert_eq!(states.hosts().collect::<Vec<_>>(), [("http://h", 2, 2)]);
    }

    #[test]
    fn the_failure_and_the_return_of_a_host_are_logged_once() {
        let usage = Usage::default();
        assert!(!usage.comes_back(), "it has not failed");
        assert!(usage.fails());
        assert!(!usage.fails(), "until it has responded");
        let told: Vec<bool> = (0..3).map(|_| usage.comes_back()).collect();
        assert_eq!(told, [true, false, false]);
        let lines = (0..1000).map(|_| usize::from(usage.fails()) + usize::from(usage.comes_back()));
        assert!(lines.sum::<usize>() < 20, "it comes and goes");
    }
}
