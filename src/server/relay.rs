//! `no-op` answers: a streaming copy between the client and one upstream, both ways, as bytes arrive.
//!
//! Pingora's own proxy path can neither bound the wait for the header apart from the body, nor follow a redirect; this
//! copy runs on the same connectors and does both. The endpoint's timeout ends with the upstream's header; from then
//! on only silence ends a stream.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::ServerSession as HttpSession;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::runtime::answer::{Answer, Branding};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::{Reply, Sight};
use crate::runtime::pipeline::{ClientCall, Ended, Guard, Limit, stream};
use crate::runtime::service::{Endpoint, Service, StaticData, StreamWork};
use crate::runtime::step::Outcome;
use crate::server::gateway::{Ctx, head_of};
use crate::server::trailers::Announced;
use crate::server::{body, grpc, respond};
use crate::telemetry::hidden::Hidden;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::observe;
use crate::upstream::{
    CallError, Exchange, Gunzip, HostSet, NextCall, Outgoing, RequestBody, is_gzip, trimmed,
};

const X_KRAKEND: HeaderName = HeaderName::from_static("x-krakend");
const X_KRAKEND_COMPLETED: HeaderName = HeaderName::from_static("x-krakend-completed");

/// How a relay ended when it did not end well.
enum Trouble {
    /// Nothing was sent to the client yet: it gets an error answer.
    Failed(Failure),
    /// The same, where static data stand in for the answer.
    Covered(Failure),
    /// The client is gone, or what it sends is not HTTP.
    Client(Box<Error>),
    /// The answer was under way and cannot be completed: the connection is cut, so that nobody takes it for whole.
    Cut(&'static str),
    /// What the client sends as a body is none.
    Malformed,
    /// The client is silent in the middle of its body.
    Slow,
    /// The request's body is larger than what may be kept for a redirect or a copy.
    TooLarge,
}

impl Trouble {
    /// The same without what the backend's `url_pattern` keeps secret.
    fn hiding(self, hidden: &Hidden) -> Trouble {
        match self {
            Trouble::Failed(failure) => Trouble::Failed(failure.hiding(hidden)),
            Trouble::Covered(failure) => Trouble::Covered(failure.hiding(hidden)),
            other => other,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failed(failure)
    }
}

/// Answers the session's request with the answer of the endpoint's one backend.
///
/// # Errors
/// The client has gone, or the answer broke off after it had begun: the connection must end.
pub async fn run(
    session: &mut Session,
    ctx: &mut Ctx,
    endpoint: &Endpoint,
    work: &StreamWork,
    metrics: &Metrics,
) -> Result<()> {
    let Some(active) = ctx.active.clone() else {
        return Ok(());
    };
    let service = &*active.service;
    let started = (ctx.counted || ctx.observed.is_some()).then(Instant::now);
    let result = relay(session, ctx, service, endpoint, work)
        .await
        .map_err(|trouble| trouble.hiding(work.backend.url.hidden()));
    ctx.ended = ended(session, &result).zip(started.map(|started| started.elapsed()));
    let answer = match result {
        Ok(()) => return Ok(()),
        Err(Trouble::Client(error)) => {
            ctx.notes.refused = Some("client_gone");
            return Err(error);
        }
        Err(Trouble::Cut(reason)) => {
            metrics.upstream_error(&endpoint.pattern, "broken");
            log::error!(
                "[ENDPOINT: {}] the answer broke off: {reason}",
                endpoint.pattern
            );
            ctx.notes.errors.push(reason.into());
            return Err(Error::explain(ErrorType::ConnectionClosed, reason).into_up());
        }
        Err(Trouble::Malformed) => {
            metrics.bad_request("body");
            if session.response_written().is_some() {
                return Err(
                    Error::explain(ErrorType::InvalidHTTPHeader, "the body is malformed")
                        .into_down(),
                );
            }
            session.set_keepalive(None);
            Answer::empty(StatusCode::BAD_REQUEST)
        }
        Err(Trouble::Slow) => {
            metrics.bad_request("slow_body");
            if session.response_written().is_some() {
                return Err(Error::explain(ErrorType::ReadTimedout, "the body stops").into_down());
            }
            session.set_keepalive(None);
            Answer::empty(StatusCode::REQUEST_TIMEOUT)
        }
        Err(Trouble::TooLarge) => {
            ctx.notes.refused = Some("body_too_large");
            Answer::empty(StatusCode::PAYLOAD_TOO_LARGE)
        }
        Err(Trouble::Failed(failure)) => {
            report(ctx, endpoint, metrics, &failure);
            failed(session, service, failure)
        }
        Err(Trouble::Covered(failure)) => {
            report(ctx, endpoint, metrics, &failure);
            match is_grpc(session) {
                true => failed(session, service, failure),
                false => Answer {
                    branding: Branding::Completed(false),
                    ..Answer::empty(StatusCode::OK)
                },
            }
        }
    };
    ctx.answered = Some(answer.status);
    let answer = ctx.dressed(answer);
    let fields = &ctx.notes.response_fields;
    respond::write(session, &service.options, answer, fields).await
}

/// How it ended for `telemetry/metrics`: the work is done once there is a header, whatever becomes of the body.
fn ended(session: &Session, result: &std::result::Result<(), Trouble>) -> Option<Ended> {
    match result {
        _ if session.response_written().is_some_and(is_final) => Some(Ended::WHOLE),
        Ok(()) | Err(Trouble::Cut(_)) => Some(Ended::WHOLE),
        Err(Trouble::Covered(_)) => Some(Ended {
            complete: false,
            error: false,
        }),
        Err(Trouble::Failed(_) | Trouble::Client(_)) => Some(Ended::FAILED),
        Err(Trouble::Malformed | Trouble::Slow | Trouble::TooLarge) => None,
    }
}

fn is_final(header: &ResponseHeader) -> bool {
    !header.status.is_informational()
}

fn report(ctx: &mut Ctx, endpoint: &Endpoint, metrics: &Metrics, failure: &Failure) {
    metrics.upstream_error(&endpoint.pattern, failure.kind.as_str());
    log::error!("[ENDPOINT: {}] {failure}", endpoint.pattern);
    ctx.notes.errors.push(failure.text.clone());
}

fn failed(session: &mut Session, service: &Service, mut failure: Failure) -> Answer {
    if let (Some(status), true) = (grpc::status_of(failure.kind), is_grpc(session)) {
        failure.status = status;
    }
    if failure.kind == Kind::Deadline && !session.as_downstream_mut().is_body_done() {
        // The rest of the body, which was too slow already, is not waited for.
        session.set_keepalive(None);
    }
    stream::failed(&service.options, failure)
}

async fn relay(
    session: &mut Session,
    ctx: &mut Ctx,
    service: &Service,
    endpoint: &Endpoint,
    work: &StreamWork,
) -> std::result::Result<(), Trouble> {
    // Racing calls are cut earlier, as with composed endpoints.
    let percent = if work.concurrent_calls > 1 { 75 } else { 100 };
    let limit = Limit::at(Instant::now() + endpoint.timeout * percent / 100);
    let call = Call::begin(session, ctx, service, endpoint, work, &limit).await;
    let mut call = call.map_err(|trouble| covered(work, trouble))?;
    if call.prepared.local.is_some() {
        // The answer of a step outside of the call, which the backend's steps know nothing of.
        let written = Box::pin(call.whole(session, ctx, service, work, &limit)).await;
        return written.map(|_| ());
    }
    guarded(session, ctx, service, work, &mut call, &limit)
        .await
        .map_err(|trouble| covered(work, trouble))
}

/// What static data make of the failure of a call. Steps around the endpoint stand outside of them.
fn covered(work: &StreamWork, trouble: Trouble) -> Trouble {
    match (trouble, &work.static_data) {
        (Trouble::Failed(failure), Some(data)) if data.covers_failure() && !failure.outside => {
            Trouble::Covered(failure)
        }
        (trouble, _) => trouble,
    }
}

/// Makes the call, within the backend's steps.
async fn guarded<'a>(
    session: &mut Session,
    ctx: &Ctx,
    service: &Service,
    work: &'a StreamWork,
    call: &mut Call<'a>,
    limit: &Limit,
) -> std::result::Result<(), Trouble> {
    let observer = work.backend.observer.as_ref();
    let Some(watch) = observe::Call::begin(observer, limit.end().into_std()) else {
        return within_steps(session, ctx, service, work, call, limit).await;
    };
    let passed = watch.run(within_steps(session, ctx, service, work, call, limit));
    let result = Box::pin(passed).await;
    watch.end(match &result {
        Ok(()) => observe::Outcome::Answered(true),
        Err(Trouble::Failed(failure) | Trouble::Covered(failure)) => failure.observed(),
        // The head was there: what becomes of the body is the client's span to tell.
        Err(Trouble::Cut(_)) => observe::Outcome::Answered(true),
        Err(_) => observe::Outcome::Canceled,
    });
    result
}

async fn within_steps<'a>(
    session: &mut Session,
    ctx: &Ctx,
    service: &Service,
    work: &'a StreamWork,
    call: &mut Call<'a>,
    limit: &Limit,
) -> std::result::Result<(), Trouble> {
    let mut guard = Guard::enter(&work.backend.steps, limit)?;
    let result = match call.pass(work, limit).await {
        Ok(()) if call.prepared.local.is_some() || call.is_whole(work) => {
            Box::pin(call.whole(session, ctx, service, work, limit)).await
        }
        Ok(()) => call.run(session, ctx, service, work, limit).await,
        Err(trouble) => Err(trouble),
    };
    match &result {
        Ok(status) => guard.end(Outcome::Streamed {
            status: status.as_u16(),
        }),
        // A client that leaves says nothing about the upstream.
        Err(Trouble::Client(_) | Trouble::Malformed | Trouble::Slow | Trouble::TooLarge) => {}
        Err(_) => guard.end(Outcome::Failure),
    }
    result.map(|_| ())
}

/// How far the client's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
    Running,
    /// The upstream reads no more of it, though it may still answer: what comes is thrown away.
    Unheard,
    Done,
}

/// A call that is ready to be made.
struct Call<'a> {
    hosts: &'a HostSet,
    prepared: stream::Prepared<'a>,
    framing: RequestBody,
    /// The body was read beforehand and is in `out.body`.
    kept: bool,
    /// The token that we called with.
    authorization: Option<HeaderValue>,
}

impl<'a> Call<'a> {
    async fn begin(
        session: &mut Session,
        ctx: &mut Ctx,
        service: &Service,
        endpoint: &Endpoint,
        work: &'a StreamWork,
        limit: &Limit,
    ) -> std::result::Result<Call<'a>, Trouble> {
        let backend = &work.backend;
        let empty = session.as_downstream_mut().is_body_empty();
        let keep = !empty
            && (backend.send_body_on_redirect
                || backend.cache.is_some()
                || backend.graphql.is_some()
                || stream::needs_body(work)
                || work.concurrent_calls > 1);
        let read = ctx.notes.body.take();
        let keep = keep || read.is_some();
        let whole = match (read, keep) {
            (Some(body), _) => body,
            (None, true) => {
                let read = whole_body(session, service.options.max_request_body_bytes);
                let read = limit.wait(pin!(read)).await;
                read.ok_or_else(Failure::deadline)??
            }
            (None, false) => Bytes::new(),
        };
        let Some(head) = head_of(session, ctx.client) else {
            return Err(Failure::new(Kind::Request, "the request target is no text").into());
        };
        let announced = announced(head.headers);
        let client = ClientCall::new(
            &service.options,
            endpoint,
            &head,
            &ctx.notes,
            whole,
            Instant::now(),
        );
        let preparing = stream::prepare(&service.options, endpoint, work, client, limit);
        let prepared = match work.pipes.is_empty() {
            true => preparing.await?,
            false => {
                let preparing = limit.wait(pin!(preparing)).await;
                preparing.unwrap_or_else(|| Err(Failure::deadline().outside()))?
            }
        };
        let mut call = Call {
            hosts: &backend.hosts,
            kept: keep || !prepared.out.body.is_empty(),
            prepared,
            framing: RequestBody::Empty,
            authorization: None,
        };
        call.framing = match (call.kept, empty) {
            (true, _) => framing_of(&call.prepared.out.body),
            (false, true) => RequestBody::Empty,
            (false, false) => announced.map_or(RequestBody::Chunked, RequestBody::Length),
        };
        if is_grpc(session) {
            // RFC 9110 §10.1.4: without it a gRPC server refuses, and it concerns each connection alone.
            let trailers = HeaderValue::from_static("trailers");
            call.prepared.out.headers.insert(header::TE, trailers);
        }
        Ok(call)
    }

    /// What remains to be done within the backend's steps: its pipe steps, and the token to call with.
    async fn pass(
        &mut self,
        work: &'a StreamWork,
        limit: &Limit,
    ) -> std::result::Result<(), Trouble> {
        let backend = &work.backend;
        if self.prepared.watch.is_some() {
            let passing = limit.wait(pin!(self.prepared.pass(backend, limit))).await;
            passing.unwrap_or_else(|| Err(Failure::deadline()))?;
            // Also a body that a step has emptied is one that is at hand.
            if self.kept || self.prepared.replaced || !self.prepared.out.body.is_empty() {
                self.kept = true;
                self.framing = framing_of(&self.prepared.out.body);
            }
        }
        let sent_here = self.prepared.local.is_none() && !self.is_whole(work);
        if let (Some(credentials), true) = (&backend.credentials, sent_here) {
            let value = stream::authorization(&**credentials, limit).await?;
            let headers = &mut self.prepared.out.headers;
            headers.insert(header::AUTHORIZATION, value.clone());
            self.authorization = Some(value);
        }
        Ok(())
    }

    /// Whether the answer must be read before it is passed on.
    fn is_whole(&self, work: &StreamWork) -> bool {
        work.backend.cache.is_some()
            || (self.prepared.watch.is_some() && stream::sight(work) == Sight::Whole)
    }

    async fn run(
        &mut self,
        session: &mut Session,
        ctx: &Ctx,
        service: &Service,
        work: &StreamWork,
        limit: &Limit,
    ) -> std::result::Result<StatusCode, Trouble> {
        let mut watch = self.prepared.watch.take();
        let mut followed: Option<NextCall> = None;
        let mut requests = 1;
        loop {
            let (hosts, out, framing) = match &followed {
                None => (
                    self.prepared.elsewhere.as_ref().unwrap_or(self.hosts),
                    &self.prepared.out,
                    self.framing,
                ),
                Some(next) => (&next.hosts, &next.out, framing_of(&next.out.body)),
            };
            let kept = self.kept || followed.is_some();
            let replaced = self.prepared.replaced;
            let racing = work.concurrent_calls > 1 && followed.is_none();
            let header = async {
                if racing {
                    let exchange =
                        race(session, hosts, out, framing, work.concurrent_calls).await?;
                    return Ok((exchange, Upload::Done));
                }
                let mut exchange = hosts.open(out, framing).await.map_err(Failure::from)?;
                if kept && framing != RequestBody::Empty {
                    exchange.write_own_body().await.map_err(Failure::from)?;
                }
                let unread = !session.as_downstream_mut().is_body_done();
                let upload = match kept || framing == RequestBody::Empty {
                    true if replaced && unread => Upload::Unheard,
                    true => Upload::Done,
                    false => Upload::Running,
                };
                let upload = wait_for_header(session, &mut exchange, upload).await?;
                Ok::<_, Trouble>((exchange, upload))
            };
            let Some(done) = limit.wait(pin!(header)).await else {
                return Err(Failure::deadline().into());
            };
            let (mut exchange, upload) = done?;
            self.learn(work, &exchange);
            match exchange
                .redirect(requests, self.kept)
                .map_err(Failure::from)?
            {
                None => {
                    let reply = match watch.take() {
                        None => None,
                        Some(watch) => {
                            let mut reply = seen(&exchange, self.prepared.gunzip)?;
                            let came = (reply.status, length_of(&reply.headers));
                            let watched = watch.answered(&work.backend, &mut reply);
                            let watched = limit.wait(pin!(watched)).await;
                            watched.unwrap_or_else(|| Err(Failure::deadline()))?;
                            frame(&mut reply, came);
                            Some(reply)
                        }
                    };
                    return copy(
                        session,
                        ctx,
                        service,
                        work,
                        (&mut exchange, reply.as_ref()),
                        upload,
                        self.prepared.gunzip,
                        limit,
                    )
                    .await;
                }
                Some(next) => {
                    exchange.settle().await;
                    drop(exchange);
                    requests += 1;
                    followed = Some(next);
                }
            }
        }
    }
}

impl Call<'_> {
    /// A token that the upstream refuses is not used again. This answer passes all the same: its request may have had a
    /// body, which is gone.
    fn learn(&self, work: &StreamWork, exchange: &Exchange<'_>) {
        if let (Some(credentials), Some(value)) = (&work.backend.credentials, &self.authorization)
            && let Some((StatusCode::UNAUTHORIZED, _)) = exchange.header()
        {
            credentials.rejected(value);
        }
    }

    /// For a response cache, and for steps that must see the whole answer or gave it themselves.
    async fn whole(
        &mut self,
        session: &mut Session,
        ctx: &Ctx,
        service: &Service,
        work: &StreamWork,
        limit: &Limit,
    ) -> std::result::Result<StatusCode, Trouble> {
        let watch = self.prepared.watch.take();
        let getting = async {
            let mut reply = match self.prepared.local.take() {
                Some(reply) => reply,
                None => {
                    let hosts = self.prepared.elsewhere.as_ref().unwrap_or(self.hosts);
                    let out = std::mem::take(&mut self.prepared.out);
                    let options = &service.options;
                    let got = stream::whole(options, &work.backend, hosts, out, limit).await?;
                    Reply {
                        status: got.status,
                        headers: got.headers,
                        body: Some(got.body),
                    }
                }
            };
            if let Some(watch) = watch {
                watch.answered(&work.backend, &mut reply).await?;
            }
            Ok(reply)
        };
        let reply = limit.wait(pin!(getting)).await;
        let reply = reply.unwrap_or_else(|| Err(Failure::deadline()))?;
        write_whole(session, ctx, service, work, reply).await
    }
}

/// The answer as steps see it that let its body stream past.
fn seen(exchange: &Exchange<'_>, gunzip: bool) -> std::result::Result<Reply, Failure> {
    let Some((status, headers)) = exchange.header() else {
        return Err(Failure::new(Kind::Broken, "EOF"));
    };
    let mut headers = headers.clone();
    if gunzip && is_gzip(&headers) {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Reply {
        status,
        headers,
        body: None,
    })
}

pub(super) fn length_of(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::CONTENT_LENGTH).cloned()
}

/// A body that streams past is as long as it came, whatever a step wrote: with a length that is made up, or that was
/// the length of no body, the client would wait for more or take the rest for the next answer.
pub(super) fn frame(reply: &mut Reply, (status, length): (StatusCode, Option<HeaderValue>)) {
    let lengths = reply.headers.get_all(header::CONTENT_LENGTH).iter();
    let untouched = lengths.eq(length.iter());
    if reply.body.is_none() && (!untouched || has_no_body(status)) {
        reply.headers.remove(header::CONTENT_LENGTH);
    }
}

fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Writes an answer that is at hand.
async fn write_whole(
    session: &mut Session,
    ctx: &Ctx,
    service: &Service,
    work: &StreamWork,
    reply: Reply,
) -> std::result::Result<StatusCode, Trouble> {
    let body = reply.body.unwrap_or_default();
    let (status, mut headers) = (reply.status, reply.headers);
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    let is_head = session.req_header().method == Method::HEAD;
    let bodiless = is_head || has_no_body(status) || body.is_empty();
    let answer = header_for_client(session, ctx, service, work, status, &headers, false)
        .map_err(|_| Failure::new(Kind::Broken, "the answer's header cannot be written"))?;
    respond::keep_connection(session);
    respond::write_header(session, answer, bodiless)
        .await
        .map_err(Trouble::Client)?;
    if !bodiless {
        session
            .write_response_body(Some(body), true)
            .await
            .map_err(Trouble::Client)?;
    }
    Ok(status)
}

/// Makes `many` equal calls; the first that brings a header wins and keeps its stream, the others are dropped.
async fn race<'a>(
    session: &mut Session,
    hosts: &'a HostSet,
    out: &'a Outgoing,
    framing: RequestBody,
    many: u32,
) -> std::result::Result<Exchange<'a>, Trouble> {
    let call = || async move {
        let mut exchange = hosts.open(out, framing).await?;
        if framing != RequestBody::Empty {
            exchange.write_own_body().await?;
        }
        exchange.read_header().await?;
        Ok::<_, CallError>(exchange)
    };
    let mut calls: FuturesUnordered<_> = (0..many).map(|_| call()).collect();
    let mut last = Failure::canceled();
    loop {
        tokio::select! {
            biased;
            result = calls.next() => match result {
                Some(Ok(exchange)) => return Ok(exchange),
                Some(Err(error)) => last = Failure::from(error),
                None => return Err(last.into()),
            },
            chunk = session.as_downstream_mut().read_body_or_idle(true) => {
                chunk.map_err(|error| Trouble::Client(error.into_down()))?;
            }
        }
    }
}

async fn whole_body(session: &mut Session, most: u64) -> std::result::Result<Bytes, Trouble> {
    body::read(session, most)
        .await
        .map_err(|error| match error {
            body::BodyError::TooLarge => Trouble::TooLarge,
            body::BodyError::Gone(error) => Trouble::Client(error),
            body::BodyError::Full => Trouble::Failed(Failure::full()),
            body::BodyError::Malformed => Trouble::Malformed,
            body::BodyError::Slow => Trouble::Slow,
        })
}

/// Whether trailers and `grpc-status` mean something to this client.
fn is_grpc(session: &Session) -> bool {
    session.is_http2() && grpc::is_grpc(&session.req_header().headers)
}

fn framing_of(body: &Bytes) -> RequestBody {
    if body.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Length(body.len() as u64)
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Sends the client's body on while the upstream's header is awaited. Returns how far it came.
async fn wait_for_header(
    session: &mut Session,
    exchange: &mut Exchange<'_>,
    mut upload: Upload,
) -> std::result::Result<Upload, Trouble> {
    if upload == Upload::Running {
        body::ask_for_it(session).await.map_err(Trouble::Client)?;
    }
    loop {
        tokio::select! {
            biased;
            header = exchange.read_header() => {
                header.map_err(Failure::from)?;
                return Ok(upload);
            }
            chunk = session.as_downstream_mut().read_body_or_idle(upload == Upload::Done) => {
                let last = session.as_downstream_mut().is_body_done();
                upload = pass_on(exchange, chunk, last, upload).await?;
            }
        }
    }
}

/// Hands one chunk of the client's body on. An upstream that no longer listens may still have answered.
async fn pass_on(
    exchange: &mut Exchange<'_>,
    chunk: Result<Option<Bytes>>,
    last: bool,
    upload: Upload,
) -> std::result::Result<Upload, Trouble> {
    let chunk = chunk.map_err(|error| match error.etype() {
        ErrorType::ReadTimedout => Trouble::Slow,
        _ if body::is_malformed(&error) => Trouble::Malformed,
        _ => Trouble::Client(error.into_down()),
    })?;
    let over = last || chunk.is_none();
    let heard = match (upload, chunk) {
        (Upload::Running, Some(bytes)) => exchange.write_body(bytes, last).await.is_ok(),
        (Upload::Running, None) => exchange.finish_body().await.is_ok(),
        (Upload::Unheard | Upload::Done, _) => false,
    };
    Ok(match (over, heard) {
        (true, _) => Upload::Done,
        (false, true) => Upload::Running,
        (false, false) => Upload::Unheard,
    })
}

/// Copies the answer to the client as it comes.
#[expect(
    clippy::too_many_arguments,
    reason = "one place that needs both ends and both rules"
)]
async fn copy(
    session: &mut Session,
    ctx: &Ctx,
    service: &Service,
    work: &StreamWork,
    (exchange, reply): (&mut Exchange<'_>, Option<&Reply>),
    mut upload: Upload,
    gunzip: bool,
    limit: &Limit,
) -> std::result::Result<StatusCode, Trouble> {
    let Some((status, headers)) = exchange.header() else {
        return Err(Failure::new(Kind::Broken, "EOF").into());
    };
    let decode = gunzip && is_gzip(headers);
    // A step may give the answer a status that has no body: the upstream's own then goes nowhere.
    let silenced = reply.is_some_and(|reply| has_no_body(reply.status));
    let silenced = silenced && !has_no_body(status);
    let (status, headers) = match reply {
        Some(reply) => (reply.status, &reply.headers),
        None => (status, headers),
    };
    if let Some(reply) = reply.filter(|reply| reply.body.is_some()) {
        return write_whole(session, ctx, service, work, reply.clone()).await;
    }
    let by_head = session.req_header().method == Method::HEAD;
    let mut bodiless = by_head || has_no_body(status);
    let announced = Announced::of(headers);
    // The length in an answer to our HEAD is none of what a client that sent another method gets.
    let unframe = decode || (exchange.asked_by_head() && !by_head);
    let answer = header_for_client(session, ctx, service, work, status, headers, unframe)
        .map_err(|_| Failure::new(Kind::Broken, "the answer's header cannot be written"))?;
    respond::keep_connection(session);
    // An answer that is its header alone must end with it: gRPC takes its status from there then.
    bodiless |= session.is_http2() && exchange.is_done();
    respond::write_header(session, answer, bodiless)
        .await
        .map_err(Trouble::Client)?;
    if silenced && !exchange.is_done() {
        return Ok(status);
    }
    if !decode && !bodiless && exchange.lends() && !session.is_http2() {
        lend(session, exchange, service, upload, limit).await?;
        exchange.release().await;
        return Ok(status);
    }
    let mut decoder = (decode && !bodiless).then(Gunzip::default);
    let mut alive = Instant::now();
    loop {
        let wait = patience(service, limit, alive);
        tokio::select! {
            biased;
            chunk = pingora_timeout::timeout(wait, exchange.read_body()) => {
                let chunk = chunk.map_err(|_| Trouble::Cut("the upstream fell silent"))?;
                match chunk.map_err(|_| Trouble::Cut("unexpected EOF"))? {
                    Some(bytes) => {
                        let last = exchange.is_done() && decoder.is_none();
                        let end = last && !session.is_http2();
                        write_chunk(session, decoder.as_mut(), bytes, end).await?;
                        alive = Instant::now();
                        if end {
                            break;
                        }
                    }
                    None => {
                        finish(session, exchange, service, decoder, bodiless, &announced).await?;
                        break;
                    }
                }
            }
            chunk = session.as_downstream_mut().read_body_or_idle(upload == Upload::Done) => {
                upload = late_upload(session, exchange, service, chunk, upload, &mut alive).await?;
            }
        }
    }
    exchange.release().await;
    Ok(status)
}

/// Hands on what the client sends while its answer is under way.
async fn late_upload(
    session: &mut Session,
    exchange: &mut Exchange<'_>,
    service: &Service,
    chunk: Result<Option<Bytes>>,
    upload: Upload,
    alive: &mut Instant,
) -> std::result::Result<Upload, Trouble> {
    let last = session.as_downstream_mut().is_body_done();
    // An upstream that waits for its answer to be read before it reads on would wait for ever.
    let passed = pass_on(exchange, chunk, last, upload);
    let upload = pingora_timeout::timeout(service.options.stream_idle_timeout, passed)
        .await
        .map_err(|_| Trouble::Cut("the upstream reads nothing"))??;
    // A body that goes nowhere keeps nothing alive.
    if upload == Upload::Running {
        *alive = Instant::now();
    }
    Ok(upload)
}

/// How long an answer under way may still be silent, when the last sign of life was at `alive`.
fn patience(service: &Service, limit: &Limit, alive: Instant) -> Duration {
    let idle = service
        .options
        .stream_idle_timeout
        .saturating_sub(alive.elapsed());
    match service.options.stream_total_timeout {
        true => idle.min(limit.remaining()),
        false => idle,
    }
}

/// Copies a body from one HTTP/1 connection to another straight out of the buffer that it was read into.
async fn lend(
    session: &mut Session,
    exchange: &mut Exchange<'_>,
    service: &Service,
    mut upload: Upload,
    limit: &Limit,
) -> std::result::Result<(), Trouble> {
    let mut alive = Instant::now();
    loop {
        let wait = patience(service, limit, alive);
        tokio::select! {
            biased;
            chunk = pingora_timeout::timeout(wait, exchange.read_slice()) => {
                let chunk = chunk.map_err(|_| Trouble::Cut("the upstream fell silent"))?;
                if let Some(bytes) = chunk.map_err(|_| Trouble::Cut("unexpected EOF"))?
                    && !bytes.is_empty()
                {
                    let HttpSession::H1(client) = session.as_downstream_mut() else {
                        return Err(Trouble::Cut("not HTTP/1"));
                    };
                    let written = client.write_body(bytes).await.map_err(Trouble::Client)?;
                    written.ok_or(Trouble::Cut("more bytes than announced"))?;
                    alive = Instant::now();
                }
                if exchange.is_done() {
                    session.write_response_body(None, true).await.map_err(Trouble::Client)?;
                    // What follows the end spoils the connection, not the answer.
                    let _ = exchange.read_body().await;
                    return Ok(());
                }
            }
            chunk = session.as_downstream_mut().read_body_or_idle(upload == Upload::Done) => {
                upload = late_upload(session, exchange, service, chunk, upload, &mut alive).await?;
            }
        }
    }
}

async fn write_chunk(
    session: &mut Session,
    decoder: Option<&mut Gunzip>,
    bytes: Bytes,
    last: bool,
) -> std::result::Result<(), Trouble> {
    let Some(decoder) = decoder else {
        return session
            .write_response_body(Some(bytes), last)
            .await
            .map_err(Trouble::Client);
    };
    decoder.push(bytes);
    while let Some(piece) = decoder
        .next_piece()
        .map_err(|_| Trouble::Cut("gzip: invalid data"))?
    {
        session
            .write_response_body(Some(piece), false)
            .await
            .map_err(Trouble::Client)?;
    }
    Ok(())
}

/// Ends the answer: what the decoder still holds, announced trailers on HTTP/2, the end itself.
async fn finish(
    session: &mut Session,
    exchange: &mut Exchange<'_>,
    service: &Service,
    decoder: Option<Gunzip>,
    bodiless: bool,
    announced: &Announced,
) -> std::result::Result<(), Trouble> {
    if let Some(mut decoder) = decoder
        && let Some(rest) = decoder
            .finish()
            .map_err(|_| Trouble::Cut("gzip: unexpected EOF"))?
    {
        session
            .write_response_body(Some(rest), false)
            .await
            .map_err(Trouble::Client)?;
    }
    if bodiless {
        return Ok(());
    }
    if session.is_http2()
        && let Some(trailers) = trailers(exchange, service, announced).await?
    {
        return session
            .as_downstream_mut()
            .write_response_trailers(trailers)
            .await
            .map_err(Trouble::Client);
    }
    session
        .write_response_body(None, true)
        .await
        .map_err(Trouble::Client)
}

/// The trailers that may pass. They are part of the answer: an upstream that never sends them is silent.
async fn trailers(
    exchange: &mut Exchange<'_>,
    service: &Service,
    announced: &Announced,
) -> std::result::Result<Option<HeaderMap>, Trouble> {
    let most = service.options.stream_idle_timeout;
    let trailers = pingora_timeout::timeout(most, exchange.trailers())
        .await
        .map_err(|_| Trouble::Cut("the upstream fell silent"))?
        .map_err(|_| Trouble::Cut("unexpected EOF"))?;
    Ok(trailers.and_then(|trailers| announced.pass(trailers)))
}

/// The upstream's header without what concerns its own connection, with ours in place of its `X-Krakend` fields.
///
/// Made as a plain map: Pingora's own setters parse each name again, which this is called too often for.
pub(super) fn header_for_client(
    session: &Session,
    ctx: &Ctx,
    service: &Service,
    work: &StreamWork,
    status: StatusCode,
    headers: &HeaderMap,
    decode: bool,
) -> Result<ResponseHeader> {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.headers = HeaderMap::with_capacity(headers.len() + 6);
    let nominated = nominated(headers);
    let not_modified = status == StatusCode::NOT_MODIFIED;
    let mut length_known = false;
    for (name, value) in headers {
        let skip = match *name {
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::TE => true,
            header::TRAILER => !session.is_http2(),
            header::CONTENT_ENCODING => decode,
            // Where there is no body, its length would only mislead: as the reference's runtime does.
            header::CONTENT_LENGTH => decode || not_modified || status == StatusCode::NO_CONTENT,
            // As the reference's runtime does: a 304 describes no body.
            header::CONTENT_TYPE => not_modified,
            _ => is_about_connection(name) || name == X_KRAKEND || name == X_KRAKEND_COMPLETED,
        };
        if !skip
            && !nominated
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name.as_str()))
        {
            // Only a length that the client sees frames its answer: an upstream may have nominated it away.
            length_known |= *name == header::CONTENT_LENGTH;
            parts.headers.append(name, trimmed(value));
        }
    }
    let data = work.static_data.as_ref();
    let complete = match data.is_some_and(StaticData::completes_stream) {
        true => HeaderValue::from_static("true"),
        false => HeaderValue::from_static("false"),
    };
    parts
        .headers
        .append(X_KRAKEND, service.options.version_header.clone());
    parts.headers.append(X_KRAKEND_COMPLETED, complete);
    let request = session.req_header();
    let chunks = !length_known
        && !session.is_http2()
        && request.version == Version::HTTP_11
        && request.method != Method::HEAD
        && !not_modified
        && status != StatusCode::NO_CONTENT;
    if chunks {
        parts.headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    let mut answer = ResponseHeader::from(parts);
    respond::replace(&mut answer, &ctx.notes.response_fields)?;
    Ok(answer)
}

/// The fields that `Connection` names.
fn nominated(headers: &HeaderMap) -> smallvec::SmallVec<[&str; 2]> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let tokens = lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim));
    tokens.collect()
}

fn is_about_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "keep-alive" | "proxy-connection" | "proxy-authenticate"
    )
}
