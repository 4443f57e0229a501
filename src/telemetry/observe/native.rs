//! Our own metrics of calls to backends, for the page of `portcullis/metrics`.

use std::sync::Arc;
use std::time::Duration;

use super::call::Outcome;
use super::round_trip::{OTHER_HOSTS, is_host};
use super::{BackendObserver, EndpointObserver};
use crate::telemetry::mask::masked;
use crate::telemetry::series::{Counter, Histogram, Instrument, Kind, Measure, Store};
use crate::telemetry::trace::{Attribute, SpanId, TraceId, Value};

/// Bounds of the histogram, in seconds: those of the page's other histograms.
pub(super) const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

const CALLS: Instrument = Instrument {
    name: "portcullis_backend_calls",
    unit: "",
    help: "Calls of backends, by result: ok, incomplete, cached, canceled, or why there was no response.",
    kind: Kind::Counter(Measure::Whole),
    is_detail: false,
};
const REQUESTS: Instrument = Instrument {
    name: "portcullis_upstream_requests",
    unit: "",
    help: "Requests to hosts of backends, by class of status; none: no response.",
    kind: Kind::Counter(Measure::Whole),
    is_detail: false,
};
const DURATION: Instrument = Instrument {
    name: "portcullis_upstream_request_duration",
    unit: "s",
    help: "Time from the request to the header of the response.",
    kind: Kind::Histogram(Measure::Seconds),
    is_detail: false,
};
const CONNECTIONS: Instrument = Instrument {
    name: "portcullis_upstream_connections",
    unit: "",
    help: "Connections that requests to hosts were sent on, new or reused.",
    kind: Kind::Counter(Measure::Whole),
    is_detail: false,
};

const RETRIES: Instrument = Instrument {
    name: "portcullis_upstream_retries",
    unit: "",
    help: "Requests that were sent again on a new connection, because the host had closed the first one unread.",
    kind: Kind::Counter(Measure::Whole),
    is_detail: false,
};
const CACHE: Instrument = Instrument {
    name: "portcullis_http_cache_lookups",
    unit: "",
    help: "Lookups in the response caches of backends: hit, miss, stale, bypass.",
    kind: Kind::Counter(Measure::Whole),
    is_detail: false,
};

/// The store of these metrics.
#[derive(Debug)]
pub struct Native(pub Store);

impl Native {
    pub fn new() -> Native {
        Native(Store::new(SECONDS, &[]))
    }
}

impl Default for Native {
    fn default() -> Native {
        Native::new()
    }
}

/// Series of one host and class of status.
#[derive(Debug)]
pub(super) struct HostSeries {
    requests: Arc<Counter>,
    duration: Arc<Histogram>,
    connections: [Arc<Counter>; 2],
    retries: Arc<Counter>,
}

/// The longest host that is a label.
const LONGEST_HOST: usize = 1024;

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The class of a status; 0 without a response.
pub(super) fn class(status: u16) -> usize {
    usize::from(status / 100).min(5)
}

fn labels(endpoint: &EndpointObserver, backend: &BackendObserver) -> Vec<Attribute> {
    vec![
        ("route".into(), Value::from(&endpoint.pattern)),
        ("backend".into(), Value::from(&backend.pattern)),
    ]
}

impl BackendObserver {
    /// Counts a call.
    pub(super) fn count_call(&self, outcome: Outcome, cached: bool) {
        let Some(native) = &self.native else { return };
        let result = match outcome {
            Outcome::Answered(_) if cached => "cached",
            Outcome::Answered(true) => "ok",
            Outcome::Answered(false) => "incomplete",
            Outcome::Failed(error) => error.as_str(),
            Outcome::Canceled => "canceled",
        };
        let counter = self.native_calls.get_or_make(&result, || {
            let mut labels = labels(&self.endpoint, self);
            labels.push(("result".into(), result.into()));
            native.0.counter(&CALLS, &labels)
        });
        counter.add(1);
    }

    /// Counts a lookup in a response cache.
    pub(super) fn count_lookup(&self, result: &'static str) {
        let Some(native) = &self.native else { return };
        let counter = self.native_lookups.get_or_make(&result, || {
            let mut labels = labels(&self.endpoint, self);
            labels.push(("result".into(), result.into()));
            native.0.counter(&CACHE, &labels)
        });
        counter.add(1);
    }

    /// Counts a round trip. `host` is `None` when the backend has no host, `reused` when there was no connection.
    pub(super) fn count_trip(
        &self,
        host: Option<&Arc<str>>,
        status: u16,
        (took, example): (Duration, Option<(TraceId, SpanId)>),
        (reused, retries): (Option<bool>, u64),
    ) {
        let Some(native) = &self.native else { return };
        let class = class(status);
        // The name of a host has at most 255 letters, but a redirect may lead to a longer text.
        let is_long = host.is_some_and(|host| host.len() > LONGEST_HOST);
        let others = is_long.then(|| Arc::from(OTHER_HOSTS));
        let host = others.as_ref().or(host);
        let is_ours = |key: &(Arc<str>, usize)| key.1 == class && is_host(&key.0, host);
        let own = || host.cloned().unwrap_or_default();
        let others = || Arc::from(OTHER_HOSTS);
        let keys: [&dyn Fn() -> (Arc<str>, usize); 2] = [&|| (own(), class), &|| (others(), class)];
        let make = |key: &(Arc<str>, usize)| {
            let mut labels = labels(&self.endpoint, self);
            // A host may be written with a password, or with a key in its query.
            labels.push(("host".into(), masked(&key.0).into_owned().into()));
            let with = |name: &'static str, value: &'static str| {
                let mut labels = labels.clone();
                labels.push((name.into(), value.into()));
                labels
            };
            let status = CLASSES.get(key.1).copied().unwrap_or("none");
            HostSeries {
                requests: native.0.counter(&REQUESTS, &with("status", status)),
                duration: native.0.histogram(&DURATION, &labels),
                connections: ["new", "reused"]
                    .map(|state| native.0.counter(&CONNECTIONS, &with("state", state))),
                retries: native.0.counter(&RETRIES, &labels),
            }
        };
        let series = self.native_trips.get_or_make_bounded(is_ours, keys, make);
        series.requests.add(1);
        series.duration.record_time(took, example);
        if retries > 0 {
            series.retries.add(retries);
        }
        if let Some(reused) = reused
            && let Some(counter) = series.connections.get(usize::from(reused))
        {
            counter.add(1);
        }
    }
}
