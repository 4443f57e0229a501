//! The state of a gateway, for the metrics page, the status page, and collectors.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use prometheus::proto::MetricFamily;

use crate::ext::identity::IdentityStatus;
use crate::ext::opentelemetry::Exporters;
use crate::runtime::service::Service;
use crate::server::pages::Page;
use crate::telemetry::access::AccessLog;
use crate::telemetry::logger::Logger;
use crate::telemetry::mask::masked;
use crate::telemetry::metrics::{KeySetReport, Metrics};
use crate::telemetry::observe::{self, Native};
use crate::telemetry::otlp::{Gathered, Own};
use crate::telemetry::series::Families;
use crate::telemetry::series::page::{Form, render_plain};
use crate::telemetry::state::Now;
use crate::upstream::HostStates;
use crate::upstream::budget::{Budget, Memory};

/// The access log in use.
pub(super) type AccessPlace = Arc<Mutex<Option<Arc<AccessLog>>>>;

/// The counters of the process, and the parts of the configuration in use that know more.
pub(super) struct GatewayState {
    pub(super) metrics: Arc<Metrics>,
    pub(super) logger: Arc<Logger>,
    pub(super) access: AccessPlace,
    /// Key sets and token cache of the configuration in use.
    pub(super) identity: ArcSwapOption<IdentityStatus>,
    /// The exporters to collectors.
    pub(super) exporters: ArcSwapOption<Exporters>,
    /// Our own metrics of backends.
    pub(super) native: ArcSwapOption<Native>,
    pub(super) service: ArcSwapOption<Service>,
    /// Clients speak TLS.
    pub(super) secure: AtomicBool,
    /// Several requests may read the page at the same time. The values that one of them sets must stay until it has
    /// read them.
    pub(super) looking: Mutex<()>,
}

impl GatewayState {
    /// Before a configuration is in use.
    pub(super) fn new(
        metrics: &Arc<Metrics>,
        logger: &Arc<Logger>,
        access: &AccessPlace,
    ) -> GatewayState {
        GatewayState {
            metrics: Arc::clone(metrics),
            logger: Arc::clone(logger),
            access: Arc::clone(access),
            identity: ArcSwapOption::empty(),
            exporters: ArcSwapOption::empty(),
            native: ArcSwapOption::empty(),
            service: ArcSwapOption::empty(),
            secure: AtomicBool::new(false),
            looking: Mutex::default(),
        }
    }

    /// The page for Prometheus.
    pub(super) fn page(&self, form: Form, page: &mut Page) {
        page.push(&match form {
            Form::Text => self.up_to_date(Metrics::page),
            Form::OpenMetrics => self.up_to_date(Metrics::open_page),
        });
        if let Some(native) = &*self.native.load() {
            // A body in memory has no errors.
            let _ = render_plain(&native.0, form, page);
        }
        if let Some(exporters) = &*self.exporters.load() {
            page.push(exporters.report(form).as_bytes());
        }
        page.push(form.end().as_bytes());
    }

    /// The gauges of the OpenTelemetry conventions, if the configuration shows them.
    pub(super) fn gauges(&self) -> Families {
        let service = self.service.load();
        let Some(service) = &*service else {
            return Families::new();
        };
        let observer = service.observer.as_ref();
        let Some(observer) = observer.filter(|it| it.has_gauges()) else {
            return Families::new();
        };
        let mut states = HostStates::default();
        for (_, backend) in service.backends() {
            backend.hosts.add_states(&mut states);
        }
        let hosts = states.hosts();
        observer.gauges(&observe::Now {
            secure: self.secure.load(Ordering::Relaxed),
            requests: self.metrics.in_flight_by_method(),
            hosts: hosts
                .map(|(host, open, idle)| (host.to_owned(), open, idle))
                .collect(),
        })
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        self.up_to_date(Metrics::families)
    }

    /// What collectors get beside series. `has_own`: also the metrics of our own page.
    pub(super) fn to_collectors(self: &Arc<GatewayState>, has_own: bool) -> Arc<Own> {
        let told = Arc::clone(self);
        Arc::new(Own(Box::new(move || Gathered {
            families: if has_own { told.families() } else { Vec::new() },
            native: told.native.load_full().filter(|_| has_own),
            gauges: told.gauges(),
        })))
    }

    /// How often a series was requested beyond the limit of its metric.
    fn overflowed(&self) -> u64 {
        let service = self.service.load();
        let observer = service.as_ref().and_then(|all| all.observer.as_ref());
        let store = observer.and_then(|observer| observer.store.as_ref());
        let native = self.native.load();
        let native = native.as_ref().map_or(0, |native| native.0.overflowed());
        native + store.map_or(0, |store| store.overflowed())
    }

    /// Reads the metrics after those were set that are kept elsewhere.
    fn up_to_date<T>(&self, read: impl FnOnce(&Metrics) -> T) -> T {
        let _alone = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = &*self.identity.load() {
            report_identity(&self.metrics, identity);
        }
        if let Some(service) = &*self.service.load() {
            let state = now(service, self.metrics.per_endpoint());
            self.metrics.state.set(&state);
        }
        let access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = access.as_ref().map_or(0, |access| access.dropped());
        self.metrics.log_dropped(self.logger.dropped() + lost);
        self.metrics.series_overflow(self.overflowed());
        drop(access);
        let budget = Budget::process();
        let others = Budget::calls().rejected() + Budget::pages().rejected();
        let rejected = budget.rejected() + others;
        let told = &self.metrics.memory;
        told.buffered(budget.used(), budget.limit(), rejected);
        let memory = Memory::process();
        told.charged(memory.taken(), memory.limit());
        read(&self.metrics)
    }
}

/// The state of everything behind the endpoints.
fn now(service: &Service, per_endpoint: bool) -> Now {
    let mut states = HostStates::default();
    let mut breakers: BTreeMap<[String; 3], i64> = BTreeMap::new();
    let mut stores = HashSet::new();
    let mut cached = (0, 0);
    for (endpoint, backend) in service.backends() {
        backend.hosts.add_states(&mut states);
        for breaker in backend.steps.iter().filter_map(|step| step.breaker()) {
            let place = if per_endpoint {
                [&*endpoint.pattern, &*backend.pattern, breaker.name]
            } else {
                ["*", "*", breaker.name]
            };
            let state = breakers.entry(place.map(str::to_owned)).or_default();
            // The series of several breakers shows the worst of them.
            *state = (*state).max(breaker.circuit as i64);
        }
        if let Some(usage) = backend.cache.as_ref().and_then(|cache| cache.usage())
            && stores.insert(usage.store)
        {
            cached.0 += usage.responses;
            cached.1 += usage.bytes;
        }
    }
    let names = states.names.iter().map(|(name, state)| {
        let age = state.age.map_or(f64::NAN, |age| age.as_secs_f64());
        (name.to_string(), age, state.found)
    });
    let hosts = states.hosts();
    Now {
        breakers,
        hosts: hosts
            .map(|(host, open, idle)| (host.to_owned(), open, idle))
            .collect(),
        names: names.collect(),
        health: states
            .health
            .iter()
            .map(|(host, it)| {
                let changes = [it.failed, it.recovered, it.ejected];
                (masked(host).into_owned(), it.usable, changes)
            })
            .collect(),
        repeats: states
            .spent()
            .map(|(host, it)| {
                let spent = [it.retries, it.hedges, it.rejected];
                (masked(host).into_owned(), spent)
            })
            .collect(),
        cached,
    }
}

/// Copies counters that are kept elsewhere to the metrics page.
fn report_identity(metrics: &Metrics, identity: &IdentityStatus) {
    metrics.forget_key_sets();
    for status in identity.key_sets() {
        metrics.key_set(&KeySetReport {
            source: &status.label,
            age: status.age,
            keys: status.keys,
            fetches: status.fetches,
            errors: status.failures,
            stale: status.stale,
        });
    }
    metrics.tokens_without_expiry(identity.without_expiry());
    let cache = identity.token_cache();
    metrics.token_cache(
        cache.hits,
        cache.misses,
        cache.evictions,
        cache.entries,
        cache.bytes,
    );
}
