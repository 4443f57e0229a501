//! What is reported at the end of a request: series and spans.

use std::borrow::Cow;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::attributes::{krakend_attributes, push_headers, stable_attributes};
use super::{Request, RequestEnd, SpanDetails};
use crate::telemetry::mask::masked_path;
use crate::telemetry::observe::{
    Convention, EndpointObserver, ErrorType, ODD_STATUS, ServerNames, ServerSeries, counted_status,
    known_method, method_value, outcome_labels, status_error, status_value,
};
use crate::telemetry::series::Store;
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Span, SpanKind, SpanStatus, Value};

/// The key of the series of an endpoint: status, whether it came over TLS, and whether its client has disconnected.
type Key = (u16, bool, bool);

impl Request {
    /// Reports the whole request.
    pub(crate) fn end(&self, ended: &RequestEnd<'_>) {
        let endpoint = ended.endpoint.filter(|endpoint| !endpoint.skipped);
        let example = self.example(self.server);
        if let (Some(endpoint), Some((complete, error, took))) = (endpoint, ended.work) {
            let clock = &self.clock;
            let took = match (self.worked.get(clock), self.streamed.get(clock)) {
                (Some(began), Some(streamed)) => streamed.saturating_duration_since(began),
                _ => took,
            };
            self.end_work(endpoint, ended, complete, error, took);
        }
        if self.skipped || ended.endpoint.is_some_and(|endpoint| endpoint.skipped) {
            return;
        }
        if let (Some(store), true) = (
            &self.observer.store,
            self.observer.settings.layers.global.metrics,
        ) {
            let failed = ended.client_closed;
            let series = match endpoint {
                Some(endpoint) => {
                    let key = |status| (status, ended.secure, failed);
                    let status = counted_status(ended.status);
                    let keys: [&dyn Fn() -> Key; 2] = [&|| key(status), &|| key(ODD_STATUS)];
                    let make = |key: &Key| self.series(store, ended, key.0);
                    let is_ours = |known: &Key| *known == key(status);
                    endpoint.server.get_or_make_bounded(is_ours, keys, make)
                }
                None => {
                    let method = known_method(ended.method).map(|_| ended.method.clone());
                    // All other methods are counted together.
                    let method = method.unwrap_or_default();
                    let odd = known_method(ended.method).is_none();
                    let status = counted_status(ended.status);
                    let key = (method, status, ended.secure, odd);
                    let make = || self.series(store, ended, status);
                    self.observer.others.get_or_make(&key, make)
                }
            };
            series.duration.record_time(ended.took, example);
            series.size.record(ended.bytes_out, example);
        }
        if self.recorded
            && self.has_server_span()
            && let Some(shown) = (ended.shown)()
        {
            self.observer.push(self.server_span(ended, &shown));
        }
    }

    fn series(&self, store: &Store, ended: &RequestEnd<'_>, status: u16) -> ServerSeries {
        let convention = self.observer.settings.convention;
        let names = ServerNames::of(convention);
        let mut labels = vec![
            ("http.request.method".into(), method_value(ended.method)),
            ("http.response.status_code".into(), status_value(status)),
        ];
        let scheme = match convention {
            Convention::Stable if ended.secure => "https",
            _ => "http",
        };
        labels.push(("url.scheme".into(), scheme.into()));
        match (ended.endpoint, convention) {
            (Some(endpoint), Convention::Stable) => {
                labels.push(("http.route".into(), Value::from(&endpoint.pattern)));
            }
            (Some(endpoint), _) => labels.push(("http.route".into(), Value::from(&endpoint.route))),
            (None, Convention::Stable) => {}
            (None, _) => labels.push(("http.route".into(), reason(status).into())),
        }
        if convention == Convention::Stable {
            labels.push(("network.protocol.version".into(), ended.version.into()));
            if let Some(error) = self.server_error(ended, status) {
                labels.push(("error.type".into(), error));
            }
        }
        labels.extend_from_slice(&self.observer.settings.layers.global.metric_attributes);
        if let Some(endpoint) = ended.endpoint {
            labels.extend_from_slice(&endpoint.metric_attributes);
        }
        ServerSeries {
            duration: store.histogram(&names.duration, &labels),
            size: store.histogram(&names.size, &labels),
        }
    }

    fn server_error(&self, ended: &RequestEnd<'_>, status: u16) -> Option<Value> {
        match status {
            _ if ended.client_closed => Some("canceled".into()),
            500.. => Some(status_error(status)),
            _ => None,
        }
    }

    fn server_span(&self, ended: &RequestEnd<'_>, shown: &SpanDetails<'_>) -> Span {
        let convention = self.observer.settings.convention;
        let layer = &self.observer.settings.layers.global;
        let start = self.clock.start();
        let mut span = Span {
            trace: self.trace,
            id: self.server,
            parent: self.parent,
            state: self.state.clone(),
            name: match convention {
                Convention::Stable => self.stable_name(ended),
                _ => masked_path(shown.path).into_owned().into(),
            },
            kind: SpanKind::Server,
            start,
            end: start + nanos(ended.took),
            attributes: Vec::with_capacity(16),
            events: Vec::new(),
            link: self.link,
            status: match ended.status {
                500.. => SpanStatus::Error(Cow::Borrowed("")),
                400.. => SpanStatus::Unset,
                _ => SpanStatus::Ok,
            },
        };
        match convention {
            Convention::Stable => stable_attributes(&mut span, ended, shown),
            _ => krakend_attributes(&mut span, ended, shown),
        }
        if let Some(error) = self.server_error(ended, ended.status) {
            span.set("error.type", error);
        }
        push_headers(&mut span, layer, shown.headers, ended.response_headers);
        span.add(&layer.trace_attributes);
        if let Some(endpoint) = ended.endpoint {
            span.add(&endpoint.trace_attributes);
        }
        span
    }

    fn stable_name(&self, ended: &RequestEnd<'_>) -> Cow<'static, str> {
        match (known_method(ended.method), ended.endpoint) {
            (Some(method), Some(endpoint)) => format!("{method} {}", endpoint.pattern).into(),
            (Some(method), None) => method.into(),
            (None, _) => "HTTP".into(),
        }
    }

    /// The endpoint's work is a separate layer.
    fn end_work(
        &self,
        endpoint: &EndpointObserver,
        ended: &RequestEnd<'_>,
        complete: bool,
        error: bool,
        took: Duration,
    ) {
        let canceled = ended.client_closed;
        // Static data in place of a streamed response hides the error from statistics, but not from here.
        let failed = error || (!complete && self.error.get().is_some());
        let error = failed && !canceled;
        let layer = &endpoint.proxy;
        if let (Some(store), true) = (&self.observer.store, layer.metrics) {
            let key = (complete, error, canceled);
            let histogram = endpoint.works.get_or_make(&key, || {
                let mut labels = vec![
                    ("http.request.method".into(), method_value(&endpoint.method)),
                    ("http.route".into(), Value::from(&endpoint.route)),
                ];
                labels.extend(outcome_labels(complete, error, canceled));
                labels.extend_from_slice(&layer.metric_attributes);
                store.histogram(&crate::telemetry::observe::names::PROXY, &labels)
            });
            histogram.record_time(took, self.example(self.proxy));
        }
        if !self.recorded || !layer.traces {
            return;
        }
        let began = self.worked.get(&self.clock);
        let start = self
            .clock
            .at(began.unwrap_or_else(|| Instant::now() - took));
        let stable = self.observer.settings.convention == Convention::Stable;
        let mut span = Span {
            trace: self.trace,
            id: self.proxy,
            parent: if self.has_server_span() {
                Some(self.server)
            } else {
                self.parent
            },
            state: self.state.clone(),
            name: if stable {
                format!("proxy {}", endpoint.pattern).into()
            } else {
                endpoint.route.to_string().into()
            },
            kind: SpanKind::Internal,
            start,
            end: start + nanos(took),
            attributes: Vec::with_capacity(8),
            events: Vec::new(),
            link: None,
            status: if error {
                SpanStatus::Error(Cow::Borrowed(""))
            } else {
                SpanStatus::Unset
            },
        };
        span.set("http.request.method", method_value(&endpoint.method));
        span.set("http.route", Value::from(&endpoint.route));
        span.set("krakend.stage", "proxy");
        span.set("http.response.status_code", ended.status);
        span.set("complete", complete);
        if canceled {
            span.set("canceled", true);
        } else if error {
            let (why, status) = self
                .error
                .get()
                .copied()
                .unwrap_or((ErrorType::Internal, 0));
            span.set("error", why.as_str());
            match why {
                ErrorType::Status => span.set("error.type", status_error(status)),
                why => span.set("error.type", why.as_str()),
            }
        }
        let headers = self.work_headers.lock();
        span.attributes
            .append(&mut headers.unwrap_or_else(PoisonError::into_inner));
        span.add(&layer.trace_attributes);
        self.observer.push(span);
    }
}

/// KrakenD's route name for a request that no endpoint handled.
pub(super) fn reason(status: u16) -> String {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    format!("{status} {}", reason.unwrap_or_default())
        .trim_end()
        .to_owned()
}
