//! Decides by the status of the upstream.

use http::StatusCode;

use crate::ext::circuit_breaker::CircuitBreaker;
use crate::runtime::failure::Failure;
use crate::runtime::step::{Answer, BackendStep, Breaker, Outcome, Ticket};

/// A circuit breaker that counts all statuses except the listed ones as failures.
#[derive(Debug)]
pub(crate) struct HttpBreaker {
    breaker: CircuitBreaker,
    valid: Box<[u16]>,
}

impl HttpBreaker {
    /// `valid` are the statuses that are not failures.
    pub(crate) fn new(breaker: CircuitBreaker, mut valid: Vec<u16>) -> HttpBreaker {
        valid.sort_unstable();
        HttpBreaker {
            breaker,
            valid: valid.into(),
        }
    }

    /// An open WebSocket is what its endpoint asked for.
    fn is_valid(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS
            || self.valid.binary_search(&status.as_u16()).is_ok()
    }
}

impl BackendStep for HttpBreaker {
    fn before(&self) -> Result<Ticket, Failure> {
        self.breaker.before()
    }

    fn breaker(&self) -> Option<Breaker<'_>> {
        self.breaker.breaker()
    }

    fn after(&self, ticket: Ticket, outcome: Outcome) {
        self.breaker.after(ticket, outcome);
    }

    fn release(&self, ticket: Ticket) {
        self.breaker.release(ticket);
    }

    fn ended(&self, ticket: Ticket, _outcome: Outcome, answer: Answer) {
        match answer {
            Answer::Status(status) => self.breaker.record(ticket, !self.is_valid(status)),
            Answer::Nothing => self.breaker.record(ticket, true),
            Answer::NotAsked => self.breaker.release(ticket),
        }
    }
}
