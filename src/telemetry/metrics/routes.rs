//! The metrics of endpoints, and their labels.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::proto::Metric;

use super::route_table::RouteSeries;
use super::series_limit::Origin;
use super::{DURATION, Metrics};
use crate::telemetry::series::Example;
use crate::telemetry::trace::{SpanId, TraceId};

/// The label of all endpoints together, if they do not have their own series. It never equals a pattern.
const ALL_ROUTES: &str = "*";

/// The label of all endpoints beyond the limit of series.
const OTHER_ROUTES: &str = "_OTHER";

/// The handle of one endpoint.
#[derive(Debug)]
pub(crate) struct RouteMetrics(Arc<RouteSeries>);

impl RouteMetrics {
    /// Counts a request as in progress, until [`RouteMetrics::left`].
    pub(crate) fn entered(&self) {
        self.0.entered();
    }

    pub(crate) fn left(&self) {
        self.0.left();
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
        self.0.record(status, took, example);
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

    /// The handle for a route. The same pattern and method give the same series after a reload.
    pub(crate) fn route(&self, pattern: &str, method: &str) -> RouteMetrics {
        self.handle(pattern, method, Origin::Endpoint)
    }

    /// The handle for one request with a method that the endpoint does not have. It is looked up for each of these
    /// requests.
    pub(crate) fn rare_route(&self, pattern: &str, method: &str) -> RouteMetrics {
        self.handle(pattern, method, Origin::Request)
    }

    fn handle(&self, pattern: &str, method: &str, origin: Origin) -> RouteMetrics {
        let is_own = !pattern.is_empty() && self.per_endpoint();
        let pattern = if is_own && !self.admitted.admits(pattern, method, origin) {
            OTHER_ROUTES
        } else {
            self.route_label(pattern)
        };
        RouteMetrics(self.routes.series(pattern, method))
    }

    /// The example of a bucket of the durations of requests.
    pub(super) fn example(&self, family: &str, metric: &Metric, bucket: usize) -> Option<Example> {
        if family != DURATION {
            return None;
        }
        let label = |name: &str| {
            let found = metric.get_label().iter().find(|it| it.name() == name);
            found.map_or("", |it| it.value())
        };
        let series = self.routes.find(label("route"), label("method"))?;
        series.examples.get(bucket)
    }

    /// Requests in progress at endpoints, by method.
    pub(crate) fn in_flight_by_method(&self) -> BTreeMap<String, i64> {
        self.routes.in_flight_by_method()
    }

    /// Makes room for the endpoints of a new configuration, which are these pairs of route and method. Those that the old
    /// configuration has, too, keep their series.
    pub(crate) fn make_room(&self, endpoints: &HashSet<(&str, &str)>) {
        self.admitted.keep_endpoints(endpoints);
    }

    /// Removes the series of routes that no configuration has any more. Otherwise each reload with other routes would
    /// enlarge the page and the memory.
    pub(crate) fn keep_routes(&self, patterns: &HashSet<&str>) {
        self.admitted.keep(patterns);
        let mut labels: HashSet<&str> = patterns.iter().map(|one| self.route_label(one)).collect();
        labels.insert(OTHER_ROUTES);
        let patterns = &labels;
        self.routes.keep(|route, method| {
            let is_shared = matches!(route, ALL_ROUTES | OTHER_ROUTES);
            patterns.contains(route) && (is_shared || self.admitted.has(route, method))
        });
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
