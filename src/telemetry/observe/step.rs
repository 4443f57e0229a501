//! Steps that wait: a token check without keys, a script, a query to Redis.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use super::{CURRENT, Request};
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{Span, SpanId, SpanKind, SpanStatus};

/// A step in progress. Its span is reported on drop, also if the step is cancelled.
struct Step {
    request: Arc<Request>,
    parent: Option<SpanId>,
    name: &'static str,
    began: Instant,
}

/// Runs `work` with a span called `name`, if the request of the current task is recorded.
pub(crate) async fn step<F: Future>(name: &'static str, work: F) -> F::Output {
    let _step = Step::begin(name);
    work.await
}

impl Step {
    fn begin(name: &'static str) -> Option<Step> {
        CURRENT
            .try_with(|current| {
                let request = current.request();
                if !request.has_step_spans() {
                    return None;
                }
                let parent = match current.call() {
                    Some(call) => call.parent,
                    None => request.step_parent(),
                };
                Some(Step {
                    request: Arc::clone(request),
                    parent,
                    name,
                    began: Instant::now(),
                })
            })
            .ok()?
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let start = self.request.clock.at(self.began);
        let mut span = Span {
            trace: self.request.trace,
            id: SpanId::random(),
            parent: self.parent,
            state: self.request.state.clone(),
            name: self.name.into(),
            kind: SpanKind::Internal,
            start,
            end: start + nanos(self.began.elapsed()),
            attributes: Vec::with_capacity(1),
            events: Vec::new(),
            link: None,
            status: SpanStatus::Unset,
        };
        span.set("krakend.stage", "step");
        self.request.observer.push(span);
    }
}
