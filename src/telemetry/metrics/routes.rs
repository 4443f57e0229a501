//! The metrics of endpoints, and their labels.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::proto::Metric;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::registration::SECONDS;
use super::series_limit::Origin;
use super::{DURATION, Metrics};
use crate::telemetry::series::{Example, Examples};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{SpanId, TraceId};

/// The label of all endpoints together, if they do not have their own series. It never equals a pattern.
const ALL_ROUTES: &str = "*";

/// The label of all endpoints beyond the limit of series.
const OTHER_ROUTES: &str = "_OTHER";

/// The handles of one endpoint.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    /// By the first digit of the status, 1 to 5.
    classes: [IntCounter; 5],
    pub(super) duration: Histogram,
    in_flight: IntGauge,
    /// `None` if nothing that is recorded has one.
    examples: Option<Arc<Examples>>,
}

impl RouteMetrics {
    /// Counts a request as in progress, until [`RouteMetrics::left`].
    pub(crate) fn entered(&self) {
        self.in_flight.inc();
    }

    pub(crate) fn left(&self) {
        self.in_flight.dec();
    }

    /// Counts a request with its response.
    pub(crate) fn record(&self, status: u16, took: Duration) {
        self.record_with(status, took, None);
    }

    /// The same, with the sampled span of the request.
    pub(crate) fn record_with(
        &self,
        status: u16,
        took: Duration,
        example: Option<(TraceId, SpanId)>,
    ) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        if let Some(counter) = self.classes.get(class) {
            counter.inc();
        }
        let seconds = took.as_secs_f64();
        self.duration.observe(seconds);
        if let (Some(span), Some(examples)) = (example, &self.examples) {
            let bucket = SECONDS.partition_point(|end| *end < seconds);
            examples.put(bucket, SECONDS.len() + 1, span, nanos(took));
        }
    }
}

impl Metrics {
    pub(crate) fn per_endpoint(&self) -> bool {
        self.per_endpoint.load(Ordering::Relaxed)
    }

    /// The value of the label `route`. An empty one is kept: it is used for requests without an endpoint.
    pub(super) fn route_label<'p>(&self, pattern: &'p str) -> &'p str {
        if pattern.is_empty() {
            pattern
        } else if !self.per_endpoint() {
            ALL_ROUTES
        } else if self.admitted.knows(pattern) {
            pattern
        } else {
            OTHER_ROUTES
        }
    }

    /// The handles for a route. The same pattern and method give the same series after a reload.
    pub(crate) fn route(&self, pattern: &str, method: &str) -> RouteMetrics {
        self.handles(pattern, method, Origin::Endpoint, true)
    }

    /// The handles for one request with a method that the endpoint does not have, and whether it is an example. They
    /// are looked up for each of these requests, and without an example no lock is taken for it.
    pub(crate) fn rare_route(&self, pattern: &str, method: &str, is_example: bool) -> RouteMetrics {
        self.handles(pattern, method, Origin::Request, is_example)
    }

    fn handles(
        &self,
        pattern: &str,
        method: &str,
        origin: Origin,
        has_examples: bool,
    ) -> RouteMetrics {
        let is_own = !pattern.is_empty() && self.per_endpoint();
        let pattern = if is_own && !self.admitted.admits(pattern, method, origin) {
            OTHER_ROUTES
        } else {
            self.route_label(pattern)
        };
        let class = |class: &str| self.requests.with_label_values(&[pattern, method, class]);
        RouteMetrics {
            classes: [
                class("1xx"),
                class("2xx"),
                class("3xx"),
                class("4xx"),
                class("5xx"),
            ],
            duration: self.duration.with_label_values(&[pattern, method]),
            in_flight: self.in_flight_of(pattern, method),
            examples: has_examples.then(|| self.examples_of(pattern, method)),
        }
    }

    /// A histogram of the library has no place for examples.
    fn examples_of(&self, pattern: &str, method: &str) -> Arc<Examples> {
        let key = (pattern.to_owned(), method.to_owned());
        let mut all = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(key).or_default())
    }

    /// The example of a bucket of the durations of requests.
    pub(super) fn example(&self, family: &str, metric: &Metric, bucket: usize) -> Option<Example> {
        if family != DURATION {
            return None;
        }
        let label = |name: &str| {
            let found = metric.get_label().iter().find(|it| it.name() == name);
            found.map_or_else(String::new, |it| it.value().to_owned())
        };
        let all = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
        let examples = all.get(&(label("route"), label("method")))?;
        examples.get(bucket)
    }

    /// Requests in progress at endpoints, by method.
    pub(crate) fn in_flight_by_method(&self) -> BTreeMap<String, i64> {
        let mut methods = BTreeMap::new();
        for family in self.endpoint_in_flight.collect() {
            for metric in family.get_metric() {
                let mut labels = metric.get_label().iter();
                if let Some(label) = labels.find(|it| it.name() == "method") {
                    let count = metric.get_gauge().get_value() as i64;
                    *methods.entry(label.value().to_owned()).or_default() += count;
                }
            }
        }
        methods
    }

    /// Requests without an endpoint are only counted together.
    fn in_flight_of(&self, pattern: &str, method: &str) -> IntGauge {
        if pattern.is_empty() {
            return self.in_flight_without_endpoint.clone();
        }
        self.endpoint_in_flight
            .with_label_values(&[pattern, method])
    }

    /// Removes the series of routes that no configuration has any more. Otherwise each reload with other routes would
    /// enlarge the page and the memory.
    pub(crate) fn keep_routes(&self, patterns: &HashSet<&str>) {
        self.admitted.keep(patterns);
        let mut labels: HashSet<&str> = patterns.iter().map(|one| self.route_label(one)).collect();
        labels.insert(OTHER_ROUTES);
        let patterns = &labels;
        keep(&self.requests, patterns);
        keep(&self.duration, patterns);
        keep(&self.endpoint_in_flight, patterns);
        let mut examples = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
        examples.retain(|(route, _), _| route.is_empty() || patterns.contains(&**route));
        drop(examples);
        for counters in [&self.jwt_rejected, &self.rejected, &self.upstream_errors] {
            keep(counters, patterns);
        }
    }
}

/// Removes the series whose route is not in `patterns`. An empty pattern stands for requests without an endpoint.
fn keep<T: MetricVecBuilder>(metrics: &MetricVec<T>, patterns: &HashSet<&str>) {
    for family in metrics.collect() {
        for metric in family.get_metric() {
            let labels = metric.get_label().iter();
            let labels: HashMap<&str, &str> =
                labels.map(|label| (label.name(), label.value())).collect();
            let route = labels.get("route").copied().unwrap_or_default();
            if !route.is_empty() && !patterns.contains(route) {
                // It existed a moment ago, and only reloads remove any.
                let _ = metrics.remove(&labels);
            }
        }
    }
}
