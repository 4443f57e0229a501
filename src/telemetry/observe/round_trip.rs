//! One round trip to a host: the request on the wire, and its response.

mod series;
mod spans;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};

use super::call::CallContext;
use super::request::{agent, header_attributes};
use super::{CURRENT, ErrorType, Parts, Wait, status_error};
use crate::telemetry::sanitize::{MAX_VALUE, cut};
use crate::telemetry::trace::context::Outbound;
use crate::telemetry::trace::{Attribute, SpanId, Value};

pub(super) use series::{Key, ReadSeries, RoundTripSeries};

/// The label of all hosts beyond the limit of one backend, for example targets of redirects.
pub(super) const OTHER_HOSTS: &str = "*";

/// A round trip in progress, reported on drop.
#[derive(Debug)]
pub(crate) struct RoundTrip {
    under: Arc<CallContext>,
    id: SpanId,
    method: Method,
    target: String,
    /// `scheme://authority`. `None` until a host is chosen.
    host: Option<Arc<str>>,
    began: Instant,
    sent: u64,
    connected: Duration,
    handshake: Duration,
    answered: Option<Duration>,
    status: u16,
    length: Option<u64>,
    version: &'static str,
    /// `None` without a connection.
    reused: Option<bool>,
    /// How often the request was sent again on another connection.
    retries: u64,
    headers: Vec<Attribute>,
    /// The value of `User-Agent`.
    agent: Option<String>,
    is_reading: bool,
    read: u64,
    read_to_end: Option<Duration>,
    read_error: bool,
    error: Option<ErrorType>,
}

impl RoundTrip {
    /// Starts a round trip within the call of the current task, if it is observed.
    pub(crate) fn begin(method: &Method, target: &str) -> Option<Box<RoundTrip>> {
        let under = CURRENT.try_with(|current| current.call().cloned()).ok()??;
        // Only a span shows the target.
        let target = if under.request.recorded { target } else { "" };
        Some(Box::new(RoundTrip::of(
            under,
            method.clone(),
            cut(target, MAX_VALUE).into_owned(),
        )))
    }

    fn of(under: Arc<CallContext>, method: Method, target: String) -> RoundTrip {
        RoundTrip {
            under,
            id: SpanId::random(),
            method,
            target,
            host: None,
            began: Instant::now(),
            sent: 0,
            connected: Duration::ZERO,
            handshake: Duration::ZERO,
            answered: None,
            status: 0,
            length: None,
            version: "1.1",
            reused: None,
            retries: 0,
            headers: Vec::new(),
            agent: None,
            is_reading: false,
            read: 0,
            read_to_end: None,
            read_error: false,
            error: None,
        }
    }

    /// Records the host that is called next, before there is a connection to it.
    pub(crate) fn tries(&mut self, host: &Arc<str>) {
        self.host = Some(Arc::clone(host));
    }

    /// Reports that there is no connection to this host, and begins a round trip to another one.
    pub(crate) fn moves_on(&mut self, error: ErrorType) {
        self.failed(error);
        let (method, target) = (self.method.clone(), self.target.clone());
        *self = RoundTrip::of(Arc::clone(&self.under), method, target);
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or_default()
    }

    /// Records the connection to the host. `handshake` is the duration of TLS on a new one; `None` means a reused connection.
    pub(crate) fn connected(&mut self, handshake: Option<Duration>, http2: bool) {
        if self.under.needs(|parts| parts.detailed) {
            self.connected = self.began.elapsed();
        }
        self.handshake = handshake.unwrap_or_default();
        self.reused = Some(handshake.is_none());
        self.version = if http2 { "2" } else { "1.1" };
    }

    /// Records that the request is sent again on a new connection.
    pub(crate) fn retried(&mut self) {
        self.retries += 1;
    }

    /// Records the `User-Agent` that is sent, which only a span shows.
    pub(crate) fn sends_agent(&mut self, value: impl FnOnce() -> Option<HeaderValue>) {
        if self.under.request.recorded {
            self.agent = value().map(|value| agent(&value));
        }
    }

    /// Records that `length` bytes of body are sent.
    pub(crate) fn sends(&mut self, length: u64) {
        self.sent = length;
    }

    /// Records the headers that are sent.
    pub(crate) fn sends_headers(&mut self, headers: &HeaderMap) {
        if self.shows_headers() {
            let layer = &self.under.observer.layer.traces;
            self.headers = header_attributes("request", headers, &layer.skip_headers);
        }
    }

    /// Whether the span shows headers.
    pub(crate) fn shows_headers(&self) -> bool {
        self.under.request.recorded && self.under.observer.layer.traces.report_headers
    }

    /// The trace context for the host. `None` if the gateway writes none.
    pub(crate) fn context(&self) -> Option<Outbound<'_>> {
        if !self.under.request.observer.settings.writes {
            return None;
        }
        let recorded = self.under.request.recorded;
        let span = if self.has_span() || !recorded {
            self.id
        } else {
            self.under.parent.unwrap_or(self.id)
        };
        Some(self.under.request.outbound(span))
    }

    fn has_span(&self) -> bool {
        self.under.observer.layer.traces.trips() && !self.under.observer.endpoint.skipped
    }

    /// Records the head of the response, and the length of the body that it announces.
    pub(crate) fn answered(
        &mut self,
        status: u16,
        headers: &HeaderMap,
        length: impl FnOnce() -> Option<u64>,
    ) {
        if self.answered.is_some() {
            return;
        }
        let now = Instant::now();
        self.answered = Some(now.saturating_duration_since(self.began));
        self.status = status;
        self.under.status.store(status, Ordering::Relaxed);
        if self.under.request.is_reported() {
            self.under.headed.set(&self.under.request.clock, now);
        }
        // gRPC needs HTTP/2.
        if self.version == "2" {
            self.under.request.answered_grpc(headers);
        }
        if self.method != Method::HEAD && self.under.needs(Parts::trips) {
            self.length = length();
        }
        self.under.answered(headers);
        if self.shows_headers() {
            let layer = &self.under.observer.layer.traces;
            let shown = header_attributes("response", headers, &layer.skip_headers);
            self.headers.extend(shown);
        }
    }

    /// Records the trailers of the response.
    pub(crate) fn trailers(&self, trailers: &HeaderMap) {
        self.under.request.answered_grpc(trailers);
    }

    /// Records received bytes of the response body.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.is_reading = true;
        self.read += bytes as u64;
    }

    /// The body is complete.
    pub(crate) fn read_whole(&mut self) {
        self.is_reading = true;
        if self.read_to_end.is_none() {
            let is_needed = self.under.needs(|parts| parts.read_payload);
            let time = is_needed.then(|| self.since_head());
            self.read_to_end = Some(time.unwrap_or_default());
        }
    }

    /// Records that the body ended early.
    pub(crate) fn read_failed(&mut self) {
        self.read_error = true;
        self.read_whole();
    }

    /// Records why there is no response.
    pub(crate) fn failed(&mut self, error: ErrorType) {
        self.error = Some(error);
    }

    /// Whether the body of the response is read.
    fn is_read(&self) -> bool {
        let good = matches!(self.status, 200 | 201) || self.under.observer.reads_errors;
        good && self.answered.is_some() && self.is_reading
    }

    /// The time since the head of the response.
    fn since_head(&self) -> Duration {
        let head = self.answered.unwrap_or_default();
        self.began.elapsed().saturating_sub(head)
    }

    fn report(&mut self) {
        let took = self.answered.unwrap_or_else(|| self.began.elapsed());
        if self.answered.is_none() && self.error.is_none() {
            let late = Instant::now() >= self.under.deadline;
            self.error = Some(if late {
                Wait::noted().map_or(ErrorType::Timeout, ErrorType::from)
            } else {
                ErrorType::Canceled
            });
        }
        if self.answered.is_some() && self.read_to_end.is_none() && self.is_reading {
            // The round trip was cancelled.
            self.read_failed();
        }
        let observer = &self.under.observer;
        let host = self.host.as_ref();
        let connection = (self.reused, self.retries);
        observer.count_trip(host, self.status, (took, self.example()), connection);
        if !observer.endpoint.skipped {
            self.report_to_layers(took);
        }
        if let Some(host) = self.host.take() {
            self.under.request.answered(host, self.status, took);
        }
    }

    fn report_to_layers(&mut self, took: Duration) {
        let observer = &*self.under.observer;
        if let Some(store) = &observer.store {
            if observer.layer.metrics.trips() {
                self.count(store, observer, took);
            }
            if observer.layer.metrics.read_payload && self.is_read() {
                self.count_read(store, observer);
            }
        }
        if self.under.request.recorded && self.has_span() {
            self.spans(took);
        }
    }

    fn example(&self) -> Option<(crate::telemetry::trace::TraceId, SpanId)> {
        self.under.request.example(self.id)
    }

    fn error_type(&self) -> Option<Value> {
        match (self.error, self.status) {
            (Some(error), _) => Some(error.as_str().into()),
            (None, 400..) => Some(status_error(self.status)),
            _ => None,
        }
    }
}

impl Drop for RoundTrip {
    fn drop(&mut self) {
        self.report();
    }
}

/// Whether a host of a series is the host of a round trip. It is usually the same text in memory.
pub(super) fn is_host(known: &Arc<str>, host: Option<&Arc<str>>) -> bool {
    match host {
        Some(host) => Arc::ptr_eq(known, host) || known == host,
        None => known.is_empty(),
    }
}

pub(super) fn authority(host: &str) -> &str {
    let rest = host.split_once("://").map_or(host, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

pub(super) fn default_port(host: &str) -> u16 {
    if host.starts_with("https") { 443 } else { 80 }
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
