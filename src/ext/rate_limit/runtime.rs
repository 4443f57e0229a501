//! The steps that enforce the limits of an endpoint and of a backend.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::balance::Balance;
use super::bucket::{Bucket, Rate, Verdict};
use super::clients::Clients;
use super::identity::Identity;
use super::limit_headers::{LimitHeaders, LimitState, seconds_up};
use super::shared::Cluster;
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::{BackendStep, EndpointStep, Gate, Outcome, Ticket};

/// KrakenD's spelling, because clients may search for it.
const EXCEEDED: &str = "rate limit exceded";

/// The names of the two limits of a block, for the headers that inform clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The limit of each client.
    pub client: &'static str,
    /// The limit of all clients together.
    pub all: &'static str,
}

impl Scope {
    /// The limits of an endpoint.
    pub(crate) const ENDPOINT: Scope = Scope {
        client: "client",
        all: "endpoint",
    };
    /// The limits of the service.
    pub(crate) const SERVICE: Scope = Scope {
        client: "service-client",
        all: "service",
    };
}

/// The buckets of one block: the state that survives a reload.
#[derive(Debug)]
pub(crate) struct Limits {
    pub clock: Clock,
    pub scope: Scope,
    pub clients: Option<Clients>,
    pub endpoint: Option<Bucket>,
    /// The balance of the endpoint's bucket, if gateways share it.
    pub balance: Mutex<Balance>,
}

impl Limits {
    /// Decides with the buckets of this gateway.
    pub(super) fn decide_here(&self, who: Option<&str>) -> Decision {
        self.decide_at(who, self.clock.now())
    }

    /// Decides with the buckets of this gateway as they are at `now`.
    pub(super) fn decide_at(&self, who: Option<&str>, now: Duration) -> Decision {
        let mut decision = Decision::new();
        if let (Some(clients), Some(who)) = (&self.clients, who) {
            decision.add(self.scope.client, clients.take(who, now));
        }
        if let (Some(bucket), None) = (&self.endpoint, decision.rejected) {
            decision.add(self.scope.all, bucket.take(now));
        }
        decision
    }
}

/// A block of limits: first the client's own limit, then the one that all clients share.
#[derive(Debug)]
pub(crate) struct EndpointLimit {
    limits: Arc<Limits>,
    identity: Identity,
    fields: LimitHeaders,
    cluster: Option<Cluster>,
}

/// The decision of the limits about one request.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    /// The limit that rejected the request, if any.
    pub(super) rejected: Option<(&'static str, Duration)>,
    left: SmallVec<[(&'static str, LimitState); 2]>,
}

impl EndpointLimit {
    /// The limits in `limits`, for clients distinguished by `identity`.
    pub(crate) fn new(
        limits: Arc<Limits>,
        identity: Identity,
        fields: LimitHeaders,
        cluster: Option<Cluster>,
    ) -> EndpointLimit {
        EndpointLimit {
            limits,
            identity,
            fields,
            cluster,
        }
    }

    fn conclude<'g>(&self, decision: &Decision, notes: &mut Notes) -> Gate<'g> {
        if self.fields.are_wanted() {
            self.fields
                .write(&decision.left, &mut notes.response_fields);
        }
        match decision.rejected {
            None => Gate::Pass,
            Some((name, wait)) => reject(name == self.limits.scope.client, Some(wait), notes),
        }
    }
}

impl EndpointStep for EndpointLimit {
    fn name(&self) -> &'static str {
        if self.limits.scope == Scope::SERVICE {
            "qos/ratelimit/service"
        } else {
            "qos/ratelimit/router"
        }
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let who = self
            .limits
            .clients
            .as_ref()
            .map(|_| self.identity.of(head, notes).into_owned());
        if who.as_deref() == Some("") {
            return reject(true, None, notes);
        }
        let decision = match &self.cluster {
            None => self.limits.decide_here(who.as_deref()),
            Some(cluster) if cluster.store.is_ready() => {
                let asked = cluster.decide(&self.limits, who.clone());
                return Gate::wait(asked, move |decision, _, notes| {
                    let without = || cluster.without_store(&self.limits, who.as_deref());
                    self.conclude(&decision.unwrap_or_else(without), notes)
                });
            }
            Some(cluster) => cluster.without_store(&self.limits, who.as_deref()),
        };
        self.conclude(&decision, notes)
    }
}

impl Decision {
    pub(super) fn new() -> Decision {
        Decision {
            rejected: None,
            left: SmallVec::new(),
        }
    }

    /// A rejection by the limit `name`, whose state is unknown.
    pub(super) fn rejected(name: &'static str, wait: Duration) -> Decision {
        Decision {
            rejected: Some((name, wait)),
            left: SmallVec::new(),
        }
    }

    pub(super) fn add(&mut self, name: &'static str, verdict: Verdict) {
        let left = match verdict {
            Verdict::Allowed { left } => LimitState {
                tokens: left,
                wait: None,
            },
            Verdict::Rejected { retry_after } => {
                self.rejected = Some((name, retry_after));
                LimitState {
                    tokens: 0,
                    wait: Some(retry_after),
                }
            }
        };
        self.left.push((name, left));
    }
}

/// 429 if the client's limit is used up, 503 if the one of all clients is. As in KrakenD the response is empty, but it
/// contains the time to wait. For a client without a name that is one second, although waiting alone does not help
/// it.
fn reject<'g>(is_client: bool, wait: Option<Duration>, notes: &mut Notes) -> Gate<'g> {
    notes.rejected = Some("rate_limited");
    notes.errors.push(EXCEEDED.into());
    let status = if is_client {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let wait = wait.map_or(1, seconds_up);
    Gate::Reject(Response::empty(status).with(RETRY_AFTER, HeaderValue::from(wait)))
}

/// Names of clients may be keys or addresses, so the store receives a digest of fixed length instead.
pub(super) fn fingerprint(who: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, who.as_bytes());
    let (kept, _) = digest.as_ref().split_at(16);
    hex::encode(kept)
}

/// `qos/ratelimit/proxy`: one bucket for all calls to a backend.
#[derive(Debug)]
pub(crate) struct BackendLimit {
    clock: Clock,
    bucket: Bucket,
}

impl BackendLimit {
    /// A full bucket with `rate`.
    pub(crate) fn new(rate: Rate, clock: Clock) -> BackendLimit {
        BackendLimit {
            bucket: Bucket::new(rate, clock.now()),
            clock,
        }
    }
}

impl BackendStep for BackendLimit {
    fn before(&self) -> Result<Ticket, Failure> {
        match self.bucket.take(self.clock.now()) {
            Verdict::Allowed { .. } => Ok(Ticket(0)),
            Verdict::Rejected { .. } => {
                Err(Failure::new(Kind::Guarded(Guard::RateLimit), EXCEEDED))
            }
        }
    }

    fn after(&self, _ticket: Ticket, _outcome: Outcome) {}
}
