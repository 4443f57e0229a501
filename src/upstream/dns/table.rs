//! All names in use, and the task that keeps their addresses fresh.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hickory_resolver::ResolverBuilder;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::agenda::Agenda;
use super::name::Name;
use super::resolver::Resolver;
use super::srv::{Service, SrvRecord, expand};

/// How long addresses are taken for granted: as long as their record says, within these bounds. Where nobody tells, for
/// the longer time.
pub(super) const SHORTEST_TTL: Duration = Duration::from_secs(1);
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(30);
/// How long a failed lookup answers for itself before the next request may try again.
pub(super) const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// A lookup that takes longer has failed; the request that waits has its own, usually shorter, deadline.
pub(super) const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Lookups in the background at a time: each of a host name takes a thread of the system's resolver.
const MOST_LOOKUPS: usize = 64;

/// Every name that a host set calls, with its addresses; and every SRV name, with its targets.
///
/// Lookups happen in [`DnsTable::run`], or on the first use of a name that has no address yet. The last good answer
/// stays in use when a later lookup fails.
pub struct DnsTable {
    names: Mutex<Registry<Box<str>, Name>>,
    services: Mutex<Registry<(Box<str>, Duration), Service>>,
    resolver: Resolver,
    ids: AtomicU64,
    /// Entries that [`DnsTable::run`] has to look at: new ones, and those whose addresses fail.
    noted: Mutex<Vec<Entry>>,
    wake: Notify,
}

impl fmt::Debug for DnsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsTable").finish_non_exhaustive()
    }
}

impl Default for DnsTable {
    fn default() -> DnsTable {
        DnsTable::of(Resolver::of_system())
    }
}

impl DnsTable {
    /// A table that asks this resolver; without one, the system is asked, and no SRV name has hosts.
    pub fn with_resolver(resolver: Option<ResolverBuilder<TokioRuntimeProvider>>) -> DnsTable {
        DnsTable::of(Resolver::with(resolver))
    }

    fn of(resolver: Resolver) -> DnsTable {
        DnsTable {
            names: Mutex::default(),
            services: Mutex::default(),
            resolver,
            ids: AtomicU64::new(0),
            noted: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Keeps the answers fresh until `shutdown` turns true. One task for the whole process.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        let mut lookups = FuturesUnordered::new();
        let mut agenda = Agenda::default();
        loop {
            for entry in std::mem::take(&mut *lock(&self.noted)) {
                put(&mut agenda, entry);
            }
            self.begin_due(&mut lookups, &mut agenda);
            let next = agenda.next();
            let pause = tokio::time::sleep_until(next.unwrap_or_else(Instant::now));
            // A lookup that hangs is waited for beside the others, never in front of them.
            tokio::select! {
                () = pause, if next.is_some() && lookups.len() < MOST_LOOKUPS => {}
                Some(ended) = lookups.next() => put(&mut agenda, ended),
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
    pub(in crate::upstream) fn name(&self, host: &str) -> Arc<Name> {
        let make = || Name::new(host, self.next_id());
        let (entry, is_new) = lock(&self.names).shared(host.into(), make);
        if is_new && !entry.answer().fixed {
            self.note(Entry::Name(Arc::downgrade(&entry)));
        }
        entry
    }

    /// The entry of SRV name `name`, refreshed every `refresh`.
    pub(in crate::upstream) fn service(&self, name: &str, refresh: Duration) -> Arc<Service> {
        let make = || Service::new(name, refresh, self.next_id());
        let (entry, is_new) = lock(&self.services).shared((name.into(), refresh), make);
        if is_new {
            self.note(Entry::Service(Arc::downgrade(&entry)));
        }
        entry
    }

    /// Asks for a fresh lookup of a name whose addresses have all failed to answer.
    pub(in crate::upstream) fn doubt(&self, name: &Arc<Name>) {
        if name.answer().fixed {
            return;
        }
        let was_doubted = std::mem::replace(&mut name.lookups().doubted, true);
        if !was_doubted {
            self.note(Entry::Name(Arc::downgrade(name)));
        }
    }

    /// Waits for the first answer on `name`; whoever comes second waits for the same lookup.
    pub(in crate::upstream) async fn ready(&self, name: &Name) {
        name.ready(&self.resolver).await;
    }

    fn note(&self, entry: Entry) {
        lock(&self.noted).push(entry);
        self.wake.notify_one();
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for the first answer on `service`; whoever comes second waits for the same lookup.
    pub(in crate::upstream) async fn ready_service(&self, service: &Service) {
        if service.targets.load().is_some() {
            return;
        }
        let _flight = service.flight.lock().await;
        if service.targets.load().is_none() && !service.failed_recently() {
            self.refresh_service(service).await;
        }
    }

    /// Begins to look up what is due. What is under way is not on the agenda.
    fn begin_due<'a>(
        &'a self,
        lookups: &mut FuturesUnordered<BoxFuture<'a, Entry>>,
        agenda: &mut Agenda<Entry>,
    ) {
        let now = Instant::now();
        while lookups.len() < MOST_LOOKUPS
            && let Some(entry) = agenda.take(now)
        {
            // Whoever needed it sooner has looked it up meanwhile. Asked before the clock is: what was never looked up
            // is due at once.
            let due = entry.due();
            match due {
                Some((_, due)) if due > Instant::now() => put(agenda, entry),
                _ => lookups.push(Box::pin(async move {
                    self.refresh(&entry).await;
                    entry
                })),
            }
        }
    }

    /// Looks up an entry, unless somebody else just has.
    async fn refresh(&self, entry: &Entry) {
        match entry {
            Entry::Name(name) => {
                if let Some(name) = name.upgrade() {
                    name.refresh(&self.resolver).await;
                }
            }
            Entry::Service(service) => {
                let Some(service) = service.upgrade() else {
                    return;
                };
                let _flight = service.flight.lock().await;
                if service.due_at() <= Instant::now() {
                    self.refresh_service(&service).await;
                }
            }
        }
    }

    async fn refresh_service(&self, service: &Service) {
        let found = match self.resolver.direct() {
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

/// Something to look up, for as long as someone uses it.
enum Entry {
    Name(Weak<Name>),
    Service(Weak<Service>),
}

impl Entry {
    /// Its id, and when it is due; `None` when nobody uses it any more.
    fn due(&self) -> Option<(u64, Instant)> {
        match self {
            Entry::Name(name) => name.upgrade().map(|name| (name.id, name.due_at())),
            Entry::Service(service) => service
                .upgrade()
                .map(|service| (service.id, service.due_at())),
        }
    }
}

fn put(agenda: &mut Agenda<Entry>, entry: Entry) {
    if let Some((id, due)) = entry.due() {
        agenda.put(id, due, entry);
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Entries by their key, for as long as someone uses them.
struct Registry<K, V> {
    known: HashMap<K, Weak<V>>,
    /// So many entries and those that are gone are swept out: a walk for each new one would be one for each pair.
    sweep_at: usize,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Registry<K, V> {
        Registry {
            known: HashMap::new(),
            sweep_at: LEAST_SWEPT,
        }
    }
}

/// Fewer entries are not worth a sweep.
const LEAST_SWEPT: usize = 64;

impl<K: Hash + Eq, V> Registry<K, V> {
    /// The entry of `key`, and whether it was just made.
    fn shared(&mut self, key: K, make: impl FnOnce() -> V) -> (Arc<V>, bool) {
        if let Some(entry) = self.known.get(&key).and_then(Weak::upgrade) {
            return (entry, false);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, entry| entry.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(LEAST_SWEPT);
        }
        let entry = Arc::new(make());
        self.known.insert(key, Arc::downgrade(&entry));
        (entry, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_swept_out_and_what_is_used_is_shared() {
        let mut registry = Registry::default();
        let held: Vec<_> = (0..100).map(|key| registry.shared(key, || key).0).collect();
        for key in 100..10_000 {
            let _ = registry.shared(key, || key);
            assert!(registry.known.len() <= 200, "{}", registry.known.len());
        }
        let (again, is_new) = registry.shared(7, || 0);
        assert!(!is_new && Arc::ptr_eq(&again, &held[7]));
    }
}
