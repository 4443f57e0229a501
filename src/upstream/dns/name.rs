//! A host name and its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::resolver::Resolver;
use super::table::{LONGEST_TTL, NEGATIVE_TTL};

/// A host name and the addresses it had at the last good lookup.
#[derive(Debug)]
pub(in crate::upstream) struct Name {
    host: Box<str>,
    /// Its own in one table.
    pub(super) id: u64,
    answer: ArcSwap<Answer>,
    lookups: Mutex<Lookups>,
    /// Held during a lookup, so that one asks for all.
    flight: tokio::sync::Mutex<()>,
}

/// How the lookups of a name went.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    last: Option<Instant>,
    failed_in_a_row: u32,
    /// How long the last good answer holds.
    ttl: Option<Duration>,
    /// Its addresses do not answer: look again soon.
    pub(super) doubted: bool,
}

/// What a lookup gave. Replaced only when the addresses change, so that its identity stands for them.
#[derive(Debug)]
pub(in crate::upstream) struct Answer {
    pub(in crate::upstream) addresses: Box<[IpAddr]>,
    /// A literal or `localhost`: never looked up.
    pub(in crate::upstream) fixed: bool,
}

impl Name {
    pub(super) fn new(host: &str, id: u64) -> Name {
        let fixed = if host.eq_ignore_ascii_case("localhost") {
            // RFC 6761 §6.3: loopback, in both families, without asking anyone.
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
            answer: ArcSwap::from_pointee(Answer {
                fixed: fixed.is_some(),
                addresses: fixed.unwrap_or_default().into(),
            }),
            lookups: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
        }
    }

    /// The addresses as they are known; empty when no lookup has succeeded.
    pub(in crate::upstream) fn answer(&self) -> arc_swap::Guard<Arc<Answer>> {
        self.answer.load()
    }

    /// Waits for the first answer. Whoever comes while a lookup is under way waits for that one; whoever comes soon
    /// after a failure gets the failure.
    pub(super) async fn ready(&self, resolver: &Resolver) {
        let _flight = self.flight.lock().await;
        if self.answer.load().addresses.is_empty() && !self.failed_recently() {
            self.look_up(resolver, true).await;
        }
    }

    pub(super) async fn refresh(&self, resolver: &Resolver) {
        let _flight = self.flight.lock().await;
        if self.due_at() <= Instant::now() {
            self.look_up(resolver, false).await;
        }
    }

    async fn look_up(&self, resolver: &Resolver, hurry: bool) {
        match resolver.addresses(&self.host, hurry).await {
            Ok(found) => {
                self.keep(found.addresses);
                self.note(Some(found.ttl));
            }
            Err(error) => {
                // Said once: it is tried again until it works.
                if self.note(None) == 1 {
                    log::warn!("lookup of {} failed: {error}", self.host);
                }
            }
        }
    }

    /// Writes down how a lookup went, and tells how many have failed in a row. `ttl`: how long its answer holds.
    fn note(&self, ttl: Option<Duration>) -> u32 {
        let mut lookups = self.lookups();
        lookups.last = Some(Instant::now());
        lookups.doubted = false;
        lookups.failed_in_a_row = match ttl {
            Some(_) => 0,
            None => lookups.failed_in_a_row.saturating_add(1),
        };
        lookups.ttl = ttl.or(lookups.ttl);
        lookups.failed_in_a_row
    }

    fn failed_recently(&self) -> bool {
        let lookups = self.lookups();
        lookups.failed_in_a_row > 0
            && lookups
                .last
                .is_some_and(|last| last.elapsed() < NEGATIVE_TTL)
    }

    fn keep(&self, addresses: Vec<IpAddr>) {
        // Resolvers rotate their answers; a new order is no new answer.
        let old = self.answer.load();
        let same = old.addresses.len() == addresses.len()
            && addresses
                .iter()
                .all(|address| old.addresses.contains(address));
        if !same && !addresses.is_empty() {
            self.answer.store(Arc::new(Answer {
                addresses: addresses.into(),
                fixed: false,
            }));
        }
    }

    /// When the background task looks again: after the TTL, sooner while lookups fail or calls do.
    pub(super) fn due_at(&self) -> Instant {
        let now = Instant::now();
        if self.answer.load().fixed {
            return now + LONGEST_TTL;
        }
        let lookups = self.lookups();
        let Some(last) = lookups.last else {
            return now;
        };
        let pause = match lookups.failed_in_a_row {
            _ if lookups.doubted => NEGATIVE_TTL,
            0 => lookups.ttl.unwrap_or(LONGEST_TTL),
            failures => LONGEST_TTL.min(NEGATIVE_TTL * (1 << failures.min(6))),
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
    async fn an_unresolvable_name_fails_and_is_asked_again_later() {
        let name = Name::new("does-not-exist.invalid", 1);
        let resolver = Resolver::with(None);
        name.ready(&resolver).await;
        assert!(name.answer().addresses.is_empty());
        name.ready(&resolver).await;
        assert_eq!(
            name.lookups().failed_in_a_row,
            1,
            "the failure answers for itself a while"
        );
    }

    #[test]
    fn localhost_has_both_families_and_literals_need_no_lookup() {
        assert_eq!(Name::new("localhost", 1).answer().addresses.len(), 2);
        assert_eq!(Name::new("192.0.2.1", 1).answer().addresses.len(), 1);
    }
}
