//! The steps around one call. Each step that was entered is ended exactly once.

use smallvec::SmallVec;

use super::limit::Limit;
use crate::runtime::failure::Failure;
use crate::runtime::step::{Answer, BackendStep, Outcome, Ticket};

/// The tickets of a call in progress.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    steps: &'a [Box<dyn BackendStep>],
    tickets: SmallVec<[Ticket; 2]>,
    limit: &'a Limit,
}

impl<'a> Guard<'a> {
    /// Enters all steps, outermost first. If one rejects the call, the steps outside of it see a failed call: as in
    /// KrakenD, a circuit breaker counts rejections of the rate limit inside it.
    ///
    /// # Errors
    /// The rejection.
    pub(super) fn enter(
        steps: &'a [Box<dyn BackendStep>],
        limit: &'a Limit,
    ) -> Result<Guard<'a>, Failure> {
        let mut guard = Guard {
            steps,
            tickets: SmallVec::new(),
            limit,
        };
        for step in steps {
            match step.before() {
                Ok(ticket) => guard.tickets.push(ticket),
                Err(rejection) => {
                    guard.end(Outcome::Failure, Answer::NotAsked);
                    return Err(rejection);
                }
            }
        }
        Ok(guard)
    }

    /// The end of the call counts for nothing.
    pub(super) fn forget(&mut self) {
        self.tickets.clear();
    }

    /// Reports the end of the call to the steps, innermost first.
    pub(super) fn end(&mut self, outcome: Outcome, answer: Answer) {
        let tickets = std::mem::take(&mut self.tickets);
        for (step, ticket) in self.steps.iter().zip(tickets).rev() {
            step.ended(ticket, outcome, answer);
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Dropped in progress: after the limit this is a failure; otherwise (the client closed its connection, another
        // call won) it counts for nothing.
        if self.limit.has_passed() {
            self.end(Outcome::Failure, Answer::Nothing);
        }
    }
}
