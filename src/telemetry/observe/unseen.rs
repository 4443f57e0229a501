//! A round trip of a request that neither spans nor series nor the access log show.

use std::sync::Arc;

use super::{CURRENT, Current, Request};
use crate::telemetry::trace::SpanId;
use crate::telemetry::trace::context::Outbound;

/// Passes the trace of the request on to the host. This is all that most requests need if few are recorded.
#[derive(Debug)]
pub(crate) struct Unseen {
    request: Arc<Request>,
    id: SpanId,
}

impl Unseen {
    /// Starts a round trip within the call of the current task, if nothing shows that call and its host gets a context.
    pub(crate) fn begin() -> Option<Unseen> {
        let request = CURRENT.try_with(|current| match current {
            Current::Unseen(request) => Some(Arc::clone(request)),
            Current::Request(_) | Current::Call(_) => None,
        });
        let request = request.ok()??;
        let writes = request.observer.settings.writes;
        writes.then(|| Unseen {
            request,
            id: SpanId::random(),
        })
    }

    /// The trace context for the host.
    pub(crate) fn context(&self) -> Outbound<'_> {
        self.request.outbound(self.id)
    }
}
