//! What is reported of a request: metrics, statistics, the access log.

use std::time::Duration;

use pingora_proxy::Session;

use super::Gateway;
use super::active::Active;
use super::context::{Ctx, head_of};
use crate::telemetry::access::AccessEvent;
use crate::telemetry::moment;

/// Tells `telemetry/metrics` that an endpoint's request has come.
pub(super) fn count(session: &Session, ctx: &mut Ctx) {
    if let Some(stats) = ctx.active.as_ref().and_then(|active| active.stats.as_ref()) {
        let digest = session.digest();
        stats.began(digest.and_then(|digest| digest.ssl_digest.as_deref()));
        ctx.counted = true;
    }
}

impl Gateway {
    /// Once a request is over.
    pub(super) fn report(&self, session: &Session, ctx: &Ctx) {
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
