//! Counters and histograms in Prometheus' text format.
//!
//! The number of label values is limited whatever clients send: configured route patterns, a fixed list of methods,
//! classes of statuses, closed lists of reasons. Handles are obtained once per service, so a request only updates
//! atomics.

mod certificates;
mod guards;
mod memory;
mod open;
mod registration;
mod route_table;
mod routes;
mod series_limit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry, TextEncoder,
};
pub(super) use registration::Registration;

use self::certificates::CertificateMetrics;
use self::memory::Memory;
use self::route_table::{RouteFamilies, RouteTable};
use crate::per_worker::Parts;
use crate::telemetry::series::page::Form;
use crate::telemetry::state::State;
use crate::telemetry::{queues, redis, revocations};

pub(crate) use guards::{ConnectionGuard, InFlight};
pub(crate) use routes::RouteMetrics;

/// The name of the durations of requests.
const DURATION: &str = "portcullis_http_request_duration_seconds";

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Each endpoint has its own series.
    per_endpoint: AtomicBool,
    admitted: series_limit::SeriesLimit,
    routes: Arc<RouteTable>,
    requests: Parts<Arc<guards::Requests>>,
    in_flight: IntGauge,
    open: AtomicUsize,
    connections: IntCounter,
    connections_open: IntGauge,
    connections_rejected: IntCounter,
    connections_reclaimed: IntCounter,
    handshake_failures: IntCounter,
    bad_requests: IntCounterVec,
    jwt_rejected: IntCounterVec,
    jwt_without_exp: Counter,
    rejected: IntCounterVec,
    upstream_errors: IntCounterVec,
    pub(crate) memory: Memory,
    panics: IntCounter,
    reload_success: IntGauge,
    reload_time: Gauge,
    reloads: IntCounterVec,
    log_dropped: IntCounter,
    series_overflow: IntCounter,
    key_sets: KeySetMetrics,
    token_cache: TokenCacheMetrics,
    pub(crate) certificates: CertificateMetrics,
    /// What is there now.
    pub state: State,
}

/// Metrics of key sets, with one label value per source.
#[derive(Debug)]
struct KeySetMetrics {
    age: GaugeVec,
    keys: IntGaugeVec,
    fetches: CounterVec,
    errors: CounterVec,
    stale: IntGaugeVec,
}

#[derive(Debug)]
struct TokenCacheMetrics {
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    entries: IntGauge,
    bytes: IntGauge,
}

impl KeySetMetrics {
    fn new(registration: &Registration<'_>) -> KeySetMetrics {
        KeySetMetrics {
            age: registration.gauges(
                "portcullis_jwks_age_seconds",
                "Time since the key set in use was fetched.",
                &["source"],
            ),
            keys: registration.int_gauges(
                "portcullis_jwks_keys",
                "Usable keys in the set in use; 0 before the first download.",
                &["source"],
            ),
            fetches: registration.counters(
                "portcullis_jwks_fetches_total",
                "Key set downloads tried.",
                &["source"],
            ),
            errors: registration.counters(
                "portcullis_jwks_fetch_errors_total",
                "Key set downloads that failed.",
                &["source"],
            ),
            stale: registration.int_gauges(
                "portcullis_jwks_stale",
                "Whether the key set in use is older than its refresh interval, or there is none.",
                &["source"],
            ),
        }
    }
}

impl TokenCacheMetrics {
    fn new(registration: &Registration<'_>) -> TokenCacheMetrics {
        TokenCacheMetrics {
            hits: registration.counter(
                "portcullis_token_cache_hits_total",
                "Tokens whose signature was known good.",
            ),
            misses: registration.counter(
                "portcullis_token_cache_misses_total",
                "Tokens whose signature had to be checked.",
            ),
            evictions: registration.counter(
                "portcullis_token_cache_evictions_total",
                "Entries evicted to make room.",
            ),
            entries: registration
                .int_gauge("portcullis_token_cache_entries", "Verified tokens held."),
            bytes: registration.int_gauge(
                "portcullis_token_cache_bytes",
                "Memory of the verified tokens in the cache.",
            ),
        }
    }
}

/// The state of a key set, for the page: see [`Metrics::key_set`].
#[derive(Debug, Clone)]
pub(crate) struct KeySetReport<'a> {
    pub source: &'a str,
    pub age: Option<Duration>,
    pub keys: usize,
    pub fetches: u64,
    pub errors: u64,
    pub stale: bool,
}

impl Metrics {
    /// A separate registry with `portcullis_build_info` and the process metrics.
    ///
    /// # Panics
    /// Two metrics here have the same name. The first test that calls it would show this.
    pub(crate) fn new() -> Arc<Metrics> {
        let registry = Registry::new();
        let registration = Registration(&registry);
        let info = registration.int_gauges(
            "portcullis_build_info",
            "Always 1; the labels name the running version.",
            &["version"],
        );
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let routes = Arc::<RouteTable>::default();
        registration.add(RouteFamilies::new(&routes, DURATION));
        let metrics = Metrics {
            routes,
            requests: Parts::new(),
            in_flight: registration.int_gauge(
                "portcullis_http_requests_in_flight",
                "Requests in progress.",
            ),
            open: AtomicUsize::new(0),
            connections: registration.int_counter(
                "portcullis_connections_total",
                "Client connections accepted.",
            ),
            connections_open: registration.int_gauge(
                "portcullis_connections_open",
                "Client connections open now.",
            ),
            connections_rejected: registration.int_counter(
                "portcullis_connections_refused_total",
                "Client connections closed at once: too many.",
            ),
            connections_reclaimed: registration.int_counter(
                "portcullis_connections_reclaimed_total",
                "Silent client connections closed for clients that waited for a place.",
            ),
            handshake_failures: registration.int_counter(
                "portcullis_tls_handshake_failures_total",
                "TLS handshakes with clients that failed.",
            ),
            bad_requests: registration.int_counters(
                "portcullis_http_bad_requests_total",
                "Requests rejected before they were routed, by reason.",
                &["reason"],
            ),
            jwt_rejected: registration.int_counters(
                "portcullis_jwt_rejected_total",
                "Requests rejected for their token, by route pattern and reason.",
                &["route", "reason"],
            ),
            jwt_without_exp: registration.counter(
                "portcullis_jwt_without_exp_total",
                "Requests accepted with a token that never expires.",
            ),
            rejected: registration.int_counters(
                "portcullis_requests_refused_total",
                "Requests rejected by a policy, by route pattern and reason.",
                &["route", "reason"],
            ),
            upstream_errors: registration.int_counters(
                "portcullis_upstream_errors_total",
                "Calls to upstreams that gave no usable response, by route pattern and kind.",
                &["route", "kind"],
            ),
            memory: Memory::new(&registration),
            panics: registration.int_counter(
                "portcullis_panics_total",
                "Requests that failed because of a panic in the gateway.",
            ),
            reload_success: registration.int_gauge(
                "portcullis_config_last_reload_successful",
                "Whether the last reload was applied.",
            ),
            reload_time: registration.gauge(
                "portcullis_config_last_reload_success_timestamp_seconds",
                "When a configuration was last applied.",
            ),
            reloads: registration.int_counters(
                "portcullis_config_reloads_total",
                "Requested reloads, by result.",
                &["result"],
            ),
            log_dropped: registration.int_counter(
                "portcullis_log_lines_dropped_total",
                "Log lines dropped because the queue was full.",
            ),
            series_overflow: registration.int_counter(
                "portcullis_metrics_overflow_total",
                "Series that were folded into one, because their metric had reached its limit of series.",
            ),
            key_sets: KeySetMetrics::new(&registration),
            token_cache: TokenCacheMetrics::new(&registration),
            certificates: CertificateMetrics::new(&registration),
            state: State::new(&registration),
            registry: revocations::registered(redis::registered(queues::registered(registry))),
            per_endpoint: AtomicBool::new(true),
            admitted: Default::default(),
        };
        metrics.reload_success.set(1);
        for result in ["applied", "refused"] {
            metrics.reloads.with_label_values(&[result]);
        }
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            // This can only fail if there are two collectors for the same process.
            let _ = metrics.registry.register(Box::new(process));
        }
        Arc::new(metrics)
    }

    /// Whether each endpoint has its own series, or all share the label `route="*"`. Set it before the handles of a
    /// new configuration are obtained.
    pub(crate) fn set_per_endpoint(&self, per_endpoint: bool) {
        self.per_endpoint.store(per_endpoint, Ordering::Relaxed);
    }

    /// Counts a request as in progress until the guard is dropped.
    pub(crate) fn request(&self) -> InFlight {
        InFlight::new(self.requests.own())
    }

    /// The number of requests in progress.
    pub(crate) fn requests_in_flight(&self) -> i64 {
        let parts = self.requests.all();
        parts
            .map(|part| part.in_flight.load(Ordering::Relaxed))
            .sum()
    }

    /// The number of open client connections.
    pub(crate) fn connections_open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn bad_request(&self, reason: &'static str) {
        self.bad_requests.with_label_values(&[reason]).inc();
    }

    /// `route` is the pattern of an endpoint, or empty.
    pub(crate) fn jwt_rejected(&self, route: &str, reason: &'static str) {
        self.jwt_rejected
            .with_label_values(&[self.route_label(route), reason])
            .inc();
    }

    /// `route` is the pattern of an endpoint, or empty.
    pub(crate) fn rejected(&self, route: &str, reason: &'static str) {
        self.rejected
            .with_label_values(&[self.route_label(route), reason])
            .inc();
    }

    /// `route` is the pattern of an endpoint.
    pub(crate) fn upstream_error(&self, route: &str, kind: &'static str) {
        self.upstream_errors
            .with_label_values(&[self.route_label(route), kind])
            .inc();
    }

    pub(crate) fn connection_rejected(&self) {
        self.connections_rejected.inc();
    }

    pub(crate) fn connection_reclaimed(&self) {
        self.connections_reclaimed.inc();
    }

    pub(crate) fn tls_handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    /// Records that the process serves its first configuration.
    pub(crate) fn started(&self, now: Duration) {
        self.reload_time.set(now.as_secs_f64());
    }

    /// Records that a reload was applied or rejected.
    pub(crate) fn reloaded(&self, applied: bool, now: Duration) {
        self.reload_success.set(i64::from(applied));
        self.reloads
            .with_label_values(&[if applied { "applied" } else { "refused" }])
            .inc();
        if applied {
            self.reload_time.set(now.as_secs_f64());
        }
    }

    /// Sets the metrics of one key set.
    pub(crate) fn key_set(&self, report: &KeySetReport<'_>) {
        let label = &[report.source];
        self.key_sets
            .age
            .with_label_values(label)
            .set(report.age.map_or(f64::NAN, |age| age.as_secs_f64()));
        self.key_sets
            .keys
            .with_label_values(label)
            .set(i64::try_from(report.keys).unwrap_or(i64::MAX));
        self.key_sets
            .stale
            .with_label_values(label)
            .set(i64::from(report.stale));
        raise(
            &self.key_sets.fetches.with_label_values(label),
            report.fetches,
        );
        raise(
            &self.key_sets.errors.with_label_values(label),
            report.errors,
        );
    }

    /// Removes the key sets from the page, so that none remains that is no longer configured.
    pub(crate) fn forget_key_sets(&self) {
        self.key_sets.age.reset();
        self.key_sets.keys.reset();
        self.key_sets.stale.reset();
    }

    /// Sets the metrics of the token cache: totals since the start, and its current size.
    pub(crate) fn token_cache(
        &self,
        hits: u64,
        misses: u64,
        evictions: u64,
        entries: usize,
        bytes: usize,
    ) {
        raise(&self.token_cache.hits, hits);
        raise(&self.token_cache.misses, misses);
        raise(&self.token_cache.evictions, evictions);
        self.token_cache
            .entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.token_cache
            .bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets the number of tokens without `exp` that were accepted since the start.
    pub(crate) fn tokens_without_expiry(&self, total: u64) {
        raise(&self.jwt_without_exp, total);
    }

    /// Sets the number of log lines that were lost since the start.
    pub(crate) fn log_dropped(&self, total: u64) {
        self.log_dropped
            .inc_by(total.saturating_sub(self.log_dropped.get()));
    }

    /// Sets how often a series was folded into the overflow series since the start. A reload that starts new series
    /// does not lower it.
    pub(crate) fn series_overflow(&self, total: u64) {
        let total = total.saturating_add(self.admitted.overflowed());
        self.series_overflow
            .inc_by(total.saturating_sub(self.series_overflow.get()));
    }

    /// Everything that was counted, by name.
    pub(crate) fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.in_flight.set(self.requests_in_flight());
        for part in self.requests.all() {
            self.panics.inc_by(part.panics.swap(0, Ordering::Relaxed));
        }
        self.registry.gather()
    }

    /// The page in Prometheus' text format.
    pub(crate) fn page(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.families(), &mut page) {
            log::error!("metrics cannot be written: {error}");
        }
        page
    }

    /// The page in the OpenMetrics format, without its end.
    pub(crate) fn open_page(&self) -> Vec<u8> {
        let example = |family: &str, metric: &_, bucket| self.example(family, metric, bucket);
        open::page(&self.families(), example).into_bytes()
    }
}

/// CPU, memory and descriptors of the process.
pub(crate) fn process_metrics(form: Form) -> String {
    let mut page = Vec::new();
    #[cfg(target_os = "linux")]
    {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        let families = process.collect();
        if form == Form::OpenMetrics {
            return open::page(&families, |_, _, _| None);
        }
        // Values that cannot be read are omitted.
        let _ = TextEncoder::new().encode(&families, &mut page);
    }
    String::from_utf8(page).unwrap_or_default()
}

/// Raises a counter to a total that is kept elsewhere.
fn raise(counter: &Counter, total: u64) {
    let missing = total as f64 - counter.get();
    if missing > 0.0 {
        counter.inc_by(missing);
    }
}

#[cfg(test)]
mod tests;
