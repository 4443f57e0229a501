//! The counters of `telemetry/metrics`, with the handles of each endpoint.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::tls::SslDigest;

use crate::runtime::pipeline::Ended;
use crate::runtime::service::Endpoint;
use crate::telemetry::stats::{Layer, Requests, Responses, Stats};

/// The handles of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointStats {
    responses: Option<Arc<Responses>>,
    requests: Option<Arc<Requests>>,
}

/// Counts a new request of an endpoint.
pub(super) fn began(stats: &Stats, tls: Option<&SslDigest>) {
    stats.record_connected();
    if let Some(tls) = tls {
        stats.record_tls(&tls.version, &tls.cipher);
    }
}

impl EndpointStats {
    /// The handles of `endpoint`, if there are statistics.
    pub(super) fn new(stats: Option<&Stats>, endpoint: &Endpoint) -> EndpointStats {
        EndpointStats {
            responses: stats.and_then(|stats| stats.responses(&endpoint.pattern)),
            requests: stats.and_then(|stats| stats.requests(Layer::Pipe, &endpoint.pattern)),
        }
    }

    /// Counts the end of a request. `work` is `None` if it was rejected before the work of the endpoint started.
    pub(super) fn ended(
        &self,
        stats: &Stats,
        status: u16,
        bytes: u64,
        took: Duration,
        work: Option<(Ended, Duration)>,
    ) {
        stats.record_disconnected();
        if let Some(responses) = &self.responses {
            responses.record(status, bytes, took);
        }
        if let (Some(requests), Some((ended, took))) = (&self.requests, work) {
            requests.record(ended.complete, ended.error, took);
        }
    }
}
