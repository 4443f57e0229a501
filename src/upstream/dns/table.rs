//! All names in use, and the task that keeps their addresses fresh.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
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
