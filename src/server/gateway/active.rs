//! The service in use, with the handles of its metrics, and what a request keeps of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;

use super::active_stats::EndpointStats;
use crate::per_worker::{OwnArc, Spread};
use crate::runtime::errors::ErrorBodies;
use crate::runtime::methods::{COMMON, RARE};
use crate::runtime::response_edits::ResponseEdits;
use crate::runtime::service::{Endpoint, Options, Service};
use crate::telemetry::access::{AccessEvent, AccessLog};
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::telemetry::stats::Stats;

/// The label of all other methods.
const OTHER: &str = "OTHER";

/// The label of a method. The number of labels is limited, whatever clients send.
pub(super) fn method_label(method: &Method) -> &'static str {
    let mut labels = COMMON.iter().chain(&RARE);
    let known = labels.find(|known| **known == method.as_str());
    known.copied().unwrap_or(OTHER)
}

/// The service in use, with the handles of its endpoints. A reload replaces it as a whole.
#[derive(Debug)]
pub(crate) struct Active {
    pub service: Arc<Service>,
    /// By `Endpoint::id`.
    routes: Box<[Spread<Route>]>,
    common: Arc<Common>,
}

/// An endpoint, and what its requests need besides. A request keeps only this once its endpoint is known: a stream that
/// outlives a reload must not keep all other endpoints of the old configuration.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) metrics: RouteMetrics,
    pub(super) stats: EndpointStats,
    pub(super) common: Arc<Common>,
}

/// What all requests of a configuration need until they end.
#[derive(Debug)]
pub(in crate::server) struct Common {
    pub(in crate::server) options: Arc<Options>,
    pub(super) errors: Option<Arc<ErrorBodies>>,
    /// What is done to responses that no endpoint made.
    pub(super) response_edits: Option<Arc<ResponseEdits>>,
    /// Requests without an endpoint, in the order of [`COMMON`]; other methods are last.
    others: [RouteMetrics; COMMON.len() + 1],
    pub(super) access_log: Arc<AccessLog>,
    pub(super) stats: Option<Arc<Stats>>,
    /// Whether the process is stopping; shared by all configurations.
    draining: Arc<AtomicBool>,
}

impl Active {
    /// Creates the metric handles of `service`.
    pub(crate) fn new(
        service: Arc<Service>,
        metrics: &Metrics,
        access_log: Arc<AccessLog>,
        stats: Option<Arc<Stats>>,
        draining: Arc<AtomicBool>,
    ) -> Active {
        let common = Arc::new(Common {
            options: Arc::clone(&service.options),
            errors: service.errors.clone(),
            response_edits: service.response_edits.clone(),
            others: std::array::from_fn(|index| {
                metrics.route("", COMMON.get(index).copied().unwrap_or(OTHER))
            }),
            access_log,
            stats,
            draining,
        });
        let route = |endpoint: &Arc<Endpoint>| {
            Spread::new(Route {
                endpoint: Arc::clone(endpoint),
                metrics: metrics.route(&endpoint.pattern, endpoint.method.as_str()),
                stats: EndpointStats::new(common.stats.as_deref(), endpoint),
                common: Arc::clone(&common),
            })
        };
        Active {
            routes: service.endpoints.iter().map(route).collect(),
            service,
            common,
        }
    }

    /// The endpoint with this [`Endpoint::id`].
    pub(super) fn route(&self, id: usize) -> Option<OwnArc<Route>> {
        self.routes.get(id).map(Spread::share)
    }

    pub(in crate::server) fn common(&self) -> &Arc<Common> {
        &self.common
    }
}

impl Common {
    /// Whether the process is stopping, so connections end with their next response.
    pub(in crate::server) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The handles for a request without an endpoint, by the label of its method. `None` for a rare method.
    pub(super) fn other(&self, label: &str) -> Option<&RouteMetrics> {
        let [known @ .., other] = &self.others;
        let index = COMMON.iter().position(|known| *known == label);
        match index {
            Some(index) => known.get(index),
            None => (label == OTHER).then_some(other),
        }
    }

    /// Reports a health response of the front loop.
    pub(in crate::server) fn probed(&self, probe: &Probe<'_>) {
        if let Some(get) = self.other("GET") {
            get.record(200, probe.took);
        }
        let options = &self.options;
        let mut skipped = options.access_log_skip.iter();
        if !options.access_log || skipped.any(|skip| **skip == *probe.path) {
            return;
        }
        self.access_log.record(&AccessEvent {
            latency: probe.took,
            status: 200,
            client: probe.client,
            method: "GET",
            path: probe.path,
            bytes_out: probe.bytes,
            protocol: Some("HTTP/1.1"),
            ..AccessEvent::at(probe.at)
        });
    }
}

/// A health response of the front loop.
#[derive(Debug)]
pub(in crate::server) struct Probe<'a> {
    pub(in crate::server) path: &'a str,
    pub(in crate::server) client: IpAddr,
    /// The length of the body.
    pub(in crate::server) bytes: u64,
    /// Since 1970.
    pub(in crate::server) at: Duration,
    pub(in crate::server) took: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::service::{Backend, Composition, StreamWork};

    /// A file may have tens of thousands of endpoints. What is rare in them belongs into boxes.
    #[test]
    fn the_parts_of_an_endpoint_are_small() {
        let sizes = [
            size_of::<Route>(),
            size_of::<Endpoint>(),
            size_of::<Backend>(),
            size_of::<Composition>(),
            size_of::<StreamWork>() - size_of::<Backend>(),
        ];
        for (size, most) in sizes.into_iter().zip([64, 256, 600, 256, 200]) {
            assert!(size <= most, "{sizes:?}");
        }
    }
}
