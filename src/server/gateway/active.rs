//! The service in use, with the handles of its metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;

use super::active_stats::ActiveStats;
use crate::runtime::methods::{COMMON, RARE};
use crate::runtime::service::Service;
use crate::telemetry::access::{AccessEvent, AccessLog};
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::telemetry::stats::Stats;
use crate::telemetry::timestamp;

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
    pub(super) routes: Box<[RouteMetrics]>,
    /// Requests without an endpoint, in the order of [`COMMON`]; other methods are last.
    others: [RouteMetrics; COMMON.len() + 1],
    pub access_log: Arc<AccessLog>,
    pub(super) stats: Option<ActiveStats>,
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
        let stats = stats.map(|stats| ActiveStats::new(stats, &service));
        let routes = service
            .endpoints
            .iter()
            .map(|endpoint| metrics.route(&endpoint.pattern, endpoint.method.as_str()))
            .collect();
        Active {
            routes,
            others: std::array::from_fn(|index| {
                metrics.route("", COMMON.get(index).copied().unwrap_or(OTHER))
            }),
            service,
            access_log,
            stats,
            draining,
        }
    }
}

impl Active {
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
    pub(in crate::server) fn probed(&self, path: &str, client: IpAddr, bytes: u64, took: Duration) {
        if let Some(get) = self.other("GET") {
            get.record(200, took);
        }
        let options = &self.service.options;
        if !options.access_log || options.access_log_skip.iter().any(|skip| **skip == *path) {
            return;
        }
        self.access_log.record(&AccessEvent {
            latency: took,
            status: 200,
            client,
            method: "GET",
            path,
            bytes_out: bytes,
            protocol: Some("HTTP/1.1"),
            ..AccessEvent::at(timestamp::now())
        });
    }
}
