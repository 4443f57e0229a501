//! A composed endpoint: from the client's call to a response.

use std::pin::pin;

use http::StatusCode;

use super::backend::{Context, Earlier, get_with};
use super::client::ClientCall;
use super::conditions;
use super::endpoint::Outcome;
use super::finish;
use super::merge::{Merged, Part};
use super::pipe_steps::enter;
use super::time_limit::TimeLimit;
use super::transport::Transport;
use super::{fallback, parallel, sequential, shadow};
use crate::runtime::failure::Failure;
use crate::runtime::forward::QueryRules;
use crate::runtime::pipe::PipeResponse;
use crate::runtime::response::Response;
use crate::runtime::service::{Composition, Endpoint, Options, Order};

/// Runs a composed endpoint. To cancel it, drop the future.
pub async fn run_with<C: Transport>(
    transport: &C,
    options: &Options,
    endpoint: &Endpoint,
    work: &Composition,
    call: &mut ClientCall,
) -> Outcome {
    if work.signer.as_ref().is_some_and(|signer| !signer.ready()) {
        return Outcome::response(Response::empty(StatusCode::UNAUTHORIZED));
    }
    let merged = if work.pipes.is_empty() {
        compose(transport, options, endpoint, work, call, &endpoint.query).await
    } else {
        // Boxed, so that endpoints without steps do not pay for the state of steps.
        Box::pin(piped(transport, options, endpoint, work, call)).await
    };
    let end = (call.started + endpoint.timeout).into_std();
    finish::finish(options, endpoint, work, call.accept.as_ref(), merged, end)
}

/// Runs the calls of a message and discards their data. To cancel it, drop the future.
///
/// # Errors
/// The first failure. Other calls may have succeeded.
#[cfg(feature = "amqp")]
pub(crate) async fn deliver<C: Transport>(
    transport: &C,
    options: &Options,
    endpoint: &Endpoint,
    work: &Composition,
    call: &mut ClientCall,
) -> Result<(), Failure> {
    let merged = if work.pipes.is_empty() {
        compose(transport, options, endpoint, work, call, &endpoint.query).await
    } else {
        piped(transport, options, endpoint, work, call).await
    };
    let result = merged.failures.into_iter().next().map_or(Ok(()), Err);
    // After a failure, messages that a backend took go back to their queues.
    if let Some(kept) = call.kept.as_ref().filter(|_| result.is_ok()) {
        kept.take()
            .into_iter()
            .for_each(|message| message.settle(true));
    }
    result
}

/// The work of the endpoint inside its pipe steps.
async fn piped<C: Transport>(
    transport: &C,
    options: &Options,
    endpoint: &Endpoint,
    work: &Composition,
    call: &mut ClientCall,
) -> Merged {
    let limit = TimeLimit::at(call.started + endpoint.timeout);
    let mut request = call.request(endpoint, &limit);
    let entered = {
        let entering = pin!(enter(&work.pipes, &mut request));
        limit.wait(entering).await
    };
    let entered = match entered.unwrap_or_else(|| Err(Failure::deadline())) {
        Ok(entered) => entered,
        Err(failure) => return Merged::single(Err(failure)),
    };
    let mut merged = if entered.skip {
        Merged::single(Ok(Part::skipped()))
    } else {
        let mut call = call.replaced(&request);
        compose(
            transport,
            options,
            endpoint,
            work,
            &mut call,
            &QueryRules::All,
        )
        .await
    };
    if !merged.failures.is_empty() {
        return merged;
    }
    let mut response = PipeResponse {
        data: merged.data.take().unwrap_or_default(),
        complete: merged.complete,
        reply: None,
        meta: merged.meta.take().map(|meta| *meta).unwrap_or_default(),
        held: std::mem::take(&mut merged.held),
    };
    let left = {
        let leaving = pin!(entered.leave(&request, &mut response));
        limit.wait(leaving).await
    };
    match left.unwrap_or_else(|| Err(Failure::deadline())) {
        Ok(()) => {
            merged.data = Some(response.data);
            merged.held = response.held;
            merged.complete = response.complete;
            merged.meta = Some(Box::new(response.meta));
            merged
        }
        Err(failure) => Merged::single(Err(failure)),
    }
}

/// What the calls of one request share.
fn context<'a, C>(
    transport: &'a C,
    options: &'a Options,
    work: &'a Composition,
    call: &'a ClientCall,
    query: &'a QueryRules,
) -> Context<'a, C> {
    let propagated = match &work.order {
        Order::Sequential { propagated } => propagated,
        Order::Parallel | Order::Fallback => &[][..],
    };
    Context {
        transport,
        options,
        query,
        call,
        concurrent_calls: work.concurrent_calls,
        propagated,
        watched: !work.pipes.is_empty() && work.backends.len() == 1,
    }
}

/// The endpoint's work.
async fn compose<C: Transport>(
    transport: &C,
    options: &Options,
    endpoint: &Endpoint,
    work: &Composition,
    call: &mut ClientCall,
    query: &QueryRules,
) -> Merged {
    let cx = context(transport, options, work, call, query);
    if !work.shadows.is_empty() {
        shadow::send(&cx, &work.shadows, endpoint.timeout);
    }
    let limit = TimeLimit::of(work, call.started, endpoint.timeout);
    let mut merged = match (&*work.backends, &work.order) {
        ([one], _) => match conditions::holds(&cx, one, Earlier::default(), &limit) {
            Err(failure) => Merged::single(Err(failure)),
            Ok(Some(false)) => Merged::idle(),
            Ok(_) => {
                // No other call needs them.
                let headers = std::mem::take(&mut call.headers);
                let cx = context(transport, options, work, call, query);
                let call = get_with(&cx, one, Earlier::default(), &limit, headers);
                let result = limit.wait(pin!(call)).await;
                Merged::single(result.unwrap_or_else(|| Err(Failure::late())))
            }
        },
        (several, Order::Parallel) => match conditions::together(&cx, several, &limit) {
            Err(failure) => Merged::single(Err(failure)),
            Ok(called) => {
                let headers = std::mem::take(&mut call.headers);
                let cx = context(transport, options, work, call, query);
                parallel::run(&cx, &called, headers, &limit).await
            }
        },
        (several, Order::Fallback) => fallback::run(&cx, several, &limit).await,
        (several, Order::Sequential { .. }) => {
            sequential::run(&cx, several, &limit, endpoint.timeout).await
        }
    };
    finish::settle(work, &mut merged, limit.end().into_std());
    merged
}
