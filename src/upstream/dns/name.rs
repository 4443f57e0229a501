//! A host name and its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::table::{LOOKUP_LIMIT, NAME_TTL, NEGATIVE_TTL};

/// A host name and the addresses it had at the last good lookup.
#[derive(Debug)]
pub(in crate::upstream) struct Name {
    host: Box<str>,
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
    pub(super) fn new(host: &str) -> Name {
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
    pub(in crate::upstream) async fn ready(&self) {
        let _flight = self.flight.lock().await;
        if self.answer.load().addresses.is_empty() && !self.failed_recently() {
            self.look_up().await;
        }
    }

    pub(super) async fn refresh(&self) {
        let _flight = self.flight.lock().await;
        if self.due_at() <= Instant::now() {
            self.look_up().await;
        }
    }

    async fn look_up(&self) {
        let found = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((&*self.host, 0)))
            .await
            .map_err(|_| "lookup timed out".to_owned())
            .and_then(|answer| answer.map_err(|error| error.to_string()));
        match found {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = Vec::new();
                for address in found.map(|socket| socket.ip()) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                self.keep(addresses);
                self.note(true);
            }
            Err(error) => {
                // Said once: it is tried again until it works.
                if self.note(false) == 1 {
                    log::warn!("lookup of {} failed: {error}", self.host);
                }
            }
        }
    }

    /// Writes down how a lookup went, and tells how many have failed in a row.
    fn note(&self, good: bool) -> u32 {
        let mut lookups = self.lookups();
        lookups.last = Some(Instant::now());
        lookups.doubted = false;
        lookups.failed_in_a_row = if good {
            0
        } else {
            lookups.failed_in_a_row.saturating_add(1)
        };
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
            return now + NAME_TTL;
        }
        let lookups = self.lookups();
        let Some(last) = lookups.last else {
            return now;
        };
        let pause = match lookups.failed_in_a_row {
            _ if lookups.doubted => NEGATIVE_TTL,
            0 => NAME_TTL,
            failures => NAME_TTL.min(NEGATIVE_TTL * (1 << failures.min(6))),
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
        let name = Name::new("does-not-exist.invalid");
        name.ready().await;
        assert!(name.answer().addresses.is_empty());
        name.ready().await;
        assert_eq!(
            name.lookups().failed_in_a_row,
            1,
            "the failure answers for itself a while"
        );
    }

    #[test]
    fn localhost_has_both_families_and_literals_need_no_lookup() {
        assert_eq!(Name::new("localhost").answer().addresses.len(), 2);
        assert_eq!(Name::new("192.0.2.1").answer().addresses.len(), 1);
    }
}
