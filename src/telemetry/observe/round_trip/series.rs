//! The series of round trips.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::{OTHER_HOSTS, RoundTrip, authority, default_port, is_host};
use crate::telemetry::observe::names::{self, ClientNames};
use crate::telemetry::observe::request::split_host;
use crate::telemetry::observe::{
    BackendObserver, Convention, ErrorType, ODD_STATUS, counted_status, method_value, status_error,
    status_value,
};
use crate::telemetry::series::{Counter, Histogram, Store};
use crate::telemetry::trace::{Attribute, Value};

/// The key of the series of round trips: status (0 without a response), method, host, error, and whether the response
/// has a length.
pub(in crate::telemetry::observe) type Key = (u16, Method, Arc<str>, Option<ErrorType>, bool);

/// The series of round trips with the same result.
#[derive(Debug)]
pub(in crate::telemetry::observe) struct RoundTripSeries {
    duration: Arc<Histogram>,
    counters: Option<Counters>,
    request_size: Size,
    response_size: Arc<Histogram>,
    no_length: Option<Arc<Counter>>,
    details: Option<[Arc<Histogram>; 3]>,
}

/// Created when they are first needed, because a series that is always 0 is not useful.
#[derive(Debug)]
struct Counters {
    started: Arc<Counter>,
    ended: Option<Arc<Counter>>,
    timed_out: Option<Arc<Counter>>,
}

/// The size of requests: a sum with KrakenD's names, a histogram with the convention's.
#[derive(Debug)]
enum Size {
    Sum(Arc<Counter>),
    Sizes(Arc<Histogram>),
}

/// The series of responses that were read.
#[derive(Debug)]
pub(in crate::telemetry::observe) struct ReadSeries {
    size: Arc<Counter>,
    sizes: Arc<Histogram>,
    time: Arc<Counter>,
    times: Arc<Histogram>,
    errors: Option<Arc<Counter>>,
}

impl RoundTrip {
    pub(super) fn count(&self, store: &Store, observer: &BackendObserver, took: Duration) {
        let has_length = self.length.is_some();
        let status = counted_status(self.status);
        let is_ours = |key: &Key| {
            let result = (key.0, key.3, key.4) == (status, self.error, has_length);
            result && key.1 == self.method && is_host(&key.2, self.host.as_ref())
        };
        let key = |status, host| (status, self.method.clone(), host, self.error, has_length);
        let host = || self.host.clone().unwrap_or_default();
        // Neither hosts nor statuses of their own: a backend can invent both.
        let others = || Arc::from(OTHER_HOSTS);
        let other_status = if status == 0 { 0 } else { ODD_STATUS };
        let keys: [&dyn Fn() -> Key; 2] =
            [&|| key(status, host()), &|| key(other_status, others())];
        let make = |key: &Key| self.series(store, observer, (key.0, &*key.2));
        let series = observer.trips.get_or_make_bounded(is_ours, keys, make);
        let example = self.example();
        series.duration.record_time(took, example);
        if let Some(counters) = &series.counters {
            counters.started.add(1);
            for counter in [&counters.ended, &counters.timed_out].into_iter().flatten() {
                counter.add(1);
            }
        }
        match &series.request_size {
            Size::Sum(counter) => counter.add(self.sent),
            Size::Sizes(histogram) => histogram.record(self.sent, example),
        }
        match (self.length, &series.no_length) {
            (Some(length), _) => series.response_size.record(length, example),
            (None, Some(counter)) if self.answered.is_some() => counter.add(1),
            _ => {}
        }
        if let Some([connected, names, handshake]) = &series.details {
            connected.record_time(self.connected, example);
            names.record_time(Duration::ZERO, example);
            handshake.record_time(self.handshake, example);
        }
    }

    fn series(
        &self,
        store: &Store,
        observer: &BackendObserver,
        (status, host): (u16, &str),
    ) -> RoundTripSeries {
        let convention = observer.convention;
        let labels = self.labels(observer, status, host);
        let names = ClientNames::of(convention);
        let detailed = observer.layer.metrics.detailed && observer.layer.metrics.round_trip;
        let krakend = convention == Convention::Krakend;
        let timed_out = self.error.is_some_and(ErrorType::is_timeout);
        let ended = match self.error {
            Some(ErrorType::Canceled) => Some(names::CANCELED),
            Some(_) => Some(names::FAILED),
            None => None,
        };
        let has_length = self.length.is_some();
        RoundTripSeries {
            duration: store.histogram(&names.duration, &labels),
            counters: (krakend || detailed).then(|| Counters {
                started: store.counter(&names::STARTED, &labels),
                ended: ended.map(|name| store.counter(&name, &labels)),
                timed_out: timed_out.then(|| store.counter(&names::TIMED_OUT, &labels)),
            }),
            request_size: if krakend {
                Size::Sum(store.counter(&names.request_size, &labels))
            } else {
                Size::Sizes(store.histogram(&names.request_size, &labels))
            },
            response_size: if has_length {
                store.histogram(&names.response_size, &labels)
            } else {
                // Only shown if it is not empty.
                Arc::new(Histogram::new([].into()))
            },
            no_length: (self.answered.is_some() && !has_length && (krakend || detailed))
                .then(|| store.counter(&names.no_length, &labels)),
            details: detailed.then(|| {
                [&names.get_conn, &names.dns, &names.tls].map(|name| store.histogram(name, &labels))
            }),
        }
    }

    fn labels(&self, observer: &BackendObserver, status: u16, host: &str) -> Vec<Attribute> {
        let authority = authority(host);
        let (name, port) = split_host(authority);
        let name = name.trim_matches(['[', ']']).to_owned();
        let mut labels = match observer.convention {
            Convention::Stable => vec![
                ("http.request.method".into(), method_value(&self.method)),
                ("url.template".into(), Value::from(&observer.pattern)),
                ("http.route".into(), Value::from(&observer.pattern)),
                (
                    "krakend.endpoint.route".into(),
                    Value::from(&observer.endpoint.route),
                ),
                ("network.protocol.version".into(), self.version.into()),
            ],
            _ => observer.own_labels(&self.method),
        };
        labels.push(("server.address".into(), name.into()));
        if observer.convention == Convention::Stable {
            let port = port.unwrap_or(default_port(host));
            labels.push(("server.port".into(), Value::from(port)));
            if status > 0 {
                labels.push(("http.response.status_code".into(), status_value(status)));
            }
            let error = match (self.error, status) {
                (None, ODD_STATUS) => Some(status_error(status)),
                _ => self.error_type(),
            };
            if let Some(error) = error {
                labels.push(("error.type".into(), error));
            }
        } else {
            labels.push(("clientname".into(), Value::from(&observer.route)));
            labels.push(("http.response.status_code".into(), status_value(status)));
            // KrakenD's own values, so that its series continue.
            let port: u16 = if port.is_some() { 80 } else { 0 };
            labels.push(("server.port".into(), port.into()));
        }
        labels.extend_from_slice(&observer.layer.metrics.attributes);
        labels
    }

    pub(super) fn count_read(&self, store: &Store, observer: &BackendObserver) {
        let failed = self.read_error;
        let series = observer.reads.get_or_make(&failed, || {
            let mut labels = observer.own_labels(&observer.method);
            if failed {
                labels.push(("error".into(), "true".into()));
            }
            labels.extend_from_slice(&observer.layer.metrics.attributes);
            ReadSeries {
                size: store.counter(&names::READ_SIZE, &labels),
                sizes: store.histogram(&names::READ_SIZES, &labels),
                time: store.counter(&names::READ_TIME, &labels),
                times: store.histogram(&names::READ_TIMES, &labels),
                errors: failed.then(|| store.counter(&names::READ_ERRORS, &labels)),
            }
        });
        let (time, example) = (self.read_to_end.unwrap_or_default(), self.example());
        series.size.add(self.read);
        series.sizes.record(self.read, example);
        series.time.add_time(time);
        series.times.record_time(time, example);
        if let Some(errors) = &series.errors {
            errors.add(1);
        }
    }
}
