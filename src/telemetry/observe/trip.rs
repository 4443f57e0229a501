//! One round trip to a host: the request on the wire, and its response.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};
use smallvec::SmallVec;

use super::call::Under;
use super::names::{self, ClientNames};
use super::request::{header_attributes, split_host};
use super::{BackendObserver, CURRENT, Convention, method_value};
use crate::telemetry::mask::masked;
use crate::telemetry::series::{Counter, Histogram, Store};
use crate::telemetry::trace::context::Field;
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Attribute, Span, SpanEvent, SpanId, SpanKind, SpanStatus, Value};

/// The key of the series of round trips: status (0 without a response), method, host, error.
pub(super) type Key = (u16, Method, Arc<str>, Option<&'static str>);

/// The series of round trips with the same result.
#[derive(Debug)]
pub(super) struct TripSeries {
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
pub(super) struct ReadSeries {
    size: Arc<Counter>,
    sizes: Arc<Histogram>,
    time: Arc<Counter>,
    times: Arc<Histogram>,
    errors: Option<Arc<Counter>>,
}

/// A round trip in progress, reported on drop.
#[derive(Debug)]
pub struct Trip {
    under: Arc<Under>,
    id: SpanId,
    method: Method,
    target: String,
    /// `scheme://authority`.
    host: Arc<str>,
    began: Instant,
    sent: u64,
    connected: Option<Duration>,
    handshake: Duration,
    answered: Option<Duration>,
    status: u16,
    length: Option<u64>,
    version: &'static str,
    reused: bool,
    headers: Vec<Attribute>,
    reading: Option<Instant>,
    read: u64,
    read_to_end: Option<Duration>,
    read_error: bool,
    error: Option<&'static str>,
}

impl Trip {
    /// Starts a round trip within the call of the current task, if it is observed.
    pub fn begin(method: &Method, target: &str) -> Option<Box<Trip>> {
        let under = CURRENT.try_with(|current| current.call.clone()).ok()??;
        Some(Box::new(Trip {
            under,
            id: SpanId::random(),
            method: method.clone(),
            target: target.to_owned(),
            host: Arc::from(""),
            began: Instant::now(),
            sent: 0,
            connected: None,
            handshake: Duration::ZERO,
            answered: None,
            status: 0,
            length: None,
            version: "1.1",
            reused: false,
            headers: Vec::new(),
            reading: None,
            read: 0,
            read_to_end: None,
            read_error: false,
            error: None,
        }))
    }

    /// Records the connection to `host`. `handshake` is the duration of TLS on a new one; `None` means a reused connection.
    pub fn connected(&mut self, host: &Arc<str>, handshake: Option<Duration>, http2: bool) {
        self.host = Arc::clone(host);
        self.connected = Some(self.began.elapsed());
        self.handshake = handshake.unwrap_or_default();
        self.reused = handshake.is_none();
        self.version = if http2 { "2" } else { "1.1" };
    }

    /// Records that the request head is sent with these headers, and `length` bytes of body if known.
    pub fn sends(&mut self, headers: &HeaderMap, length: Option<u64>) {
        self.sent = length.unwrap_or(0);
        let layer = &self.under.observer.layer.traces;
        if self.under.request.recorded && layer.report_headers {
            self.headers = header_attributes("request", headers, &layer.skip_headers);
        }
    }

    /// The headers that send the trace context to the host. Each replaces the client's header with the same name.
    pub fn context(&self) -> SmallVec<[Field; 4]> {
        let settings = &self.under.request.observer.settings;
        if !settings.writes {
            return SmallVec::new();
        }
        let recorded = self.under.request.recorded;
        let span = match self.has_span() || !recorded {
            true => self.id,
            false => self.under.parent.unwrap_or(self.id),
        };
        self.under.request.outbound(span).fields(settings.formats)
    }

    fn has_span(&self) -> bool {
        self.under.observer.layer.traces.trips() && !self.under.observer.endpoint.skipped
    }

    /// Records the head of the response.
    pub fn answered(&mut self, status: u16, headers: &HeaderMap) {
        if self.answered.is_some() {
            return;
        }
        self.answered = Some(self.began.elapsed());
        self.status = status;
        self.under.status.store(status, Ordering::Relaxed);
        let _ = self.under.headed.set(Instant::now());
        self.length = headers
            .get(http::header::CONTENT_LENGTH)
            .map(HeaderValue::as_bytes)
            .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok())
            .filter(|_| self.method != Method::HEAD);
        let layer = &self.under.observer.layer.traces;
        if self.under.request.recorded && layer.report_headers {
            let shown = header_attributes("response", headers, &layer.skip_headers);
            self.headers.extend(shown);
        }
    }

    /// Records received bytes of the response body.
    pub fn read(&mut self, bytes: usize) {
        self.reading.get_or_insert_with(Instant::now);
        self.read += bytes as u64;
    }

    /// The body is complete.
    pub fn read_whole(&mut self) {
        let since = *self.reading.get_or_insert_with(Instant::now);
        self.read_to_end.get_or_insert_with(|| since.elapsed());
    }

    /// Records that the body ended early.
    pub fn read_failed(&mut self) {
        self.read_error = true;
        self.read_whole();
    }

    /// Records that there is no response: see [`super::error_type`].
    pub fn failed(&mut self, error: &'static str) {
        self.error = Some(error);
    }

    /// Whether the body of the response is read.
    fn is_read(&self) -> bool {
        let good = matches!(self.status, 200 | 201) || self.under.observer.reads_errors;
        good && self.answered.is_some() && self.reading.is_some()
    }

    fn report(&mut self) {
        let took = self.answered.unwrap_or_else(|| self.began.elapsed());
        if self.answered.is_none() && self.error.is_none() {
            let late = Instant::now() >= self.under.deadline;
            self.error = Some(if late { "timeout" } else { "canceled" });
        }
        if self.answered.is_some() && self.read_to_end.is_none() && self.reading.is_some() {
            // The round trip was cancelled.
            self.read_failed();
        }
        self.under.request.answered(&self.host, self.status, took);
        let reused = self.connected.map(|_| self.reused);
        self.under
            .observer
            .count_trip(&self.host, self.status, took, reused);
        if self.under.observer.endpoint.skipped {
            return;
        }
        let observer = Arc::clone(&self.under.observer);
        if let Some(store) = &observer.store {
            if observer.layer.metrics.trips() {
                self.count(store, &observer, took);
            }
            if observer.layer.metrics.read_payload && self.is_read() {
                self.count_read(store, &observer);
            }
        }
        if self.under.request.recorded && self.has_span() {
            self.spans(took);
        }
    }

    fn example(&self) -> Option<(crate::telemetry::trace::TraceId, SpanId)> {
        let request = &self.under.request;
        request.recorded.then_some((request.trace, self.id))
    }

    fn count(&self, store: &Store, observer: &BackendObserver, took: Duration) {
        let error = self.error;
        let key = (
            self.status,
            self.method.clone(),
            Arc::clone(&self.host),
            error,
        );
        let series = observer
            .trips
            .get_or_make(&key, || self.series(store, observer));
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
            connected.record_time(self.connected.unwrap_or_default(), example);
            names.record_time(Duration::ZERO, example);
            handshake.record_time(self.handshake, example);
        }
    }

    fn series(&self, store: &Store, observer: &BackendObserver) -> TripSeries {
        let convention = observer.convention;
        let labels = self.labels(observer);
        let names = ClientNames::of(convention);
        let detailed = observer.layer.metrics.detailed && observer.layer.metrics.round_trip;
        let krakend = convention == Convention::Krakend;
        let timed_out = self.error == Some("timeout");
        let ended = match self.error {
            Some("canceled") => Some(names::CANCELED),
            Some(_) => Some(names::FAILED),
            None => None,
        };
        let has_length = self.length.is_some();
        TripSeries {
            duration: store.histogram(&names.duration, &labels),
            counters: (krakend || detailed).then(|| Counters {
                started: store.counter(&names::STARTED, &labels),
                ended: ended.map(|name| store.counter(&name, &labels)),
                timed_out: timed_out.then(|| store.counter(&names::TIMED_OUT, &labels)),
            }),
            request_size: match krakend {
                true => Size::Sum(store.counter(&names.request_size, &labels)),
                false => Size::Sizes(store.histogram(&names.request_size, &labels)),
            },
            response_size: match has_length {
                true => store.histogram(&names.response_size, &labels),
                // Only shown if it is not empty.
                false => Arc::new(Histogram::new([].into())),
            },
            no_length: (self.answered.is_some() && !has_length && (krakend || detailed))
                .then(|| store.counter(&names.no_length, &labels)),
            details: detailed.then(|| {
                [&names.get_conn, &names.dns, &names.tls].map(|name| store.histogram(name, &labels))
            }),
        }
    }

    fn labels(&self, observer: &BackendObserver) -> Vec<Attribute> {
        let authority = authority(&self.host);
        let (name, port) = split_host(authority);
        let name = name.trim_matches(['[', ']']).to_owned();
        let mut labels = match observer.convention {
            Convention::Stable => vec![
                ("http.request.method".into(), method_value(&self.method)),
                ("url.template".into(), Value::from(&observer.route)),
                ("http.route".into(), Value::from(&observer.route)),
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
            let port = port.unwrap_or(default_port(&self.host));
            labels.push(("server.port".into(), Value::from(port)));
            if self.status > 0 {
                labels.push(("http.response.status_code".into(), self.status.into()));
            }
            if let Some(error) = self.error_type() {
                labels.push(("error.type".into(), error));
            }
        } else {
            labels.push(("clientname".into(), Value::from(&observer.route)));
            labels.push(("http.response.status_code".into(), self.status.into()));
            // KrakenD's own values, so that its series continue.
            let port: u16 = if port.is_some() { 80 } else { 0 };
            labels.push(("server.port".into(), port.into()));
        }
        labels.extend_from_slice(&observer.layer.metrics.attributes);
        labels
    }

    fn error_type(&self) -> Option<Value> {
        match (self.error, self.status) {
            (Some(error), _) => Some(error.into()),
            (None, 400..) => Some(self.status.to_string().into()),
            _ => None,
        }
    }

    fn count_read(&self, store: &Store, observer: &BackendObserver) {
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

    fn spans(&mut self, took: Duration) {
        let (request, observer) = (
            Arc::clone(&self.under.request),
            Arc::clone(&self.under.observer),
        );
        if observer.layer.traces.read_payload && self.is_read() {
            request.observer.push(self.read_span());
        }
        let start = request.clock.at(self.began);
        let stable = observer.convention == Convention::Stable;
        let mut span = Span {
            trace: request.trace,
            id: self.id,
            parent: self.under.parent,
            state: request.state.clone(),
            name: match stable {
                true => format!("{} {}", self.method, observer.route).into(),
                false => observer.route.to_string().into(),
            },
            kind: SpanKind::Client,
            start,
            end: start + nanos(took),
            attributes: Vec::with_capacity(16),
            events: Vec::new(),
            link: None,
            status: match (self.error, self.status) {
                (Some(error), _) => SpanStatus::Error(text_of(error).into()),
                (None, 400..) => SpanStatus::Error(Cow::Borrowed("")),
                _ => SpanStatus::Ok,
            },
        };
        self.set_attributes(&mut span, stable, &observer);
        if let Some(error) = self.error {
            span.events.push(SpanEvent {
                at: span.end,
                name: "exception",
                attributes: vec![
                    ("exception.type".into(), error.into()),
                    ("exception.message".into(), text_of(error).into()),
                ],
            });
        } else if observer.layer.traces.detailed {
            span.events.push(SpanEvent {
                at: span.end,
                name: "first-byte-time",
                attributes: Vec::new(),
            });
        }
        span.attributes.append(&mut self.headers);
        span.attributes
            .extend_from_slice(&observer.layer.traces.attributes);
        request.observer.push(span);
    }

    fn set_attributes(&self, span: &mut Span, stable: bool, observer: &BackendObserver) {
        observer.set_place(span, &self.method, "backend-request");
        let url = format!("{}{}", self.host, self.target);
        span.set("url.full", masked(&url).into_owned());
        let authority = authority(&self.host);
        match stable {
            true => {
                let (name, port) = split_host(authority);
                span.set("server.address", name.to_owned());
                let port = port.unwrap_or(default_port(&self.host));
                span.set("server.port", port);
                span.set("network.protocol.version", self.version);
            }
            false => span.set("server.address", authority.to_owned()),
        }
        span.set("http.request.body.size", self.sent);
        if self.answered.is_some() {
            span.set("http.response.status_code", self.status);
            let length = self.length.and_then(|length| i64::try_from(length).ok());
            span.set("http.response.body.size", length.unwrap_or(-1));
        }
        if let Some(answered) = self.answered {
            span.set("response-duration", answered.as_secs_f64());
        }
        if observer.layer.traces.detailed {
            let connected = self.connected.unwrap_or_default();
            span.set("get-conn-duration", connected.as_secs_f64());
            span.set("dns-duration", 0.0);
            span.set("tls-duration", self.handshake.as_secs_f64());
        }
        if let Some(error) = self.error_type() {
            span.set("error.type", error);
        }
    }

    fn read_span(&self) -> Span {
        let Under {
            request, observer, ..
        } = &*self.under;
        let start = request.clock.at(self.reading.unwrap_or(self.began));
        let time = self.read_to_end.unwrap_or_default();
        let mut span = Span {
            trace: request.trace,
            id: SpanId::random(),
            parent: Some(self.id),
            state: request.state.clone(),
            name: "http.client.response.read.tracker".into(),
            kind: SpanKind::Internal,
            start,
            end: start + nanos(time),
            attributes: Vec::with_capacity(8),
            events: Vec::new(),
            link: None,
            status: match self.read_error {
                true => SpanStatus::Error("the body broke off".into()),
                false => SpanStatus::Ok,
            },
        };
        observer.set_place(&mut span, &observer.method, "backend-request");
        span.set("http.client.response.read.size", self.read);
        span.set("http.client.response.read.time", time.as_secs_f64());
        span.attributes
            .extend_from_slice(&observer.layer.traces.attributes);
        span
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        self.report();
    }
}

fn authority(host: &str) -> &str {
    let rest = host.split_once("://").map_or(host, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

fn default_port(host: &str) -> u16 {
    if host.starts_with("https") { 443 } else { 80 }
}

/// KrakenD's words, if it has any.
fn text_of(error: &'static str) -> &'static str {
    match error {
        "timeout" => "context deadline exceeded",
        "canceled" => "context canceled",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_host_are_not_part_of_its_authority() {
        assert_eq!(authority("http://u:p@a:1/x"), "a:1");
        assert_eq!(authority("https://a"), "a");
        assert_eq!(default_port("https://a"), 443);
    }
}
