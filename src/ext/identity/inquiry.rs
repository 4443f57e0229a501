//! Calls to a server about a credential: introspection, token exchange, forward authentication. A *question* is the
//! content of such a call, an *answer* its result.
//!
//! Answers are cached under a keyed hash, with limits on bytes, entries and time. Equal questions at the same time cause
//! one call. A server that keeps failing is not called for a while. Every wait ends at the deadline of its request.
//!
//! One client must not cause failures for others. So only failures of the server itself count: a timeout, a broken
//! connection, a status of 5xx. An answer about one request, a request with an early deadline, and a client that closes
//! its connection are not failures of the server. A call continues when its request has ended, and its answer is cached.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer_cache::{AnswerCache, CacheSize};
use super::scheduler::{CallPermit, CallScheduler, Client, ScheduleError};
use crate::ext::circuit_breaker::{CircuitBreaker, Settings};
use crate::runtime::clock::Clock;
use crate::runtime::single_flights::{Digest, End, Join, SingleFlights};
use crate::runtime::step::{BackendStep, Outcome};

/// The maximum number of calls to one server at the same time. Further questions wait for one of them to end.
const MAX_CALLS: usize = 48;

/// The number of additional calls for questions whose last answer was positive. Clients cannot occupy these with invented
/// credentials.
const MAX_CALLS_ABOUT_KNOWN: usize = 16;

/// The maximum number of questions that wait for their call. Beyond it, some are rejected at once.
const MAX_WAITING: usize = 256;

/// Consecutive failures after which the server is not called for a while.
const MAX_FAILURES: u64 = 5;
const PAUSE: Duration = Duration::from_secs(5);

/// An answer, and how it is cached.
#[derive(Debug)]
pub(crate) struct CallResult<A> {
    pub answer: A,
    /// Zero if it must not be cached.
    pub keep: Duration,
    /// Its approximate size.
    pub bytes: usize,
    /// A negative answer is cached separately.
    pub refusal: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct NoAnswer {
    pub why: Cow<'static, str>,
    pub cause: Cause,
}

/// What prevented an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server failed. After several of these in a row, it is not called for a while.
    Server,
    /// The server works, but its response does not answer this question.
    Response,
    /// The deadline of the request has passed.
    Late,
    /// Too many questions are waiting.
    Busy,
}

impl NoAnswer {
    /// The deadline has passed.
    pub(crate) const LATE: NoAnswer = NoAnswer {
        why: Cow::Borrowed("no response in time"),
        cause: Cause::Late,
    };

    const BUSY: NoAnswer = NoAnswer {
        why: Cow::Borrowed("too many calls at the same time"),
        cause: Cause::Busy,
    };

    /// The server failed.
    pub(crate) fn new(why: impl Into<Cow<'static, str>>) -> NoAnswer {
        NoAnswer {
            why: why.into(),
            cause: Cause::Server,
        }
    }

    /// The server responded, but not with an answer to this question.
    pub(crate) fn response(why: impl Into<Cow<'static, str>>) -> NoAnswer {
        NoAnswer {
            why: why.into(),
            cause: Cause::Response,
        }
    }

    /// A response with this status is not an answer. Only 5xx is a failure of the server.
    pub(crate) fn status(status: StatusCode) -> NoAnswer {
        let why = format!("unexpected status {status}");
        if status.is_server_error() {
            NoAnswer::new(why)
        } else {
            NoAnswer::response(why)
        }
    }
}

/// One server, with its cached answers.
pub(crate) struct Inquiry<A> {
    /// Questions are kept by a keyed hash, so that the memory of the process contains no list of credentials.
    key: hmac::Key,
    grants: Mutex<AnswerCache<A>>,
    refusals: Mutex<AnswerCache<A>>,
    flights: SingleFlights,
    breaker: CircuitBreaker,
    turns: Arc<CallScheduler>,
    turns_for_known: Arc<Semaphore>,
    clock: Clock,
    /// How long a call may last.
    call_timeout: Duration,
}

/// The right to make one call.
enum Permit {
    Known(#[expect(dead_code, reason = "held until the call has ended")] OwnedSemaphorePermit),
    Scheduled(#[expect(dead_code, reason = "held until the call has ended")] CallPermit),
}

impl<A: Clone + Send + 'static> Inquiry<A> {
    /// `name` is for the log. `call_timeout` is how long a call may last before it counts as a failure of the server.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new(
        name: String,
        grants: CacheSize,
        call_timeout: Duration,
        clock: Clock,
    ) -> Result<Inquiry<A>, NoAnswer> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| NoAnswer::new("no random numbers"))?;
        let breaker = Settings {
            interval: None,
            timeout: PAUSE,
            max_errors: MAX_FAILURES - 1,
            name,
            log_status_change: true,
            stream_errors: false,
        };
        Ok(Inquiry {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            grants: Mutex::new(AnswerCache::new(grants)),
            refusals: Mutex::new(AnswerCache::new(CacheSize::REFUSALS)),
            flights: SingleFlights::default(),
            breaker: CircuitBreaker::new(breaker, clock.clone()),
            turns: Arc::new(CallScheduler::new(MAX_CALLS, MAX_WAITING)),
            turns_for_known: Arc::new(Semaphore::new(MAX_CALLS_ABOUT_KNOWN)),
            clock,
            call_timeout,
        })
    }

    /// Identifies a question by its parts, each with its length, so that no two questions are confused.
    pub(crate) fn question<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// The cached answer, if there is one.
    pub(crate) fn known(&self, question: &Digest) -> Option<A> {
        let now = self.clock.now();
        let granted = lock(&self.grants).get(question, now);
        granted.or_else(|| lock(&self.refusals).get(question, now))
    }

    /// Drops an answer that turned out to be wrong.
    pub(crate) fn forget(&self, question: &Digest) {
        lock(&self.grants).remove(question);
        lock(&self.refusals).remove(question);
    }

    /// Makes `call`, or waits for an equal one, for at most `limit`. `client` identifies the client of the request.
    ///
    /// # Errors
    /// There is no reply in time, or the call failed.
    pub(crate) async fn ask<
        F: Future<Output = Result<CallResult<A>, NoAnswer>> + Send + 'static,
    >(
        self: &Arc<Self>,
        question: &Digest,
        client: Client,
        limit: Duration,
        call: impl FnOnce() -> F,
    ) -> Result<A, NoAnswer> {
        let until = Instant::now() + limit;
        loop {
            match self.flights.join(question) {
                Join::Lead(flight) => {
                    let outcome = self.call(question, client, until, call).await;
                    match &outcome {
                        Ok((_, true)) => flight.end(End::Shared),
                        // Other requests do not wait for an answer that only this one may use.
                        Ok((_, false)) => flight.end(End::Unshared),
                        Err(error) if matches!(error.cause, Cause::Server | Cause::Response) => {
                            flight.end(End::Failed);
                        }
                        // Equal questions may have more time: one of them asks now.
                        Err(_) => drop(flight),
                    }
                    return outcome.map(|(answer, _)| answer);
                }
                Join::Alone => {
                    let outcome = self.call(question, client, until, call).await;
                    if matches!(outcome, Ok((_, true))) {
                        self.flights.learn(question, End::Shared);
                    }
                    return outcome.map(|(answer, _)| answer);
                }
                Join::Wait(mut landing) => {
                    if !landing.ended(until).await {
                        return Err(NoAnswer::LATE);
                    }
                    if let Some(known) = self.known(question) {
                        return Ok(known);
                    }
                    if self.flights.failed_lately(question) {
                        return Err(NoAnswer::response("an equal call has failed"));
                    }
                }
            }
        }
    }

    async fn call<F: Future<Output = Result<CallResult<A>, NoAnswer>> + Send + 'static>(
        self: &Arc<Self>,
        question: &Digest,
        client: Client,
        until: Instant,
        call: impl FnOnce() -> F,
    ) -> Result<(A, bool), NoAnswer> {
        let permit = self.permit(question, client, until).await?;
        let ticket = self.breaker.before().map_err(|_| {
            NoAnswer::response("the server keeps failing, and is not called for a while")
        })?;
        let (inquiry, question, calling) = (Arc::clone(self), *question, call());
        // The call has its own timeout: the request may have less time, or end.
        let running = tokio::spawn(async move {
            let _permit = permit;
            let outcome = timeout(inquiry.call_timeout, calling).await;
            let outcome = outcome.unwrap_or_else(|_| Err(NoAnswer::new("no response in time")));
            let failed = matches!(&outcome, Err(error) if error.cause == Cause::Server);
            inquiry.breaker.after(
                ticket,
                if failed {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
            );
            outcome.map(|told| inquiry.keep(&question, told))
        });
        match timeout_at(until, running).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(NoAnswer::response("the call was stopped")),
            Err(_) => Err(NoAnswer::LATE),
        }
    }

    async fn permit(
        &self,
        question: &Digest,
        client: Client,
        until: Instant,
    ) -> Result<Permit, NoAnswer> {
        if lock(&self.grants).had(question)
            && let Ok(permit) = Arc::clone(&self.turns_for_known).try_acquire_owned()
        {
            return Ok(Permit::Known(permit));
        }
        match self.turns.enter(client, until).await {
            Ok(turn) => Ok(Permit::Scheduled(turn)),
            Err(ScheduleError::Full | ScheduleError::Late) => Err(NoAnswer::BUSY),
        }
    }

    /// Returns the answer, and whether it is cached.
    fn keep(&self, question: &Digest, told: CallResult<A>) -> (A, bool) {
        if told.keep.is_zero() {
            return (told.answer, false);
        }
        let answer = told.answer.clone();
        let dies = self.clock.now().saturating_add(told.keep);
        let store = if told.refusal {
            &self.refusals
        } else {
            &self.grants
        };
        lock(store).insert(*question, told.answer, dies, told.bytes);
        (answer, true)
    }
}

impl<A> fmt::Debug for Inquiry<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").finish_non_exhaustive()
    }
}

fn lock<A>(kept: &Mutex<AnswerCache<A>>) -> MutexGuard<'_, AnswerCache<A>> {
    // A panic while the lock was held leaves at worst a lost answer.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
