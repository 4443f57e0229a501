//! The counters of `telemetry/metrics`, shown at `/__stats`.

mod histogram;
mod influx;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::process::{resident_bytes, threads};
use histogram::Histogram;

/// The settings of `telemetry/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Histograms are reset after this time.
    pub collection_time: Duration,
    /// The address of `/__stats`. `None` with `endpoint_disabled`.
    pub listen: Option<String>,
    pub router: bool,
    pub proxy: bool,
    pub backend: bool,
}

/// The content of `/__stats`. There is one per process, and it survives reloads.
#[derive(Debug)]
pub struct Stats {
    settings: Settings,
    connected: Gauge,
    disconnected: Gauge,
    tls: Mutex<BTreeMap<String, u64>>,
    responses: RwLock<BTreeMap<Arc<str>, Arc<Responses>>>,
    layers: RwLock<Layers>,
}

type Layers = BTreeMap<(Layer, Arc<str>), Arc<Requests>>;

/// The two layers where requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The whole work of an endpoint, by its pattern.
    Pipe,
    /// A backend call, by its `url_pattern`.
    Backend,
}

/// The responses of one endpoint. Keep this handle, so that it is looked up only once.
#[derive(Debug, Default)]
pub struct Responses {
    statuses: Mutex<BTreeMap<u16, u64>>,
    size: Histogram,
    time: Histogram,
}

/// The requests of one layer and name, by their result.
#[derive(Debug, Default)]
pub struct Requests {
    /// Incomplete or complete, without or with an error.
    ends: [End; 4],
}

#[derive(Debug, Default)]
struct End {
    count: AtomicU64,
    latency: Histogram,
}

/// The counter of this period, that of the last period, and the sum of earlier ones.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    last: AtomicU64,
    total: AtomicU64,
}

/// There are few TLS versions and ciphers, but clients must not be able to add more.
const MAX_TLS_NAMES: usize = 64;

impl Stats {
    /// Counters at zero.
    pub fn new(settings: Settings) -> Stats {
        Stats {
            settings,
            connected: Gauge::default(),
            disconnected: Gauge::default(),
            tls: Mutex::default(),
            responses: RwLock::default(),
            layers: RwLock::default(),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The handle for the responses of `endpoint`. `None` if they are not counted. Call it while compiling.
    pub fn responses(&self, endpoint: &Arc<str>) -> Option<Arc<Responses>> {
        if !self.settings.router {
            return None;
        }
        let mut all = self
            .responses
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(all.entry(Arc::clone(endpoint)).or_default()))
    }

    /// The handle for the requests of `name` at `layer`. `None` if they are not counted. Call it while compiling.
    pub fn requests(&self, layer: Layer, name: &Arc<str>) -> Option<Arc<Requests>> {
        let wanted = match layer {
            Layer::Pipe => self.settings.proxy,
            Layer::Backend => self.settings.backend,
        };
        if !wanted {
            return None;
        }
        let mut all = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(
            all.entry((layer, Arc::clone(name))).or_default(),
        ))
    }

    /// Records the start of a request.
    pub fn record_connected(&self) {
        self.connected.now.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the end of a request.
    pub fn record_disconnected(&self) {
        self.disconnected.now.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a request over TLS with this version and cipher suite.
    pub fn record_tls(&self, version: &str, cipher: &str) {
        let mut tls = lock(&self.tls);
        for name in [
            format!("krakend.router.tls_version.{version}.count"),
            format!("krakend.router.tls_cipher.{cipher}.count"),
        ] {
            let full = tls.len() >= MAX_TLS_NAMES;
            match tls.get_mut(&name) {
                Some(count) => *count += 1,
                None if full => {}
                None => {
                    tls.insert(name, 1);
                }
            }
        }
    }

    /// Ends a period. Must be called every `collection_time`.
    pub fn collect(&self) {
        self.connected.turn();
        self.disconnected.turn();
        for responses in self.all_responses().values() {
            responses.size.clear();
            responses.time.clear();
        }
        for requests in self.all_layers().values() {
            requests.ends.iter().for_each(|end| end.latency.clear());
        }
    }

    /// The page: a flat object with sorted keys, one per line, as Go's `expvar` writes it.
    pub fn render(&self) -> Vec<u8> {
        let mut page = BTreeMap::new();
        self.add_process(&mut page);
        if self.settings.router {
            self.add_router(&mut page);
        }
        self.add_layers(&mut page);
        let mut out = Vec::with_capacity(page.len() * 80);
        out.extend_from_slice(b"{\n");
        for (index, (name, value)) in page.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b",\n");
            }
            crate::telemetry::sanitize::push_json(name, &mut out);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"\n}\n");
        out
    }

    fn add_router(&self, page: &mut BTreeMap<String, String>) {
        for (name, gauge) in [
            ("connected", &self.connected),
            ("disconnected", &self.disconnected),
        ] {
            let mut add = |suffix: &str, value: &AtomicU64| {
                let value = value.load(Ordering::Relaxed).to_string();
                page.insert(format!("krakend.router.{name}{suffix}"), value);
            };
            add("", &gauge.now);
            add("-gauge", &gauge.last);
            add("-total", &gauge.total);
        }
        for (name, count) in lock(&self.tls).iter() {
            page.insert(name.clone(), count.to_string());
        }
        for (endpoint, responses) in self.all_responses() {
            let base = format!("krakend.router.response.{endpoint}");
            page.insert(format!("{base}.status"), "0".to_owned());
            for (status, count) in lock(&responses.statuses).iter() {
                page.insert(format!("{base}.status.{status}.count"), count.to_string());
            }
            responses.size.add_to(page, &format!("{base}.size"));
            responses.time.add_to(page, &format!("{base}.time"));
        }
    }

    fn add_layers(&self, page: &mut BTreeMap<String, String>) {
        for ((layer, name), requests) in self.all_layers() {
            let layer = match layer {
                Layer::Pipe => "pipe",
                Layer::Backend => "backend",
            };
            for (index, end) in requests.ends.iter().enumerate() {
                let (complete, error) = (index & 1 > 0, index & 2 > 0);
                let labels = format!("layer.{layer}.name.{name}.complete.{complete}.error.{error}");
                let count = end.count.load(Ordering::Relaxed).to_string();
                page.insert(format!("krakend.proxy.requests.{labels}"), count);
                end.latency
                    .add_to(page, &format!("krakend.proxy.latency.{labels}"));
            }
        }
    }

    /// Values that Go's runtime reports about itself, 0 where there is no equivalent.
    fn add_process(&self, page: &mut BTreeMap<String, String>) {
        let mut arguments = Vec::new();
        for (index, argument) in std::env::args().enumerate() {
            arguments.push(if index == 0 { b'[' } else { b',' });
            crate::telemetry::sanitize::push_json(&argument, &mut arguments);
        }
        arguments.push(b']');
        page.insert(
            "cmdline".to_owned(),
            String::from_utf8_lossy(&arguments).into_owned(),
        );
        let resident = resident_bytes();
        page.insert(
            "memstats".to_owned(),
            format!(
                "{{\"Alloc\":{resident},\"Sys\":{resident},\"HeapAlloc\":{resident},\"NumGC\":0}}"
            ),
        );
        let runtime = "krakend.service.runtime";
        for name in MEMORY {
            let value = match *name {
                "Alloc" | "HeapAlloc" | "HeapInuse" | "HeapSys" | "Sys" => resident,
                _ => 0,
            };
            page.insert(format!("{runtime}.MemStats.{name}"), value.to_string());
        }
        Histogram::default().add_to(page, &format!("{runtime}.MemStats.PauseNs"));
        page.insert(format!("{runtime}.NumThread"), threads().to_string());
        page.insert(format!("{runtime}.NumGoroutine"), "0".to_owned());
        page.insert(format!("{runtime}.NumCgoCall"), "0".to_owned());
        for name in ["LastGC", "NumGC", "PauseTotal"] {
            page.insert(
                format!("krakend.service.debug.GCStats.{name}"),
                "0".to_owned(),
            );
        }
        Histogram::default().add_to(page, "krakend.service.debug.GCStats.Pause");
    }

    fn all_responses(&self) -> BTreeMap<Arc<str>, Arc<Responses>> {
        self.responses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn all_layers(&self) -> Layers {
        self.layers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Responses {
    /// Counts one response.
    pub fn record(&self, status: u16, size: u64, time: Duration) {
        *lock(&self.statuses).entry(status.min(999)).or_default() += 1;
        self.size.add(size);
        self.time.add(nanos(time));
    }
}

impl Requests {
    /// Counts one request.
    pub fn record(&self, complete: bool, error: bool, time: Duration) {
        let index = usize::from(complete) | (usize::from(error) << 1);
        if let Some(end) = self.ends.get(index) {
            end.count.fetch_add(1, Ordering::Relaxed);
            end.latency.add(nanos(time));
        }
    }
}

impl Gauge {
    fn turn(&self) {
        let now = self.now.swap(0, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
        self.total.fetch_add(now, Ordering::Relaxed);
    }
}

/// The members of Go's `MemStats` that KrakenD publishes.
const MEMORY: &[&str] = &[
    "Alloc",
    "BuckHashSys",
    "DebugGC",
    "EnableGC",
    "Frees",
    "GCCPUFraction",
    "HeapAlloc",
    "HeapIdle",
    "HeapInuse",
    "HeapObjects",
    "HeapReleased",
    "HeapSys",
    "LastGC",
    "Lookups",
    "MCacheInuse",
    "MCacheSys",
    "MSpanInuse",
    "MSpanSys",
    "Mallocs",
    "NextGC",
    "NumGC",
    "PauseTotalNs",
    "StackInuse",
    "StackSys",
    "Sys",
    "TotalAlloc",
];

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        Stats::new(Settings {
            collection_time: Duration::from_secs(60),
            listen: Some(":8090".to_owned()),
            router: true,
            proxy: true,
            backend: true,
        })
    }

    fn page(stats: &Stats) -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&stats.render()).unwrap()
    }

    #[test]
    fn the_page_is_flat_and_sorted_with_one_name_per_line() {
        let stats = stats();
        stats.responses(&"/a".into()).unwrap();
        let text = String::from_utf8(stats.render()).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("\": ").map(|(name, _)| name))
            .collect();
        assert!(names.is_sorted());
        assert_eq!(names.len(), page(&stats).len());
        assert!(text.starts_with("{\n\"cmdline\": [") && text.ends_with("\n}\n"));
    }

    #[test]
    fn a_response_is_counted_by_endpoint_and_status() {
        let stats = stats();
        let responses = stats.responses(&"/a/{id}".into()).unwrap();
        responses.record(200, 10, Duration::from_nanos(5));
        responses.record(200, 30, Duration::from_nanos(15));
        responses.record(429, 0, Duration::from_nanos(1));
        let page = page(&stats);
        let get = |name: &str| &page[&format!("krakend.router.response./a/{{id}}.{name}")];
        assert_eq!(get("status"), 0);
        assert_eq!(get("status.200.count"), 2);
        assert_eq!(get("status.429.count"), 1);
        assert_eq!(get("size.count"), 3);
        assert_eq!(get("size.max"), 30);
        assert_eq!(get("time.min"), 1);
        assert_eq!(get("time.mean"), 7);
        for name in ["std-dev", "50-percentile", "999-percentile"] {
            assert!(get(&format!("time.{name}")).is_number(), "{name}");
        }
    }

    #[test]
    fn all_four_results_are_present_from_the_start() {
        let stats = stats();
        let requests = stats.requests(Layer::Backend, &"/x".into()).unwrap();
        requests.record(true, false, Duration::from_nanos(9));
        let page = page(&stats);
        for (complete, error, count) in [
            (false, false, 0),
            (false, true, 0),
            (true, false, 1),
            (true, true, 0),
        ] {
            let labels = format!("layer.backend.name./x.complete.{complete}.error.{error}");
            assert_eq!(page[&format!("krakend.proxy.requests.{labels}")], count);
            assert_eq!(
                page[&format!("krakend.proxy.latency.{labels}.count")],
                count
            );
        }
    }

    #[test]
    fn a_period_resets_histograms_and_adds_counters_to_their_totals() {
        let stats = stats();
        let responses = stats.responses(&"/a".into()).unwrap();
        responses.record(200, 10, Duration::from_nanos(5));
        stats.record_connected();
        stats.record_connected();
        stats.collect();
        stats.record_connected();
        let page = page(&stats);
        assert_eq!(page["krakend.router.connected"], 1);
        assert_eq!(page["krakend.router.connected-gauge"], 2);
        assert_eq!(page["krakend.router.connected-total"], 2);
        assert_eq!(page["krakend.router.response./a.size.count"], 0);
        assert_eq!(page["krakend.router.response./a.status.200.count"], 1);
    }

    #[test]
    fn disabled_counters_are_not_counted() {
        let stats = Stats::new(Settings {
            router: false,
            proxy: false,
            ..stats().settings
        });
        assert!(stats.responses(&"/a".into()).is_none());
        assert!(stats.requests(Layer::Pipe, &"/a".into()).is_none());
        assert!(stats.requests(Layer::Backend, &"/a".into()).is_some());
        assert!(!page(&stats).contains_key("krakend.router.connected"));
    }

    #[test]
    fn names_of_tls_are_limited() {
        let stats = stats();
        for n in 0..1000 {
            stats.record_tls("TLS13", &n.to_string());
        }
        let page = page(&stats);
        assert_eq!(page["krakend.router.tls_version.TLS13.count"], 1000);
        let ciphers = page
            .keys()
            .filter(|name| name.contains("tls_cipher"))
            .count();
        assert!(ciphers < MAX_TLS_NAMES);
    }
}
