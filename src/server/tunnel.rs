//! WebSocket: the terms are checked at the handshake, then bytes pass both ways as they come.
//!
//! Not through Pingora's proxy path: it takes the end of a request without a body for the end of the tunnel when the
//! upstream answers fast, and watches the silence of each direction by itself.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_core::Result;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::runtime::answer::Answer;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::Reply;
use crate::runtime::pipeline::{ClientCall, Guard, Limit, stream};
use crate::runtime::service::{Endpoint, Service, StreamWork, Upgrade};
use crate::runtime::step::Outcome;
use crate::server::gateway::{Ctx, head_of};
use crate::server::{relay, respond};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::moment::now;
use crate::upstream::{Outgoing, Target, has_surplus, trimmed};

/// Fields of the handshake that must reach the upstream, whatever `input_headers` says.
const HANDSHAKE: [&str; 5] = [
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "origin",
];

/// Whether the client asks for a WebSocket. Other protocols are not switched to: their `Upgrade` is dropped, as a
/// server that does not know them would do (RFC 9110 §7.8).
pub fn is_asked_for(session: &Session) -> bool {
    session.is_upgrade_req() && is_websocket(&session.req_header().headers)
}

/// Opens a WebSocket and stays until it ends, or returns the refusal.
///
/// # Errors
/// The client has gone, or an answer that is no WebSocket broke off.
pub async fn run(
    session: &mut Session,
    ctx: &mut Ctx,
    endpoint: &Endpoint,
    work: &StreamWork,
    metrics: &Metrics,
) -> Result<Option<Answer>> {
    let (Some(active), Some(upgrade)) = (ctx.active.clone(), &work.upgrade) else {
        return Ok(Some(Answer::empty(StatusCode::FORBIDDEN)));
    };
    let service = &*active.service;
    let _place = match admit(session, upgrade) {
        Ok(place) => place,
        Err((status, reason)) => {
            ctx.notes.refused = Some(reason);
            return Ok(Some(Answer::empty(status)));
        }
    };
    let limit = Limit::at(Instant::now() + endpoint.timeout);
    let opened = {
        let opening = pin!(open(session, ctx, service, endpoint, work, &limit));
        limit.wait(opening).await
    };
    let (mut upstream, answer) = match opened.unwrap_or_else(|| Err(Failure::deadline())) {
        Ok(opened) => opened,
        Err(failure) => {
            let failure = failure.hiding(work.backend.url.hidden());
            metrics.upstream_error(&endpoint.pattern, failure.kind.as_str());
            log::error!("[ENDPOINT: {}] {failure}", endpoint.pattern);
            ctx.notes.errors.push(failure.text.clone());
            return Ok(Some(stream::failed(&service.options, failure)));
        }
    };
    // Silence is allowed in one direction, and the connection is good for nothing else afterwards.
    session.as_downstream_mut().set_read_timeout(None);
    session.set_keepalive(None);
    if upstream.was_upgraded() {
        switch(session, ctx, &answer).await?;
        let end = end_of(ctx, upgrade);
        let why = pump(
            session,
            &mut upstream,
            service.options.stream_idle_timeout,
            end,
        )
        .await;
        ctx.notes.errors.extend(why.map(Into::into));
    } else {
        let header = relay::header_for_client(
            session,
            ctx,
            service,
            work,
            answer.status,
            &answer.headers,
            false,
        )?;
        decline(
            session,
            &mut upstream,
            header,
            service.options.stream_idle_timeout,
        )
        .await?;
    }
    Ok(None)
}

/// Checks origin and room; the place is given back when the tunnel ends.
fn admit(
    session: &Session,
    upgrade: &Upgrade,
) -> std::result::Result<Option<OwnedSemaphorePermit>, (StatusCode, &'static str)> {
    if !upgrade.admits(session.req_header().headers.get(header::ORIGIN)) {
        return Err((StatusCode::FORBIDDEN, "origin"));
    }
    let Some(room) = &upgrade.room else {
        return Ok(None);
    };
    match Arc::clone(room).try_acquire_owned() {
        Ok(place) => Ok(Some(place)),
        Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "connections")),
    }
}

/// Calls the endpoint's one backend and reads the header of its answer.
async fn open(
    session: &Session,
    ctx: &Ctx,
    service: &Service,
    endpoint: &Endpoint,
    work: &StreamWork,
    limit: &Limit,
) -> std::result::Result<(Box<HttpSession>, ResponseHeader), Failure> {
    let head = head_of(session, ctx.client)
        .ok_or_else(|| Failure::new(Kind::Request, "the request target is no text"))?;
    let client = ClientCall::new(
        &service.options,
        endpoint,
        &head,
        &ctx.notes,
        bytes::Bytes::new(),
        Instant::now(),
    );
    let mut call = stream::prepare(&service.options, endpoint, work, client, limit).await?;
    // A limit or a breaker refuses here. How long a tunnel lasts says nothing about its upstream, its handshake does.
    let mut guard = Guard::enter(&work.backend.steps, limit)?;
    let sent = &session.req_header().headers;
    let result = shake_hands(work, &mut call, sent, limit).await;
    guard.end(match &result {
        Ok((_, answer)) => Outcome::Streamed {
            status: answer.status.as_u16(),
        },
        Err(_) => Outcome::Failure,
    });
    result
}

async fn shake_hands<'a>(
    work: &'a StreamWork,
    call: &mut stream::Prepared<'a>,
    sent: &HeaderMap,
    limit: &Limit,
) -> std::result::Result<(Box<HttpSession>, ResponseHeader), Failure> {
    call.pass(&work.backend, limit).await?;
    if call.local.is_some() {
        let text = "a step answers in place of the backend: there is nobody to tunnel to";
        return Err(Failure::new(Kind::Refused, text));
    }
    if let Some(credentials) = &work.backend.credentials {
        let value = stream::authorization(&**credentials, limit).await?;
        call.out.headers.insert(header::AUTHORIZATION, value);
    }
    let hosts = call.elsewhere.as_ref().unwrap_or(&work.backend.hosts);
    let (mut upstream, target) = hosts.dial().await?;
    let request = request(&call.out, &target, sent)
        .map_err(|_| Failure::new(Kind::Request, "the request cannot be written"))?;
    let broken = |_| Failure::new(Kind::Broken, "EOF");
    upstream
        .write_request_header(Box::new(request))
        .await
        .map_err(broken)?;
    loop {
        upstream.read_response().await.map_err(broken)?;
        let answer = upstream
            .resp_header()
            .ok_or_else(|| Failure::new(Kind::Broken, "EOF"))?;
        match answer.status {
            StatusCode::SWITCHING_PROTOCOLS if !is_websocket(&answer.headers) => {
                let text = "the upstream switched to another protocol than WebSocket";
                return Err(Failure::new(Kind::Broken, text));
            }
            StatusCode::SWITCHING_PROTOCOLS => {}
            status if status.is_informational() => continue,
            _ => {}
        }
        let mut answer = answer.clone();
        if let Some(watch) = call.watch.take() {
            let mut reply = Reply {
                status: answer.status,
                headers: answer.headers.clone(),
                body: Some(bytes::Bytes::new()),
            };
            let came = (reply.status, relay::length_of(&reply.headers));
            // A step may refuse the handshake and change its fields; what follows is no body of HTTP.
            watch.answered(&work.backend, &mut reply).await?;
            reply.body = None;
            relay::frame(&mut reply, came);
            let mut parts = http::Response::new(()).into_parts().0;
            parts.status = answer.status;
            parts.headers = reply.headers;
            answer = ResponseHeader::from(parts);
        }
        return Ok((upstream, answer));
    }
}

/// What the endpoint lets through, and the handshake.
fn request(out: &Outgoing, target: &Target, sent: &HeaderMap) -> Result<RequestHeader> {
    let path = format!("{}{}", target.base, out.target);
    let mut request = RequestHeader::build(out.method.clone(), path.as_bytes(), Some(16))?;
    let host = out.headers.get(header::HOST).unwrap_or(&target.authority);
    request.insert_header(header::HOST, host.clone())?;
    let handshake = |name: &str| HANDSHAKE.contains(&name);
    // A step may have given the handshake a body, which it does not have.
    let is_left_out = |name: &HeaderName| {
        matches!(
            *name,
            header::ACCEPT_ENCODING
                | header::HOST
                | header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
        )
    };
    for (name, value) in &out.headers {
        let silent = *name == header::USER_AGENT && value.is_empty();
        if !is_left_out(name) && !handshake(name.as_str()) && !silent {
            request.append_header(name, trimmed(value))?;
        }
    }
    for name in HANDSHAKE {
        for value in sent.get_all(name) {
            request.append_header(name, value.clone())?;
        }
    }
    request.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
    request.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
    Ok(request)
}

/// Tells the client that the protocol has changed, in the upstream's words.
async fn switch(session: &mut Session, ctx: &Ctx, answer: &ResponseHeader) -> Result<()> {
    let status = StatusCode::SWITCHING_PROTOCOLS;
    let mut header = ResponseHeader::build(status, Some(answer.headers.len() + 2))?;
    for (name, value) in &answer.headers {
        if !matches!(
            *name,
            header::CONNECTION
                | header::UPGRADE
                | header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
        ) {
            header.append_header(name, value)?;
        }
    }
    header.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
    header.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
    respond::replace(&mut header, &ctx.notes.response_fields)?;
    session.write_response_header(Box::new(header), false).await
}

/// When the token of the handshake expires, where that matters.
fn end_of(ctx: &Ctx, upgrade: &Upgrade) -> Option<Instant> {
    let expiry = ctx.notes.claims.as_ref()?.expiry()?;
    let left = expiry.since_epoch().saturating_sub(now());
    // What lies beyond the clock's own range never comes.
    Instant::now()
        .checked_add(left)
        .filter(|_| upgrade.until_expiry)
}

/// Copies both ways until one side closes; otherwise returns why the tunnel was cut.
async fn pump(
    session: &mut Session,
    upstream: &mut HttpSession,
    idle: Duration,
    end: Option<Instant>,
) -> Option<&'static str> {
    upstream.maybe_upgrade_body_writer();
    loop {
        let silent = Instant::now() + idle;
        let due = end.map_or(silent, |end| end.min(silent));
        let passed = tokio::select! {
            sent = session.as_downstream_mut().read_body_or_idle(false) => match sent {
                Ok(Some(bytes)) => timeout_at(due, async {
                    upstream.write_body(&bytes).await.is_ok()
                }).await,
                _ => return None,
            },
            sent = upstream.read_body_bytes() => match sent {
                Ok(Some(bytes)) => timeout_at(due, async {
                    session.write_response_body(Some(bytes), false).await.is_ok()
                }).await,
                _ => return None,
            },
            () = sleep_until(due) => return Some(match due < silent {
                true => "the token of the WebSocket has expired",
                false => "the WebSocket was silent for too long",
            }),
        };
        match passed {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => return Some("one side of the WebSocket does not read"),
        }
    }
}

/// Passes on the answer of an upstream that does not switch.
async fn decline(
    session: &mut Session,
    upstream: &mut HttpSession,
    header: ResponseHeader,
    idle: Duration,
) -> Result<()> {
    session
        .write_response_header(Box::new(header), false)
        .await?;
    loop {
        let cut =
            |text| pingora_core::Error::explain(pingora_core::ErrorType::ConnectionClosed, text);
        let read = tokio::time::timeout(idle, upstream.read_body_bytes()).await;
        let piece = read.map_err(|_| cut("the upstream fell silent").into_up())?;
        match piece.map_err(|_| cut("unexpected EOF").into_up())? {
            Some(bytes) => session.write_response_body(Some(bytes), false).await?,
            None => break,
        }
    }
    if has_surplus(upstream, false) {
        log::warn!("the backend of a WebSocket sent more bytes than its answer has");
    }
    session.write_response_body(None, true).await
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
