//! A client request, from its head to the end of its response.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    Convention, EndpointObserver, Layer, Observer, ServerNames, ServerSeries, known_method,
    method_value, outcome_labels,
};
use crate::telemetry::mask::masked_query;
use crate::telemetry::observe::settings::Trust;
use crate::telemetry::trace::context::{self, Outbound, Parent};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{
    Attribute, Clock, Span, SpanId, SpanKind, SpanStatus, TraceId, Value,
};

/// Headers that spans never contain.
const SECRET: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-csrf-token",
];

/// What is known about a request when it arrives.
#[derive(Debug)]
pub struct Came<'a> {
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// The peer is a trusted proxy.
    pub by_trusted_proxy: bool,
    pub at: Instant,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    pub(super) observer: Arc<Observer>,
    pub trace: TraceId,
    parent: Option<SpanId>,
    link: Option<(TraceId, SpanId)>,
    random: bool,
    pub(super) state: Option<HeaderValue>,
    baggage: Option<HeaderValue>,
    pub(super) recorded: bool,
    /// What backends are told.
    sampled: bool,
    /// The path is excluded by `skip_paths`.
    skipped: bool,
    server: SpanId,
    proxy: SpanId,
    pub(super) clock: Clock,
    /// When the endpoint's work started.
    worked: OnceLock<Instant>,
    /// When the head of a streamed response arrived, which ends the work.
    streamed: OnceLock<Instant>,
    /// Why the first failed call failed.
    error: OnceLock<&'static str>,
    /// The first host that responded, for the access log.
    upstream: OnceLock<(Arc<str>, u16)>,
    upstream_nanos: AtomicU64,
}

/// What is known about a request when it has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    pub endpoint: Option<&'a EndpointObserver>,
    pub method: &'a Method,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub host: &'a str,
    pub secure: bool,
    /// `1.1` or `2`.
    pub version: &'static str,
    pub peer: IpAddr,
    pub client: IpAddr,
    pub request_headers: &'a HeaderMap,
    pub response_headers: Option<&'a HeaderMap>,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub took: Duration,
    /// The endpoint's work: whether it is complete, whether it failed, and its duration.
    pub work: Option<(bool, bool, Duration)>,
    /// The client closed its connection before the response.
    pub client_gone: bool,
}

impl Request {
    /// Reads the client's context and decides whether the request is recorded.
    pub fn begin(observer: &Arc<Observer>, came: &Came<'_>) -> Arc<Request> {
        let settings = &observer.settings;
        let parent = match settings.reads {
            true => Parent::read(came.headers, settings.formats),
            false => None,
        };
        let trusted = match settings.trust {
            Trust::Always => true,
            Trust::Proxies => came.by_trusted_proxy,
            Trust::Never => false,
        };
        let (parent, link) = match parent {
            Some(parent) if !trusted => (None, Some((parent.trace, parent.span))),
            parent => (parent, None),
        };
        let trace = parent.as_ref().map_or_else(TraceId::random, |p| p.trace);
        let chosen = match &parent {
            Some(parent) => parent.sampled,
            None => is_chosen(trace, settings.rate),
        };
        let baggage = settings.reads && settings.formats.baggage;
        Arc::new(Request {
            trace,
            link,
            // Our ids are random too, but KrakenD sends 01, and some backends compare the flags.
            random: parent.as_ref().is_some_and(|parent| parent.random),
            parent: parent.as_ref().map(|parent| parent.span),
            state: parent.and_then(|parent| parent.state),
            baggage: baggage.then(|| context::baggage(came.headers)).flatten(),
            recorded: chosen && observer.traces(),
            sampled: chosen && (observer.traces() || settings.keeps_decision),
            skipped: settings.skips(came.path),
            server: SpanId::random(),
            proxy: SpanId::random(),
            clock: Clock::started(came.at),
            worked: OnceLock::new(),
            streamed: OnceLock::new(),
            error: OnceLock::new(),
            upstream: OnceLock::new(),
            upstream_nanos: AtomicU64::new(0),
            observer: Arc::clone(observer),
        })
    }

    /// Records the start of the endpoint's work.
    pub fn works(&self) {
        let _ = self.worked.set(Instant::now());
    }

    /// Trace and span for log lines, and whether they are recorded.
    pub fn ids(&self) -> Option<(TraceId, SpanId, bool)> {
        let quiet = self.observer.settings.quiet;
        (!quiet).then_some((self.trace, self.server, self.recorded))
    }

    /// Host and status of the first response, and the duration of the slowest call.
    pub fn upstream(&self) -> Option<(&Arc<str>, u16, Duration)> {
        let (host, status) = self.upstream.get()?;
        let time = Duration::from_nanos(self.upstream_nanos.load(Ordering::Relaxed));
        Some((host, *status, time))
    }

    pub(super) fn answered(&self, host: &Arc<str>, status: u16, took: Duration) {
        let _ = self.upstream.set((Arc::clone(host), status));
        self.upstream_nanos
            .fetch_max(nanos(took), Ordering::Relaxed);
    }

    pub(super) fn streamed(&self, at: Instant) {
        let _ = self.streamed.set(at);
    }

    pub(super) fn failed(&self, error: &'static str) {
        let _ = self.error.set(error);
    }

    /// The parent span of the calls.
    pub(super) fn work_span(&self, endpoint: &EndpointObserver) -> Option<SpanId> {
        match (
            endpoint.proxy.traces && !endpoint.skipped,
            self.has_server_span(),
        ) {
            (true, _) => Some(self.proxy),
            (false, true) => Some(self.server),
            (false, false) => self.parent,
        }
    }

    fn has_server_span(&self) -> bool {
        self.observer.settings.layers.global.traces && !self.skipped
    }

    /// The context for a backend, with `span` as the parent.
    pub(super) fn outbound(&self, span: SpanId) -> Outbound<'_> {
        Outbound {
            trace: self.trace,
            span,
            sampled: self.sampled,
            random: self.random,
            state: self.state.as_ref(),
            baggage: self.baggage.as_ref(),
        }
    }

    /// Reports the whole request.
    pub fn end(&self, ended: &Ended<'_>) {
        let endpoint = ended.endpoint.filter(|endpoint| !endpoint.skipped);
        let example = self.recorded.then_some((self.trace, self.server));
        if let (Some(endpoint), Some((complete, error, took))) = (endpoint, ended.work) {
            let took = match (self.worked.get(), self.streamed.get()) {
                (Some(began), Some(streamed)) => streamed.saturating_duration_since(*began),
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
            let failed = ended.client_gone;
            let make = || self.series(store, ended);
            let series = match endpoint {
                Some(endpoint) => {
                    let key = (ended.status, ended.secure, failed);
                    endpoint.server.get_or_make(&key, make)
                }
                None => {
                    let method = known_method(ended.method).map(|_| ended.method.clone());
                    // All other methods are counted together.
                    let method = method.unwrap_or_default();
                    let odd = known_method(ended.method).is_none();
                    let key = (method, ended.status, ended.secure, odd);
                    self.observer.others.get_or_make(&key, make)
                }
            };
            series.duration.record_time(ended.took, example);
            series.size.record(ended.bytes_out, example);
        }
        if self.recorded && self.has_server_span() {
            self.observer.push(self.server_span(ended));
        }
    }

    fn series(&self, store: &crate::telemetry::series::Store, ended: &Ended<'_>) -> ServerSeries {
        let convention = self.observer.settings.convention;
        let names = ServerNames::of(convention);
        let mut labels = vec![
            ("http.request.method".into(), method_value(ended.method)),
            (
                "http.response.status_code".into(),
                Value::from(ended.status),
            ),
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
            (None, _) => labels.push(("http.route".into(), reason(ended.status).into())),
        }
        if convention == Convention::Stable {
            labels.push(("network.protocol.version".into(), ended.version.into()));
            if let Some(error) = self.server_error(ended) {
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

    fn server_error(&self, ended: &Ended<'_>) -> Option<Value> {
        match ended.status {
            _ if ended.client_gone => Some("canceled".into()),
            500.. => Some(ended.status.to_string().into()),
            _ => None,
        }
    }

    fn server_span(&self, ended: &Ended<'_>) -> Span {
        let convention = self.observer.settings.convention;
        let layer = &self.observer.settings.layers.global;
        let start = self.clock.at(Instant::now() - ended.took);
        let mut span = Span {
            trace: self.trace,
            id: self.server,
            parent: self.parent,
            state: self.state.clone(),
            name: match convention {
                Convention::Stable => self.stable_name(ended),
                _ => ended.path.to_owned().into(),
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
            Convention::Stable => stable_attributes(&mut span, ended),
            _ => krakend_attributes(&mut span, ended),
        }
        if let Some(error) = self.server_error(ended) {
            span.set("error.type", error);
        }
        push_headers(
            &mut span,
            layer,
            ended.request_headers,
            ended.response_headers,
        );
        span.attributes.extend_from_slice(&layer.trace_attributes);
        if let Some(endpoint) = ended.endpoint {
            span.attributes
                .extend_from_slice(&endpoint.trace_attributes);
        }
        span
    }

    fn stable_name(&self, ended: &Ended<'_>) -> Cow<'static, str> {
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
        ended: &Ended<'_>,
        complete: bool,
        error: bool,
        took: Duration,
    ) {
        let canceled = ended.client_gone;
        let error = (error || !complete) && !canceled;
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
                store.histogram(&super::names::PROXY, &labels)
            });
            histogram.record_time(took, self.recorded.then_some((self.trace, self.proxy)));
        }
        if !self.recorded || !layer.traces {
            return;
        }
        let began = self.worked.get().copied();
        let start = self
            .clock
            .at(began.unwrap_or_else(|| Instant::now() - took));
        let stable = self.observer.settings.convention == Convention::Stable;
        let mut span = Span {
            trace: self.trace,
            id: self.proxy,
            parent: match self.has_server_span() {
                true => Some(self.server),
                false => self.parent,
            },
            state: self.state.clone(),
            name: match stable {
                true => format!("proxy {}", endpoint.pattern).into(),
                false => endpoint.route.to_string().into(),
            },
            kind: SpanKind::Internal,
            start,
            end: start + nanos(took),
            attributes: Vec::with_capacity(8),
            events: Vec::new(),
            link: None,
            status: match error {
                true => SpanStatus::Error(Cow::Borrowed("")),
                false => SpanStatus::Unset,
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
            let why = self.error.get().copied().unwrap_or("incomplete");
            span.set("error", why);
            span.set("error.type", why);
        }
        span.attributes.extend_from_slice(&layer.trace_attributes);
        self.observer.push(span);
    }
}

/// Whether a trace without a parent is recorded. Every gateway with this rate selects the same traces.
fn is_chosen(trace: TraceId, rate: f64) -> bool {
    rate >= 1.0 || (trace.chance() as f64) < rate * (1_u64 << 63) as f64
}

/// KrakenD's route name for a request that no endpoint handled.
fn reason(status: u16) -> String {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    format!("{status} {}", reason.unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn krakend_attributes(span: &mut Span, ended: &Ended<'_>) {
    span.set("url.full", target(ended));
    span.set("server.address", ended.host.to_owned());
    span.set("http.request.method", ended.method.as_str().to_owned());
    span.set("http.request.body.size", ended.bytes_in);
    if let Some(agent) = user_agent(ended.request_headers) {
        span.set("user_agent.original", agent);
    }
    span.set("client.address", ended.client.to_string());
    span.set("krakend.stage", "global");
    match ended.endpoint {
        Some(endpoint) => span.set("http.route", Value::from(&endpoint.route)),
        None => span.set("http.route", reason(ended.status)),
    }
    span.set("http.response.status_code", ended.status);
    span.set("http.response.body.size", ended.bytes_out);
}

fn stable_attributes(span: &mut Span, ended: &Ended<'_>) {
    span.set("http.request.method", method_value(ended.method));
    if known_method(ended.method).is_none() {
        span.set(
            "http.request.method_original",
            ended.method.as_str().to_owned(),
        );
    }
    span.set("url.scheme", if ended.secure { "https" } else { "http" });
    span.set("url.path", ended.path.to_owned());
    if let Some(query) = ended.query {
        span.set("url.query", masked_query(query));
    }
    if let Some(endpoint) = ended.endpoint {
        span.set("http.route", Value::from(&endpoint.pattern));
    }
    span.set("http.response.status_code", ended.status);
    let (name, port) = split_host(ended.host);
    span.set("server.address", name.to_owned());
    if let Some(port) = port {
        span.set("server.port", i64::from(port));
    }
    span.set("client.address", ended.client.to_string());
    span.set("network.peer.address", ended.peer.to_string());
    span.set("network.protocol.version", ended.version);
    if let Some(agent) = user_agent(ended.request_headers) {
        span.set("user_agent.original", agent);
    }
}

fn target(ended: &Ended<'_>) -> String {
    match ended.query {
        Some(query) => format!("{}?{}", ended.path, masked_query(query)),
        None => ended.path.to_owned(),
    }
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(http::header::USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Name and port of an authority.
pub(super) fn split_host(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && !port.contains(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

fn push_headers(span: &mut Span, layer: &Layer, request: &HeaderMap, response: Option<&HeaderMap>) {
    if layer.report_headers {
        span.attributes
            .extend(header_attributes("request", request, &layer.skip_headers));
        if let Some(response) = response {
            span.attributes
                .extend(header_attributes("response", response, &layer.skip_headers));
        }
    }
}

/// Headers as attributes, without secrets and excluded names.
pub(super) fn header_attributes(
    side: &'static str,
    headers: &HeaderMap,
    skip: &[HeaderName],
) -> Vec<Attribute> {
    headers
        .keys()
        .filter(|name| !skip.contains(name))
        .map(|name| {
            let values = headers.get_all(name).iter();
            let shown = |value: &HeaderValue| match SECRET.contains(&name.as_str()) {
                true => "***".to_owned(),
                false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            };
            (
                format!("http.{side}.header.{name}").into(),
                Value::Texts(values.map(shown).collect()),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_selects_the_same_traces_everywhere() {
        let traces: Vec<TraceId> = (0..4000).map(|_| TraceId::random()).collect();
        let chosen = traces
            .iter()
            .filter(|trace| is_chosen(**trace, 0.25))
            .count();
        assert!((850..1150).contains(&chosen), "{chosen}");
        assert!(traces.iter().all(|trace| is_chosen(*trace, 1.0)));
        assert!(!traces.iter().any(|trace| is_chosen(*trace, 0.0)));
    }

    #[test]
    fn an_authority_is_split_into_name_and_port() {
        assert_eq!(split_host("a:80"), ("a", Some(80)));
        assert_eq!(split_host("a"), ("a", None));
        assert_eq!(split_host("[::1]"), ("[::1]", None));
        assert_eq!(split_host("[::1]:80"), ("[::1]", Some(80)));
    }

    #[test]
    fn secrets_do_not_become_attributes() {
        let mut headers = HeaderMap::new();
        for name in SECRET {
            headers.insert(name, HeaderValue::from_static("secret"));
        }
        headers.insert("x-left-out", HeaderValue::from_static("1"));
        headers.insert("x-shown", HeaderValue::from_static("1"));
        let skip = [HeaderName::from_static("x-left-out")];
        let shown = format!("{:?}", header_attributes("request", &headers, &skip));
        assert!(!shown.contains("secret") && !shown.contains("x-left-out"));
        assert!(shown.contains("http.request.header.x-shown"));
    }
}
