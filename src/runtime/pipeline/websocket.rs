//! The handshake of a WebSocket with the only backend of the endpoint.

use std::pin::pin;

use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use tokio::time::Instant;

use super::backend::Prepared;
use super::backend_steps::BackendSteps;
use super::client::ClientCall;
use super::client_head::{Asked, for_client};
use super::endpoint::Request;
use super::fetch::{authorize, sign};
use super::pipe_steps::{self, AdmittedCall};
use super::prepare_stream::{PreparedStream, build, enter};
use super::response_steps::{ResponseSteps, UpstreamFraming};
use super::time_limit::TimeLimit;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::Reply;
use crate::runtime::request::Head;
use crate::runtime::service::{Options, StreamWork, WebSocket};
use crate::runtime::step::{Answer, Outcome};
use crate::telemetry::observe;
use crate::upstream::{Call, Upgraded, handshake_fields};

/// Opens a WebSocket to the backend, through all steps, within the endpoint's timeout.
///
/// # Errors
/// A step rejects the request, or there is no response that could be passed on.
pub(crate) async fn open_tunnel(
    request: Request<'_>,
    head: &Head<'_>,
    work: &StreamWork,
) -> Result<Upgraded, Failure> {
    let Request {
        options,
        endpoint,
        notes,
        ..
    } = request;
    let limit = TimeLimit::at(Instant::now() + endpoint.timeout);
    let client = ClientCall::new(
        options,
        endpoint,
        head,
        notes,
        Default::default(),
        Instant::now(),
    );
    let mut handshake = handshake_fields(head.headers);
    let upgrade = work.upgrade.as_ref();
    let rules = upgrade.and_then(|upgrade| upgrade.websocket.as_ref());
    if let Some(rules) = rules {
        restrict(&mut handshake, rules);
    }
    let opening = async {
        let begun = if work.pipes.is_empty() {
            build(options, &endpoint.query, &work.backend, client, &limit)?
        } else {
            enter(options, endpoint, work, client, &limit).await?
        };
        observed(work, begun, &handshake, &limit).await
    };
    let opened = limit.wait(pin!(opening)).await;
    let opened = opened
        .unwrap_or_else(|| Err(Failure::late()))
        .map_err(|failure| failure.hiding(work.backend.url.hidden()));
    match rules {
        Some(rules) => agreed(opened, rules, options),
        None => opened,
    }
}

/// The response to a handshake at a WebSocket endpoint: 502 if the backend neither switches nor responds with an error. The
/// configuration may ask for 504 after a timeout.
fn agreed(
    opened: Result<Upgraded, Failure>,
    rules: &WebSocket,
    options: &Options,
) -> Result<Upgraded, Failure> {
    let failed = |failure| Failure {
        status: StatusCode::BAD_GATEWAY,
        ..failure
    };
    match opened {
        Ok(upgraded) => {
            let status = upgraded.status;
            let switches = status == StatusCode::SWITCHING_PROTOCOLS;
            // RFC 6455 §4.1: an extension that was not offered. The size of a message would not be that of its frames.
            let extends = rules.max_message_bytes.is_some()
                && upgraded.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS);
            let text = if switches && extends {
                "the backend uses an extension that was not offered".to_owned()
            } else if switches || status.as_u16() >= 400 {
                return Ok(upgraded);
            } else {
                format!("the backend has not accepted the WebSocket: {status}")
            };
            Err(failed(Failure::new(Kind::Status, text)))
        }
        Err(failure) => Err(match failure.kind {
            kind if kind.is_late() && options.gateway_status_codes => failure,
            Kind::Broken | Kind::Connect(_) | Kind::NoHosts => failed(failure),
            kind if kind.is_late() => failed(failure),
            _ => failure,
        }),
    }
}

/// Applies the rules of a `websocket` block to a client's handshake.
fn restrict(handshake: &mut HeaderMap, rules: &WebSocket) {
    if rules.max_message_bytes.is_some() {
        // With compression the size of a message would not be that of its frames.
        handshake.remove(SEC_WEBSOCKET_EXTENSIONS);
    }
    if rules.subprotocols.is_empty() {
        return;
    }
    let offered = handshake.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = offered.filter_map(|value| value.to_str().ok());
    let names = offered.flat_map(|value| value.split(',')).map(str::trim);
    let known = |name: &&str| rules.subprotocols.iter().any(|known| **known == **name);
    let names: Vec<&str> = names.filter(known).collect();
    let value = HeaderValue::try_from(names.join(", ")).ok();
    handshake.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        handshake.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// The head of a response that is not a WebSocket, as the client receives it.
pub(crate) fn declined(
    options: &Options,
    work: &StreamWork,
    version: Version,
    upgraded: &Upgraded,
) -> Parts {
    let asked = Asked {
        version,
        by_head: false,
    };
    let head = (upgraded.status, upgraded.headers.clone());
    for_client(asked, options, work.static_data.as_ref(), head, false)
}

/// Makes the handshake, and reports it to traces and series where the configuration asks for them.
async fn observed(
    work: &StreamWork,
    begun: PreparedStream<'_>,
    handshake: &HeaderMap,
    limit: &TimeLimit,
) -> Result<Upgraded, Failure> {
    let observer = work.backend.observer.as_ref();
    let Some(call) = observe::Call::begin(observer, limit.end().into_std(), handshake) else {
        return guarded(work, begun, handshake, limit).await;
    };
    let result = Box::pin(call.run(guarded(work, begun, handshake, limit))).await;
    call.end(match &result {
        Ok(_) => observe::Outcome::Answered(true),
        Err(failure) => failure.observed(),
    });
    result
}

/// Makes the handshake within the backend's steps. How long a tunnel lasts says nothing about its upstream, its
/// handshake does.
async fn guarded(
    work: &StreamWork,
    begun: PreparedStream<'_>,
    handshake: &HeaderMap,
    limit: &TimeLimit,
) -> Result<Upgraded, Failure> {
    let mut guard = BackendSteps::enter(&work.backend.steps, limit)?;
    let result = shake_hands(work, begun, handshake, limit).await;
    match &result {
        Ok(upgraded) => guard.end(
            Outcome::Streamed {
                status: upgraded.status.as_u16(),
            },
            Answer::Status(upgraded.status),
        ),
        Err(failure) => guard.failed(failure),
    }
    result
}

async fn shake_hands(
    work: &StreamWork,
    begun: PreparedStream<'_>,
    handshake: &HeaderMap,
    limit: &TimeLimit,
) -> Result<Upgraded, Failure> {
    let backend = &work.backend;
    let PreparedStream {
        prepared, outer, ..
    } = begun;
    let prepared = prepared.ok_or_else(answered_by_a_step)?;
    let (mut call, inner) = match prepared {
        Prepared {
            out, seed: None, ..
        } => (Call::whole(out), None),
        prepared => {
            let AdmittedCall {
                call,
                local,
                around,
                ..
            } = pipe_steps::admit(prepared, backend, limit).await?;
            if local.is_some() {
                return Err(answered_by_a_step());
            }
            (call, Some(Box::new(around)))
        }
    };
    authorize(backend.credentials.as_deref(), &mut call.out, limit).await?;
    sign(backend, &mut call, limit).await?;
    let mut upgraded = backend.hosts.upgrade(call, handshake).await?;
    let inner = inner.filter(|inner| inner.sees_responses() || outer.is_some());
    let response_steps = ResponseSteps { inner, outer };
    if !response_steps.is_empty() {
        let headers = std::mem::take(&mut upgraded.headers);
        let mut reply = Reply::local(upgraded.status, headers, Some(Default::default()));
        let upstream_framing = UpstreamFraming::of(&reply);
        // A step may reject the handshake and change its headers. What follows is not an HTTP body.
        response_steps.show(&mut reply).await?;
        reply.body = None;
        upstream_framing.frame(&mut reply);
        upgraded.headers = reply.headers;
    }
    Ok(upgraded)
}

fn answered_by_a_step() -> Failure {
    let text = "a step responds instead of the backend, so there is no WebSocket to connect to";
    Failure::new(Kind::Rejected, text)
}
