//! The counters of `telemetry/metrics`, with the handles of each endpoint.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::tls::SslDigest;

use crate::runtime::pipeline::Ended;
use crate::runtime::service::{Endpoint, Service};
use crate::telemetry::stats::{Layer, Requests, Responses, Stats};

#[derive(Debug)]
pub(super) struct ActiveStats {
    stats: Arc<Stats>,
    /// By [`Endpoint::id`].
    endpoints: Box<[EndpointStats]>,
}

#[derive(Debug)]
struct EndpointStats {
    responses: Option<Arc<Responses>>,
    requests: Option<Arc<Requests>>,
}

impl ActiveStats {
    pub(super) fn new(stats: Arc<Stats>, service: &Service) -> ActiveStats {
        let handles = |endpoint: &Arc<Endpoint>| EndpointStats {
            responses: stats.responses(&endpoint.pattern),
            requests: stats.requests(Layer::Pipe, &endpoint.pattern),
        };
        ActiveStats {
            endpoints: service.endpoints.iter().map(handles).collect(),
            stats,
        }
    }

    /// Counts a new request of an endpoint.
    pub(super) fn began(&self, tls: Option<&SslDigest>) {
        self.stats.record_connected();
        if let Some(tls) = tls {
            self.stats.record_tls(&tls.version, &tls.cipher);
        }
    }

    /// Counts its end. `work` is `None` if it was rejected before the work of the endpoint started.
    pub(super) fn ended(
        &self,
        endpoint: &Endpoint,
        status: u16,
        bytes: u64,
        took: Duration,
        work: Option<(Ended, Duration)>,
    ) {
        self.stats.record_disconnected();
        let Some(of) = self.endpoints.get(endpoint.id) else {
            return;
        };
        if let Some(responses) = &of.responses {
            responses.record(status, bytes, took);
        }
        if let (Some(requests), Some((ended, took))) = (&of.requests, work) {
            requests.record(ended.complete, ended.error, took);
        }
    }
}
