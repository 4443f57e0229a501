//! Pipe steps around the work of an endpoint or around one call to a backend.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::backend::{Prepared, answered, read};
use super::backend_steps::counts_in_krakend;
use super::fetch::whole;
use super::merge::Part;
use super::seed::Seed;
use super::time_limit::TimeLimit;
use super::transport::Transport;
use crate::runtime::decode::{self, Kind};
use crate::runtime::failure::Failure;
use crate::runtime::forward;
use crate::runtime::heavy::turn;
use crate::runtime::pipe::{
    CallDecision, CallStep, PipeRequest, PipeResponse, PipeStep, Received, Reply, State,
    Substitute, settle,
};
use crate::runtime::service::Backend;
use crate::upstream::budget::{Budget, Charge};
use crate::upstream::{Call, HostSet, Incoming, Outgoing};

/// The steps that a request passed, and their state until there is a response.
pub(super) struct EnteredSteps<'a> {
    steps: &'a [Box<dyn PipeStep>],
    /// The states of the steps that ran. If a step asked to skip the work, the steps inside it did not run.
    states: SmallVec<[State; 2]>,
    /// The work is skipped.
    pub(super) skip: bool,
    /// For what the steps keep of a request with many headers.
    _held: Charge,
}

/// A request with no more headers is not charged.
const FEW_FIELDS: usize = 32;
/// The memory of each header: an entry in the map that the steps see, and one in the map that goes on. Either may have
/// doubled.
const FIELD: usize = 416;

/// Shows `request` to the steps, outermost first.
pub(super) async fn enter<'a>(
    steps: &'a [Box<dyn PipeStep>],
    request: &mut PipeRequest,
) -> Result<EnteredSteps<'a>, Failure> {
    let mut held = Budget::calls().charge();
    let fields = request.headers.len();
    if fields > FEW_FIELDS {
        held.cover(FIELD * fields).map_err(|_| Failure::full())?;
    }
    let mut entered = EnteredSteps {
        steps,
        states: SmallVec::new(),
        skip: false,
        _held: held,
    };
    for step in steps {
        let passed = step.before(request).await?;
        entered.states.push(passed.state);
        if passed.skip {
            entered.skip = true;
            break;
        }
    }
    Ok(entered)
}

impl EnteredSteps<'_> {
    /// Shows the response to the steps, innermost first.
    pub(super) async fn leave(
        self,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        for (step, state) in self.steps.iter().zip(self.states).rev() {
            step.after(state, request, response).await?;
        }
        Ok(())
    }
}

/// A call that passed its steps, and what they want to see of its response.
pub(super) struct AdmittedCall<'a> {
    pub(super) call: Call,
    /// The gateway asks for gzip although the client did not, and decodes the response.
    pub(super) gunzip: bool,
    /// The response of a step. Nothing is sent.
    pub(super) local: Option<Received>,
    /// A step replaced the client's body, which is not sent.
    pub(super) replaced: bool,
    pub(super) around: CallSteps<'a>,
}

/// The steps around a call in progress.
pub(super) struct CallSteps<'a> {
    /// What was sent.
    pub(super) request: PipeRequest,
    entered: EnteredSteps<'a>,
    /// The step closest to the wire, if it reads responses.
    on_wire: Option<&'a dyn CallStep>,
}

/// A step rejected the request. Circuit breakers do not count that, unless KrakenD's do.
fn rejected_by_step(failure: Failure) -> Failure {
    if counts_in_krakend(failure.kind) {
        failure
    } else {
        failure.by_step()
    }
}

/// Shows a call to the steps around it. The call is sent with their changes.
pub(super) async fn admit<'a>(
    prepared: Prepared,
    backend: &'a Backend,
    limit: &TimeLimit,
) -> Result<AdmittedCall<'a>, Failure> {
    let mut gunzip = prepared.gzip;
    let (subject, affinity) = (prepared.out.subject.clone(), prepared.out.affinity);
    let mut request = prepared.request(backend, limit).await;
    let had_body = !request.body.is_empty();
    let entered = enter(&backend.pipes, &mut request)
        .await
        .map_err(rejected_by_step)?;
    let (mut local, mut replaced, mut on_wire) = (None, false, None);
    if entered.skip {
        local = Some(Received::plain(nothing()));
    } else if let Some(step) = backend.on_wire.as_deref() {
        on_wire = step.sees_responses().then_some(step);
        let decision = step.request(&mut request).map_err(|failure| {
            if step.is_the_backend() {
                failure
            } else {
                rejected_by_step(failure)
            }
        })?;
        replaced = matches!(decision, CallDecision::Replace);
        local = decision.response().await?;
    }
    // A step removed the body: nothing of the announced body is sent.
    replaced |= had_body && request.body.is_empty();
    let mut call = Call::whole(outgoing(&request));
    call.out.subject = subject;
    call.out.affinity = affinity;
    if local.is_none() {
        call.elsewhere = elsewhere(&backend.hosts, &request).map(Arc::new);
    }
    gunzip = gunzip && forward::keeps_gzip(&mut call.out);
    Ok(AdmittedCall {
        call,
        gunzip,
        local,
        replaced,
        around: CallSteps {
            request,
            entered,
            on_wire,
        },
    })
}

impl CallSteps<'_> {
    /// Whether the work inside was skipped.
    pub(super) fn skipped(&self) -> bool {
        self.entered.skip
    }

    /// Whether any step reads the response.
    pub(super) fn sees_responses(&self) -> bool {
        self.on_wire.is_some() || !self.entered.steps.is_empty()
    }

    /// Shows the unchanged response to the step closest to the wire. A body that the step sets gets its own length.
    pub(super) fn on_wire(&self, reply: &mut Reply) -> Result<(), Failure> {
        let Some(step) = self.on_wire else {
            return Ok(());
        };
        step.response(&self.request, reply)?;
        if let Some(body) = &reply.body {
            fit(&mut reply.headers, body.len());
        }
        Ok(())
    }

    /// Shows the resulting response to the other steps, innermost first.
    pub(super) async fn leave(self, response: &mut PipeResponse) -> Result<(), Failure> {
        self.entered.leave(&self.request, response).await
    }
}

/// One call, through its pipe steps and the step closest to the wire.
pub(super) async fn exchange<C: Transport>(
    transport: &C,
    most_bytes: u64,
    backend: &Backend,
    prepared: Prepared,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let kept = prepared.seed.as_ref().and_then(|seed| seed.kept.clone());
    let admitted = admit(prepared, backend, limit).await?;
    let AdmittedCall {
        call,
        local,
        around,
        ..
    } = admitted;
    if around.skipped() {
        return left(backend, around, Part::skipped(), None).await;
    }
    let Some(reply) = local else {
        let incoming = whole(transport, most_bytes, backend, call, limit).await?;
        let status = incoming.status;
        return answered(made(backend, around, incoming, limit).await, status);
    };
    let Received { reply, message } = reply;
    let result = substituted(backend, around, reply, message.is_some(), limit).await;
    match (message, kept) {
        // It is confirmed when the response of the whole endpoint is ready.
        (Some(message), Some(kept)) if result.is_ok() => kept.keep(message),
        (message, _) => settle(message, result.is_ok()),
    }
    result
}

/// Converts the response of a step that replaces a call.
async fn substituted(
    backend: &Backend,
    around: CallSteps<'_>,
    reply: Reply,
    is_message: bool,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let step = backend.on_wire.as_deref();
    if step.is_some_and(|step| step.substitute() == Substitute::Send) {
        return left(backend, around, Part::sent(), None).await;
    }
    let mut incoming = reply.map_body(Option::unwrap_or_default);
    let mut headers = HeaderMap::new();
    for name in step.map_or(&[][..], |step| step.shown()) {
        if let Some(value) = incoming.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    // As in KrakenD, a message without a body is neither data nor an error.
    if is_message
        && incoming.body.is_empty()
        && matches!(backend.decoder.encoding, Kind::Json | Kind::SafeJson)
    {
        incoming.body = Bytes::from_static(b"null");
    }
    let mut part = made(backend, around, incoming, limit).await?;
    if !headers.is_empty() {
        part.meta.get_or_insert_default().headers.extend(headers);
    }
    Ok(part)
}

/// What the steps around a call make of its response.
async fn made(
    backend: &Backend,
    around: CallSteps<'_>,
    incoming: Incoming,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let (part, reply) = {
        let incoming = shown(&around, incoming)?;
        let streamed = backend.decoder.encoding == decode::Kind::NoOp;
        let reply =
            (streamed && !backend.pipes.is_empty()).then(|| incoming.clone().map_body(Some));
        let (method, target) = (&around.request.method, around.request.target());
        let work = backend.decoder.work(&incoming.body);
        let _turn = turn(work, limit.end()).await?;
        (read(backend, incoming, method, &target, limit)?, reply)
    };
    left(backend, around, part, reply).await
}

/// Shows a part to the steps around its call, innermost first.
async fn left(
    backend: &Backend,
    around: CallSteps<'_>,
    mut part: Part,
    reply: Option<Reply>,
) -> Result<Part, Failure> {
    if backend.pipes.is_empty() {
        return Ok(part);
    }
    let mut response = PipeResponse {
        data: part.data,
        complete: part.complete,
        reply,
        meta: part.meta.take().map(|meta| *meta).unwrap_or_default(),
        held: part.held,
    };
    around.leave(&mut response).await?;
    part.data = response.data;
    part.held = response.held;
    part.complete = response.complete;
    part.meta = Some(Box::new(response.meta));
    if let Some(body) = response.reply.and_then(|reply| reply.body) {
        part.text = Some(body);
    }
    Ok(part)
}

/// A whole response with the changes of the step closest to the wire.
fn shown(around: &CallSteps<'_>, incoming: Incoming) -> Result<Incoming, Failure> {
    if around.on_wire.is_none() {
        return Ok(incoming);
    }
    let mut body = Bytes::new();
    let mut reply = incoming.map_body(|came| {
        body = came;
        None
    });
    around.on_wire(&mut reply)?;
    Ok(reply.map_body(|changed| changed.unwrap_or(body)))
}

/// Corrects an announced length to that of the body.
fn fit(headers: &mut HeaderMap, length: usize) {
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The call as it is sent.
fn outgoing(request: &PipeRequest) -> Outgoing {
    let mut headers = request.headers.clone();
    if !request.body.is_empty() {
        fit(&mut headers, request.body.len());
    }
    Outgoing {
        method: request.method.clone(),
        target: request.target().into(),
        headers,
        body: request.body.clone(),
        subject: None,
        affinity: None,
    }
}

/// The host that the request names, unless the host set of the backend calls it anyway.
fn elsewhere(hosts: &HostSet, request: &PipeRequest) -> Option<HostSet> {
    let origin = request.origin.as_deref()?;
    match hosts.only() {
        Some(only) if only == origin => None,
        _ => Some(hosts.elsewhere(origin)),
    }
}

/// The response of a streamed call that was skipped.
pub(super) fn nothing() -> Reply {
    instead(StatusCode::OK)
}

/// The response of a skipped call, with this status.
pub(super) fn instead(status: StatusCode) -> Reply {
    Reply::local(status, HeaderMap::new(), Some(Bytes::new()))
}

impl Prepared {
    /// The call as its steps see it.
    async fn request(self, backend: &Backend, limit: &TimeLimit) -> PipeRequest {
        let Prepared { out, seed, .. } = self;
        // A call without a seed has no steps, so no one reads it.
        let seed = seed.map_or_else(Seed::empty, |seed| *seed);
        let mut request = PipeRequest {
            method: out.method,
            origin: None,
            path: Box::default(),
            query: None,
            params: seed.params,
            headers: out.headers,
            body: out.body,
            claims: seed.claims,
            client: seed.client,
            peer: seed.peer,
            deadline: limit.end(),
        };
        match backend.hosts.next_place(out.affinity).await {
            Some((origin, base)) => {
                request.origin = Some(origin.into());
                request.set_target(&format!("{base}{}", out.target));
            }
            None => request.set_target(&out.target),
        }
        request
    }
}
