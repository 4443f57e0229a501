//! Observes requests: spans, series, and the trace context that is sent to backends.
//!
//! | type | one for each |
//! |---|---|
//! | [`Observer`] | configuration |
//! | [`EndpointObserver`], [`BackendObserver`] | endpoint and backend of it: names and handles |
//! | [`Request`] | request of a client |
//! | [`Call`] | call of a backend within a request |
//! | [`RoundTrip`] | round trip to a host within a call |
//! | [`Unseen`] | round trip that nothing shows, which only passes the trace on |
//! | [`mod@step`] | step that waits |
//!
//! A configuration without telemetry has no [`Observer`], and a request then only checks an `Option`. The current
//! request and call are task-local values ([`within`]), so that the code between server and wire need not pass them
//! on.

mod call;
mod error_type;
mod gauges;
mod names;
mod native;
mod request;
mod round_trip;
pub(crate) mod settings;
mod step;
mod unseen;
mod wait;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use http::{HeaderMap, Method};

pub(crate) use call::{Call, Lookup, Outcome, looked_up};
pub(crate) use error_type::ErrorType;
pub(crate) use gauges::Now;
pub(crate) use native::Native;
pub(crate) use request::{Request, RequestEnd, RequestStart, SpanDetails, grpc_status};
pub(crate) use round_trip::RoundTrip;
pub(crate) use settings::{
    BackendLayer, Convention, Exemplars, Layer, Layers, Parts, Settings, Trust,
};
pub(crate) use step::step;
pub(crate) use unseen::Unseen;
pub use wait::Wait;

use crate::telemetry::otlp::Exporter;
use crate::telemetry::series::{AppendList, Counter, Histogram, Store};
use crate::telemetry::trace::{Attribute, Span, SpanId, TraceId, Value};

pub(crate) use names::LABELS;
use names::ServerNames;

/// What a configuration observes of its requests.
#[derive(Debug)]
pub struct Observer {
    pub settings: Settings,
    /// The store of the series. `None` if they are not shown or sent anywhere.
    pub store: Option<Arc<Store>>,
    /// The exporters of spans.
    pub exporters: Box<[Arc<Exporter>]>,
    /// Our own metrics of backends.
    native: Option<Arc<Native>>,
    /// Requests that no endpoint handled.
    others: AppendList<(Method, u16, bool, bool), ServerSeries>,
}

/// The observer of one endpoint.
#[derive(Debug)]
pub struct EndpointObserver {
    pub(super) pattern: Arc<str>,
    /// In KrakenD's notation.
    pub(super) route: Arc<str>,
    pub(super) method: Method,
    pub(super) proxy: Layer,
    /// Added to the attributes of the service.
    pub(super) metric_attributes: Vec<Attribute>,
    pub(super) trace_attributes: Vec<Attribute>,
    /// Excluded by `skip_paths`.
    pub(super) skipped: bool,
    pub(super) server: AppendList<(u16, bool, bool), ServerSeries>,
    pub(super) works: AppendList<(bool, bool, bool), Arc<Histogram>>,
}

/// The observer of one backend.
#[derive(Debug)]
pub struct BackendObserver {
    pub(super) pattern: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) method: Method,
    pub(super) endpoint: Arc<EndpointObserver>,
    pub(super) layer: BackendLayer,
    pub(super) convention: Convention,
    /// The body of an error response is read.
    pub(super) reads_errors: bool,
    /// Its work ends with the head of its response.
    pub(super) streams: bool,
    pub(super) store: Option<Arc<Store>>,
    pub(super) works: AppendList<(bool, bool, bool), Arc<Histogram>>,
    trips: AppendList<round_trip::Key, round_trip::RoundTripSeries>,
    reads: AppendList<bool, round_trip::ReadSeries>,
    native: Option<Arc<Native>>,
    native_calls: AppendList<&'static str, Arc<Counter>>,
    native_lookups: AppendList<&'static str, Arc<Counter>>,
    native_trips: AppendList<(Arc<str>, usize), native::HostSeries>,
}

/// The series of one status.
#[derive(Debug)]
pub(super) struct ServerSeries {
    pub(super) duration: Arc<Histogram>,
    pub(super) size: Arc<Histogram>,
}

/// The data of an endpoint that its observer needs.
#[derive(Debug)]
pub struct EndpointFacts<'a> {
    pub pattern: &'a Arc<str>,
    pub method: &'a Method,
    /// The endpoint's own settings. `None` uses those of the service.
    pub proxy: Option<Layer>,
    pub metric_attributes: Vec<Attribute>,
    pub trace_attributes: Vec<Attribute>,
}

impl Observer {
    pub fn new(
        settings: Settings,
        store: Option<Arc<Store>>,
        exporters: Box<[Arc<Exporter>]>,
        native: Option<Arc<Native>>,
    ) -> Observer {
        Observer {
            settings,
            store,
            exporters,
            native,
            others: AppendList::default(),
        }
    }

    /// An observer that neither reads nor writes trace contexts, for our own metrics and the access log.
    pub fn quiet(native: Option<Arc<Native>>) -> Observer {
        let settings = Settings {
            quiet: true,
            ..Settings::default()
        };
        Observer::new(settings, None, Box::default(), native)
    }

    /// The handles of one endpoint.
    pub fn endpoint(&self, facts: EndpointFacts<'_>) -> EndpointObserver {
        EndpointObserver {
            pattern: Arc::clone(facts.pattern),
            route: settings::route(facts.pattern).into(),
            method: facts.method.clone(),
            proxy: facts
                .proxy
                .unwrap_or_else(|| self.settings.layers.proxy.clone()),
            metric_attributes: facts.metric_attributes,
            trace_attributes: facts.trace_attributes,
            skipped: self.settings.skips(facts.pattern),
            server: AppendList::default(),
            works: AppendList::default(),
        }
    }

    /// The handles of one backend of `endpoint`. `layer` is its own setting.
    pub fn backend(
        &self,
        endpoint: &Arc<EndpointObserver>,
        pattern: &str,
        method: &Method,
        layer: Option<BackendLayer>,
        (reads_errors, streams): (bool, bool),
    ) -> BackendObserver {
        BackendObserver {
            pattern: pattern.into(),
            route: settings::backend_route(pattern).into(),
            method: method.clone(),
            endpoint: Arc::clone(endpoint),
            layer: layer.unwrap_or_else(|| self.settings.layers.backend.clone()),
            convention: self.settings.convention,
            reads_errors,
            streams,
            store: self.store.clone(),
            works: AppendList::default(),
            trips: AppendList::default(),
            reads: AppendList::default(),
            native: self.native.clone(),
            native_calls: AppendList::default(),
            native_lookups: AppendList::default(),
            native_trips: AppendList::default(),
        }
    }

    /// Removes the series of endpoints that no longer exist.
    pub fn keep_routes(&self, patterns: &HashSet<&str>) {
        if let Some(native) = &self.native {
            native.0.keep_routes(patterns);
        }
        let Some(store) = &self.store else { return };
        let written: Vec<String> = patterns.iter().map(|it| settings::route(it)).collect();
        let both = patterns
            .iter()
            .copied()
            .chain(written.iter().map(String::as_str));
        store.keep_routes(&both.collect());
    }

    /// Whether there is an exporter of spans.
    pub fn traces(&self) -> bool {
        self.exporters.iter().any(|exporter| exporter.takes_spans())
    }

    /// Passes a span to all exporters of spans.
    pub(super) fn push(&self, span: Span) {
        let mut takers = self
            .exporters
            .iter()
            .filter(|exporter| exporter.takes_spans());
        let Some(last) = takers.next_back() else {
            return;
        };
        let span = Box::new(span);
        takers.for_each(|exporter| exporter.push(span.clone()));
        last.push(span);
    }
}

impl EndpointObserver {
    /// Whether the span of the endpoint's work shows headers.
    fn shows_headers(&self) -> bool {
        self.proxy.report_headers && self.proxy.traces && !self.skipped
    }

    /// Records the headers that the endpoint works with: those that may pass to backends.
    pub(crate) fn works_with(&self, headers: &HeaderMap) {
        if self.shows_headers()
            && let Some(request) = current().filter(|request| request.recorded)
        {
            request.show_work("request", headers, &self.proxy.skip_headers);
        }
    }
}

impl BackendObserver {
    /// Names the call's place in the configuration: the attributes that all spans of a backend share.
    pub(super) fn set_place(&self, span: &mut Span, method: &Method, stage: &'static str) {
        span.attributes.extend(self.own_labels(method));
        span.set("krakend.stage", stage);
    }

    /// Labels of all series of the backend.
    fn own_labels(&self, method: &Method) -> Vec<Attribute> {
        vec![
            ("http.request.method".into(), method_value(method)),
            ("http.route".into(), Value::from(&self.route)),
            (
                "krakend.endpoint.route".into(),
                Value::from(&self.endpoint.route),
            ),
            (
                "krakend.endpoint.method".into(),
                method_value(&self.endpoint.method),
            ),
        ]
    }
}

/// The label value of a method: one of a closed list (RFC 9110 §9.3 and PATCH).
pub(super) fn method_value(method: &Method) -> Value {
    Value::Text(known_method(method).unwrap_or("_OTHER").into())
}

pub(super) fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

/// Represents all statuses outside of 100 to 599, which RFC 9110 §15 does not define.
const ODD_STATUS: u16 = u16::MAX;

/// A status as series count it. 0 means that there was no response.
pub(super) fn counted_status(status: u16) -> u16 {
    match status {
        0 | 100..=599 => status,
        _ => ODD_STATUS,
    }
}

/// The label value of a status: a number, or `_OTHER`.
pub(super) fn status_value(status: u16) -> Value {
    match counted_status(status) {
        ODD_STATUS => "_OTHER".into(),
        status => status.into(),
    }
}

/// `error.type` of a status.
pub(super) fn status_error(status: u16) -> Value {
    match counted_status(status) {
        ODD_STATUS => "_OTHER".into(),
        status => status.to_string().into(),
    }
}

/// The labels for the result of work.
pub(super) fn outcome_labels(complete: bool, error: bool, canceled: bool) -> [Attribute; 3] {
    [
        ("error".into(), error.into()),
        ("canceled".into(), canceled.into()),
        ("complete".into(), complete.into()),
    ]
}

/// What a task works on.
#[derive(Debug)]
enum Current {
    Request(Arc<Request>),
    /// A call within a request.
    Call(Arc<call::CallContext>),
    /// A call within a request that nothing shows.
    Unseen(Arc<Request>),
}

impl Current {
    fn request(&self) -> &Arc<Request> {
        match self {
            Current::Request(request) | Current::Unseen(request) => request,
            Current::Call(call) => &call.request,
        }
    }

    fn call(&self) -> Option<&Arc<call::CallContext>> {
        match self {
            Current::Request(_) | Current::Unseen(_) => None,
            Current::Call(call) => Some(call),
        }
    }
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Runs `work` as part of `request`.
pub(crate) fn within<F: Future>(
    request: &Arc<Request>,
    work: F,
) -> impl Future<Output = F::Output> {
    CURRENT.scope(Current::Request(Arc::clone(request)), work)
}

/// The request that the current task handles, if it is observed.
pub(crate) fn current() -> Option<Arc<Request>> {
    CURRENT
        .try_with(|current| Arc::clone(current.request()))
        .ok()
}

/// The trace and span of log lines of the current task.
pub(crate) fn ids() -> Option<(TraceId, SpanId, bool)> {
    CURRENT.try_with(|current| current.request().ids()).ok()?
}
