//! One backend: builds the call, makes it, and reads the response.

use std::pin::pin;

use bytes::Bytes;
use futures::future::Either;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::backend_steps::BackendSteps;
use super::client::{ClientCall, Sources};
use super::fetch::whole;
use super::merge::{Part, Passed};
use super::pipe_steps;
use super::race::race;
use super::seed::{Seed, seed};
use super::time_limit::TimeLimit;
use super::transport::Transport;
use crate::runtime::boxed::in_place;
use crate::runtime::decode;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::forward::{self, QueryRules};
use crate::runtime::heavy::{aside, aside_whole, turn};
use crate::runtime::json::{self, Growth, Object, Out, Unmade, Value};
use crate::runtime::pipe::{CallTarget, Meta};
use crate::runtime::response::Fields;
use crate::runtime::service::{Backend, ErrorMode, Options, PassThrough};
use crate::runtime::step::Outcome;
use crate::telemetry::observe;
use crate::telemetry::sanitize::{masked, without_password};
use crate::upstream::budget::{Charge, Full};
use crate::upstream::{Call, Incoming, Outgoing, spare_map};

/// What all calls of one request share.
pub(super) struct Context<'a, C> {
    pub(super) transport: &'a C,
    pub(super) options: &'a Options,
    /// The rules of the endpoint.
    pub(super) query: &'a QueryRules,
    pub(super) call: &'a ClientCall,
    pub(super) concurrent_calls: u32,
    /// `sequential_propagated_params`: the parameters that steps of later backends see.
    pub(super) propagated: &'a [Box<str>],
    /// Steps around the endpoint may ask where the call went.
    pub(super) watched: bool,
}

/// The responses of the backends before this one in a sequence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Earlier<'a> {
    /// Shaped.
    pub(super) responses: &'a [Value],
    /// The bodies of the responses that are `no-op`.
    pub(super) texts: &'a [Option<Bytes>],
}

/// A call that is ready to be made.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) out: Outgoing,
    /// The gateway asks for gzip although the client did not.
    pub(super) gzip: bool,
    /// What the pipe steps of the backend see in addition. `None` if there are none.
    pub(super) seed: Option<Box<Seed>>,
}

/// Builds the call to `backend` with `headers` and `body`.
///
/// It runs before the steps of the backend: a request that cannot become a call must not open the circuit breaker.
pub(super) fn prepare<C>(
    cx: &Context<'_, C>,
    backend: &Backend,
    earlier: Earlier<'_>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Prepared, Failure> {
    let call = cx.call;
    let sources = Sources {
        call,
        earlier: earlier.responses,
    };
    let pairs = cx
        .query
        .pairs(call.query.as_deref(), backend.query.as_ref());
    let mut out = Outgoing {
        method: call.method.as_ref().unwrap_or(&backend.method).clone(),
        target: backend.url.render(&sources, &pairs)?,
        headers,
        body,
        subject: call.subject.clone(),
        affinity: call.affinity(backend),
    };
    let mut announce = call.announce_length || backend.send_body_on_redirect;
    if let Some(rules) = &backend.headers {
        let of_body = out.headers.get(CONTENT_TYPE).filter(|_| call.made).cloned();
        rules.narrow(&mut out.headers);
        if let Some(value) = of_body {
            out.headers.insert(CONTENT_TYPE, value);
        }
        announce =
            (call.announce_length && rules.announces_length()) || backend.send_body_on_redirect;
    }
    if let Some(graphql) = &backend.graphql {
        graphql.apply(&mut out, &call.params)?;
    } else if announce && !out.body.is_empty() {
        out.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(out.body.len()));
    }
    let gzip = forward::complete(
        &mut out.headers,
        cx.options,
        &out.method,
        backend.compression,
    );
    let piped = !backend.pipes.is_empty() || backend.on_wire.is_some();
    let seed = piped.then(|| Box::new(seed(cx, backend, earlier)));
    Ok(Prepared { out, gzip, seed })
}

/// Builds and makes the call, or several at once if `concurrent_calls` asks for it.
pub(super) fn get<C: Transport>(
    cx: &Context<'_, C>,
    backend: &Backend,
    earlier: Earlier<'_>,
    limit: &TimeLimit,
) -> impl Future<Output = Result<Part, Failure>> + Send {
    let headers = spare_map::copy_of(&cx.call.headers);
    get_with(cx, backend, earlier, limit, headers)
}

/// Like `get`, for the only call that needs the headers of the request. The call is built at once, and made in a box: what
/// surrounds it is moved.
pub(super) fn get_with<C: Transport>(
    cx: &Context<'_, C>,
    backend: &Backend,
    earlier: Earlier<'_>,
    limit: &TimeLimit,
    headers: HeaderMap,
) -> impl Future<Output = Result<Part, Failure>> + Send {
    let prepared = prepare(cx, backend, earlier, headers, cx.call.body.clone());
    let begun = prepared.map(|out| {
        let called = cx.watched.then(|| CallTarget {
            origin: backend.hosts.only().map(Box::from),
            target: (*out.out.target).into(),
        });
        let (transport, most_bytes) = (cx.transport, cx.options.max_upstream_body_bytes);
        let call = match cx.concurrent_calls {
            0 | 1 => Either::Left(in_place(|| {
                exchange(transport, most_bytes, backend, out, limit)
            })),
            many => Either::Right(Box::pin(async move {
                let call = || exchange(transport, most_bytes, backend, out.clone(), limit);
                race(many, call, |part| part.complete).await
            })),
        };
        (called, call)
    });
    async move {
        let (called, call) = begun?;
        let mut part = call.await?;
        if called.is_some() {
            part.meta.get_or_insert_default().called = called;
        }
        Ok(part)
    }
}

/// Makes one call through the backend's steps, and reads the response.
pub(super) async fn exchange<C: Transport>(
    transport: &C,
    most_bytes: u64,
    backend: &Backend,
    prepared: Prepared,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let observer = backend.observer.as_ref();
    let call = observe::Call::begin(observer, limit.end().into_std(), &prepared.out.headers);
    // Pinned here, because a copy of it would cost more than the rest of the observation. It is dropped before the call,
    // which reports what it was waiting for.
    let work = pin!(guarded(transport, most_bytes, backend, prepared, limit));
    let Some(observed) = &call else {
        return work.await;
    };
    let result = observed.run(work).await;
    if let Some(call) = call {
        call.end(match &result {
            Ok(part) => observe::Outcome::Answered(part.complete),
            Err(failure) => failure.observed(),
        });
    }
    result
}

async fn guarded<C: Transport>(
    transport: &C,
    most_bytes: u64,
    backend: &Backend,
    prepared: Prepared,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let mut guard = BackendSteps::enter(&backend.steps, limit)?;
    let hidden = backend.url.hidden();
    let of_target = hidden.in_target(&prepared.out.target);
    let result = match prepared.seed {
        // Boxed, so that calls without steps do not pay for the state of steps.
        Some(_) => {
            let call = pipe_steps::exchange(transport, most_bytes, backend, prepared, limit);
            Box::pin(call).await
        }
        None => plain(transport, most_bytes, backend, prepared.out, limit).await,
    }
    .map_err(|failure| failure.hiding(of_target.as_deref().unwrap_or(hidden)));
    match &result {
        Ok(part) => {
            let outcome = if part.complete {
                Outcome::Success
            } else {
                Outcome::Incomplete
            };
            guard.end(outcome, part.answer());
        }
        Err(failure) => guard.failed(failure),
    }
    result
}

/// The call itself.
async fn plain<C: Transport>(
    transport: &C,
    most_bytes: u64,
    backend: &Backend,
    out: Outgoing,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let (method, target) = (out.method.clone(), out.target.clone());
    let incoming = whole(transport, most_bytes, backend, Call::whole(out), limit).await?;
    let status = incoming.status;
    let _turn = turn(backend.decoder.work(&incoming.body), limit.end()).await?;
    answered(read(backend, incoming, &method, &target, limit), status)
}

/// Marks what was made of a response with the status of the upstream.
pub(super) fn answered(result: Result<Part, Failure>, status: StatusCode) -> Result<Part, Failure> {
    match result {
        Ok(part) => Ok(Part {
            answered: Some(status),
            ..part
        }),
        Err(failure) => Err(failure.of_answer(status)),
    }
}

/// The data of a response. Only 200 and 201 are success. A `no-op` response has no data, whatever its status.
pub(super) fn read(
    backend: &Backend,
    incoming: Incoming,
    method: &Method,
    target: &str,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    if let ErrorMode::Message { decoded } = backend.errors {
        return taken(backend, decoded, incoming, method, target, limit);
    }
    if backend.decoder.encoding == decode::Kind::NoOp {
        return Ok(Part {
            text: Some(incoming.body),
            ..Part::complete(Value::Object(Object::new()))
        });
    }
    if let ErrorMode::PassThrough(pass) = &backend.errors {
        return passed(backend, pass, incoming, method, target, limit);
    }
    match incoming.status {
        StatusCode::OK | StatusCode::CREATED => {
            spare_map::keep(incoming.headers);
            let (data, held) = shaped(backend, &incoming.body, limit)?;
            Ok(Part {
                held,
                ..Part::complete(data)
            })
        }
        _ => rejected(backend, incoming, method, target),
    }
}

/// The decoded body in the backend's shape, and its charge. A large body takes longer than a worker should be held.
fn shaped(backend: &Backend, body: &Bytes, limit: &TimeLimit) -> Result<(Value, Charge), Failure> {
    aside(backend.decoder.work(body), limit.end().into_std(), || {
        let (data, mut held) = backend.decoder.decode(body, backend.shape.depth())?;
        let mut growth = Growth::default();
        let data = backend.shape.apply(data, &mut growth);
        let data = data.map_err(|_| Failure::full())?;
        held.join(growth.into_charge());
        Ok((data, held))
    })?
}

/// A response whose status is not a success, in the form that `backend/http` asks for.
fn rejected(
    backend: &Backend,
    incoming: Incoming,
    method: &Method,
    target: &str,
) -> Result<Part, Failure> {
    if let ErrorMode::Details(alias) = &backend.errors {
        let name = format!("error_{alias}").into();
        let size = 96 + incoming.body.len();
        let details = aside_whole(size, || json::made(&Details(&incoming), size));
        let details = Value::raw_settled(details.map_err(|Full| Failure::full())?);
        return Ok(Part {
            data: Value::Object(Object::from([(name, details)])),
            complete: false,
            meta: Some(Box::new(Meta {
                status: Some(incoming.status),
                ..Meta::default()
            })),
            ..Part::complete(Value::Null)
        });
    }
    let failure = bad_status(backend, &incoming, method, target);
    Err(match backend.errors {
        ErrorMode::Code => with_body(failure, incoming),
        ErrorMode::Hide
        | ErrorMode::Details(_)
        | ErrorMode::PassThrough(_)
        | ErrorMode::Message { .. } => failure,
    })
}

/// A response that is passed on: shaped if it is a success, otherwise unchanged.
fn passed(
    backend: &Backend,
    pass: &PassThrough,
    incoming: Incoming,
    method: &Method,
    target: &str,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    let mut fields = Fields::new();
    for name in pass.headers.iter().filter(|name| !is_ours(name)) {
        let values = incoming.headers.get_all(name).iter();
        fields.extend(values.map(|value| (name.clone(), value.clone())));
    }
    let status = incoming.status;
    if !status.is_success() {
        let failure = bad_status(backend, &incoming, method, target);
        return Err(Failure {
            passed: Some(Box::new(fields)),
            ..with_body(failure, incoming)
        });
    }
    let (data, held) = if incoming.body.is_empty() {
        (Value::Null, Charge::default())
    } else {
        shaped(backend, &incoming.body, limit)?
    };
    Ok(Part {
        held,
        passed: Some(Box::new(Passed { status, fields })),
        ..Part::complete(data)
    })
}

/// The response to a message. A body that cannot be decoded is not a failure, because the data is not needed.
fn taken(
    backend: &Backend,
    decoded: bool,
    incoming: Incoming,
    method: &Method,
    target: &str,
    limit: &TimeLimit,
) -> Result<Part, Failure> {
    if !incoming.status.is_success() {
        return Err(bad_status(backend, &incoming, method, target));
    }
    let nothing = || Part::complete(Value::Object(Object::new()));
    if backend.decoder.encoding == decode::Kind::NoOp {
        return Ok(Part {
            text: Some(incoming.body),
            ..nothing()
        });
    }
    if !decoded || incoming.body.is_empty() {
        return Ok(nothing());
    }
    match shaped(backend, &incoming.body, limit) {
        Ok((data, held)) => Ok(Part {
            held,
            ..Part::complete(data)
        }),
        Err(failure) if failure.kind == Kind::Decode => {
            log::debug!("[BACKEND: {}] {failure}", backend.pattern);
            Ok(nothing())
        }
        Err(failure) => Err(failure),
    }
}

/// Headers that belong to the body and the connection that the gateway writes, not to those that it reads.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 7] = [
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    OURS.contains(name)
}

fn with_body(failure: Failure, incoming: Incoming) -> Failure {
    let content_type = incoming.headers.get(CONTENT_TYPE).cloned();
    Failure {
        status: incoming.status,
        body: Some((incoming.body, content_type)),
        ..failure
    }
}

/// In the words of KrakenD: with the pattern in the form of its templates, and the whole URL.
fn bad_status(backend: &Backend, incoming: &Incoming, method: &Method, target: &str) -> Failure {
    let text = format!(
        "invalid status code {} [{method} {}]: {}{}",
        incoming.status.as_u16(),
        backend.url.internal(),
        without_password(incoming.origin.as_deref().unwrap_or_default()),
        masked(target),
    );
    Failure::new(Kind::Status, text)
}

/// `{"http_status_code":…,"http_body":…,"http_body_encoding":…}`, in this order, empty ones left out.
struct Details<'i>(&'i Incoming);

impl Unmade for Details<'_> {
    fn write(&self, out: &mut impl Out) {
        out.put(b"{\"http_status_code\":");
        out.put(self.0.status.as_str().as_bytes());
        let encoding = self.0.headers.get(CONTENT_TYPE);
        for (name, text) in [
            (&b",\"http_body\":"[..], &self.0.body[..]),
            (
                b",\"http_body_encoding\":",
                encoding.map_or(&[][..], HeaderValue::as_bytes),
            ),
        ] {
            if !text.is_empty() {
                out.put(name);
                json::write_lossy(out, text);
            }
        }
        out.put(b"}");
    }
}
