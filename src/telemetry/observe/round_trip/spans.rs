//! The spans of a round trip.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{RoundTrip, authority, default_port};
use crate::telemetry::mask::masked;
use crate::telemetry::observe::call::CallContext;
use crate::telemetry::observe::request::split_host;
use crate::telemetry::observe::{BackendObserver, Convention, ErrorType};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Span, SpanEvent, SpanId, SpanKind, SpanStatus, Value};

impl RoundTrip {
    pub(super) fn spans(&mut self, took: Duration) {
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
            name: if stable {
                format!("{} {}", self.method, observer.pattern).into()
            } else {
                observer.route.to_string().into()
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
                    ("exception.type".into(), error.as_str().into()),
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
        span.add(&observer.layer.traces.attributes);
        request.observer.push(span);
    }

    fn set_attributes(&self, span: &mut Span, stable: bool, observer: &BackendObserver) {
        observer.set_place(span, &self.method, "backend-request");
        let url = format!("{}{}", self.host(), self.target);
        span.set("url.full", masked(&url).into_owned());
        let authority = authority(self.host());
        if stable {
            let (name, port) = split_host(authority);
            span.set("server.address", name.to_owned());
            let port = port.unwrap_or(default_port(self.host()));
            span.set("server.port", port);
            span.set("network.protocol.version", self.version);
            span.set("url.template", Value::from(&observer.pattern));
        } else {
            span.set("server.address", authority.to_owned())
        }
        span.set("http.request.body.size", self.sent);
        if let Some(agent) = &self.agent {
            span.set("user_agent.original", agent.clone());
        }
        if self.retries > 0 {
            let retries = i64::try_from(self.retries).unwrap_or(i64::MAX);
            span.set("http.request.resend_count", retries);
        }
        if self.answered.is_some() {
            span.set("http.response.status_code", self.status);
            let length = self.length.and_then(|length| i64::try_from(length).ok());
            span.set("http.response.body.size", length.unwrap_or(-1));
        }
        if let Some(answered) = self.answered {
            span.set("response-duration", answered.as_secs_f64());
        }
        if observer.layer.traces.detailed {
            span.set("get-conn-duration", self.connected.as_secs_f64());
            span.set("dns-duration", 0.0);
            span.set("tls-duration", self.handshake.as_secs_f64());
        }
        if let Some(error) = self.error_type() {
            span.set("error.type", error);
        }
    }

    fn read_span(&self) -> Span {
        let CallContext {
            request, observer, ..
        } = &*self.under;
        let head = self.answered.unwrap_or_default();
        let start = request.clock.at(self.began + head);
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
            status: if self.read_error {
                SpanStatus::Error("the body ended early".into())
            } else {
                SpanStatus::Ok
            },
        };
        observer.set_place(&mut span, &observer.method, "backend-request");
        span.set("http.client.response.read.size", self.read);
        span.set("http.client.response.read.time", time.as_secs_f64());
        span.add(&observer.layer.traces.attributes);
        span
    }
}

/// KrakenD's words, if it has any.
fn text_of(error: ErrorType) -> &'static str {
    match error {
        ErrorType::Canceled => "context canceled",
        late if late.is_timeout() => "context deadline exceeded",
        other => other.as_str(),
    }
}
