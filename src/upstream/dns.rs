//! The address table, refreshed off the request path.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long the addresses of a name are taken for granted. The system's resolver does not tell the records' own TTL.
const NAME_TTL: Duration = Duration::from_secs(30);
/// How long a failed lookup answers for itself before the next request may try again.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// A lookup that takes longer has failed; the request that waits has its own, usually shorter, deadline.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Entries by their key, for as long as someone uses them.
type Registry<K, V> = Mutex<HashMap<K, Weak<V>>>;

/// Every name that a host set calls, with its addresses; and every SRV name, with its targets.
///
/// Lookups happen in [`DnsTable::run`], or on the first use of a name that has no address yet. The last good answer
/// stays in use when a later lookup fails.
pub struct DnsTable {
    names: Registry<Box<str>, Name>,
    services: Registry<(Box<str>, Duration), Service>,
    /// For SRV, which the system's resolver does not offer. `None`: no usable `/etc/resolv.conf`.
    resolver: Option<TokioResolver>,
    wake: Notify,
}

impl fmt::Debug for DnsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsTable").finish_non_exhaustive()
    }
}

impl Default for DnsTable {
    fn default() -> DnsTable {
        let resolver = TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .ok();
        DnsTable::with_resolver(resolver)
    }
}

impl DnsTable {
    /// A table that asks `resolver` for SRV records; `None` means that there are none.
    pub fn with_resolver(resolver: Option<TokioResolver>) -> DnsTable {
        DnsTable {
            names: Mutex::default(),
            services: Mutex::default(),
            resolver,
            wake: Notify::new(),
        }
    }

    /// Keeps the answers fresh until `shutdown` turns true. One task for the whole process.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let next = self.refresh_due().await;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.wake.notified() => {}
                changed = shutdown.changed() => {
                    if changed.is_err() || *shutdown.borrow() {
                        return;
                    }
                }
            }
        }
    }

    /// The entry of `host`, shared by all who ask for it. Not for the request path.
    pub(super) fn name(&self, host: &str) -> Arc<Name> {
        let entry = shared(&self.names, host.into(), || Name::new(host));
        self.wake.notify_one();
        entry
    }

    /// The entry of SRV name `name`, refreshed every `refresh`.
    pub(super) fn service(&self, name: &str, refresh: Duration) -> Arc<Service> {
        let entry = shared(&self.services, (name.into(), refresh), || {
            Service::new(name, refresh)
        });
        self.wake.notify_one();
        entry
    }

    /// Asks for a fresh lookup of a name whose addresses have all failed to answer.
    pub(super) fn doubt(&self, name: &Name) {
        // At most one look per negative TTL, however many calls fail.
        let recent = Instant::now() + NAME_TTL - NEGATIVE_TTL;
        if name.due_at() <= recent {
            name.due.store(Some(Arc::new(Instant::now())));
            self.wake.notify_one();
        }
    }

    /// Waits for the first answer on `service`; whoever comes second waits for the same lookup.
    pub(super) async fn ready_service(&self, service: &Service) {
        if service.targets.load().is_some() {
            return;
        }
        let _flight = service.flight.lock().await;
        if service.targets.load().is_none() && !service.failed_recently() {
            self.refresh_service(service).await;
        }
    }

    /// Looks up whatever is due, all at once, and tells when the next entry will be.
    async fn refresh_due(&self) -> Instant {
        let now = Instant::now();
        let names: Vec<_> = alive(&self.names);
        let services: Vec<_> = alive(&self.services);
        let mut lookups = FuturesUnordered::new();
        for name in names.iter().filter(|name| name.due_at() <= now) {
            lookups.push(futures::future::Either::Left(name.refresh()));
        }
        for service in services.iter().filter(|service| service.due_at() <= now) {
            lookups.push(futures::future::Either::Right(async {
                let _flight = service.flight.lock().await;
                self.refresh_service(service).await;
            }));
        }
        while lookups.next().await.is_some() {}
        drop(lookups);
        let due = names.iter().map(|name| name.due_at());
        let due = due.chain(services.iter().map(|service| service.due_at()));
        // An idle table still looks up once in a while which entries are gone.
        due.chain([now + NAME_TTL]).min().unwrap_or(now + NAME_TTL)
    }

    async fn refresh_service(&self, service: &Service) {
        let found = match &self.resolver {
            Some(resolver) => {
                tokio::time::timeout(LOOKUP_LIMIT, resolver.srv_lookup(&*service.name))
                    .await
                    .map_err(|_| "lookup timed out".to_owned())
                    .and_then(|answer| answer.map_err(|error| error.to_string()))
            }
            None => Err("no resolver configured".to_owned()),
        };
        service.asked.store(Some(Arc::new(Instant::now())));
        match found {
            Ok(lookup) => {
                let records = lookup
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::SRV(srv) => Some(SrvRecord {
                            priority: srv.priority,
                            weight: srv.weight,
                            port: srv.port,
                            target: srv.target.to_utf8().trim_end_matches('.').into(),
                        }),
                        _ => None,
                    });
                let targets = expand(records.collect());
                if service.targets.load().as_deref() != Some(&targets) {
                    service.targets.store(Some(Arc::new(targets)));
                }
            }
            Err(error) => log::warn!("SRV lookup of {} failed: {error}", service.name),
        }
    }
}

/// A host name and the addresses it had at the last good lookup.
#[derive(Debug)]
pub(super) struct Name {
    host: Box<str>,
    answer: ArcSwap<Answer>,
    /// Set when the usual time of refresh does not hold.
    due: ArcSwapOption<Instant>,
    /// Held during a lookup, so that one asks for all.
    flight: tokio::sync::Mutex<()>,
}

/// What a lookup gave. Replaced only when the addresses change, so that its identity stands for them.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) addresses: Box<[IpAddr]>,
    /// A literal or `localhost`: never looked up.
    pub(super) fixed: bool,
}

impl Name {
    fn new(host: &str) -> Name {
        let fixed = if host.eq_ignore_ascii_case("localhost") {
            // RFC 6761 §6.3: loopback, in both families, without asking anyone.
            Some(vec![
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ])
        } else {
            host.parse().ok().map(|address| vec![address])
        };
        let now = Instant::now();
        Name {
            host: host.into(),
            answer: ArcSwap::from_pointee(Answer {
                fixed: fixed.is_some(),
                addresses: fixed.unwrap_or_default().into(),
            }),
            due: ArcSwapOption::from_pointee(now),
            flight: tokio::sync::Mutex::default(),
        }
    }

    /// The addresses as they are known; empty when no lookup has succeeded.
    pub(super) fn answer(&self) -> arc_swap::Guard<Arc<Answer>> {
        self.answer.load()
    }

    /// Waits for the first answer. Whoever comes while a lookup is under way waits for that one; whoever comes soon
    /// after a failure gets the failure.
    pub(super) async fn ready(&self) {
        let asked = Instant::now();
        let _flight = self.flight.lock().await;
        let answer = self.answer.load();
        let failed = self.due.load().as_deref().copied();
        let negative = failed.is_some_and(|due| due > asked && answer.addresses.is_empty());
        if answer.addresses.is_empty() && !negative {
            self.look_up().await;
        }
    }

    async fn refresh(&self) {
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
        let now = Instant::now();
        match found {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = Vec::new();
                for address in found.map(|socket| socket.ip()) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                self.due.store(Some(Arc::new(now + NAME_TTL)));
                self.keep(addresses);
            }
            Err(error) => {
                log::warn!("lookup of {} failed: {error}", self.host);
                self.due.store(Some(Arc::new(now + NEGATIVE_TTL)));
            }
        }
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

    fn due_at(&self) -> Instant {
        if self.answer.load().fixed {
            return Instant::now() + NAME_TTL;
        }
        self.due
            .load()
            .as_deref()
            .copied()
            .unwrap_or_else(Instant::now)
    }
}

/// An SRV name and the targets it had at the last good lookup.
#[derive(Debug)]
pub(super) struct Service {
    name: Box<str>,
    refresh: Duration,
    pub(super) targets: ArcSwapOption<Vec<SrvTarget>>,
    asked: ArcSwapOption<Instant>,
    flight: tokio::sync::Mutex<()>,
}

/// Where one share of the calls goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SrvTarget {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Service {
    fn new(name: &str, refresh: Duration) -> Service {
        Service {
            name: name.into(),
            // As the reference does: below a second it would hammer the server.
            refresh: if refresh < Duration::from_secs(1) {
                NAME_TTL
            } else {
                refresh
            },
            targets: ArcSwapOption::empty(),
            asked: ArcSwapOption::empty(),
            flight: tokio::sync::Mutex::default(),
        }
    }

    fn failed_recently(&self) -> bool {
        let asked = self.asked.load();
        asked
            .as_deref()
            .is_some_and(|at| at.elapsed() < NEGATIVE_TTL)
    }

    fn due_at(&self) -> Instant {
        match self.asked.load().as_deref() {
            Some(at) => *at + self.refresh,
            None => Instant::now(),
        }
    }
}

struct SrvRecord {
    priority: u16,
    weight: u16,
    port: u16,
    target: Box<str>,
}

/// The list to walk through, as the reference builds it: only the best priority, each target as often as its weight
/// says, weights brought to a sum of at most 100 and divided by what they share. If all weights are 0, all count one.
fn expand(mut records: Vec<SrvRecord>) -> Vec<SrvTarget> {
    let Some(best) = records.iter().map(|record| record.priority).min() else {
        return Vec::new();
    };
    records.retain(|record| record.priority == best);
    records.sort_by(|a, b| (&a.target, a.port).cmp(&(&b.target, b.port)));
    let sum: usize = records
        .iter()
        .map(|record| usize::from(record.weight))
        .sum();
    let most = records.len().max(100);
    let mut weights: Vec<usize> = records
        .iter()
        .map(|record| match usize::from(record.weight) {
            _ if sum == 0 => 1,
            weight if sum <= most => weight,
            weight => weight * most / sum,
        })
        .collect();
    let shared = weights.iter().fold(0, |a, b| gcd(a, *b));
    weights
        .iter_mut()
        .for_each(|weight| *weight /= shared.max(1));
    interleave(&records, &weights)
}

/// Takes the targets in turns while they have shares left, so that a heavy one does not get all its calls in a row.
fn interleave(records: &[SrvRecord], weights: &[usize]) -> Vec<SrvTarget> {
    let rounds = weights.iter().copied().max().unwrap_or(0);
    (0..rounds)
        .flat_map(|round| {
            let left = records.iter().zip(weights);
            left.filter(move |(_, weight)| **weight > round)
                .map(|(record, _)| SrvTarget {
                    host: record.target.clone(),
                    port: record.port,
                })
        })
        .collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn shared<K: Hash + Eq, V>(map: &Registry<K, V>, key: K, make: impl FnOnce() -> V) -> Arc<V> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.retain(|_, entry| entry.strong_count() > 0);
    if let Some(entry) = map.get(&key).and_then(Weak::upgrade) {
        return entry;
    }
    let entry = Arc::new(make());
    map.insert(key, Arc::downgrade(&entry));
    entry
}

fn alive<K, V>(map: &Registry<K, V>) -> Vec<Arc<V>> {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.values().filter_map(Weak::upgrade).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> SrvRecord {
        SrvRecord {
            priority,
            weight,
            port: 80,
            target: target.into(),
        }
    }

    fn hosts(records: Vec<SrvRecord>) -> Vec<String> {
        expand(records)
            .into_iter()
            .map(|target| target.host.into())
            .collect()
    }

    #[test]
    fn only_the_best_priority_is_called() {
        let list = hosts(vec![
            record(2, 1, "b"),
            record(1, 1, "a"),
            record(2, 9, "c"),
        ]);
        assert_eq!(list, ["a"]);
    }

    #[test]
    fn weights_repeat_a_target_and_share_their_divisor() {
        assert_eq!(
            hosts(vec![record(1, 20, "a"), record(1, 10, "b")]),
            ["a", "b", "a"]
        );
        assert_eq!(hosts(vec![record(1, 0, "a"), record(1, 5, "b")]), ["b"]);
    }

    #[test]
    fn weights_of_zero_everywhere_count_one_each() {
        assert_eq!(
            hosts(vec![record(1, 0, "a"), record(1, 0, "b")]),
            ["a", "b"]
        );
    }

    #[test]
    fn huge_weights_stay_a_short_list() {
        let list = hosts(vec![record(1, 65535, "a"), record(1, 32767, "b")]);
        assert!(list.len() <= 100, "{}", list.len());
    }

    #[tokio::test]
    async fn an_unresolvable_name_fails_and_is_asked_again_later() {
        let name = Name::new("does-not-exist.invalid");
        name.ready().await;
        assert!(name.answer().addresses.is_empty());
        let due = name.due_at();
        name.ready().await;
        assert_eq!(due, name.due_at(), "the failure answers for itself a while");
    }

    #[test]
    fn localhost_has_both_families_and_literals_need_no_lookup() {
        assert_eq!(Name::new("localhost").answer().addresses.len(), 2);
        assert_eq!(Name::new("192.0.2.1").answer().addresses.len(), 1);
    }
}
