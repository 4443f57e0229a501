//! From a request to its outcome.

use std::borrow::Cow;
use std::pin::pin;

use http::StatusCode;
use smallvec::SmallVec;

use super::backend::{Context, get};
use super::carrier::{Carrier, Upstream};
use super::client::ClientCall;
use super::finish;
use super::limit::Limit;
use super::merge::Merged;
use super::{parallel, sequential, shadow};
use crate::runtime::answer::Answer;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::service::{Composition, Endpoint, Options, Order, Service};

/// What a composed endpoint says to a request.
#[derive(Debug)]
pub struct Outcome {
    pub answer: Answer,
    /// What went wrong, a line each, already logged; the access log repeats them as `Error #01: …`.
    pub errors: SmallVec<[Cow<'static, str>; 1]>,
    /// The first failure's label for the metrics; also of partial answers.
    pub failure: Option<Kind>,
}

/// Does an endpoint's work for one request. To give up, drop the future.
pub async fn run(
    service: &Service,
    endpoint: &Endpoint,
    work: &Composition,
    call: &ClientCall,
) -> Outcome {
    run_with(&Upstream, &service.options, endpoint, work, call).await
}

/// The same with another [`Carrier`].
pub async fn run_with<C: Carrier>(
    carrier: &C,
    options: &Options,
    endpoint: &Endpoint,
    work: &Composition,
    call: &ClientCall,
) -> Outcome {
    if work.signer.as_ref().is_some_and(|signer| !signer.ready()) {
        return Outcome {
            answer: Answer::empty(StatusCode::UNAUTHORIZED),
            errors: SmallVec::new(),
            failure: None,
        };
    }
    let cx = Context {
        carrier,
        options,
        query: &endpoint.query,
        call,
        concurrent_calls: work.concurrent_calls,
    };
    if !work.shadows.is_empty() {
        shadow::send(&cx, &work.shadows);
    }
    let limit = Limit::of(work, call.started, endpoint.timeout);
    let merged = match (&*work.backends, &work.order) {
        ([one], _) => {
            let result = limit.wait(pin!(get(&cx, one, &[], &limit))).await;
            Merged::single(result.unwrap_or_else(|| Err(Failure::deadline())))
        }
        (several, Order::Parallel) => parallel::run(&cx, several, &limit).await,
        (several, Order::Sequential { .. }) => {
            sequential::run(&cx, several, &limit, endpoint.timeout).await
        }
    };
    finish::finish(options, endpoint, work, call, merged)
}
