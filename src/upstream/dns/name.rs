//! A host name and its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::resolver::Resolver;
use super::table::{MAX_TTL, NEGATIVE_TTL};
use crate::backoff::Backoff;
use crate::upstream::usage::NameState;

/// The pauses while lookups fail.
const PAUSES: Backoff = Backoff::doubling(NEGATIVE_TTL.saturating_mul(2), MAX_TTL);

/// A host name and the addresses of its last successful lookup.
#[derive(Debug)]
pub(in crate::upstream) struct Name {
    host: Box<str>,
    /// Unique within a table.
    pub(super) id: u64,
    response: ArcSwap<Response>,
    lookups: Mutex<Lookups>,
    /// Held during a lookup, so that concurrent callers share one.
    single_flight: tokio::sync::Mutex<()>,
}

/// The history of the lookups of a name.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    last: Option<Instant>,
    /// When a lookup last succeeded.
    found: Option<Instant>,
    failed_in_a_row: u32,
    /// How long the last successful response is valid.
    ttl: Option<Duration>,
    /// All addresses failed, so the next lookup comes early.
    pub(super) doubted: bool,
}

/// The result of a lookup. It is replaced only when the addresses change, so its identity represents them.
#[derive(Debug)]
pub(in crate::upstream) struct Response {
    pub(in crate::upstream) addresses: Box<[IpAddr]>,
    /// A literal or `localhost`, which is never looked up.
    pub(in crate::upstream) fixed: bool,
}

impl Name {
    pub(super) fn new(host: &str, id: u64) -> Name {
        let fixed = if host.eq_ignore_ascii_case("localhost") {
            // RFC 6761 §6.3: loopback in both families, without a lookup.
            Some(vec![
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ])
        } else {
            host.parse().ok().map(|address| vec![address])
        };
        Name {
            host: host.into(),
            id,
            response: ArcSwap::from_pointee(Response {
                fixed: fixed.is_some(),
                addresses: fixed.unwrap_or_default().into(),
            }),
            lookups: Mutex::default(),
            single_flight: tokio::sync::Mutex::default(),
        }
    }

    /// The known addresses. Empty if no lookup has succeeded yet.
    pub(in crate::upstream) fn response(&self) -> arc_swap::Guard<Arc<Response>> {
        self.response.load()
    }

    /// Waits for the first result. A caller that comes during a lookup waits for that one. A caller that comes
    /// shortly after a failure gets that failure.
    pub(super) async fn ready(&self, resolver: &Resolver) {
        let _single_flight = self.single_flight.lock().await;
        if self.response.load().addresses.is_empty() && !self.failed_recently() {
            self.look_up(resolver, true).await;
        }
    }

    pub(super) async fn refresh(&self, resolver: &Resolver) {
        let _single_flight = self.single_flight.lock().await;
        if self.due_at() <= Instant::now() {
            self.look_up(resolver, false).await;
        }
    }

    async fn look_up(&self, resolver: &Resolver, hurry: bool) {
        match resolver.addresses(&self.host, hurry).await {
            Ok(found) => {
                self.keep(found.addresses);
                if self.note(Some(found.ttl)) > 0 {
                    log::info!("[SERVICE: Gateway] lookup of {} works again", self.host);
                }
            }
            Err(error) => {
                // Logged once. The lookup is repeated until it succeeds.
                if self.note(None) == 1 {
                    log::warn!("[SERVICE: Gateway] lookup of {} failed: {error}", self.host);
                }
            }
        }
    }

    /// Records the result of a lookup and returns the number of consecutive failures, or those before a success. `ttl` is
    /// how long the result is valid.
    fn note(&self, ttl: Option<Duration>) -> u32 {
        let mut lookups = self.lookups();
        let now = Instant::now();
        lookups.last = Some(now);
        lookups.found = ttl.map(|_| now).or(lookups.found);
        lookups.doubted = false;
        lookups.ttl = ttl.or(lookups.ttl);
        let failed = lookups.failed_in_a_row;
        lookups.failed_in_a_row = match ttl {
            Some(_) => 0,
            None => failed.saturating_add(1),
        };
        match ttl {
            Some(_) => failed,
            None => lookups.failed_in_a_row,
        }
    }

    fn failed_recently(&self) -> bool {
        let lookups = self.lookups();
        lookups.failed_in_a_row > 0
            && lookups
                .last
                .is_some_and(|last| last.elapsed() < NEGATIVE_TTL)
    }

    pub(super) fn keep(&self, addresses: Vec<IpAddr>) {
        // Resolvers rotate their records, so a new order is not a change.
        let old = self.response.load();
        let same = old.addresses.len() == addresses.len()
            && addresses
                .iter()
                .all(|address| old.addresses.contains(address));
        if !same && !addresses.is_empty() {
            self.response.store(Arc::new(Response {
                addresses: addresses.into(),
                fixed: false,
            }));
        }
    }

    /// For metrics. `None` for a literal or `localhost`.
    pub(in crate::upstream) fn state(&self) -> Option<NameState> {
        let response = self.response();
        (!response.fixed).then(|| NameState {
            age: self.lookups().found.map(|at| at.elapsed()),
            found: response.addresses.len(),
        })
    }

    pub(in crate::upstream) fn host(&self) -> &str {
        &self.host
    }

    /// When the background task repeats the lookup: after the TTL, and sooner while lookups or calls fail.
    pub(super) fn due_at(&self) -> Instant {
        let now = Instant::now();
        if self.response.load().fixed {
            return now + MAX_TTL;
        }
        let lookups = self.lookups();
        let Some(last) = lookups.last else {
            return now;
        };
        let pause = match lookups.failed_in_a_row {
            _ if lookups.doubted => NEGATIVE_TTL,
            0 => lookups.ttl.unwrap_or(MAX_TTL),
            failures => PAUSES.pause(failures),
        };
        last + pause
    }

    pub(super) fn lookups(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unresolvable_name_fails_and_is_looked_up_again_later() {
        let name = Name::new("does-not-exist.invalid", 1);
        let resolver = Resolver::with(None);
        name.ready(&resolver).await;
        assert!(name.response().addresses.is_empty());
        name.ready(&resolver).await;
        assert_eq!(
            name.lookups().failed_in_a_row,
            1,
            "the failure answers for itself a while"
        );
    }

    #[test]
    fn localhost_has_both_families_and_literals_need_no_lookup() {
        assert_eq!(Name::new("localhost", 1).response().addresses.len(), 2);
        assert_eq!(Name::new("192.0.2.1", 1).response().addresses.len(), 1);
    }
}
