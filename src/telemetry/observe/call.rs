//! One call of a backend within a request, including everything around its round trips.

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::Wait;
use super::request::header_attributes;
use super::{
    BackendObserver, CURRENT, Convention, Current, ErrorType, Parts, Request, outcome_labels,
    status_error,
};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Attribute, Mark, Span, SpanId, SpanKind, SpanStatus};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has a response. `false` means that part of it is missing.
    Answered(bool),
    /// Why there was no response.
    Failed(ErrorType),
    /// The result is no longer needed.
    Canceled,
}

/// The data that round trips need from the enclosing call.
#[derive(Debug)]
pub(super) struct CallContext {
    pub(super) observer: Arc<BackendObserver>,
    pub(super) request: Arc<Request>,
    /// The parent of their spans.
    pub(super) parent: Option<SpanId>,
    /// The deadline of the call.
    pub(super) deadline: Instant,
    cached: AtomicBool,
    /// The status of the last response.
    pub(super) status: AtomicU16,
    /// When the head of the response arrived.
    pub(super) headed: Mark,
    /// The headers that the span of the call shows.
    headers: Mutex<Vec<Attribute>>,
}

impl CallContext {
    /// Whether the series or the spans of the backend contain a part.
    pub(super) fn needs(&self, part: impl Fn(&Parts) -> bool) -> bool {
        let layer = &self.observer.layer;
        (self.observer.store.is_some() && part(&layer.metrics))
            || (self.request.recorded && part(&layer.traces))
    }

    /// Whether the span of the call shows headers.
    fn shows_headers(&self) -> bool {
        let layer = &self.observer.layer.traces;
        self.request.recorded && layer.stage && layer.report_headers
    }

    fn show_headers(&self, side: &'static str, headers: &HeaderMap) {
        let skipped = &self.observer.layer.traces.skip_headers;
        let mut shown = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        shown.extend(header_attributes(side, headers, skipped));
    }

    /// Records the head of the response for the spans of the call and of the endpoint. Only a streamed response keeps its
    /// headers.
    pub(super) fn answered(&self, headers: &HeaderMap) {
        if !self.request.recorded || !self.observer.streams {
            return;
        }
        if self.shows_headers() {
            self.show_headers("response", headers);
        }
        let endpoint = &self.observer.endpoint;
        if endpoint.shows_headers() {
            self.request
                .show_work("response", headers, &endpoint.proxy.skip_headers);
        }
    }
}

/// A call in progress.
#[derive(Debug)]
pub(crate) enum Call {
    Seen(SeenCall),
    /// Of a request that nothing shows.
    Unseen(Arc<Request>),
}

impl Call {
    /// Starts a call of the backend, within the request that the current task handles. `deadline` is its deadline, and
    /// `headers` are those that the steps of the backend get.
    pub(crate) fn begin(
        observer: Option<&Arc<BackendObserver>>,
        deadline: Instant,
        headers: &HeaderMap,
    ) -> Option<Call> {
        let observer = observer?;
        let call = Call::of(observer, super::current()?, deadline);
        if let Call::Seen(call) = &call
            && call.under.shows_headers()
        {
            call.under.show_headers("request", headers);
        }
        Some(call)
    }

    /// The same for a request of another task.
    pub(crate) fn of(
        observer: &Arc<BackendObserver>,
        request: Arc<Request>,
        deadline: Instant,
    ) -> Call {
        if request.shows_calls {
            Call::Seen(SeenCall::of(observer, request, deadline))
        } else {
            Call::Unseen(request)
        }
    }

    /// Runs `work` as part of this call.
    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let current = match self {
            Call::Seen(call) => Current::Call(Arc::clone(&call.under)),
            Call::Unseen(request) => Current::Unseen(Arc::clone(request)),
        };
        CURRENT.scope(current, work)
    }

    /// Reports the result.
    pub(crate) fn end(self, outcome: Outcome) {
        if let Call::Seen(mut call) = self {
            call.report(outcome);
        }
    }
}

/// A call that is reported. If it is dropped without a result, it was cancelled: its deadline passed, or its result is no
/// longer needed.
#[derive(Debug)]
pub(crate) struct SeenCall {
    under: Arc<CallContext>,
    id: SpanId,
    /// `None` if nothing shows the duration.
    began: Option<Instant>,
    ended: bool,
}

impl SeenCall {
    fn of(observer: &Arc<BackendObserver>, request: Arc<Request>, deadline: Instant) -> SeenCall {
        let recorded = request.recorded;
        // The id of a request that is not recorded is never shown.
        let id = if recorded {
            SpanId::random()
        } else {
            request.server
        };
        let is_timed = recorded || observer.store.is_some();
        let staged = observer.layer.traces.stage && !observer.endpoint.skipped;
        let parent = if staged {
            Some(id)
        } else {
            request.work_span(&observer.endpoint)
        };
        SeenCall {
            under: Arc::new(CallContext {
                observer: Arc::clone(observer),
                request,
                parent,
                deadline,
                cached: AtomicBool::new(false),
                status: AtomicU16::new(0),
                headed: Mark::default(),
                headers: Mutex::default(),
            }),
            id,
            began: is_timed.then(Instant::now),
            ended: false,
        }
    }

    fn report(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Outcome::Failed(error) = outcome {
            let status = self.under.status.load(Ordering::Relaxed);
            self.under.request.failed(error, status);
        }
        let cached = self.under.cached.load(Ordering::Relaxed);
        self.under.observer.count_call(outcome, cached);
        let Some(began) = self.began else {
            return;
        };
        let took = self.took(began);
        if self.under.observer.endpoint.skipped {
            return;
        }
        self.count(outcome, took);
        if self.under.request.recorded && self.under.observer.layer.traces.stage {
            let span = self.span(outcome, began, took);
            self.under.request.observer.push(span);
        }
    }

    /// The duration of the work. That of a stream ends with the head of the response.
    fn took(&self, began: Instant) -> Duration {
        let request = &self.under.request;
        if self.under.observer.streams
            && let Some(headed) = self.under.headed.get(&request.clock)
        {
            request.streamed(headed);
            return headed.saturating_duration_since(began);
        }
        began.elapsed()
    }

    fn count(&self, outcome: Outcome, took: Duration) {
        let observer = &self.under.observer;
        let (Some(store), true) = (&observer.store, observer.layer.metrics.stage) else {
            return;
        };
        let key = match outcome {
            Outcome::Answered(complete) => (complete, false, false),
            Outcome::Failed(_) => (false, true, false),
            Outcome::Canceled => (false, false, true),
        };
        let histogram = observer.works.get_or_make(&key, || {
            let (complete, error, canceled) = key;
            let mut labels = observer.own_labels(&observer.method);
            labels.extend(outcome_labels(complete, error, canceled));
            labels.extend_from_slice(&observer.layer.metrics.attributes);
            store.histogram(&super::names::BACKEND, &labels)
        });
        histogram.record_time(took, self.under.request.example(self.id));
    }

    fn span(&self, outcome: Outcome, began: Instant, took: Duration) -> Span {
        let CallContext {
            observer, request, ..
        } = &*self.under;
        let start = request.clock.at(began);
        let mut span = Span {
            trace: request.trace,
            id: self.id,
            parent: request.work_span(&observer.endpoint),
            state: request.state.clone(),
            name: match observer.convention {
                Convention::Stable => format!("backend {}", observer.pattern).into(),
                _ => observer.route.to_string().into(),
            },
            kind: SpanKind::Internal,
            start,
            end: start + nanos(took),
            attributes: Vec::with_capacity(10),
            events: Vec::new(),
            link: None,
            status: match outcome {
                Outcome::Failed(_) => SpanStatus::Error(Cow::Borrowed("")),
                _ => SpanStatus::Unset,
            },
        };
        observer.set_place(&mut span, &observer.method, "backend");
        let status = self.under.status.load(Ordering::Relaxed);
        if status > 0 {
            span.set("http.response.status_code", status);
        }
        if self.under.cached.load(Ordering::Relaxed) {
            span.set("krakend.cache", "hit");
        }
        match outcome {
            Outcome::Answered(complete) => span.set("complete", complete),
            Outcome::Failed(error) => {
                span.set("complete", false);
                span.set("error", error.as_str());
                match error {
                    ErrorType::Status => span.set("error.type", status_error(status)),
                    error => span.set("error.type", error.as_str()),
                }
            }
            Outcome::Canceled => {
                span.set("complete", false);
                span.set("canceled", true);
            }
        }
        let headers = self.under.headers.lock();
        span.attributes
            .append(&mut headers.unwrap_or_else(PoisonError::into_inner));
        span.add(&observer.layer.traces.attributes);
        span
    }
}

impl Drop for SeenCall {
    fn drop(&mut self) {
        if !self.ended {
            let late = Instant::now() >= self.under.deadline;
            self.report(if late {
                let late = Wait::noted().map_or(ErrorType::Timeout, ErrorType::from);
                Outcome::Failed(late)
            } else {
                Outcome::Canceled
            });
        }
    }
}

/// What a response cache had for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    Hit,
    Miss,
    /// A response that the host must confirm.
    Stale,
    /// The client wants a response of the host, or accepts only a stored one that is not there.
    Bypass,
}

impl Lookup {
    fn as_str(self) -> &'static str {
        match self {
            Lookup::Hit => "hit",
            Lookup::Miss => "miss",
            Lookup::Stale => "stale",
            Lookup::Bypass => "bypass",
        }
    }
}

/// Records what a cache had for the call of the current task.
pub(crate) fn looked_up(lookup: Lookup) {
    let _ = CURRENT.try_with(|current| {
        if let Some(call) = current.call() {
            if lookup == Lookup::Hit {
                call.cached.store(true, Ordering::Relaxed);
            }
            call.observer.count_lookup(lookup.as_str());
        }
    });
}
