//! The series of endpoints.
//!
//! The library keeps names, texts and labels once more in each of its series, which is kilobytes for each endpoint. Here
//! they are made when the page is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use smallvec::SmallVec;

use crate::per_worker::Parts;
use crate::telemetry::series::Examples;
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{SpanId, TraceId};

/// The upper limits of the buckets: those recommended by the OpenTelemetry HTTP conventions, with two smaller ones added.
const SECONDS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

/// The same in nanoseconds.
const ENDS: [u64; SECONDS.len()] = {
    let mut ends = [0; SECONDS.len()];
    let mut index = 0;
    while index < ends.len() {
        ends[index] = (SECONDS[index] * 1e9 + 0.5) as u64;
        index += 1;
    }
    ends
};

/// The classes of statuses as labels.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counts of one route and method. They need no more memory than this until the first request.
#[derive(Debug, Default)]
pub(super) struct RouteSeries {
    counts: Parts<Box<Counts>>,
    pub(super) examples: Examples,
}

/// What one worker counted.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    /// By the first digit of the status, 1 to 5.
    classes: [AtomicU64; CLASSES.len()],
    /// Not cumulative. The last one has no limit.
    buckets: [AtomicU64; SECONDS.len() + 1],
    nanoseconds: AtomicU64,
    /// Negative if requests ended on this worker that began on another one.
    in_flight: AtomicI64,
}

impl RouteSeries {
    /// Counts a request as in progress, until [`RouteSeries::left`].
    pub(super) fn entered(&self) {
        let own = self.counts.own();
        own.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn left(&self) {
        let own = self.counts.own();
        own.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request with its response and, if it is sampled, its span.
    pub(super) fn record(&self, status: u16, took: Duration, example: Option<(TraceId, SpanId)>) {
        let own = self.counts.own();
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        if let Some(counter) = own.classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let took = nanos(took);
        let index = ENDS.partition_point(|end| *end < took);
        if let Some(bucket) = own.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        own.nanoseconds.fetch_add(took, Ordering::Relaxed);
        if let Some(span) = example {
            self.examples.put(index, own.buckets.len(), span, took);
        }
    }

    fn in_flight(&self) -> i64 {
        let parts = self.counts.all();
        parts
            .map(|part| part.in_flight.load(Ordering::Relaxed))
            .sum()
    }

    /// Responses by class of status.
    fn classes(&self) -> [u64; CLASSES.len()] {
        let mut sums = [0; CLASSES.len()];
        for part in self.counts.all() {
            add(&mut sums, &part.classes);
        }
        sums
    }

    /// Requests that are counted concurrently may be included in part.
    fn durations(&self) -> Histogram {
        let (mut sums, mut nanoseconds) = ([0; SECONDS.len() + 1], 0);
        for part in self.counts.all() {
            add(&mut sums, &part.buckets);
            nanoseconds += part.nanoseconds.load(Ordering::Relaxed);
        }
        let mut below = 0;
        let mut counts = sums.into_iter();
        let mut next = || {
            below += counts.next().unwrap_or_default();
            below
        };
        let buckets = SECONDS.iter().map(|end| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*end);
            bucket.set_cumulative_count(next());
            bucket
        });
        let mut data = Histogram::default();
        data.set_bucket(buckets.collect());
        data.set_sample_count(next());
        data.set_sample_sum(nanoseconds as f64 / 1e9);
        data
    }
}

fn add(sums: &mut [u64], counters: &[AtomicU64]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.load(Ordering::Relaxed);
    }
}

/// Series by method. Nearly all routes have one.
type Methods = SmallVec<[(Box<str>, Arc<RouteSeries>); 1]>;

/// All series by route.
#[derive(Debug, Default)]
pub(super) struct RouteTable(RwLock<HashMap<Box<str>, Methods>>);

impl RouteTable {
    /// The series of a route and method, which are created if there are none.
    pub(super) fn series(&self, route: &str, method: &str) -> Arc<RouteSeries> {
        if let Some(series) = self.find(route, method) {
            return series;
        }
        let mut all = self.write();
        let methods = match all.get_mut(route) {
            Some(methods) => methods,
            None => all.entry(route.into()).or_default(),
        };
        if let Some((_, series)) = methods.iter().find(|(known, _)| **known == *method) {
            return Arc::clone(series);
        }
        let series = Arc::<RouteSeries>::default();
        methods.push((method.into(), Arc::clone(&series)));
        series
    }

    /// The series of a route and method.
    pub(super) fn find(&self, route: &str, method: &str) -> Option<Arc<RouteSeries>> {
        let all = self.read();
        let mut methods = all.get(route)?.iter();
        let (_, series) = methods.find(|(known, _)| **known == *method)?;
        Some(Arc::clone(series))
    }

    /// Removes the series that `is_kept` does not name. Those of requests without an endpoint, whose route is empty, stay.
    pub(super) fn keep(&self, is_kept: impl Fn(&str, &str) -> bool) {
        self.write().retain(|route, methods| {
            methods.retain(|(method, _)| route.is_empty() || is_kept(route, method));
            !methods.is_empty()
        });
    }

    /// Requests in progress at endpoints, by method.
    pub(super) fn in_flight_by_method(&self) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        self.each(|route, method, series| {
            if !route.is_empty() {
                *sums.entry(method.to_owned()).or_default() += series.in_flight();
            }
        });
        sums
    }

    fn each(&self, mut each: impl FnMut(&str, &str, &RouteSeries)) {
        for (route, methods) in &*self.read() {
            for (method, series) in methods {
                each(route, method, series);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Methods>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, Methods>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The families of a [`RouteTable`] for the library's registry.
pub(super) struct RouteFamilies {
    table: Arc<RouteTable>,
    requests: Desc,
    durations: Desc,
    in_flight: Desc,
}

impl RouteFamilies {
    /// # Panics
    /// A name is not a valid name of a metric. The first test that calls it would show this.
    pub(super) fn new(table: &Arc<RouteTable>, durations: &str) -> RouteFamilies {
        let family = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned());
            Desc::new(
                name.to_owned(),
                help.to_owned(),
                labels.collect(),
                HashMap::new(),
            )
            .expect("the name is a valid metric name")
        };
        RouteFamilies {
            table: Arc::clone(table),
            requests: family(
                "portcullis_http_requests_total",
                "Requests that got a response, by route pattern, method and class of status.",
                &["method", "route", "status"],
            ),
            durations: family(
                durations,
                "Time from the head of a request to the end of its response.",
                &["method", "route"],
            ),
            in_flight: family(
                "portcullis_endpoint_requests_in_flight",
                "Requests in progress, by route pattern and method.",
                &["method", "route"],
            ),
        }
    }
}

impl Collector for RouteFamilies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.requests, &self.durations, &self.in_flight]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut requests, mut durations, mut in_flight) = (Vec::new(), Vec::new(), Vec::new());
        self.table.each(|route, method, series| {
            for (class, count) in CLASSES.iter().zip(series.classes()) {
                let mut value = Counter::default();
                value.set_value(count as f64);
                let mut metric = labelled(&self.requests, &[method, route, class]);
                metric.set_counter(value);
                requests.push(metric);
            }
            let mut metric = labelled(&self.durations, &[method, route]);
            metric.set_histogram(series.durations());
            durations.push(metric);
            // Requests without an endpoint are only counted together.
            if !route.is_empty() {
                let mut value = Gauge::default();
                value.set_value(series.in_flight() as f64);
                let mut metric = labelled(&self.in_flight, &[method, route]);
                metric.set_gauge(value);
                in_flight.push(metric);
            }
        });
        vec![
            family(&self.requests, MetricType::COUNTER, requests),
            family(&self.durations, MetricType::HISTOGRAM, durations),
            family(&self.in_flight, MetricType::GAUGE, in_flight),
        ]
    }
}

fn family(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// A metric with these values of the labels of its family.
fn labelled(desc: &Desc, values: &[&str]) -> Metric {
    let labels = desc.variable_labels.iter().zip(values);
    let labels = labels.map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name(name.clone());
        label.set_value((*value).to_owned());
        label
    });
    Metric::from_label(labels.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_requests_needs_little_memory() {
        let bytes = size_of::<RouteSeries>() + size_of::<(Box<str>, Methods)>();
        assert!(bytes <= 120, "{bytes}");
        let table = RouteTable::default();
        assert_eq!(table.series("/a", "GET").counts.all().count(), 0);
    }

    #[test]
    fn the_sums_contain_what_all_threads_counted() {
        let series = RouteSeries::default();
        series.entered();
        series.entered();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    series.record(200, Duration::from_millis(5), None);
                    series.record(404, Duration::from_secs(11), None);
                });
            }
            scope.spawn(|| series.left());
        });
        assert_eq!(series.classes(), [0, 8, 0, 8, 0]);
        let data = series.durations();
        assert_eq!(data.get_bucket()[16].cumulative_count(), 8);
        assert_eq!(data.get_sample_count(), 16);
        assert_eq!(data.get_sample_sum(), 88.04);
        assert_eq!(series.in_flight(), 1);
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_includes_it() {
        let series = RouteSeries::default();
        for (micros, status) in [(500, 99), (501, 200), (2500, 204), (11_000_000, 777)] {
            series.record(status, Duration::from_micros(micros), None);
        }
        let data = series.durations();
        let below: Vec<u64> = data
            .get_bucket()
            .iter()
            .map(|it| it.cumulative_count())
            .collect();
        assert_eq!(below[..4], [1, 2, 3, 3]);
        assert_eq!((below[16], data.get_sample_count()), (3, 4));
        assert_eq!(data.get_sample_sum(), 11.003_501);
        assert_eq!(series.classes(), [1, 2, 0, 0, 1]);
    }

    #[test]
    fn equal_routes_and_methods_share_their_series() {
        let table = RouteTable::default();
        let first = table.series("/a", "GET");
        assert!(Arc::ptr_eq(&first, &table.series("/a", "GET")));
        assert!(!Arc::ptr_eq(&first, &table.series("/a", "POST")));
        table.series("", "GET");
        table.keep(|_, _| false);
        assert!(table.find("/a", "GET").is_none());
        assert!(table.find("", "GET").is_some());
    }
}
