//! One round trip to a host: the request on the wire, and its response.

mod series;
mod spans;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use smallvec::SmallVec;

use super::CURRENT;
use super::call::Under;
use super::request::header_attributes;
use crate::telemetry::trace::context::Field;
use crate::telemetry::trace::{Attribute, SpanId, Value};

pub(super) use series::{Key, ReadSeries, TripSeries};

/// Represents the hosts beyond the limit of one backend: those that it redirects to, for example.
pub(super) const OTHER_HOSTS: &str = "*";

/// A round trip in progress, reported on drop.
#[derive(Debug)]
pub(crate) struct Trip {
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
    /// How often the request was sent again on another connection.
    retries: u64,
    headers: Vec<Attribute>,
    reading: Option<Instant>,
    read: u64,
    read_to_end: Option<Duration>,
    read_error: bool,
    error: Option<&'static str>,
}

impl Trip {
    /// Starts a round trip within the call of the current task, if it is observed.
    pub(crate) fn begin(method: &Method, target: &str) -> Option<Box<Trip>> {
        let under = CURRENT.try_with(|current| current.call.clone()).ok()??;
        // Only a span shows the target.
        let target = if under.request.recorded { target } else { "" };
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
            retries: 0,
            headers: Vec::new(),
            reading: None,
            read: 0,
            read_to_end: None,
            read_error: false,
            error: None,
        }))
    }

    /// Records the connection to `host`. `handshake` is the duration of TLS on a new one; `None` means a reused connection.
    pub(crate) fn connected(&mut self, host: &Arc<str>, handshake: Option<Duration>, http2: bool) {
        self.host = Arc::clone(host);
        self.connected = Some(self.began.elapsed());
        self.handshake = handshake.unwrap_or_default();
        self.reused = handshake.is_none();
        self.version = if http2 { "2" } else { "1.1" };
    }

    /// Records that the request is sent again on a new connection.
    pub(crate) fn retried(&mut self) {
        self.retries += 1;
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

    /// The headers that send the trace context to the host. Each replaces the client's header with the same name.
    pub(crate) fn context(&self) -> SmallVec<[Field; 4]> {
        let settings = &self.under.request.observer.settings;
        if !settings.writes {
            return SmallVec::new();
        }
        let recorded = self.under.request.recorded;
        let span = if self.has_span() || !recorded {
            self.id
        } else {
            self.under.parent.unwrap_or(self.id)
        };
        self.under.request.outbound(span).fields(settings.formats)
    }

    fn has_span(&self) -> bool {
        self.under.observer.layer.traces.trips() && !self.under.observer.endpoint.skipped
    }

    /// Records the head of the response, and the length of the body that it announces.
    pub(crate) fn answered(&mut self, status: u16, headers: &HeaderMap, length: Option<u64>) {
        if self.answered.is_some() {
            return;
        }
        let now = Instant::now();
        self.answered = Some(now.saturating_duration_since(self.began));
        self.status = status;
        self.under.status.store(status, Ordering::Relaxed);
        let _ = self.under.headed.set(now);
        self.under.request.answered_grpc(headers);
        self.length = length.filter(|_| self.method != Method::HEAD);
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
        self.reading.get_or_insert_with(Instant::now);
        self.read += bytes as u64;
    }

    /// The body is complete.
    pub(crate) fn read_whole(&mut self) {
        let since = *self.reading.get_or_insert_with(Instant::now);
        self.read_to_end.get_or_insert_with(|| since.elapsed());
    }

    /// Records that the body ended early.
    pub(crate) fn read_failed(&mut self) {
        self.read_error = true;
        self.read_whole();
    }

    /// Records that there is no response: see [`super::error_type`].
    pub(crate) fn failed(&mut self, error: &'static str) {
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
            .count_trip(&self.host, self.status, took, (reused, self.retries));
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

    fn error_type(&self) -> Option<Value> {
        match (self.error, self.status) {
            (Some(error), _) => Some(error.into()),
            (None, 400..) => Some(self.status.to_string().into()),
            _ => None,
        }
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
