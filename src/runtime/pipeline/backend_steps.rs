//! The steps around one call. Each step that was entered is ended exactly once.

use smallvec::SmallVec;

use super::time_limit::TimeLimit;
use crate::runtime::failure::{self, Failure, Kind};
use crate::runtime::step::{Answer, BackendStep, Outcome, Ticket};

/// The tickets of a call in progress.
#[derive(Debug)]
pub(super) struct BackendSteps<'a> {
    steps: &'a [Box<dyn BackendStep>],
    tickets: SmallVec<[Ticket; 2]>,
    limit: &'a TimeLimit,
}

impl<'a> BackendSteps<'a> {
    /// Enters all steps, outermost first. If one rejects the call, the steps outside of it see that.
    ///
    /// # Errors
    /// The rejection.
    pub(super) fn enter(
        steps: &'a [Box<dyn BackendStep>],
        limit: &'a TimeLimit,
    ) -> Result<BackendSteps<'a>, Failure> {
        let mut guard = BackendSteps {
            steps,
            tickets: SmallVec::new(),
            limit,
        };
        for step in steps {
            match step.before() {
                Ok(ticket) => guard.tickets.push(ticket),
                Err(rejection) => {
                    guard.end(outcome(&rejection), Answer::NotAsked);
                    return Err(rejection);
                }
            }
        }
        Ok(guard)
    }

    /// Reports the failure of the call.
    pub(super) fn failed(&mut self, failure: &Failure) {
        if counts_nowhere(failure.kind) {
            let tickets = std::mem::take(&mut self.tickets);
            for (step, ticket) in self.steps.iter().zip(tickets).rev() {
                step.release(ticket);
            }
            return;
        }
        self.end(outcome(failure), failure.answer());
    }

    /// Reports the end of the call to the steps, innermost first.
    pub(super) fn end(&mut self, outcome: Outcome, answer: Answer) {
        let tickets = std::mem::take(&mut self.tickets);
        for (step, ticket) in self.steps.iter().zip(tickets).rev() {
            step.ended(ticket, outcome, answer);
        }
    }
}

/// Whether not even a metric counts the call: the client caused the failure, or there was no message.
fn counts_nowhere(kind: Kind) -> bool {
    use failure::Guard::{BadInput, IpFilter};
    kind.is_of_client() || matches!(kind, Kind::Empty | Kind::Guarded(BadInput | IpFilter))
}

fn outcome(failure: &Failure) -> Outcome {
    if is_of_gateway(failure) {
        Outcome::Rejected
    } else {
        Outcome::Failure
    }
}

/// Whether the gateway rejected the request, for a reason that the client may choose or that the whole process has. No
/// circuit breaker counts this: a client whose requests are rejected must not switch a backend off for the others.
///
/// Rate limits, expressions and scripts of a backend are exceptions: KrakenD counts their rejections. What judges only
/// the response, such as its schema, is counted too.
fn is_of_gateway(failure: &Failure) -> bool {
    failure.by_step
        || match failure.kind {
            Kind::Guarded(_) => !counts_in_krakend(failure.kind),
            Kind::Request
            | Kind::TokenMissing
            | Kind::ExchangeRefused
            | Kind::ExchangeForbidden
            | Kind::Full => true,
            _ => false,
        }
}

/// Whether a rejection with this reason is one that a circuit breaker of KrakenD counts.
pub(super) fn counts_in_krakend(kind: Kind) -> bool {
    use failure::Guard::{Cel, RateLimit, Script};
    matches!(kind, Kind::Guarded(Cel | RateLimit | Script) | Kind::Script)
}

impl Drop for BackendSteps<'_> {
    fn drop(&mut self) {
        // Dropped in progress: after the limit this is a failure; otherwise (the client closed its connection, another
        // call won) it counts for nothing.
        if self.limit.has_passed() {
            self.end(Outcome::Failure, Answer::Nothing);
        }
    }
}
