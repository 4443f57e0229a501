//! Several backends one after the other.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::backend::{Context, Earlier, get};
use super::conditions;
use super::merge::{Merged, Part};
use super::time_limit::TimeLimit;
use super::transport::Transport;
use crate::runtime::failure::Failure;
use crate::runtime::json::Value;
use crate::runtime::service::Backend;
use crate::upstream::budget::Charge;

/// The progress of a sequence.
#[derive(Default)]
struct Chain {
    /// The shaped responses, from which later URLs take values.
    responses: Vec<Value>,
    /// For their memory.
    held: Vec<Charge>,
    /// The bodies of the responses that are `no-op`.
    texts: Vec<Option<Bytes>>,
    /// Which of them are of backends that were called.
    called: Vec<bool>,
    complete: bool,
    failure: Option<Failure>,
}

/// Calls the backends one after another until one fails or responds incompletely. A failure of the first one is the
/// failure of the endpoint.
pub(super) async fn run<C: Transport>(
    cx: &Context<'_, C>,
    backends: &[Backend],
    limit: &TimeLimit,
    timeout: Duration,
) -> Merged {
    let mut chain = Chain {
        complete: true,
        ..Chain::default()
    };
    let in_time = limit
        .wait(pin!(chain.follow(cx, backends, limit, timeout)))
        .await
        .is_some();
    if !in_time {
        let failure = Failure::late();
        // Each backend before the one in progress has left a response.
        chain.failure = Some(match backends.get(chain.responses.len()) {
            Some(backend) => failure.of_backend(backend.index),
            None => failure,
        });
    }
    chain.merge(backends.len())
}

impl Chain {
    async fn follow<C: Transport>(
        &mut self,
        cx: &Context<'_, C>,
        backends: &[Backend],
        limit: &TimeLimit,
        timeout: Duration,
    ) {
        let mut any_holds = false;
        for backend in backends {
            let earlier = Earlier {
                responses: &self.responses,
                texts: &self.texts,
            };
            let is_called = match conditions::holds(cx, backend, earlier, limit) {
                Ok(Some(holds)) => holds,
                Ok(None) => !any_holds || !backend.when.is_conditional(),
                Err(failure) => {
                    self.failure = Some(failure.of_backend(backend.index));
                    return;
                }
            };
            any_holds |= is_called && backend.when.is_conditional();
            if !is_called {
                self.responses.push(Value::Null);
                self.held.push(Charge::default());
                self.texts.push(None);
                self.called.push(false);
                continue;
            }
            let result = match cx.concurrent_calls {
                0 | 1 => get(cx, backend, earlier, limit).await,
                _ => {
                    let step = limit.step(timeout);
                    let call = get(cx, backend, earlier, &step);
                    let result = step.wait(pin!(call)).await;
                    result.unwrap_or_else(|| Err(Failure::late()))
                }
            };
            match result {
                Ok(part) => {
                    self.responses.push(part.data);
                    self.held.push(part.held);
                    self.texts.push(part.text);
                    self.called.push(true);
                    self.complete = part.complete;
                }
                Err(failure) => self.failure = Some(failure.of_backend(backend.index)),
            }
            if !self.complete || self.failure.is_some() {
                return;
            }
        }
    }

    fn merge(self, total: usize) -> Merged {
        let passed_over = self.called.iter().filter(|called| !**called).count();
        let is_first = passed_over == self.called.len();
        let total = total - passed_over;
        match self.failure {
            Some(failure) if is_first => Merged::single(Err(failure)),
            None if total == 0 => Merged::idle(),
            failure => {
                let complete = self.complete;
                let responses = self.responses.into_iter().zip(self.held);
                let responses = responses.zip(self.called).filter(|(_, called)| *called);
                let parts = responses.map(|((data, held), _)| Part {
                    complete,
                    held,
                    ..Part::complete(data)
                });
                Merged::group(parts, total, SmallVec::from_iter(failure))
            }
        }
    }
}
