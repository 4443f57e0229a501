//! Retries after a failure, and hedged requests while the first call waits.
//!
//! There is no deadline here: the caller drops the whole future at the deadline of the endpoint.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Method;
use tokio::time::Instant;

use super::rules::{Hedge, RetryOn};
use super::{Pick, Retry, Tried};
use crate::backoff::Backoff;
use crate::telemetry::observe::Wait;
use crate::upstream::call::{Call, Piece, Source, Unwatched};
use crate::upstream::error::{CallError, CallErrorKind};
use crate::upstream::exchange::{Exchange, RequestBody};
use crate::upstream::hosts::HostSet;
use crate::upstream::keys::jitter;

/// The pauses before the same host is called again.
const PAUSES: Backoff = Backoff::doubling(Duration::from_millis(25), Duration::MAX);

/// Why an attempt gave no response.
enum AttemptError<E> {
    Call(CallError),
    /// The client sent no more, or closed its connection.
    Client(E),
}

impl<E> From<CallError> for AttemptError<E> {
    fn from(error: CallError) -> AttemptError<E> {
        AttemptError::Call(error)
    }
}

/// A source that keeps its own errors apart from those of the call.
struct SeparateErrors<'s, S>(&'s mut S);

impl<S: Source> Source for SeparateErrors<'_, S> {
    type Error = AttemptError<S::Error>;

    const WATCHED: bool = S::WATCHED;

    async fn begin(&mut self) -> Result<(), Self::Error> {
        self.0.begin().await.map_err(AttemptError::Client)
    }

    async fn next(&mut self) -> Result<Piece, Self::Error> {
        self.0.next().await.map_err(AttemptError::Client)
    }
}

type Tries<'a, E> = Result<Box<Exchange<'a>>, AttemptError<E>>;

impl HostSet {
    /// Makes a call that may be made again, and waits for the head of its response. The call has its whole body.
    pub(in crate::upstream) async fn send_repeatedly<'a, S: Source>(
        &'a self,
        retry: &Retry,
        call: &Call,
        framing: RequestBody,
        source: &mut S,
    ) -> Result<Box<Exchange<'a>>, S::Error> {
        retry.budget.deposit();
        let work = Work {
            set: self,
            retry,
            call,
            framing,
            tried: Tried::default(),
        };
        let mut left = retry.rules.attempts;
        let mut attempts: u32 = 0;
        loop {
            let result = match retry.rules.hedge {
                Some(hedge) if !S::WATCHED && work.is_idempotent() => work.hedged(hedge).await,
                _ => work.once(&mut SeparateErrors(source)).await,
            };
            if left == 0 || !work.may_retry(&result) || !retry.budget.may_retry() {
                return result.map_err(|lost| match lost {
                    AttemptError::Call(error) => error.into(),
                    AttemptError::Client(error) => error,
                });
            }
            left -= 1;
            if let Ok(mut exchange) = result {
                exchange.settle().await;
            }
            if !work.has_other_hosts() {
                attempts = attempts.saturating_add(1);
                tokio::time::sleep(PAUSES.pause(attempts).mul_f64(jitter())).await;
            }
        }
    }
}

/// A call and its attempts.
struct Work<'w, 'a> {
    set: &'a HostSet,
    retry: &'w Retry,
    call: &'w Call,
    framing: RequestBody,
    tried: Tried,
}

impl<'a> Work<'_, 'a> {
    fn is_idempotent(&self) -> bool {
        self.retry.rules.non_idempotent || is_idempotent(&self.call.out.method)
    }

    /// Whether the rules allow another attempt after this one.
    fn may_retry<E>(&self, result: &Tries<'a, E>) -> bool {
        match result {
            Ok(exchange) => self.is_idempotent() && is_failure(&self.retry.rules.on, exchange),
            Err(AttemptError::Client(_)) => false,
            Err(AttemptError::Call(error)) => match error.kind {
                // Nothing was sent, so the method does not matter.
                CallErrorKind::Connect(_) => self.retry.rules.on.connect,
                CallErrorKind::Broken | CallErrorKind::Late(_) => {
                    self.retry.rules.on.reset && self.is_idempotent()
                }
                CallErrorKind::NoHosts
                | CallErrorKind::TooLarge
                | CallErrorKind::Full
                | CallErrorKind::Redirects
                | CallErrorKind::Request => false,
            },
        }
    }

    /// Whether there is a host that was not tried.
    fn has_other_hosts(&self) -> bool {
        let set = self.call.elsewhere.as_deref().unwrap_or(self.set);
        set.len().is_none_or(|hosts| !self.tried.has_all(hosts))
    }

    /// One attempt, within `per_try_timeout`.
    async fn once<S, E>(&self, source: &mut S) -> Tries<'a, E>
    where
        S: Source<Error = AttemptError<E>>,
    {
        let attempt = async {
            let mut exchange = self.open().await?;
            exchange.ask(true, source).await?;
            Ok(exchange)
        };
        let Some(limit) = self.retry.rules.per_try_timeout else {
            return attempt.await;
        };
        Wait::limited(limit, attempt)
            .await
            .unwrap_or_else(|wait| Err(AttemptError::Call(self.too_late(wait))))
    }

    async fn open(&self) -> Result<Box<Exchange<'a>>, CallError> {
        let out = self.call.out.clone();
        let pick = Pick {
            affinity: out.affinity,
            tried: Some(&self.tried),
            first: None,
        };
        match &self.call.elsewhere {
            None => self.set.open_picked(out, self.framing, pick).await,
            Some(set) => {
                let client = &self.set.client;
                set.open_apart(client, out, self.framing, pick).await
            }
        }
    }

    /// `per_try_timeout` has passed in this wait.
    fn too_late(&self, wait: Option<Wait>) -> CallError {
        let text = "net/http: timeout awaiting response headers";
        let error = CallError::new(CallErrorKind::Late(wait.unwrap_or(Wait::Header)), text);
        let set = self.call.elsewhere.as_deref().unwrap_or(self.set);
        let out = &self.call.out;
        error.of(&out.method, (set.name(), &out.target))
    }

    /// Makes the call again while the first one waits. The first good response wins, and the others are dropped.
    async fn hedged<E: From<CallError> + Send>(&self, hedge: Hedge) -> Tries<'a, E> {
        let attempt = || async {
            let mut nobody = Unwatched::<AttemptError<E>>::default();
            self.once(&mut nobody).await
        };
        let mut running = FuturesUnordered::new();
        running.push(attempt());
        let mut left = hedge.max;
        let mut failed: Option<Tries<'a, E>> = None;
        let mut alarm = pin!(tokio::time::sleep(hedge.after));
        loop {
            tokio::select! {
                biased;
                Some(result) = running.next() => {
                    let is_good = result.as_ref().is_ok_and(|it| !is_failure(&self.retry.rules.on, it));
                    if is_good {
                        return result;
                    }
                    let better = match failed.take() {
                        // A response takes precedence over a failure.
                        Some(Ok(earlier)) if result.is_err() => Ok(earlier),
                        _ => result,
                    };
                    if running.is_empty() {
                        return better;
                    }
                    failed = Some(better);
                }
                () = alarm.as_mut(), if left > 0 => {
                    left -= 1;
                    if self.retry.budget.may_hedge() {
                        running.push(attempt());
                        alarm.as_mut().reset(Instant::now() + hedge.after);
                    } else {
                        left = 0;
                    }
                }
            }
        }
    }
}

/// Whether a response is one after which the call is made again.
fn is_failure(on: &RetryOn, exchange: &Exchange<'_>) -> bool {
    let status = exchange.header().map(|(status, _)| status);
    status.is_some_and(|status| on.statuses.contains(&status))
}

/// Whether a request may be made twice (RFC 9110 §9.2.2; the draft of QUERY, draft-ietf-httpbis-safe-method-w-body).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    ) || method.as_str() == "QUERY"
}
