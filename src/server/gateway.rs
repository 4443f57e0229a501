//! The `ProxyHttp` implementation: where requests come in. It decides and delegates; the work is elsewhere.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::runtime::answer::{Answer, Branding};
use crate::runtime::failure::Failure;
use crate::runtime::listen::Limits;
use crate::runtime::pipeline::{self, Ended};
use crate::runtime::request::{Head, Notes};
use crate::runtime::router::{BuiltIn, Match, Redirect};
use crate::runtime::service::{Endpoint, Service, Work};
use crate::runtime::step::{EndpointStep, Gate};
use crate::server::active_stats::ActiveStats;
use crate::server::body::{self, BodyError};
use crate::server::{builtin, relay, respond, rewrite, tunnel};
use crate::telemetry::access::{AccessEvent, AccessLog};
use crate::telemetry::metrics::{InFlight, Metrics, RouteMetrics};
use crate::telemetry::moment;
use crate::telemetry::stats::Stats;

/// Whether new requests are welcome; an endpoint of that path in the file goes first.
const READY_PATH: &str = "/__ready";

/// Methods that a label names (RFC 9110 §9.3, and PATCH); whatever else a client sends counts as [`OTHER`].
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];
const OTHER: &str = "OTHER";

/// What requests run on: one service, with the handles of its endpoints. Swapped whole by a reload.
#[derive(Debug)]
pub struct Active {
    pub service: Arc<Service>,
    /// By [`Endpoint::id`].
    routes: Box<[RouteMetrics]>,
    /// Everything that no endpoint answered, in the order of [`METHODS`], and other methods last.
    others: [RouteMetrics; METHODS.len() + 1],
    pub access_log: Arc<AccessLog>,
    stats: Option<ActiveStats>,
}

impl Active {
    /// Takes the metric handles of `service`.
    pub fn new(
        service: Arc<Service>,
        metrics: &Metrics,
        access_log: Arc<AccessLog>,
        stats: Option<Arc<Stats>>,
    ) -> Active {
        let stats = stats.map(|stats| ActiveStats::new(stats, &service));
        let routes = service
            .endpoints
            .iter()
            .map(|endpoint| metrics.route(&endpoint.pattern, endpoint.method.as_str()))
            .collect();
        Active {
            routes,
            others: std::array::from_fn(|index| {
                let method = METHODS.get(index).map_or(OTHER, Method::as_str);
                metrics.route("", method)
            }),
            service,
            access_log,
            stats,
        }
    }
}

impl Active {
    /// The handles of a request that no endpoint answered.
    fn other(&self, method: &Method) -> &RouteMetrics {
        let [known @ .., other] = &self.others;
        let index = METHODS.iter().position(|known| known == method);
        index.and_then(|index| known.get(index)).unwrap_or(other)
    }

    /// Reports a health answer that the front loop gave.
    pub(super) fn probed(&self, path: &str, client: IpAddr, bytes: u64, took: Duration) {
        self.other(&Method::GET).record(200, took);
        let options = &self.service.options;
        if !options.access_log || options.access_log_skip.iter().any(|skip| **skip == *path) {
            return;
        }
        self.access_log.record(&AccessEvent {
            since_1970: moment::now(),
            latency: took,
            status: 200,
            client,
            method: "GET",
            path,
            query: None,
            endpoint: None,
            refused: None,
            request_id: None,
            upstream: None,
            upstream_time: None,
            bytes_in: 0,
            bytes_out: bytes,
            errors: &[],
        });
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    pub active: ArcSwap<Active>,
    pub metrics: Arc<Metrics>,
    pub draining: AtomicBool,
}

/// The application behind the front loop.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    limits: Limits,
}

/// One request, from its head to its access-log line.
#[derive(Debug)]
pub struct Ctx {
    pub(super) started: Instant,
    pub(super) active: Option<Arc<Active>>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) notes: Notes,
    pub(super) client: Option<IpAddr>,
    /// The status of our own answer; what a gRPC client got says 200.
    pub(super) answered: Option<StatusCode>,
    /// Not in the access log: redirects and preflights, which the reference answers before it logs.
    silent: bool,
    in_flight: Option<InFlight>,
    /// `telemetry/metrics` has seen the request come, and is to see it go.
    pub(super) counted: bool,
    /// How the endpoint's work ended, and how long it took; `None` when it was not begun.
    pub(super) ended: Option<(Ended, Duration)>,
}

/// What the synchronous part of a request came to.
enum Decision {
    /// Given before the service's own gates.
    Before(Answer),
    Answer(Answer),
    /// The body is read and logged or echoed.
    Debug,
    Echo,
    Endpoint(Arc<Endpoint>),
}

/// What the service's own gates came to.
enum Gated {
    Pass,
    Refuse(Box<Answer>),
    /// The client has an answer.
    Answered,
}

impl Gateway {
    /// The application over `shared`; `limits` are the listener's.
    pub fn new(shared: Arc<Shared>, limits: Limits) -> Gateway {
        Gateway { shared, limits }
    }

    /// What the front loop does for HTTP/1: Pingora makes its sessions of HTTP/2 itself, without any limit. `false`: the
    /// head has too many fields.
    fn limit_http2(&self, session: &mut Session) -> bool {
        let downstream = session.as_downstream_mut();
        downstream.set_write_timeout(self.limits.write);
        downstream.set_total_drain_timeout(Some(self.limits.read));
        downstream.req_header().headers.len() <= self.limits.max_fields
            && rewrite::join_cookies(downstream.req_header_mut()).is_ok()
    }

    /// The whole body for `/__debug/` and `/__echo/`, which have no timeout of their own.
    async fn body_in_time(&self, session: &mut Session, most: u64) -> Bytes {
        let read = body::read(session, most);
        match pingora_timeout::timeout(self.limits.read, read).await {
            Ok(body) => body.unwrap_or_default(),
            Err(_) => {
                session.set_keepalive(None);
                Bytes::new()
            }
        }
    }

    /// Everything that needs no waiting: service steps, routing, built-in endpoints.
    fn decide(&self, head: &Head<'_>, ctx: &mut Ctx, service: &Service) -> Decision {
        for step in service.steps.iter().filter(|step| step.covers_health()) {
            if let Some(answer) = step.request(head, &mut ctx.notes) {
                ctx.silent = true;
                return Decision::Before(answer);
            }
        }
        if head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            // RFC 9110 §10.1.1: an expectation that nobody here can meet.
            return Decision::Before(text(
                StatusCode::EXPECTATION_FAILED,
                "417 Expectation Failed",
            ));
        }
        if head.path == "*" && *head.method == Method::OPTIONS {
            ctx.silent = true;
            return Decision::Before(Answer::empty(StatusCode::OK));
        }
        let prefix = self.trusted_prefix(head, service);
        let found = service
            .router
            .route(head.method, head.path, head.query, prefix);
        match &found {
            Match::Redirect(redirect) => {
                ctx.silent = true;
                return Decision::Before(redirect_answer(redirect));
            }
            Match::BadTarget => {
                return Decision::Before(text(StatusCode::BAD_REQUEST, "400 Bad Request"));
            }
            Match::BadParam(reason) => {
                return Decision::Before(text(StatusCode::BAD_REQUEST, reason));
            }
            Match::BuiltIn(BuiltIn::Health) => return Decision::Before(builtin::health()),
            Match::NotFound if head.path == READY_PATH && *head.method == Method::GET => {
                return Decision::Before(builtin::ready(
                    self.shared.draining.load(Ordering::Relaxed),
                    service.readiness.as_deref(),
                ));
            }
            _ => {}
        }
        for step in service.steps.iter().filter(|step| !step.covers_health()) {
            if let Some(answer) = step.request(head, &mut ctx.notes) {
                return Decision::Before(answer);
            }
        }
        match found {
            Match::Found { endpoint, params } => {
                ctx.notes.params = params;
                Decision::Endpoint(Arc::clone(endpoint))
            }
            Match::BuiltIn(BuiltIn::Debug) => Decision::Debug,
            Match::BuiltIn(BuiltIn::Echo) => Decision::Echo,
            Match::Options { allow } => Decision::Answer(Answer {
                branding: Branding::Version,
                ..Answer::empty(StatusCode::OK).with(header::ALLOW, allow.clone())
            }),
            Match::MethodNotAllowed { allow } => Decision::Answer(
                unrouted(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "405 method not allowed",
                    &service.options.error_body_405,
                )
                .with(header::ALLOW, allow),
            ),
            _ => Decision::Answer(unrouted(
                StatusCode::NOT_FOUND,
                "404 page not found",
                &service.options.error_body_404,
            )),
        }
    }

    /// `X-Forwarded-Prefix`, from a proxy that we believe.
    fn trusted_prefix<'h>(&self, head: &Head<'h>, service: &Service) -> Option<&'h str> {
        if !service.options.client_address.trusts(head.peer) {
            return None;
        }
        head.headers
            .get("x-forwarded-prefix")
            .and_then(|value| value.to_str().ok())
    }

    /// What stands around every request, and may have to wait.
    async fn service_gates(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        active: &Active,
    ) -> Result<Gated> {
        let gates = &active.service.gates;
        let patience = self.limits.read;
        if gates.iter().any(|gate| gate.needs_body())
            && !self.keep_body(session, ctx, patience).await?
        {
            return Ok(Gated::Answered);
        }
        let refusal = self.gates(session, ctx, gates, patience).await;
        Ok(refusal.map_or(Gated::Pass, |(answer, _)| Gated::Refuse(Box::new(answer))))
    }

    /// The steps, one after the other, each waiting `patience` at the longest; `Some` is the refusal, and whether
    /// `telemetry/metrics` counts it.
    async fn gates(
        &self,
        session: &Session,
        ctx: &mut Ctx,
        steps: &[Box<dyn EndpointStep>],
        patience: Duration,
    ) -> Option<(Answer, bool)> {
        for step in steps {
            let mut attempt = 0;
            loop {
                let head = head_of(session, ctx.client)?;
                let gate = step.check(&head, &mut ctx.notes, attempt);
                // Not only fair: the calls of all who have computed go out together, and the other end is woken once
                // for them and not once for each (benches/RESULTS.md).
                if std::mem::take(&mut ctx.notes.computed) {
                    tokio::task::yield_now().await;
                }
                match gate {
                    Gate::Pass => break,
                    Gate::Refuse(answer) => {
                        return Some((answer, step.is_counted()));
                    }
                    Gate::Wait(wait) => {
                        // A step bounds its own wait; this is the bound of last resort.
                        let _ = pingora_timeout::timeout(patience, wait).await;
                        attempt += 1;
                    }
                }
            }
        }
        None
    }

    async fn endpoint(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        endpoint: &Arc<Endpoint>,
    ) -> Result<bool> {
        ctx.endpoint = Some(Arc::clone(endpoint));
        if endpoint.steps.iter().any(|step| step.needs_body()) {
            let kept = Box::pin(self.keep_body(session, ctx, endpoint.timeout)).await;
            if !matches!(kept, Ok(true)) {
                count(session, ctx);
                return kept.map(|_| true);
            }
        }
        let refusal = self.gates(session, ctx, &endpoint.steps, endpoint.timeout);
        let refusal = refusal.await;
        if !matches!(refusal, Some((_, false))) {
            count(session, ctx);
        }
        if let Some((answer, _)) = refusal {
            self.local(session, ctx, answer).await?;
            return Ok(true);
        }
        match &endpoint.work {
            Work::Stream(work) if work.upgrade.is_some() && tunnel::is_asked_for(session) => {
                // The rare and the heavy ways are boxed, so that a plain request does not carry their state around.
                let started = Instant::now();
                let tunnel = tunnel::run(session, ctx, endpoint, work, &self.shared.metrics);
                let answer = Box::pin(tunnel).await?;
                ctx.ended = match &answer {
                    None => Some(Ended::WHOLE),
                    Some(answer) if answer.status.is_server_error() => Some(Ended::FAILED),
                    Some(_) => None,
                }
                .map(|ended| (ended, started.elapsed()));
                if let Some(answer) = answer {
                    self.local(session, ctx, answer).await?;
                }
                Ok(true)
            }
            Work::Stream(work) => {
                relay::run(session, ctx, endpoint, work, &self.shared.metrics).await?;
                Ok(true)
            }
            Work::Compose(work) => {
                Box::pin(self.compose(session, ctx, endpoint, work)).await?;
                Ok(true)
            }
            Work::Nothing => {
                self.local(
                    session,
                    ctx,
                    Answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
                )
                .await?;
                Ok(true)
            }
        }
    }

    /// Reads the body for the steps that must see it. `false`: it was refused, and the client has its answer.
    async fn keep_body(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        patience: Duration,
    ) -> Result<bool> {
        let Some(active) = ctx.active.clone() else {
            return Ok(false);
        };
        if ctx.notes.body.is_none() {
            ctx.notes.body = self.body(session, ctx, patience, &active.service).await?;
        }
        Ok(ctx.notes.body.is_some())
    }

    /// The whole body; `None` when it was refused, and the client has its answer.
    async fn body(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        patience: Duration,
        service: &Service,
    ) -> Result<Option<Bytes>> {
        let read = body::read(session, service.options.max_request_body_bytes);
        let Ok(read) = tokio::time::timeout(patience, read).await else {
            session.set_keepalive(None);
            let answer = self.late(ctx, service);
            self.local(session, ctx, answer).await?;
            return Ok(None);
        };
        let answer = match read {
            Ok(body) => return Ok(Some(body)),
            Err(BodyError::TooLarge) => {
                ctx.notes.refused = Some("body_too_large");
                Answer::empty(StatusCode::PAYLOAD_TOO_LARGE)
            }
            Err(BodyError::Full) => {
                ctx.notes.refused = Some("buffers_full");
                session.set_keepalive(None);
                text(StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable")
            }
            Err(BodyError::Malformed) => {
                self.shared.metrics.bad_request("body");
                session.set_keepalive(None);
                text(StatusCode::BAD_REQUEST, "400 Bad Request")
            }
            Err(BodyError::Slow) => {
                session.set_keepalive(None);
                self.slow()
            }
            Err(BodyError::Gone(error)) => return Err(error),
        };
        self.local(session, ctx, answer).await?;
        Ok(None)
    }

    /// The answer to a client that is silent in the middle of its body.
    fn slow(&self) -> Answer {
        self.shared.metrics.bad_request("slow_body");
        text(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout")
    }

    /// The answer when the time for the whole body is over: an endpoint's own is up whatever it was spent on.
    fn late(&self, ctx: &mut Ctx, service: &Service) -> Answer {
        let Some(endpoint) = &ctx.endpoint else {
            return self.slow();
        };
        let failure = Failure::deadline();
        log::error!("[ENDPOINT: {}] {failure}", endpoint.pattern);
        ctx.notes.errors.push(failure.text.clone());
        pipeline::stream::failed(&service.options, failure)
    }

    async fn compose(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        endpoint: &Endpoint,
        work: &crate::runtime::service::Composition,
    ) -> Result<()> {
        let Some(active) = ctx.active.clone() else {
            return Ok(());
        };
        let service = &active.service;
        let started = tokio::time::Instant::now();
        let body = match ctx.notes.body.take() {
            Some(body) => body,
            None => match self.body(session, ctx, endpoint.timeout, service).await? {
                Some(body) => body,
                None => return Ok(()),
            },
        };
        let Some(head) = head_of(session, ctx.client) else {
            return Ok(());
        };
        let call =
            pipeline::ClientCall::new(&service.options, endpoint, &head, &ctx.notes, body, started);
        let began = Instant::now();
        let outcome = {
            let work = pipeline::run(service, endpoint, work, &call);
            tokio::select! {
                biased;
                outcome = work => Some(outcome),
                _ = gone(session) => None,
            }
        };
        let Some(outcome) = outcome else {
            // The client has hung up; the calls to its upstreams went with it.
            session.set_keepalive(None);
            ctx.notes.refused = Some("client_gone");
            ctx.ended = Some((Ended::FAILED, began.elapsed()));
            return Ok(());
        };
        ctx.ended = outcome.ended.map(|ended| (ended, began.elapsed()));
        if let Some(kind) = outcome.failure {
            let route = &endpoint.pattern;
            self.shared.metrics.upstream_error(route, kind.as_str());
        }
        ctx.notes.errors.extend(outcome.errors);
        self.local(session, ctx, outcome.answer).await
    }

    async fn local(&self, session: &mut Session, ctx: &mut Ctx, answer: Answer) -> Result<()> {
        ctx.answered = Some(answer.status);
        let Some(active) = ctx.active.as_ref() else {
            return Ok(());
        };
        respond::write(
            session,
            &active.service.options,
            answer,
            &ctx.notes.response_fields,
        )
        .await
    }
}

/// Tells `telemetry/metrics` that an endpoint's request has come.
fn count(session: &Session, ctx: &mut Ctx) {
    if let Some(stats) = ctx.active.as_ref().and_then(|active| active.stats.as_ref()) {
        let digest = session.digest();
        stats.began(digest.and_then(|digest| digest.ssl_digest.as_deref()));
        ctx.counted = true;
    }
}

/// Resolves when the client has closed its side, with its whole request read.
async fn gone(session: &mut Session) {
    if session
        .as_downstream_mut()
        .read_body_or_idle(true)
        .await
        .is_ok()
    {
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it three times into each other, and it is nearly a kilobyte.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx {
            started: Instant::now(),
            active: None,
            endpoint: None,
            notes: Notes::default(),
            client: None,
            answered: None,
            silent: false,
            in_flight: None,
            counted: false,
            ended: None,
        })
    }

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {
        // No modules: the default one costs a box per request and compresses nothing.
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        let active = self.shared.active.load_full();
        ctx.in_flight = Some(self.shared.metrics.request());
        // What follows an answer to CONNECT would be taken for a tunnel.
        if self.shared.draining.load(Ordering::Relaxed)
            || session.req_header().method == Method::CONNECT
        {
            session.set_keepalive(None);
        }
        ctx.active = Some(Arc::clone(&active));
        let few_fields = !session.is_http2() || self.limit_http2(session);
        let decision = match head_of(session, None) {
            _ if !few_fields => {
                self.shared.metrics.bad_request("too_many");
                Decision::Before(Answer::empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
            }
            None => Decision::Before(text(StatusCode::BAD_REQUEST, "400 Bad Request")),
            Some(mut head) => {
                head.client = active
                    .service
                    .options
                    .client_address
                    .of(head.peer, head.headers);
                ctx.client = Some(head.client);
                self.decide(&head, ctx, &active.service)
            }
        };
        let decision = match decision {
            Decision::Before(answer) => Decision::Answer(answer),
            decision if active.service.gates.is_empty() => decision,
            decision => match Box::pin(self.service_gates(session, ctx, &active)).await? {
                Gated::Pass => decision,
                Gated::Refuse(answer) => Decision::Answer(*answer),
                Gated::Answered => return Ok(true),
            },
        };
        match decision {
            Decision::Before(answer) | Decision::Answer(answer) => {
                self.local(session, ctx, answer).await?
            }
            // Boxed, so that answers of our own do not carry an upstream call's state around.
            Decision::Endpoint(endpoint) => {
                return in_place(|| self.endpoint(session, ctx, &endpoint)).await;
            }
            Decision::Debug | Decision::Echo => {
                let most = active.service.options.max_request_body_bytes;
                let body = match ctx.notes.body.take() {
                    Some(body) => body,
                    None => Box::pin(self.body_in_time(session, most)).await,
                };
                let answer = match head_of(session, ctx.client) {
                    Some(head) if matches!(decision, Decision::Echo) => builtin::echo(&head, &body),
                    Some(head) => builtin::debug(&head, &body),
                    None => Answer::empty(StatusCode::BAD_REQUEST),
                };
                self.local(session, ctx, answer).await?;
            }
        }
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        // Every request is answered in the filter before.
        Error::e_explain(ErrorType::InternalError, "nothing is proxied")
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        let written = session.response_written().is_some();
        let client_left = *error.esource() == ErrorSource::Downstream;
        if written || client_left {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        }
        ctx.notes
            .errors
            .push(error.etype().as_str().to_owned().into());
        let answer = Answer {
            branding: Branding::Completed(false),
            ..Answer::empty(StatusCode::INTERNAL_SERVER_ERROR)
        };
        if let Some(active) = ctx.active.as_ref() {
            let fields = &ctx.notes.response_fields;
            if let Err(error) =
                respond::write(session, &active.service.options, answer, fields).await
            {
                log::debug!("the client left before its error answer: {error}");
            }
        }
        FailToProxy {
            error_code: 500,
            can_reuse_downstream: false,
        }
    }

    /// The client's own doing is no error of ours, and what a backend did has its line already.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, error: &Error) -> bool {
        matches!(
            error.esource(),
            ErrorSource::Downstream | ErrorSource::Upstream
        )
    }

    /// Pingora's own shows the whole target, and with it every token in its query.
    fn request_summary(&self, session: &Session, ctx: &Self::CTX) -> String {
        match head_of(session, ctx.client) {
            Some(head) => format!("{} {}, Host: {}", head.method, head.path, head.host),
            None => session.req_header().method.to_string(),
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Self::CTX) {
        let Some(active) = ctx.active.as_ref() else {
            return;
        };
        let took = ctx.started.elapsed();
        let status = session
            .response_written()
            .map_or(499, |header| ctx.answered.unwrap_or(header.status).as_u16());
        let route = ctx
            .endpoint
            .as_ref()
            .and_then(|endpoint| active.routes.get(endpoint.id))
            .unwrap_or_else(|| active.other(&session.req_header().method));
        route.record(status, took);
        if let (Some(stats), Some(endpoint), true) = (&active.stats, &ctx.endpoint, ctx.counted) {
            let bytes = session.body_bytes_sent() as u64;
            stats.ended(endpoint, status, bytes, took, ctx.ended);
        }
        if let Some(reason) = ctx.notes.refused {
            let endpoint = ctx.endpoint.as_ref();
            let pattern = endpoint.map_or("", |endpoint| &*endpoint.pattern);
            match status {
                401 | 403 if ctx.notes.token_refused => {
                    self.shared.metrics.jwt_rejected(pattern, reason);
                }
                _ => self.shared.metrics.refused(pattern, reason),
            }
        }
        if ctx.silent || !active.service.options.access_log {
            return;
        }
        self.access(session, ctx, active, status, took);
    }
}

impl Gateway {
    fn access(&self, session: &Session, ctx: &Ctx, active: &Active, status: u16, took: Duration) {
        let Some(head) = head_of(session, ctx.client) else {
            return;
        };
        if active
            .service
            .options
            .access_log_skip
            .iter()
            .any(|path| **path == *head.path)
        {
            return;
        }
        active.access_log.record(&AccessEvent {
            since_1970: moment::now(),
            latency: took,
            status,
            client: head.client,
            method: head.method.as_str(),
            path: head.path,
            query: head.query,
            endpoint: ctx.endpoint.as_ref().map(|endpoint| &*endpoint.pattern),
            refused: ctx.notes.refused,
            request_id: ctx
                .notes
                .request_id
                .as_ref()
                .and_then(|id| id.value.to_str().ok()),
            upstream: None,
            upstream_time: None,
            bytes_in: session.body_bytes_read() as u64,
            bytes_out: session.body_bytes_sent() as u64,
            errors: &ctx.notes.errors,
        });
    }
}

/// The head of the session's request; `None` when its target is no text, which no route could match.
pub(super) fn head_of(session: &Session, client: Option<IpAddr>) -> Option<Head<'_>> {
    let header = session.req_header();
    let target = std::str::from_utf8(header.raw_path()).ok()?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let digest = session.digest();
    let peer = digest
        .and_then(|digest| digest.socket_digest.as_ref()?.peer_addr()?.as_inet())
        .map_or(IpAddr::from([0, 0, 0, 0]), |address| {
            address.ip().to_canonical()
        });
    let host = header
        .headers
        .get(header::HOST)
        .map(HeaderValue::as_bytes)
        .and_then(|host| std::str::from_utf8(host).ok())
        .or_else(|| header.uri.authority().map(|authority| authority.as_str()))
        .unwrap_or_default();
    Some(Head {
        method: &header.method,
        path: if path.is_empty() { "/" } else { path },
        query,
        headers: &header.headers,
        host,
        peer,
        client: client.unwrap_or(peer),
        secure: digest.is_some_and(|digest| digest.ssl_digest.is_some()),
    })
}

fn redirect_answer(redirect: &Redirect) -> Answer {
    let mut answer =
        Answer::empty(redirect.status).with(header::LOCATION, redirect.location.clone());
    if !redirect.body.is_empty() {
        answer.fields.push((
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ));
        answer.body = redirect.body.clone();
    }
    answer
}

fn text(status: StatusCode, body: &str) -> Answer {
    let mut answer = Answer::empty(status).with(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer.body = Bytes::copy_from_slice(body.as_bytes());
    answer
}

/// 404 and 405: plain text without a charset, or the configured object.
fn unrouted(status: StatusCode, body: &'static str, configured: &Option<Bytes>) -> Answer {
    let (content_type, body) = match configured {
        Some(json) => ("application/json; charset=utf-8", json.clone()),
        None => ("text/plain", Bytes::from_static(body.as_bytes())),
    };
    let mut answer =
        Answer::empty(status).with(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.branding = Branding::Completed(false);
    answer.body = body;
    answer
}

/// A future in a box that was there before it: made on the stack first, ten kilobytes would be copied for each request.
#[inline(always)]
fn in_place<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}
