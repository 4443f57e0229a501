//! Reports a request: metrics, statistics, the access log.

use std::time::Duration;

use http::{HeaderMap, header};
use pingora_proxy::Session;

use super::Gateway;
use super::active::{Active, Common, method_label};
use super::active_stats::began;
use super::context::{Ctx, head_of};
use crate::runtime::failure::CLIENT_GONE;
use crate::runtime::grpc::is_grpc;
use crate::runtime::request::Head;
use crate::telemetry::access::AccessEvent;
use crate::telemetry::observe;
use crate::telemetry::timestamp;

/// Reports to `telemetry/metrics` that a request for an endpoint has arrived.
pub(super) fn count(session: &Session, ctx: &mut Ctx) {
    if let Some(stats) = &ctx.common().stats {
        let digest = session.digest();
        began(
            stats,
            digest.and_then(|digest| digest.ssl_digest.as_deref()),
        );
        ctx.counted = true;
    }
}

/// Reads the trace context of the client, if the configuration asks for traces or series.
pub(super) fn begin(head: &Head<'_>, ctx: &mut Ctx, active: &Active) {
    let Some(observer) = &active.service.observer else {
        return;
    };
    let start = observe::RequestStart {
        path: head.path,
        headers: head.headers,
        by_trusted_proxy: active.service.options.client_address.trusts(head.peer),
        is_logged: active.common().access_log.is_detailed(),
        at: ctx.started,
    };
    ctx.observed = Some(observe::Request::begin(observer, &start));
}

/// Reports the end of the request to traces and series.
fn end(session: &Session, ctx: &Ctx, status: u16, took: Duration) {
    let request = ctx.observed.as_ref();
    let Some(request) = request.filter(|request| request.is_reported()) else {
        return;
    };
    let shown = || {
        let head = head_of(session, ctx.client)?;
        Some(observe::SpanDetails {
            path: head.path,
            query: head.query,
            host: head.host(),
            peer: head.peer,
            client: head.client,
            headers: head.headers,
        })
    };
    let response: Option<&HeaderMap> = session.response_written().map(|header| &header.headers);
    request.end(&observe::RequestEnd {
        endpoint: ctx
            .endpoint()
            .and_then(|endpoint| endpoint.observer.as_deref()),
        method: &session.req_header().method,
        secure: session
            .digest()
            .is_some_and(|digest| digest.ssl_digest.is_some()),
        version: if session.is_http2() { "2" } else { "1.1" },
        shown: &shown,
        response_headers: response,
        status,
        bytes_in: session.body_bytes_read() as u64,
        bytes_out: session.body_bytes_sent() as u64,
        took,
        work: ctx
            .ended
            .map(|(ended, took)| (ended.complete, ended.error, took)),
        client_closed: status == 499 || ctx.notes.rejected == Some(CLIENT_GONE),
    });
}

/// What a gRPC client was told: in the head of a response without a body, or in the trailers of a backend.
fn grpc_status(session: &Session, ctx: &Ctx, request: &HeaderMap) -> Option<u32> {
    if !is_grpc(request) {
        return None;
    }
    let head = session.response_written()?;
    observe::grpc_status(&head.headers).or_else(|| {
        ctx.observed
            .as_ref()
            .and_then(|request| request.grpc_status())
    })
}

impl Gateway {
    /// Reports a request after its end.
    pub(in crate::server) fn report(&self, session: &Session, ctx: &Ctx) {
        let common = ctx.common();
        let took = ctx.started.elapsed();
        let status = session
            .response_written()
            .map_or(499, |header| ctx.answered.unwrap_or(header.status).as_u16());
        let method = method_label(&session.req_header().method);
        let route = match &ctx.near {
            None => match ctx.route() {
                Some(route) => Some(&route.metrics),
                None => common.other(method),
            },
            Some(_) => None,
        };
        let request = ctx.observed.as_ref();
        let example = request.and_then(|request| request.whole_example());
        match route {
            Some(route) => route.record_with(status, took, example),
            // They are rare, so their series are created on first use.
            None => {
                let pattern = ctx.near.as_ref().map_or("", |near| &*near.pattern);
                self.shared
                    .metrics
                    .rare_route(pattern, method)
                    .record_with(status, took, example);
            }
        }
        if let (Some(stats), Some(route), true) = (&common.stats, ctx.route(), ctx.counted) {
            let bytes = session.body_bytes_sent() as u64;
            route.stats.ended(stats, status, bytes, took, ctx.ended);
        }
        if let Some(reason) = ctx.notes.rejected.filter(|reason| *reason != CLIENT_GONE) {
            let pattern = ctx.pattern();
            match status {
                401 | 403 if ctx.notes.token_rejected => {
                    self.shared.metrics.jwt_rejected(pattern, reason);
                }
                _ => self.shared.metrics.rejected(pattern, reason),
            }
        }
        end(session, ctx, status, took);
        if ctx.silent || !common.options.access_log {
            return;
        }
        access(session, ctx, common, status, took);
    }
}

/// Writes the line of the access log.
fn access(session: &Session, ctx: &Ctx, common: &Common, status: u16, took: Duration) {
    let Some(head) = head_of(session, ctx.client) else {
        return;
    };
    if common
        .options
        .access_log_skip
        .iter()
        .any(|path| **path == *head.path)
    {
        return;
    }
    let upstream = ctx.observed.as_ref().and_then(|request| request.upstream());
    let is_detailed = common.access_log.is_detailed();
    common.access_log.record(&AccessEvent {
        since_1970: timestamp::now(),
        latency: took,
        status,
        client: head.client,
        method: head.method.as_str(),
        path: head.path,
        query: head.query,
        endpoint: ctx.endpoint().map(|endpoint| &*endpoint.pattern),
        rejected: ctx.notes.rejected,
        request_id: ctx
            .notes
            .request_id
            .as_ref()
            .and_then(|id| id.value.to_str().ok()),
        upstream: upstream.map(|(host, ..)| &**host),
        upstream_time: upstream.map(|(.., time)| time),
        bytes_in: session.body_bytes_read() as u64,
        bytes_out: session.body_bytes_sent() as u64,
        scheme: Some(if head.secure { "https" } else { "http" }),
        host: is_detailed.then(|| head.host()),
        protocol: Some(if session.is_http2() {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        }),
        user_agent: is_detailed
            .then(|| head.headers.get(header::USER_AGENT))
            .flatten()
            .map(|agent| String::from_utf8_lossy(agent.as_bytes())),
        upstream_status: upstream
            .map(|(_, status, _)| status)
            .filter(|status| *status > 0),
        grpc_status: is_detailed
            .then(|| grpc_status(session, ctx, head.headers))
            .flatten(),
        trace: ctx.observed.as_ref().and_then(|request| request.ids()),
        headers: Some(head.headers),
        claims: ctx.notes.claims.as_ref().map(|claims| claims.map()),
        errors: &ctx.notes.errors,
    });
}
