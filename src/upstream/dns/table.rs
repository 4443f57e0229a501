//! All names in use, and the task that keeps their addresses fresh.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::name::Name;
use super::srv::{Service, SrvRecord, expand};

/// How long the addresses of a name are taken for granted. The system's resolver does not tell the records' own TTL.
pub(super) const NAME_TTL: Duration = Duration::from_secs(30);
/// How long a failed lookup answers for itself before the next request may try again.
pub(super) const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// A lookup that takes longer has failed; the request that waits has its own, usually shorter, deadline.
pub(super) const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Lookups in the background at a time: each of a host name takes a thread of the system's resolver.
const MOST_LOOKUPS: usize = 64;

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
        DnsTable::with_resolver(TokioResolver::builder_tokio().ok())
    }
}

impl DnsTable {
    /// A table that looks up SRV records with this resolver; without one, no SRV name has hosts.
    ///
    /// The resolver keeps nothing: the table does, for as long as the file says, and the time that a record gives itself,
    /// which may be hours, must not hide a change from it.
    pub fn with_resolver(resolver: Option<ResolverBuilder<TokioRuntimeProvider>>) -> DnsTable {
        let resolver = resolver.and_then(|mut builder| {
            builder.options_mut().cache_size = 0;
            builder.build().ok()
        });
        DnsTable {
            names: Mutex::default(),
            services: Mutex::default(),
            resolver,
            wake: Notify::new(),
        }
    }

    /// Keeps the answers fresh until `shutdown` turns true. One task for the whole process.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        let mut lookups = FuturesUnordered::new();
        let mut under_way = HashSet::new();
        loop {
            let next = self.begin_due(&mut lookups, &mut under_way);
            // A lookup that hangs is waited for beside the others, never in front of them.
            tokio::select! {
                () = tokio::time::sleep_until(next), if under_way.len() < MOST_LOOKUPS => {}
                Some(ended) = lookups.next() => {
                    under_way.remove(&ended);
                }
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
        let entry = shared(&self.names, host.into(), || Name::new(host));
        self.wake.notify_one();
        entry
    }

    /// The entry of SRV name `name`, refreshed every `refresh`.
    pub(in crate::upstream) fn service(&self, name: &str, refresh: Duration) -> Arc<Service> {
        let entry = shared(&self.services, (name.into(), refresh), || {
            Service::new(name, refresh)
        });
        self.wake.notify_one();
        entry
    }

    /// Asks for a fresh lookup of a name whose addresses have all failed to answer.
    pub(in crate::upstream) fn doubt(&self, name: &Name) {
        if !name.answer().fixed {
            name.lookups().doubted = true;
            self.wake.notify_one();
        }
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

    /// Begins to look up whatever is due and not under way, and tells when the next entry will be.
    fn begin_due<'a>(
        &'a self,
        lookups: &mut FuturesUnordered<BoxFuture<'a, usize>>,
        under_way: &mut HashSet<usize>,
    ) -> Instant {
        let names = alive(&self.names).into_iter().map(Entry::Name);
        let services = alive(&self.services).into_iter().map(Entry::Service);
        // Asked before the clock is: what was never looked up is due at once.
        let entries: Vec<_> = names
            .chain(services)
            .map(|entry| (entry.due_at(), entry))
            .collect();
        let now = Instant::now();
        // An idle table still looks up once in a while which entries are gone.
        let mut next = now + NAME_TTL;
        for (due, entry) in entries {
            let id = entry.id();
            if due > now {
                next = next.min(due);
            } else if under_way.len() < MOST_LOOKUPS && under_way.insert(id) {
                lookups.push(Box::pin(async move {
                    self.refresh(&entry).await;
                    id
                }));
            }
        }
        next
    }

    /// Looks up an entry, unless somebody else just has.
    async fn refresh(&self, entry: &Entry) {
        match entry {
            Entry::Name(name) => name.refresh().await,
            Entry::Service(service) => {
                let _flight = service.flight.lock().await;
                if service.due_at() <= Instant::now() {
                    self.refresh_service(service).await;
                }
            }
        }
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

/// Something to look up.
enum Entry {
    Name(Arc<Name>),
    Service(Arc<Service>),
}

impl Entry {
    fn due_at(&self) -> Instant {
        match self {
            Entry::Name(name) => name.due_at(),
            Entry::Service(service) => service.due_at(),
        }
    }

    /// Its place in memory, which is its own for as long as this value lives.
    fn id(&self) -> usize {
        match self {
            Entry::Name(name) => Arc::as_ptr(name).addr(),
            Entry::Service(service) => Arc::as_ptr(service).addr(),
        }
    }
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
