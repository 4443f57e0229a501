//! A client request, from its head to the end of its response.

mod attributes;
mod report;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{EndpointObserver, ErrorType, Observer};
use crate::telemetry::observe::settings::{Exemplars, Trust};
use crate::telemetry::trace::context::{self, ClientContext, Outbound};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Attribute, Clock, Mark, SpanId, TraceId};

pub(super) use attributes::{agent, header_attributes, split_host};

/// No status of gRPC is this large.
const NO_GRPC: u32 = u32::MAX;

/// The value of `grpc-status`, in the head of a response or in its trailers.
pub(crate) fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    let status = fields.get("grpc-status")?.to_str().ok()?.trim().parse();
    status.ok().filter(|status| *status != NO_GRPC)
}

/// What is known about a request when it arrives.
#[derive(Debug)]
pub(crate) struct RequestStart<'a> {
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// The peer is a trusted proxy.
    pub by_trusted_proxy: bool,
    /// The access log shows the host that responded.
    pub is_logged: bool,
    pub at: Instant,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) observer: Arc<Observer>,
    pub trace: TraceId,
    parent: Option<SpanId>,
    link: Option<(TraceId, SpanId)>,
    random: bool,
    pub(super) state: Option<HeaderValue>,
    baggage: Option<HeaderValue>,
    pub(super) recorded: bool,
    /// Spans, series or the access log show its calls.
    pub(super) shows_calls: bool,
    /// The context that is sent to backends.
    sampled: bool,
    /// The client asks for a trace with all details.
    debug: bool,
    /// The path is excluded by `skip_paths`.
    skipped: bool,
    pub(super) server: SpanId,
    proxy: SpanId,
    pub(super) clock: Clock,
    /// When the endpoint's work started.
    worked: Mark,
    /// When the head of a streamed response arrived, which ends the work.
    streamed: Mark,
    /// The endpoint that the request was routed to, if the request is recorded.
    routed: OnceLock<Arc<EndpointObserver>>,
    /// Why the first failed call failed, and the status that it had.
    error: OnceLock<(ErrorType, u16)>,
    /// The headers that the span of the endpoint's work shows.
    work_headers: Mutex<Vec<Attribute>>,
    /// The first host that responded, for the access log.
    upstream: OnceLock<(Arc<str>, u16)>,
    /// The first host that did not.
    silent: OnceLock<Arc<str>>,
    upstream_nanos: AtomicU64,
    /// `grpc-status` of the last response, and [`NO_GRPC`] without one.
    grpc: AtomicU32,
}

/// The parts of a request that only its span shows.
#[derive(Debug)]
pub(crate) struct SpanDetails<'a> {
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub host: &'a str,
    pub peer: IpAddr,
    pub client: IpAddr,
    pub headers: &'a HeaderMap,
}

/// What is known about a request when it has ended.
pub(crate) struct RequestEnd<'a> {
    pub endpoint: Option<&'a EndpointObserver>,
    pub method: &'a Method,
    pub secure: bool,
    /// `1.1` or `2`.
    pub version: &'static str,
    /// Called only for a request that is recorded.
    pub shown: &'a dyn Fn() -> Option<SpanDetails<'a>>,
    pub response_headers: Option<&'a HeaderMap>,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub took: Duration,
    /// The endpoint's work: whether it is complete, whether it failed, and its duration.
    pub work: Option<(bool, bool, Duration)>,
    /// The client closed its connection before the response.
    pub client_closed: bool,
}

impl Request {
    /// Reads the client's context and decides whether the request is recorded.
    pub(crate) fn begin(observer: &Arc<Observer>, start: &RequestStart<'_>) -> Arc<Request> {
        Arc::new(Request::new(observer, start))
    }

    /// The calls of a message of a queue. They are in the series of backends, and not in traces.
    #[cfg(feature = "amqp")]
    pub(crate) fn of_message(observer: &Arc<Observer>) -> Arc<Request> {
        let start = RequestStart {
            path: "",
            headers: &HeaderMap::new(),
            by_trusted_proxy: false,
            is_logged: false,
            at: Instant::now(),
        };
        Arc::new(Request {
            recorded: false,
            sampled: false,
            ..Request::new(observer, &start)
        })
    }

    fn new(observer: &Arc<Observer>, start: &RequestStart<'_>) -> Request {
        let settings = &observer.settings;
        let told = if settings.reads {
            ClientContext::read(start.headers, settings.formats)
        } else {
            None
        };
        let trusted = match settings.trust {
            Trust::Always => true,
            Trust::Proxies => start.by_trusted_proxy,
            Trust::Never => false,
        };
        let debug = match &told {
            Some(ClientContext::Parent(parent)) => trusted && parent.debug,
            Some(ClientContext::Decision { debug, .. }) => trusted && *debug,
            None => false,
        };
        let (parent, link, decided) = match told {
            Some(ClientContext::Parent(parent)) if !trusted => {
                (None, Some((parent.trace, parent.span)), None)
            }
            Some(ClientContext::Parent(parent)) => {
                let decided = parent.sampled;
                (Some(parent), None, decided)
            }
            Some(ClientContext::Decision { sampled, .. }) => {
                (None, None, trusted.then_some(sampled))
            }
            None => (None, None, None),
        };
        let trace = parent.as_ref().map_or_else(TraceId::random, |p| p.trace);
        let decided = decided.filter(|_| !settings.ignores_parents);
        let chosen = decided.unwrap_or_else(|| is_chosen(trace, settings.rate));
        let recorded = chosen && observer.traces();
        let shows_calls =
            recorded || start.is_logged || observer.store.is_some() || observer.native.is_some();
        let server = SpanId::random();
        let baggage = settings.reads && settings.formats.baggage;
        Request {
            trace,
            link,
            // Our ids are random too, but KrakenD sends 01, and some backends compare the flags.
            random: parent.as_ref().is_some_and(|parent| parent.random),
            parent: parent.as_ref().map(|parent| parent.span),
            state: parent.and_then(|parent| parent.state),
            baggage: baggage.then(|| context::baggage(start.headers)).flatten(),
            recorded,
            shows_calls,
            sampled: recorded || chosen && settings.keeps_decision,
            debug,
            skipped: (recorded || observer.store.is_some()) && settings.skips(start.path),
            server,
            // It is never shown for a request that is not recorded.
            proxy: if recorded { SpanId::random() } else { server },
            clock: Clock::started(start.at),
            worked: Mark::default(),
            streamed: Mark::default(),
            routed: OnceLock::new(),
            error: OnceLock::new(),
            work_headers: Mutex::default(),
            upstream: OnceLock::new(),
            silent: OnceLock::new(),
            upstream_nanos: AtomicU64::new(0),
            grpc: AtomicU32::new(NO_GRPC),
            observer: Arc::clone(observer),
        }
    }

    /// Records the endpoint that handles the request.
    pub(crate) fn routed(&self, endpoint: Option<&Arc<EndpointObserver>>) {
        if let (true, Some(endpoint)) = (self.recorded, endpoint) {
            let _ = self.routed.set(Arc::clone(endpoint));
        }
    }

    /// Whether steps that wait get spans.
    pub(super) fn has_step_spans(&self) -> bool {
        let skipped = self.routed.get().is_some_and(|endpoint| endpoint.skipped);
        self.recorded && !skipped && !self.skipped
    }

    /// The parent span of a step outside of calls.
    pub(super) fn step_parent(&self) -> Option<SpanId> {
        match (self.worked.get(&self.clock), self.routed.get()) {
            (Some(_), Some(endpoint)) => self.work_span(endpoint),
            _ if self.has_server_span() => Some(self.server),
            _ => self.parent,
        }
    }

    /// `grpc-status` of the last response of a host.
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        let status = self.grpc.load(Ordering::Relaxed);
        (status != NO_GRPC).then_some(status)
    }

    pub(super) fn answered_grpc(&self, fields: &HeaderMap) {
        if let Some(status) = grpc_status(fields) {
            self.grpc.store(status, Ordering::Relaxed);
        }
    }

    /// The span as an example of a measurement, if histograms keep one.
    pub(super) fn example(&self, span: SpanId) -> Option<(TraceId, SpanId)> {
        let is_kept = match self.observer.settings.exemplars {
            Exemplars::Recorded => self.recorded,
            Exemplars::All => true,
            Exemplars::None => false,
        };
        is_kept.then_some((self.trace, span))
    }

    /// The span of the whole request as an example.
    pub(crate) fn whole_example(&self) -> Option<(TraceId, SpanId)> {
        self.example(self.server)
    }

    /// Records the start of the endpoint's work.
    pub(crate) fn works(&self, since: Instant) {
        if self.is_reported() {
            self.worked.set(&self.clock, since);
        }
    }

    /// Whether spans or series show the request. Otherwise its times are not needed.
    pub(crate) fn is_reported(&self) -> bool {
        self.recorded || self.observer.store.is_some()
    }

    /// Trace and span for log lines, and whether they are recorded.
    pub(crate) fn ids(&self) -> Option<(TraceId, SpanId, bool)> {
        let quiet = self.observer.settings.quiet;
        (!quiet).then_some((self.trace, self.server, self.recorded))
    }

    /// Host and status of the first response, and the duration of the slowest call. Without any response the host is
    /// the first one that was called, and the status 0.
    pub(crate) fn upstream(&self) -> Option<(&Arc<str>, u16, Duration)> {
        let answered = self.upstream.get().map(|(host, status)| (host, *status));
        let (host, status) = answered.or_else(|| Some((self.silent.get()?, 0)))?;
        let time = Duration::from_nanos(self.upstream_nanos.load(Ordering::Relaxed));
        Some((host, status, time))
    }

    pub(super) fn answered(&self, host: Arc<str>, status: u16, took: Duration) {
        match status {
            0 => drop(self.silent.set(host)),
            _ => drop(self.upstream.set((host, status))),
        }
        self.upstream_nanos
            .fetch_max(nanos(took), Ordering::Relaxed);
    }

    pub(super) fn streamed(&self, at: Instant) {
        if self.is_reported() {
            self.streamed.set(&self.clock, at);
        }
    }

    pub(super) fn failed(&self, error: ErrorType, status: u16) {
        let _ = self.error.set((error, status));
    }

    /// Adds headers to the span of the endpoint's work.
    pub(super) fn show_work(
        &self,
        side: &'static str,
        headers: &HeaderMap,
        skipped: &[HeaderName],
    ) {
        let shown = self.work_headers.lock();
        let mut shown = shown.unwrap_or_else(PoisonError::into_inner);
        shown.extend(header_attributes(side, headers, skipped));
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
            formats: self.observer.settings.formats,
            trace: self.trace,
            span,
            sampled: self.sampled,
            debug: self.debug,
            random: self.random,
            state: self.state.as_ref(),
            baggage: self.baggage.as_ref(),
        }
    }
}

/// Whether a trace without a parent is recorded. Every gateway with this rate selects the same traces.
fn is_chosen(trace: TraceId, rate: f64) -> bool {
    rate >= 1.0 || (trace.chance() as f64) < rate * (1_u64 << 63) as f64
}

#[cfg(test)]
mod tests;
