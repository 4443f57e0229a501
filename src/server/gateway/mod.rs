//! The `ProxyHttp` implementation, which receives all requests. It decides and delegates.
//!
//! | module | content |
//! |---|---|
//! | `active` | [`Active`]: the service in use, with its handles for metrics |
//! | `context` | `Ctx`: one request, from its head to its access-log line |
//! | `decide` | the synchronous part: steps of the service, routing, built-in endpoints |
//! | `gates` | steps that may wait or need the body |
//! | `run` | the work of an endpoint |
//! | `report`, `active_stats` | metrics and the access log; `/__stats` |

mod active;
mod active_stats;
mod context;
mod decide;
mod gates;
mod report;
mod run;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

pub(crate) use self::active::Active;
pub(super) use self::active::{Common, Probe};
pub(super) use self::context::{Ctx, head_of};
use self::decide::{Decision, text};
use self::gates::Gated;
use self::report::begin;
use crate::per_worker::{OwnArc, Spread};
use crate::runtime::boxed::{boxed, in_place};
use crate::runtime::listen::Limits;
use crate::runtime::request::Head;
use crate::runtime::response::{Branding, Response};
use crate::server::arriving::Arriving;
use crate::server::http1_fast_path::end_connection;
use crate::server::{builtin, respond, rewrite, streamed_body};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{observe, request_id};
use crate::upstream::budget::Full;

/// The state that all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub active: ArcSwap<Spread<Active>>,
    pub metrics: Arc<Metrics>,
    pub draining: Arc<AtomicBool>,
    /// Of all listeners.
    pub arriving: Arriving,
    /// The connections of admin listeners, which metrics do not count.
    pub admin_connections: Arriving,
}

/// The application behind the front loop.
#[derive(Debug)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    limits: Limits,
}

impl Gateway {
    /// The application over `shared`; `limits` are the listener's.
    pub(crate) fn new(shared: Arc<Shared>, limits: Limits) -> Gateway {
        Gateway { shared, limits }
    }

    /// Decides about a request and responds to it.
    async fn filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        // Always there at the beginning of a request.
        let Some(active) = ctx.active() else {
            return Ok(());
        };
        // Data after a response to CONNECT would be taken for a tunnel.
        if self.shared.draining.load(Ordering::Relaxed)
            || session.req_header().method == Method::CONNECT
        {
            end_connection(session);
        }
        let decision = self.first_decision(session, ctx, &active);
        match ctx.notes.request_id.as_ref().map(|id| id.value.clone()) {
            None => self.decided(session, ctx, active, decision).await,
            // Log lines of the request show its id.
            Some(id) => {
                let work = in_place(|| self.decided(session, ctx, active, decision));
                request_id::within(id, work).await
            }
        }
    }

    /// Decides by the head alone. Gates of the service may decide otherwise, except where it is [`Decision::Before`].
    fn first_decision(&self, session: &mut Session, ctx: &mut Ctx, active: &Active) -> Decision {
        let rejected = if session.is_http2() {
            self.limit_http2(session, ctx)
        } else {
            None
        };
        let options = &active.service.options;
        let decision = match (head_of(session, None), rejected) {
            (_, Some(response)) => Decision::Before(identified(ctx, active, response)),
            (None, None) => {
                let response = text(StatusCode::BAD_REQUEST, "400 Bad Request");
                Decision::Before(identified(ctx, active, response))
            }
            (Some(mut head), None) => {
                head.client = options.client_address.of(head.peer, head.headers);
                ctx.client = Some(head.client);
                begin(&head, ctx, active);
                self.decide(&head, ctx, &active.service)
            }
        };
        if options.payload.gunzip {
            streamed_body::decode(&session.req_header().headers, &mut ctx.notes);
        }
        decision
    }

    /// Runs the gates, and carries out what was decided before them.
    async fn decided(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        active: OwnArc<Active>,
        mut decision: Decision,
    ) -> Result<()> {
        let service = &active.service;
        if !service.gates.is_empty() && !matches!(decision, Decision::Before(_)) {
            match self.service_gates_observed(session, ctx, &active).await {
                Gated::Pass => {}
                Gated::Reject(response) => decision = Decision::Response(*response),
                Gated::Failed(failure) => {
                    return self.reject(session, ctx, failure).await;
                }
            }
        }
        if !service.unrouted.is_empty() && !matches!(decision, Decision::Endpoint(_)) {
            let gates = self.gates(session, ctx, &service.unrouted, self.limits.read);
            if let Some((response, _)) = Box::pin(gates).await {
                decision = Decision::Response(response);
            }
        }
        self.carry_out(session, ctx, active, decision).await
    }

    /// Calls the backends of the endpoint, or sends the response that was decided.
    async fn carry_out(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        active: OwnArc<Active>,
        decision: Decision,
    ) -> Result<()> {
        let route = match decision {
            Decision::Endpoint(id) => active.route(id),
            _ => None,
        };
        // A long stream or file must not keep all endpoints after a reload.
        match &route {
            Some(route) => ctx.enter(route),
            None => ctx.stay_outside(&active),
        }
        drop(active);
        match decision {
            Decision::Before(response) | Decision::Response(response) => {
                self.local(session, ctx, response).await
            }
            Decision::Silent(response) => {
                ctx.silent = true;
                self.local(session, ctx, response).await
            }
            Decision::Endpoint(_) => {
                let Some(route) = route else {
                    let response = Response::empty(StatusCode::INTERNAL_SERVER_ERROR);
                    return self.local(session, ctx, response).await;
                };
                // Boxed, so that our own responses do not carry the state of an upstream call.
                match ctx.observed.clone() {
                    None => in_place(|| self.endpoint(session, ctx, &route)).await,
                    Some(request) => {
                        let work = in_place(|| self.endpoint(session, ctx, &route));
                        observe::within(&request, work).await
                    }
                }
            }
            Decision::File(folder, asked) => {
                Box::pin(self.file(session, ctx, folder, *asked)).await
            }
            Decision::Debug => self.described(session, ctx, builtin::debug).await,
            Decision::Echo => self.described(session, ctx, builtin::echo).await,
        }
    }

    /// Responds with a description of the request.
    async fn described(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        describe: fn(&Head<'_>, &Bytes) -> Result<Response, Full>,
    ) -> Result<()> {
        let most = ctx.common().options.max_request_body_bytes;
        let body = match ctx.notes.body.take() {
            Some(body) => body,
            None => Box::pin(self.body_in_time(session, most)).await,
        };
        let response = match head_of(session, ctx.client).map(|head| describe(&head, &body)) {
            Some(Ok(response)) => response,
            Some(Err(Full)) => {
                ctx.notes.rejected = Some("buffers_full");
                Response::empty(StatusCode::SERVICE_UNAVAILABLE)
            }
            None => Response::empty(StatusCode::BAD_REQUEST),
        };
        self.local(session, ctx, response).await
    }

    /// For HTTP/2, checks what the front loop checks for HTTP/1: Pingora creates these sessions itself, without a
    /// limit. Returns the response to a head with too many headers, or for which there is no memory.
    fn limit_http2(&self, session: &mut Session, ctx: &mut Ctx) -> Option<Response> {
        let downstream = session.as_downstream_mut();
        ctx.silence = Some(self.limits.read);
        downstream.set_write_timeout(self.limits.write);
        downstream.set_total_drain_timeout(Some(self.limits.read));
        let peer = downstream.client_addr().cloned();
        let head = downstream.req_header();
        let rejected = |reason, status| {
            self.shared.metrics.bad_request(reason);
            let peer = peer.as_ref().map(ToString::to_string).unwrap_or_default();
            log::info!("[SERVICE: Gateway] rejected a request from {peer}: {reason}");
            Some(Response::empty(status))
        };
        // The client's table of headers makes a few bytes on the wire a head of 64 KiB.
        let fields = 2 * size_of_fields(&head.headers);
        let held = ctx.held.follow(STREAM + fields, 0);
        if held.is_err() {
            return rejected("buffers_full", StatusCode::SERVICE_UNAVAILABLE);
        }
        let few = head.headers.len() <= self.limits.max_fields;
        if few && rewrite::join_cookies(downstream.req_header_mut()).is_ok() {
            return None;
        }
        rejected("too_many", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    }
}

/// The response to what steps do not see. They would have given it an id.
fn identified(ctx: &mut Ctx, active: &Active, response: Response) -> Response {
    if let Some(given) = active.service.new_id() {
        ctx.notes.identify(given);
    }
    response
}

/// What an HTTP/2 request may need besides its stream, the text of its head and a large body: its state, a small body,
/// pieces of the response. One connection carries many of them, so the limit of connections does not bound them.
const STREAM: usize = 32 * 1024;

/// The size of decoded headers, as RFC 9113 §6.5.2 counts it.
fn size_of_fields(headers: &HeaderMap) -> usize {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32);
    sizes.sum()
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed, because Pingora moves it three times and it has nearly a kilobyte.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        let active = self.shared.active.load().share();
        boxed(|| Ctx::new(active, self.shared.metrics.request()))
    }

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {
        // No modules: the default one costs an allocation for each request and compresses nothing.
    }

    // Written out: the macro would make the future on the stack and copy it into its box.
    fn request_filter<'g, 's, 'c, 'f>(
        &'g self,
        session: &'s mut Session,
        ctx: &'c mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'f>>
    where
        'g: 'f,
        's: 'f,
        'c: 'f,
    {
        in_place(|| async move {
            self.filter(session, ctx).await?;
            Ok(true)
        })
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        // The filter above responds to every request.
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
        let response = Response {
            branding: Branding::Completed(false),
            ..Response::empty(StatusCode::INTERNAL_SERVER_ERROR)
        };
        let response = ctx.dressed(response);
        let (options, fields) = (&ctx.common().options, &ctx.notes.response_fields);
        let (response_edits, wire) = (ctx.response_edits(), ctx.wire.as_ref());
        let written = respond::write(session, options, response, fields, response_edits, wire);
        if let Err(error) = written.await {
            log::debug!("the client closed the connection before its error response: {error}");
        }
        FailToProxy {
            error_code: 500,
            can_reuse_downstream: false,
        }
    }

    /// What the client caused is not an error of the gateway, and a failure of a backend is already logged.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, error: &Error) -> bool {
        matches!(
            error.esource(),
            ErrorSource::Downstream | ErrorSource::Upstream
        )
    }

    /// Pingora's own summary shows the whole target, including tokens in the query.
    fn request_summary(&self, session: &Session, ctx: &Self::CTX) -> String {
        match head_of(session, ctx.client) {
            Some(head) => format!("{} {}, Host: {}", head.method, head.path, head.host()),
            None => session.req_header().method.to_string(),
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Self::CTX) {
        self.report(session, ctx);
    }
}
