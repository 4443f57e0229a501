//! Counts the calls of one backend for `/__stats`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::failure::Failure;
use crate::runtime::step::{BackendStep, Outcome, Ticket};
use crate::telemetry::stats::{Layer, Requests, Stats};

/// The outermost of a backend's steps, so it also counts the rejections of inner steps.
#[derive(Debug)]
struct Counted {
    requests: Arc<Requests>,
    /// Tickets are times since this moment.
    epoch: Instant,
}

/// The step that counts calls to `pattern`. `None` if this is disabled.
pub(crate) fn backend(stats: &Stats, pattern: &Arc<str>) -> Option<Box<dyn BackendStep>> {
    let requests = stats.requests(Layer::Backend, pattern)?;
    Some(Box::new(Counted {
        requests,
        epoch: Instant::now(),
    }))
}

impl BackendStep for Counted {
    fn before(&self) -> Result<Ticket, Failure> {
        Ok(Ticket(
            u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX),
        ))
    }

    fn after(&self, ticket: Ticket, outcome: Outcome) {
        let took = self
            .epoch
            .elapsed()
            .saturating_sub(Duration::from_nanos(ticket.0));
        let (complete, error) = match outcome {
            Outcome::Success | Outcome::Streamed { .. } => (true, false),
            Outcome::Incomplete => (false, false),
            Outcome::Failure | Outcome::Rejected => (false, true),
        };
        self.requests.record(complete, error, took);
    }
}
