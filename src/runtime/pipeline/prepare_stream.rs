//! The beginning of a streamed request: reads as much of its body as necessary, and builds its call.

use std::pin::pin;

use http::header::TE;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::backend::{self, Context, Earlier, Prepared};
use super::client::ClientCall;
use super::client_head::Asked;
use super::conditions;
use super::downstream::Downstream;
use super::endpoint::Request;
use super::pipe_steps;
use super::response_steps::EndpointSteps;
use super::time_limit::TimeLimit;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::forward::QueryRules;
use crate::runtime::grpc::is_grpc;
use crate::runtime::pipe::{CallStep, PipeStep, ResponseAccess};
use crate::runtime::service::{Backend, Endpoint, Options, StreamWork};
use crate::upstream::{CallBody, content_length};

/// The call of a streamed endpoint, within the steps around the endpoint.
pub(super) struct PreparedStream<'a> {
    /// `None`: a step asked to skip the work.
    pub(super) prepared: Option<Prepared>,
    /// The source of the body, unless a step replaces the body.
    pub(super) body: CallBody,
    pub(super) outer: Option<Box<EndpointSteps<'a>>>,
    /// The status of the empty response that replaces a call that is not made.
    pub(super) instead: StatusCode,
}

/// Reads as much of the body as necessary, and builds the call through the steps around the endpoint. `started` is when the
/// timeout of the endpoint began.
pub(super) async fn prepare_stream<'a, D: Downstream>(
    client: &mut D,
    request: Request<'_>,
    work: &'a StreamWork,
    limit: &TimeLimit,
    started: Instant,
) -> Result<(PreparedStream<'a>, Asked), Failure> {
    let Request {
        options,
        endpoint,
        notes,
        body,
    } = request;
    let empty = client.has_no_body();
    let is_whole = body.is_some() || (!empty && keeps_body(work));
    let body = match body {
        Some(body) => body,
        None if is_whole => {
            let read = client.read_whole(endpoint.payload.whole(options));
            let read = limit.wait(pin!(read)).await;
            read.unwrap_or_else(|| Err(Failure::deadline()))?
        }
        None => Default::default(),
    };
    let Some(head) = client.head() else {
        return Err(Failure::bad_target());
    };
    let announced = if empty || notes.is_decoded {
        None
    } else {
        content_length(head.headers)
    };
    if announced
        .zip(endpoint.payload.most)
        .is_some_and(|(length, most)| length > most)
    {
        return Err(Failure::new(Kind::BodyTooLarge, "the body is too large"));
    }
    let asked = Asked {
        version: client.version(),
        by_head: *head.method == Method::HEAD,
    };
    let over_grpc = asked.over_http2() && is_grpc(head.headers);
    let call = ClientCall::new(options, endpoint, &head, notes, body, started);
    let mut begun = if work.pipes.is_empty() {
        build(options, &endpoint.query, &work.backend, call, limit)?
    } else {
        let entering = enter(options, endpoint, work, call, limit);
        let entered = limit.wait(pin!(entering)).await;
        entered.unwrap_or_else(|| Err(Failure::deadline().outside()))?
    };
    if let Some(prepared) = &mut begun.prepared {
        if !is_whole && !empty && prepared.out.body.is_empty() {
            begun.body = CallBody::Streamed(announced);
        }
        if over_grpc {
            // RFC 9110 §10.1.4: a gRPC server rejects requests without it. It concerns a single connection, so the
            // gateway sets it.
            let trailers = HeaderValue::from_static("trailers");
            prepared.out.headers.insert(TE, trailers);
        }
    }
    Ok((begun, asked))
}

/// Whether the body of the client must be complete before the call is made: if it may be sent again, if a step reads
/// it, and if the response is read whole, which needs a call that is whole.
fn keeps_body(work: &StreamWork) -> bool {
    let backend = &work.backend;
    backend.send_body_on_redirect
        || backend.cache.is_some()
        || backend.graphql.is_some()
        || backend
            .signer
            .as_ref()
            .is_some_and(|signer| signer.needs_body())
        || work.concurrent_calls > 1
        || backend.on_wire.as_deref().is_some_and(CallStep::needs_body)
        || steps(work).any(|step| step.needs_body())
        || response_access(work) == ResponseAccess::Whole
}

/// What the steps must see of the response.
pub(super) fn response_access(work: &StreamWork) -> ResponseAccess {
    let on_wire = match &work.backend.on_wire {
        Some(step) if step.sees_responses() => ResponseAccess::Head,
        _ => ResponseAccess::Nothing,
    };
    let most = steps(work).map(|step| step.response_access()).max();
    most.unwrap_or(ResponseAccess::Nothing).max(on_wire)
}

fn steps(work: &StreamWork) -> impl Iterator<Item = &dyn PipeStep> {
    let all = work.pipes.iter().chain(&work.backend.pipes);
    all.map(|step| &**step)
}

/// Builds the call through the steps around the endpoint.
pub(super) async fn enter<'a>(
    options: &Options,
    endpoint: &Endpoint,
    work: &'a StreamWork,
    call: ClientCall,
    limit: &TimeLimit,
) -> Result<PreparedStream<'a>, Failure> {
    let mut request = call.request(endpoint, limit);
    let entered = pipe_steps::enter(&work.pipes, &mut request).await;
    let entered = entered.map_err(Failure::outside)?;
    let mut begun = if entered.skip {
        PreparedStream {
            prepared: None,
            body: CallBody::Whole,
            outer: None,
            instead: StatusCode::OK,
        }
    } else {
        let call = call.replaced(&request);
        build(options, &QueryRules::All, &work.backend, call, limit)?
    };
    begun.outer = Some(Box::new(EndpointSteps { request, entered }));
    Ok(begun)
}

pub(super) fn build<'a>(
    options: &Options,
    query: &QueryRules,
    backend: &Backend,
    mut call: ClientCall,
    limit: &TimeLimit,
) -> Result<PreparedStream<'a>, Failure> {
    if backend.when.is_conditional() && !is_chosen(options, query, backend, &call, limit)? {
        return Ok(PreparedStream {
            prepared: None,
            body: CallBody::Whole,
            outer: None,
            instead: StatusCode::NOT_FOUND,
        });
    }
    let headers = std::mem::take(&mut call.headers);
    let body = std::mem::take(&mut call.body);
    let cx = Context {
        transport: &(),
        options,
        query,
        call: &call,
        concurrent_calls: 1,
        propagated: &[],
        watched: false,
    };
    let prepared = backend::prepare(&cx, backend, Earlier::default(), headers, body)?;
    Ok(PreparedStream {
        prepared: Some(prepared),
        body: CallBody::Whole,
        outer: None,
        instead: StatusCode::OK,
    })
}

/// Whether the condition of the only backend holds.
///
/// # Errors
/// The process has too much to do.
fn is_chosen(
    options: &Options,
    query: &QueryRules,
    backend: &Backend,
    call: &ClientCall,
    limit: &TimeLimit,
) -> Result<bool, Failure> {
    let cx = Context {
        transport: &(),
        options,
        query,
        call,
        concurrent_calls: 1,
        propagated: &[],
        watched: false,
    };
    let holds = conditions::holds(&cx, backend, Earlier::default(), limit)?;
    Ok(holds != Some(false))
}
