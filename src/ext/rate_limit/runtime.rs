//! The limits of an endpoint and of a backend, at work.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::bucket::{Bucket, Rate, Verdict};
use super::clients::Clients;
use super::fields::{Left, LimitFields, seconds_up};
use super::identity::Identity;
use crate::ext::redis::{Ask, OnFailure, Shared, SharedVerdict};
use crate::runtime::answer::Answer;
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::request::{Head, Notes};
use crate::runtime::step::{BackendStep, EndpointStep, Gate, Outcome, Ticket};

/// The reference's spelling: clients may look for it.
const EXCEEDED: &str = "rate limit exceded";

const CLIENT: &str = "client";
const ENDPOINT: &str = "endpoint";

/// The buckets of one endpoint: the state that survives a reload.
#[derive(Debug)]
pub struct Limits {
    pub clock: Clock,
    pub clients: Option<Clients>,
    pub endpoint: Option<Bucket>,
}

/// `qos/ratelimit/router`: first the client's own limit, then the one that all clients share.
#[derive(Debug)]
pub struct EndpointLimit {
    limits: Arc<Limits>,
    identity: Identity,
    fields: LimitFields,
    cluster: Option<Cluster>,
}

/// Where the buckets are when several gateways count together.
#[derive(Debug)]
pub struct Cluster {
    pub store: Arc<dyn Shared>,
    /// The start of every key: namespace and endpoint.
    pub prefix: Box<str>,
    /// How long an unused client is remembered.
    pub time_to_live: Duration,
    pub on_failure: OnFailure,
}

/// What the limits say of one request.
#[derive(Debug, Clone)]
struct Decision {
    /// The limit that refused, if one did.
    refused: Option<(&'static str, Duration)>,
    left: SmallVec<[(&'static str, Left); 2]>,
}

/// The answer of the shared store, once it is there.
type Slot = OnceLock<Option<SharedVerdict>>;

impl EndpointLimit {
    /// Limits that are in `limits` for clients told apart by `identity`.
    pub fn new(
        limits: Arc<Limits>,
        identity: Identity,
        fields: LimitFields,
        cluster: Option<Cluster>,
    ) -> EndpointLimit {
        EndpointLimit {
            limits,
            identity,
            fields,
            cluster,
        }
    }

    fn decide_here(&self, who: Option<&str>) -> Decision {
        let now = self.limits.clock.now();
        let mut decision = Decision::new();
        if let (Some(clients), Some(who)) = (&self.limits.clients, who) {
            decision.add(CLIENT, clients.take(who, now));
        }
        if let (Some(bucket), None) = (&self.limits.endpoint, decision.refused) {
            decision.add(ENDPOINT, bucket.take(now));
        }
        decision
    }

    fn decide_shared(&self, verdict: &SharedVerdict) -> Decision {
        let mut decision = Decision::new();
        let names = [
            self.limits.clients.as_ref().map(|_| CLIENT),
            self.limits.endpoint.as_ref().map(|_| ENDPOINT),
        ];
        for (name, verdict) in names.into_iter().flatten().zip(&verdict.0) {
            decision.add(name, *verdict);
        }
        decision
    }

    /// What to ask the shared store for a request of `who`: all limits in one round trip.
    fn asks(&self, cluster: &Cluster, who: Option<&str>) -> SmallVec<[Ask; 2]> {
        let mut asks = SmallVec::new();
        if let (Some(clients), Some(who)) = (&self.limits.clients, who) {
            asks.push(Ask {
                key: format!("{}client:{}", cluster.prefix, fingerprint(who)),
                rate: *clients.rate(),
                starts_idle: false,
                keep: cluster.time_to_live,
            });
        }
        if let Some(bucket) = &self.limits.endpoint {
            asks.push(Ask {
                key: format!("{}all", cluster.prefix),
                rate: *bucket.rate(),
                starts_idle: true,
                keep: cluster.time_to_live,
            });
        }
        asks
    }

    fn without_store(&self, cluster: &Cluster, who: Option<&str>) -> Decision {
        match cluster.on_failure {
            OnFailure::Local => self.decide_here(who),
            OnFailure::Open => Decision::new(),
            OnFailure::Closed => Decision {
                refused: Some((ENDPOINT, Duration::from_secs(1))),
                left: SmallVec::new(),
            },
        }
    }

    fn conclude(&self, decision: &Decision, notes: &mut Notes) -> Gate<'static> {
        if self.fields.are_wanted() {
            self.fields
                .write(&decision.left, &mut notes.response_fields);
        }
        match decision.refused {
            None => Gate::Pass,
            Some((name, wait)) => refuse(name, Some(wait), notes),
        }
    }
}

impl EndpointStep for EndpointLimit {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes, attempt: u8) -> Gate<'a> {
        let awaited = notes.awaited.take();
        let who = self
            .limits
            .clients
            .as_ref()
            .map(|_| self.identity.of(head, notes).into_owned());
        if who.as_deref() == Some("") {
            return refuse(CLIENT, None, notes);
        }
        let who = who.as_deref();
        let decision = match &self.cluster {
            None => self.decide_here(who),
            Some(cluster) if attempt == 0 && cluster.store.is_ready() => {
                return self.ask_store(cluster, who, notes);
            }
            Some(cluster) => match verdict(awaited) {
                Some(verdict) => self.decide_shared(&verdict),
                None => self.without_store(cluster, who),
            },
        };
        self.conclude(&decision, notes)
    }
}

impl EndpointLimit {
    fn ask_store<'a>(
        &'a self,
        cluster: &'a Cluster,
        who: Option<&str>,
        notes: &mut Notes,
    ) -> Gate<'a> {
        let asks = self.asks(cluster, who);
        let slot = Arc::new(Slot::new());
        notes.awaited = Some(slot.clone());
        Gate::Wait(Box::pin(async move {
            // Set once: nobody else writes to it.
            let _ = slot.set(cluster.store.take(asks).await);
        }))
    }
}

fn verdict(awaited: Option<Arc<dyn std::any::Any + Send + Sync>>) -> Option<SharedVerdict> {
    let slot = awaited?.downcast::<Slot>().ok()?;
    slot.get().cloned().flatten()
}

impl Decision {
    fn new() -> Decision {
        Decision {
            refused: None,
            left: SmallVec::new(),
        }
    }

    fn add(&mut self, name: &'static str, verdict: Verdict) {
        let left = match verdict {
            Verdict::Allowed { left } => Left {
                tokens: left,
                wait: None,
            },
            Verdict::Refused { retry_after } => {
                self.refused = Some((name, retry_after));
                Left {
                    tokens: 0,
                    wait: Some(retry_after),
                }
            }
        };
        self.left.push((name, left));
    }
}

/// 429 when the client's limit is used up, 503 when the endpoint's is; empty, as KrakenD does, but with the time to
/// come back. A client without a name is
/// told one second, though waiting alone does not help it.
fn refuse(name: &str, wait: Option<Duration>, notes: &mut Notes) -> Gate<'static> {
    notes.refused = Some("rate_limited");
    notes.errors.push(EXCEEDED.into());
    let status = if name == CLIENT {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let wait = wait.map_or(1, seconds_up);
    Gate::Refuse(Answer::empty(status).with(RETRY_AFTER, HeaderValue::from(wait)))
}

/// Names of clients may be keys or addresses: the store gets to see a digest of fixed length instead.
fn fingerprint(who: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, who.as_bytes());
    digest
        .as_ref()
        .iter()
        .take(16)
        .fold(String::with_capacity(32), |mut out, byte| {
            out.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            out.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            out
        })
}

/// `qos/ratelimit/proxy`: one bucket for all calls to a backend.
#[derive(Debug)]
pub struct BackendLimit {
    clock: Clock,
    bucket: Bucket,
}

impl BackendLimit {
    /// A full bucket of `rate`.
    pub fn new(rate: Rate, clock: Clock) -> BackendLimit {
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
            Verdict::Refused { .. } => Err(Failure::new(Kind::Busy, EXCEEDED)),
        }
    }

    fn after(&self, _ticket: Ticket, _outcome: Outcome) {}
}
