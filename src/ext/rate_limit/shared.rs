//! Limits that several gateways share: the results of the store, and the behaviour while it is slow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::balance::Balance;
use super::bucket::{Bucket, Verdict};
use super::clients::Clients;
use super::runtime::{Decision, Limits, Scope, fingerprint};
use crate::ext::redis::{Ask, Late, OnFailure, Shared, SharedVerdict, Taken};

/// A store that is silent, or whose connection is lost, for less than this time is expected to respond again. Until then its buckets
/// receive no tokens here, because each of the gateways would add all of them, and requests that pass are charged to
/// the tokens that it gives later.
const SHORT_SILENCE: Duration = Duration::from_secs(2);

/// The shared store of the buckets.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub store: Arc<dyn Shared>,
    /// The prefix of every key: namespace and endpoint.
    pub prefix: Box<str>,
    /// How long an unused client is kept.
    pub time_to_live: Duration,
    pub on_failure: OnFailure,
    /// What decides while the store is reachable but slow.
    pub on_delay: OnFailure,
}

impl Cluster {
    /// Decides a request of `who`.
    pub(super) async fn decide(&self, limits: &Arc<Limits>, who: Option<String>) -> Decision {
        if let Some(decision) = limits.spend_credit(who.as_deref()) {
            return decision;
        }
        match self.store.take(self.asks(limits, who.as_deref())).await {
            Taken::Verdict(verdict) => limits.obey(who.as_deref(), &verdict),
            Taken::Failed => self.without_store(limits, who.as_deref()),
            Taken::Late(late) => self.decide_late(limits, who, late).await,
        }
    }

    /// The response of the store is late. A request without a token in the last known state is rejected at once. All
    /// others wait, so that two gateways do not use the same token.
    async fn decide_late(
        &self,
        limits: &Arc<Limits>,
        who: Option<String>,
        mut late: Late,
    ) -> Decision {
        let rejected = match self.on_delay {
            OnFailure::Closed => Some(Decision::rejected(limits.scope.all, Duration::from_secs(1))),
            OnFailure::Local | OnFailure::Open => limits.reject_early(who.as_deref()),
        };
        let decision = match rejected {
            Some(decision) => decision,
            None => match self.wait(&mut late).await {
                Some(Some(verdict)) => return limits.obey(who.as_deref(), &verdict),
                Some(None) => return self.without_store(limits, who.as_deref()),
                None => self.decide_silent(limits, who.as_deref()),
            },
        };
        let admitted = decision.rejected.is_none();
        tokio::spawn(settle(Arc::clone(limits), who, admitted, late));
        decision
    }

    /// The result of a late query, or `None` if it does not arrive while it is worth waiting for.
    async fn wait(&self, late: &mut Late) -> Option<Option<SharedVerdict>> {
        match self.store.late_wait() {
            Duration::ZERO => None,
            late_wait => tokio::time::timeout(late_wait, late).await.ok(),
        }
    }

    /// The queries for a request of `who`: all limits in one round trip.
    fn asks(&self, limits: &Limits, who: Option<&str>) -> SmallVec<[Ask; 2]> {
        let mut asks = SmallVec::new();
        if let (Some(clients), Some(who)) = (&limits.clients, who) {
            asks.push(Ask {
                key: format!("{}client:{}", self.prefix, fingerprint(who)),
                rate: *clients.rate(),
                keep: self.time_to_live,
            });
        }
        if let Some(bucket) = &limits.endpoint {
            asks.push(Ask {
                key: format!("{}all", self.prefix),
                rate: *bucket.rate(),
                keep: self.time_to_live,
            });
        }
        asks
    }

    /// The store is not reachable, or was given up.
    pub(super) fn without_store(&self, limits: &Limits, who: Option<&str>) -> Decision {
        let is_short = self.silence().is_some();
        match self.on_failure {
            // Redis may well be there: a server that closes a connection is no outage.
            OnFailure::Open if !(is_short && self.store.is_reopening()) => Decision::new(),
            OnFailure::Local | OnFailure::Open => {
                let decision = self.decide_silent(limits, who);
                if is_short && decision.rejected.is_none() {
                    limits.owe(who);
                }
                decision
            }
            OnFailure::Closed => Decision::rejected(limits.scope.all, Duration::from_secs(1)),
        }
    }

    /// Decides with the last results of the store.
    fn decide_silent(&self, limits: &Limits, who: Option<&str>) -> Decision {
        // Requests that pass while the store is silent are counted as debt. The debt does not reject the next request;
        // the local bucket, which gets no tokens, limits them.
        let Some(silent) = self.silence() else {
            return limits.decide_here(who);
        };
        let since = limits.clock.now().saturating_sub(silent);
        for one in limits.each(who) {
            one.forgo(since);
        }
        limits.decide_at(who, since)
    }

    /// How long the store has been silent, if it is expected to respond soon.
    fn silence(&self) -> Option<Duration> {
        let silent = self.store.silent_for();
        silent.filter(|silent| *silent < SHORT_SILENCE)
    }
}

async fn settle(limits: Arc<Limits>, who: Option<String>, admitted: bool, late: Late) {
    match late.await {
        Some(verdict) => limits.settle(who.as_deref(), admitted, &verdict),
        // The connection was lost, or there was no response for long.
        None if admitted => limits.owe(who.as_deref()),
        None => {}
    }
}

/// One limit of a request.
enum One<'l> {
    Client(&'l Clients, &'l str),
    Endpoint(&'l Bucket, &'l Mutex<Balance>),
}

impl One<'_> {
    fn name(&self, scope: Scope) -> &'static str {
        match self {
            One::Client(..) => scope.client,
            One::Endpoint(..) => scope.all,
        }
    }

    /// Sets the bucket to the state that the store reported.
    fn hold(&self, verdict: &Verdict, now: Duration) {
        let tokens = verdict.left();
        match self {
            One::Client(clients, who) => clients.hold(who, tokens, now),
            One::Endpoint(bucket, _) => bucket.hold(tokens, now),
        }
    }

    /// The same for a result that arrived late. It may remove tokens but not add any: those that it reports may belong to
    /// the queries that are still in flight.
    fn lower(&self, verdict: &Verdict, now: Duration) {
        let known = match self.peek(now) {
            Verdict::Allowed { left } => left + 1,
            Verdict::Rejected { .. } => 0,
        };
        if verdict.left() < known {
            self.hold(verdict, now);
        }
    }

    fn forgo(&self, now: Duration) {
        match self {
            One::Client(clients, who) => clients.forgo(who, now),
            One::Endpoint(bucket, _) => bucket.forgo(now),
        }
    }

    fn peek(&self, now: Duration) -> Verdict {
        match self {
            One::Client(clients, who) => clients.peek(who, now),
            One::Endpoint(bucket, _) => bucket.peek(now),
        }
    }

    fn balance<R>(
        &self,
        now: Duration,
        with: impl FnOnce(&mut Balance, &super::bucket::Rate) -> R,
    ) -> R {
        match self {
            One::Client(clients, who) => {
                clients.balance(who, now, |balance| with(balance, clients.rate()))
            }
            One::Endpoint(bucket, balance) => with(&mut locked(balance), bucket.rate()),
        }
    }
}

fn locked(balance: &Mutex<Balance>) -> MutexGuard<'_, Balance> {
    // Every change of a balance is complete, so a poisoned lock is safe to use.
    balance.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limits {
    /// In the order of the queries.
    fn each<'l>(&'l self, who: Option<&'l str>) -> SmallVec<[One<'l>; 2]> {
        let client = self.clients.as_ref().zip(who);
        let client = client.map(|(clients, who)| One::Client(clients, who));
        let endpoint = self.endpoint.as_ref();
        let endpoint = endpoint.map(|bucket| One::Endpoint(bucket, &self.balance));
        client.into_iter().chain(endpoint).collect()
    }

    /// Lets a request pass with late tokens, if there is one for each limit.
    fn spend_credit(&self, who: Option<&str>) -> Option<Decision> {
        let now = self.clock.now();
        let each = self.each(who);
        let all = each
            .iter()
            .all(|one| one.balance(now, |balance, rate| balance.has_credit(rate, now)));
        if !all {
            return None;
        }
        let mut decision = Decision::new();
        for one in &each {
            let left = one.balance(now, |balance, _| balance.spend());
            decision.add(one.name(self.scope), Verdict::Allowed { left });
        }
        Some(decision)
    }

    /// Rejects a request that has no token by what is known here: its limit is used up, or there is a debt.
    fn reject_early(&self, who: Option<&str>) -> Option<Decision> {
        let now = self.clock.now();
        let used_up = || {
            self.each(who).iter().find_map(|one| match one.peek(now) {
                Verdict::Rejected { retry_after } => {
                    Some(Decision::rejected(one.name(self.scope), retry_after))
                }
                Verdict::Allowed { .. } => None,
            })
        };
        self.reject_in_debt(who).or_else(used_up)
    }

    /// Charges a request that passed without a query to the next tokens of the store.
    fn owe(&self, who: Option<&str>) {
        let now = self.clock.now();
        for one in self.each(who) {
            one.balance(now, |balance, rate| balance.owe(rate, now));
        }
    }

    /// Rejects requests while there is a debt. Otherwise the debt would grow as long as the store is slow.
    fn reject_in_debt(&self, who: Option<&str>) -> Option<Decision> {
        let now = self.clock.now();
        self.each(who).iter().find_map(|one| {
            let wait = one.balance(now, |balance, rate| {
                balance.owes(rate, now).then(|| rate.interval())
            });
            wait.map(|wait| Decision::rejected(one.name(self.scope), wait))
        })
    }

    /// Applies the result of the store. A token that this gateway owes is paid by rejecting the request it was meant
    /// for.
    fn obey(&self, who: Option<&str>, verdict: &SharedVerdict) -> Decision {
        let now = self.clock.now();
        let mut decision = Decision::new();
        for (one, verdict) in self.each(who).iter().zip(&verdict.0) {
            one.hold(verdict, now);
            let owed = matches!(verdict, Verdict::Allowed { .. })
                && one
                    .balance(now, |balance, rate| {
                        balance.pays(rate, now).then(|| rate.interval())
                    })
                    .map(|retry_after| {
                        decision.add(one.name(self.scope), Verdict::Rejected { retry_after })
                    })
                    .is_some();
            if !owed {
                decision.add(one.name(self.scope), *verdict);
            }
        }
        decision
    }

    /// Settles a result that arrived after its request was decided.
    fn settle(&self, who: Option<&str>, admitted: bool, verdict: &SharedVerdict) {
        let now = self.clock.now();
        let each = self.each(who);
        let allowed = |one: Option<&Verdict>| matches!(one, Some(Verdict::Allowed { .. }));
        let all = (0..each.len()).all(|at| allowed(verdict.0.get(at)));
        for (at, one) in each.iter().enumerate() {
            let said = verdict.0.get(at);
            if let Some(said) = said {
                one.lower(said, now);
            }
            // A token of only one limit lets no request pass. It is lost, as for a request that does not wait.
            let given = if admitted { allowed(said) } else { all };
            one.balance(now, |balance, rate| {
                balance.settle(admitted, given, rate, now)
            });
        }
    }
}
