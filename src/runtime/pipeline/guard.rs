//! The steps around one call; what was begun is ended exactly once.

use smallvec::SmallVec;

use super::limit::Limit;
use crate::runtime::failure::Failure;
use crate::runtime::step::{Answer, BackendStep, Outcome, Ticket};

/// The tickets of a call under way.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    steps: &'a [Box<dyn BackendStep>],
    tickets: SmallVec<[Ticket; 2]>,
    limit: &'a Limit,
}

impl<'a> Guard<'a> {
    /// Passes all steps, outermost first. When one refuses, those outside of it see a failed call: a circuit breaker
    /// counts refusals of the rate limit within, as KrakenD does.
    ///
    /// # Errors
    /// The refusal.
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

    /// Tells the steps how the call ended, innermost first.
    pub(super) fn end(&mut self, outcome: Outcome, answer: Answer) {
        let tickets = std::mem::take(&mut self.tickets);
        for (step, ticket) in self.steps.iter().zip(tickets).rev() {
            step.ended(ticket, outcome, answer);
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Dropped under way: too late is a failure, anything else (the client left, another call won) counts for
        // nothing.
        if self.limit.has_passed() {
            self.end(Outcome::Failure, Answer::Nothing);
        }
    }
}
