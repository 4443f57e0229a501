//! Limits that several gateways share: the results of the store, and the behaviour while it is slow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::bucket::{Bucket, Verdict};
use super::clients::Clients;
use super::ledger::Ledger;
use super::runtime::{Decision, Limits, Scope, fingerprint};
use crate::ext::redis::{Ask, Late, OnFailure, Shared, SharedVerdict, Taken};

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
            Taken::Told(verdict) => limits.obey(who.as_deref(), &verdict),
            Taken::Failed => self.without_store(limits, who.as_deref()),
            Taken::Late(late) => {
                let decision = self.before_the_response(limits, who.as_deref());
                let admitted = decision.rejected.is_none();
                tokio::spawn(settle(Arc::clone(limits), who, admitted, late));
                decision
            }
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

    /// The store is reachable but slow: decides with its last results.
    fn before_the_response(&self, limits: &Limits, who: Option<&str>) -> Decision {
        match self.on_delay {
            OnFailure::Local | OnFailure::Open => limits
                .reject_in_debt(who)
                .unwrap_or_else(|| limits.decide_here(who)),
            OnFailure::Closed => Decision::rejected(limits.scope.all, Duration::from_secs(1)),
        }
    }

    /// The store is not reachable.
    pub(super) fn without_store(&self, limits: &Limits, who: Option<&str>) -> Decision {
        match self.on_failure {
            OnFailure::Local => limits.decide_here(who),
            OnFailure::Open => Decision::new(),
            OnFailure::Closed => Decision::rejected(limits.scope.all, Duration::from_secs(1)),
        }
    }
}

async fn settle(limits: Arc<Limits>, who: Option<String>, admitted: bool, late: Late) {
    if let Some(verdict) = late.await {
        limits.settle(who.as_deref(), admitted, &verdict);
    }
}

/// One limit of a request.
enum One<'l> {
    Client(&'l Clients, &'l str),
    Endpoint(&'l Bucket, &'l Mutex<Ledger>),
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
        let tokens = match verdict {
            Verdict::Allowed { left } => *left,
            Verdict::Rejected { .. } => 0,
        };
        match self {
            One::Client(clients, who) => clients.hold(who, tokens, now),
            One::Endpoint(bucket, _) => bucket.hold(tokens, now),
        }
    }

    fn ledger<R>(
        &self,
        now: Duration,
        with: impl FnOnce(&mut Ledger, &super::bucket::Rate) -> R,
    ) -> R {
        match self {
            One::Client(clients, who) => {
                clients.ledger(who, now, |ledger| with(ledger, clients.rate()))
            }
            One::Endpoint(bucket, ledger) => with(&mut locked(ledger), bucket.rate()),
        }
    }
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // Every change of a ledger is complete, so a poisoned lock is safe to use.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limits {
    /// In the order of the queries.
    fn each<'l>(&'l self, who: Option<&'l str>) -> SmallVec<[One<'l>; 2]> {
        let client = self.clients.as_ref().zip(who);
        let client = client.map(|(clients, who)| One::Client(clients, who));
        let endpoint = self.endpoint.as_ref();
        let endpoint = endpoint.map(|bucket| One::Endpoint(bucket, &self.ledger));
        client.into_iter().chain(endpoint).collect()
    }

    /// Lets a request pass with late tokens, if there is one for each limit.
    fn spend_credit(&self, who: Option<&str>) -> Option<Decision> {
        let now = self.clock.now();
        let each = self.each(who);
        let all = each
            .iter()
            .all(|one| one.ledger(now, |ledger, rate| ledger.has_credit(rate, now)));
        if !all {
            return None;
        }
        let mut decision = Decision::new();
        for one in &each {
            let left = one.ledger(now, |ledger, _| ledger.spend());
            decision.add(one.name(self.scope), Verdict::Allowed { left });
        }
        Some(decision)
    }

    /// Rejects requests while there is a debt. Otherwise the debt would grow as long as the store is slow.
    fn reject_in_debt(&self, who: Option<&str>) -> Option<Decision> {
        let now = self.clock.now();
        self.each(who).iter().find_map(|one| {
            let wait = one.ledger(now, |ledger, rate| {
                ledger.owes(rate, now).then(|| rate.interval())
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
                    .ledger(now, |ledger, rate| {
                        ledger.pays(rate, now).then(|| rate.interval())
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
                one.hold(said, now);
            }
            // A token of only one limit lets no request pass. It is lost, as for a request that does not wait.
            let given = if admitted { allowed(said) } else { all };
            one.ledger(now, |ledger, rate| {
                ledger.settle(admitted, given, rate, now)
            });
        }
    }
}
