//! All names in use, and the task that refreshes their addresses.

use std::fmt;
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

use super::due_queue::DueQueue;
use super::name::Name;
use super::resolver::Resolver;
use super::srv::{Service, SrvRecord, expand};
use crate::upstream::registry::Registry;

/// Addresses are used for as long as their record allows, within these limits. Without a TTL the longer time applies.
pub(super) const MIN_TTL: Duration = Duration::from_secs(1);
pub(super) const MAX_TTL: Duration = Duration::from_secs(30);
/// How long a failed lookup is cached before the next request may trigger another one.
pub(super) const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// A lookup that takes longer has failed. The waiting request has its own, usually shorter, deadline.
pub(super) const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Concurrent lookups in the background. Each lookup of a host name uses a thread of the system's resolver.
const MAX_LOOKUPS: usize = 64;

/// Every host name of a host set with its addresses, and every SRV name with its targets.
///
/// Lookups happen in [`DnsTable::run`], or on the first use of a name that has no address yet. If a later lookup
/// fails, the last successful result stays in use.
pub struct DnsTable {
    names: Mutex<Registry<Box<str>, Name>>,
    services: Mutex<Registry<(Box<str>, Duration), Service>>,
    resolver: Resolver,
    ids: AtomicU64,
    /// Entries that [`DnsTable::run`] must process: new ones, and those whose addresses fail.
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
    /// A table that uses this resolver. Without one it uses the system, which resolves no SRV names.
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

    /// Refreshes the entries until `shutdown` becomes true. One task runs for the whole process.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        let mut lookups = FuturesUnordered::new();
        let mut agenda = DueQueue::default();
        loop {
            for entry in std::mem::take(&mut *lock(&self.noted)) {
                put(&mut agenda, entry);
            }
            self.begin_due(&mut lookups, &mut agenda);
            let next = agenda.next();
            let pause = tokio::time::sleep_until(next.unwrap_or_else(Instant::now));
            // A lookup that hangs does not delay other lookups.
            tokio::select! {
                () = pause, if next.is_some() && lookups.len() < MAX_LOOKUPS => {}
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

    /// The entry of `host`, shared by all host sets that use it. Not for the request path.
    pub(in crate::upstream) fn name(&self, host: &str) -> Arc<Name> {
        let make = || Name::new(host, self.next_id());
        let (entry, is_new) = lock(&self.names).shared(host.into(), make);
        if is_new && !entry.response().fixed {
            self.note(Entry::Name(Arc::downgrade(&entry)));
        }
        entry
    }

    /// The entry of the SRV name `name`, refreshed every `refresh`.
    pub(in crate::upstream) fn service(&self, name: &str, refresh: Duration) -> Arc<Service> {
        let make = || Service::new(name, refresh, self.next_id());
        let (entry, is_new) = lock(&self.services).shared((name.into(), refresh), make);
        if is_new {
            self.note(Entry::Service(Arc::downgrade(&entry)));
        }
        entry
    }

    pub(super) fn names_in_use(&self) -> Vec<Arc<Name>> {
        lock(&self.names).in_use()
    }

    pub(super) fn services_in_use(&self) -> Vec<Arc<Service>> {
        lock(&self.services).in_use()
    }

    /// Requests a fresh lookup of a name whose addresses have all failed.
    pub(in crate::upstream) fn doubt(&self, name: &Arc<Name>) {
        if name.response().fixed {
            return;
        }
        let was_doubted = std::mem::replace(&mut name.lookups().doubted, true);
        if !was_doubted {
            self.note(Entry::Name(Arc::downgrade(name)));
        }
    }

    /// Waits for the first result for `name`. Concurrent callers share one lookup.
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

    /// Waits for the first result for `service`. Concurrent callers share one lookup.
    pub(in crate::upstream) async fn ready_service(&self, service: &Service) {
        if service.targets.load().is_some() {
            return;
        }
        let _single_flight = service.single_flight.lock().await;
        if service.targets.load().is_none() && !service.failed_recently() {
            self.refresh_service(service).await;
        }
    }

    /// Starts the lookups that are due. A lookup in progress is not on the agenda.
    fn begin_due<'a>(
        &'a self,
        lookups: &mut FuturesUnordered<BoxFuture<'a, Entry>>,
        agenda: &mut DueQueue<Entry>,
    ) {
        let now = Instant::now();
        while lookups.len() < MAX_LOOKUPS
            && let Some(entry) = agenda.take(now)
        {
            // Another caller may have looked it up already. The due time is read before the clock, because an entry
            // that was never looked up is due immediately.
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

    /// Looks up an entry, unless another caller has just done so.
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
                let _single_flight = service.single_flight.lock().await;
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
                    .and_then(|response| response.map_err(|error| error.to_string()))
            }
            None => Err("no resolver configured".to_owned()),
        };
        let was_failing = service.is_failing();
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
                service.found.store(Some(Arc::new(Instant::now())));
                if service.targets.load().as_deref() != Some(&targets) {
                    service.targets.store(Some(Arc::new(targets)));
                }
                if was_failing {
                    log::info!(
                        "[SERVICE: Gateway] SRV lookup of {} works again",
                        service.name
                    );
                }
            }
            // Logged once. The lookup is repeated until it succeeds.
            Err(_) if was_failing => {}
            Err(error) => log::warn!(
                "[SERVICE: Gateway] SRV lookup of {} failed: {error}",
                service.name
            ),
        }
    }
}

/// An entry to look up, as long as it is in use.
enum Entry {
    Name(Weak<Name>),
    Service(Weak<Service>),
}

impl Entry {
    /// Its id and due time. `None` if it is no longer in use.
    fn due(&self) -> Option<(u64, Instant)> {
        match self {
            Entry::Name(name) => name.upgrade().map(|name| (name.id, name.due_at())),
            Entry::Service(service) => service
                .upgrade()
                .map(|service| (service.id, service.due_at())),
        }
    }
}

fn put(agenda: &mut DueQueue<Entry>, entry: Entry) {
    if let Some((id, due)) = entry.due() {
        agenda.put(id, due, entry);
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
