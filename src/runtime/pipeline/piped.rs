//! Pipe steps around a piece of work: all of an endpoint's, or one call to a backend.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::backend::{Prepared, read};
use super::carrier::Carrier;
use super::fetch::fetch;
use super::limit::Limit;
use super::merge::Part;
use crate::runtime::decode;
use crate::runtime::failure::Failure;
use crate::runtime::forward;
use crate::runtime::json::{Object, Value};
use crate::runtime::pipe::{CallStep, PipeRequest, PipeResponse, PipeStep, Reply, State};
use crate::runtime::service::Backend;
use crate::upstream::{HostSet, Incoming, Outgoing};

/// The steps that let a request pass, and what they keep until there is an answer.
pub(super) struct Entered<'a> {
    steps: &'a [Box<dyn PipeStep>],
    /// Of those that ran; where one asked to skip the work, those within it did not.
    states: SmallVec<[State; 2]>,
    /// The work is not to be done.
    pub(super) skip: bool,
}

/// Shows `request` to the steps, outermost first.
pub(super) async fn enter<'a>(
    steps: &'a [Box<dyn PipeStep>],
    request: &mut PipeRequest,
) -> Result<Entered<'a>, Failure> {
    let mut entered = Entered {
        steps,
        states: SmallVec::new(),
        skip: false,
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

impl Entered<'_> {
    /// Shows the answer to the steps, innermost first.
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

/// One call, through its pipe steps and the step closest to the wire.
pub(super) async fn exchange<C: Carrier>(
    carrier: &C,
    most_bytes: u64,
    backend: &Backend,
    prepared: Prepared,
    limit: &Limit,
) -> Result<Part, Failure> {
    let gzip = prepared.gzip;
    let mut request = prepared.request(backend, limit).await;
    let entered = enter(&backend.pipes, &mut request).await?;
    let (mut part, reply) = match entered.skip {
        true => {
            let nothing = Part::complete(Value::Object(Object::new()));
            (
                Part {
                    complete: false,
                    ..nothing
                },
                None,
            )
        }
        false => {
            let incoming =
                on_wire(carrier, most_bytes, backend, (&mut request, gzip), limit).await?;
            let streamed = backend.decoder.encoding == decode::Kind::NoOp;
            let reply = (streamed && !backend.pipes.is_empty()).then(|| Reply {
                status: incoming.status,
                headers: incoming.headers.clone(),
                body: Some(incoming.body.clone()),
            });
            let part = read(backend, incoming, &request.method, &request.target())?;
            (part, reply)
        }
    };
    if backend.pipes.is_empty() {
        return Ok(part);
    }
    let mut response = PipeResponse {
        data: part.data,
        complete: part.complete,
        reply,
        meta: part.meta.take().map(|meta| *meta).unwrap_or_default(),
    };
    entered.leave(&request, &mut response).await?;
    part.data = response.data;
    part.complete = response.complete;
    part.meta = Some(Box::new(response.meta));
    if let Some(body) = response.reply.and_then(|reply| reply.body) {
        part.text = Some(body);
    }
    Ok(part)
}

/// Sends the request and gets a whole answer; `gzip`: its `Accept-Encoding` is ours.
async fn on_wire<C: Carrier>(
    carrier: &C,
    most_bytes: u64,
    backend: &Backend,
    (request, gzip): (&mut PipeRequest, bool),
    limit: &Limit,
) -> Result<Incoming, Failure> {
    let step = backend.on_wire.as_deref();
    let local = match step {
        Some(step) => step.request(request)?.answer().await?,
        None => None,
    };
    let mut incoming = match local {
        Some(reply) => Incoming {
            status: reply.status,
            headers: reply.headers,
            body: reply.body.unwrap_or_default(),
            origin: None,
        },
        None => {
            let elsewhere = elsewhere(&backend.hosts, request);
            let hosts = elsewhere.as_ref().unwrap_or(&backend.hosts);
            let mut out = outgoing(request);
            if gzip {
                forward::keeps_gzip(&mut out);
            }
            fetch(carrier, most_bytes, backend, hosts, out, limit).await?
        }
    };
    if let Some(step) = step.filter(|step| step.sees_answers()) {
        let mut reply = Reply {
            status: incoming.status,
            headers: std::mem::take(&mut incoming.headers),
            body: None,
        };
        change(step, request, &mut reply)?;
        incoming.status = reply.status;
        incoming.headers = reply.headers;
        incoming.body = reply.body.unwrap_or(incoming.body);
    }
    Ok(incoming)
}

/// Shows an answer to the step closest to the wire; a body that it puts in has the length that it says.
pub(super) fn change(
    step: &dyn CallStep,
    request: &PipeRequest,
    reply: &mut Reply,
) -> Result<(), Failure> {
    step.response(request, reply)?;
    if let Some(body) = &reply.body {
        fit(&mut reply.headers, body.len());
    }
    Ok(())
}

/// An announced length follows the body.
fn fit(headers: &mut HeaderMap, length: usize) {
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The call as it goes out.
pub(super) fn outgoing(request: &PipeRequest) -> Outgoing {
    let mut headers = request.headers.clone();
    if !request.body.is_empty() {
        fit(&mut headers, request.body.len());
    }
    Outgoing {
        method: request.method.clone(),
        target: request.target(),
        headers,
        body: request.body.clone(),
    }
}

/// The one host that the request names, unless that is what the backend's own set calls anyway.
pub(super) fn elsewhere(hosts: &HostSet, request: &PipeRequest) -> Option<HostSet> {
    let origin = request.origin.as_deref()?;
    match hosts.only() {
        Some(only) if only == origin => None,
        _ => Some(hosts.elsewhere(origin)),
    }
}

/// What stands in for the answer of a streamed call that was passed over.
pub(super) fn nothing() -> Reply {
    Reply {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Some(bytes::Bytes::new()),
    }
}

impl Prepared {
    /// The call as its steps see it.
    pub(super) async fn request(self, backend: &Backend, limit: &Limit) -> PipeRequest {
        let Prepared { out, seed, .. } = self;
        let seed = seed.map(|seed| *seed).unwrap_or_default();
        let mut request = PipeRequest {
            method: out.method,
            origin: None,
            path: Box::default(),
            query: None,
            params: seed.params,
            headers: out.headers,
            body: out.body,
            claims: seed.claims,
            deadline: limit.end(),
        };
        match backend.hosts.next_place().await {
            Some((origin, base)) => {
                request.origin = Some(origin.into());
                request.set_target(&format!("{base}{}", out.target));
            }
            None => request.set_target(&out.target),
        }
        request
    }
}
