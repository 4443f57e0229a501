//! What requests run on: the service, with the handles of its metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::active_stats::ActiveStats;
use crate::runtime::service::Service;
use crate::telemetry::access::{AccessEvent, AccessLog};
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::telemetry::moment;
use crate::telemetry::stats::Stats;

/// Methods that a label names (RFC 9110 §9.3, and PATCH); whatever else a client sends counts as [`OTHER`].
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];
const OTHER: &str = "OTHER";

/// What requests run on: one service, with the handles of its endpoints. Swapped whole by a reload.
#[derive(Debug)]
pub struct Active {
    pub service: Arc<Service>,
    /// By [`Endpoint::id`].
    pub(super) routes: Box<[RouteMetrics]>,
    /// Everything that no endpoint answered, in the order of [`METHODS`], and other methods last.
    others: [RouteMetrics; METHODS.len() + 1],
    pub access_log: Arc<AccessLog>,
    pub(super) stats: Option<ActiveStats>,
}

impl Active {
    /// Takes the metric handles of `service`.
    pub fn new(
        service: Arc<Service>,
        metrics: &Metrics,
        access_log: Arc<AccessLog>,
        stats: Option<Arc<Stats>>,
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
                let method = METHODS.get(index).map_or(OTHER, Method::as_str);
                metrics.route("", method)
            }),
            service,
            access_log,
            stats,
        }
    }
}

impl Active {
    /// The handles of a request that no endpoint answered.
    pub(super) fn other(&self, method: &Method) -> &RouteMetrics {
        let [known @ .., other] = &self.others;
        let index = METHODS.iter().position(|known| known == method);
        index.and_then(|index| known.get(index)).unwrap_or(other)
    }

    /// Reports a health answer that the front loop gave.
    pub(in crate::server) fn probed(&self, path: &str, client: IpAddr, bytes: u64, took: Duration) {
        self.other(&Method::GET).record(200, took);
        let options = &self.service.options;
        if !options.access_log || options.access_log_skip.iter().any(|skip| **skip == *path) {
            return;
        }
        self.access_log.record(&AccessEvent {
            since_1970: moment::now(),
            latency: took,
            status: 200,
            client,
            method: "GET",
            path,
            query: None,
            endpoint: None,
            refused: None,
            request_id: None,
            upstream: None,
            upstream_time: None,
            bytes_in: 0,
            bytes_out: bytes,
            scheme: None,
            host: None,
            protocol: Some("HTTP/1.1"),
            user_agent: None,
            upstream_status: None,
            trace: None,
            headers: None,
            claims: None,
            errors: &[],
        });
    }
}
