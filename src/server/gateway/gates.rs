//! Steps that may wait or need the body: those of the service, and those of an endpoint.

use std::time::Duration;

use bytes::Bytes;
use pingora_proxy::Session;

use super::Gateway;
use super::active::Active;
use super::context::{Ctx, head_of};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::request::{Head, Host};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};
use crate::server::http1_fast_path::end_connection;
use crate::server::{body, streamed_body};
use crate::telemetry::observe;

/// The result of the gates of the service.
pub(super) enum Gated {
    Pass,
    Reject(Box<Response>),
    /// The body that they need could not be read.
    Failed(Failure),
}

impl Gateway {
    /// The whole body for `/__debug/` and `/__echo/`, which have no timeout of their own.
    pub(super) async fn body_in_time(&self, session: &mut Session, most: u64) -> Bytes {
        let read = body::read(session, most, None);
        match pingora_timeout::timeout(self.limits.read, read).await {
            Ok(body) => body.unwrap_or_default(),
            Err(_) => {
                end_connection(session);
                Bytes::new()
            }
        }
    }

    /// The steps around every request that may wait.
    async fn service_gates(&self, session: &mut Session, ctx: &mut Ctx, active: &Active) -> Gated {
        let gates = &active.service.gates;
        let timeout = self.limits.read;
        let most = active.service.options.max_request_body_bytes;
        if gates.iter().any(|gate| gate.needs_body())
            && let Err(failure) = self.keep_body(session, ctx, most, timeout).await
        {
            return Gated::Failed(failure);
        }
        let rejection = self.gates(session, ctx, gates, timeout).await;
        rejection.map_or(Gated::Pass, |(response, _)| {
            Gated::Reject(Box::new(response))
        })
    }

    /// The steps around every request, as part of the request that traces and series observe.
    pub(super) async fn service_gates_observed(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        active: &Active,
    ) -> Gated {
        match ctx.observed.clone() {
            None => Box::pin(self.service_gates(session, ctx, active)).await,
            Some(request) => {
                let gates = self.service_gates(session, ctx, active);
                Box::pin(observe::within(&request, gates)).await
            }
        }
    }

    /// Runs the steps one after another, and waits at most `timeout` for each. `Some` is a rejection, and whether
    /// `telemetry/metrics` counts it.
    pub(super) async fn gates(
        &self,
        session: &Session,
        ctx: &mut Ctx,
        steps: &[Box<dyn EndpointStep>],
        timeout: Duration,
    ) -> Option<(Response, bool)> {
        for step in steps {
            let Some(head) = head_of(session, ctx.client) else {
                return Some((Failure::bad_target().response(), true));
            };
            let seen = ctx.notes.seen.take();
            let head = match seen.as_deref() {
                Some(seen) => Head {
                    headers: &seen.headers,
                    query: seen.query.as_deref(),
                    host: Host::Given(head.host()),
                    ..head
                },
                None => head,
            };
            let mut gate = step.check(&head, &mut ctx.notes);
            loop {
                // This is fair and faster: the calls of several requests are then sent together, which wakes the
                // backend once (benches/RESULTS.md).
                if std::mem::take(&mut ctx.notes.computed) {
                    tokio::task::yield_now().await;
                }
                gate = match gate {
                    Gate::Pass => break,
                    Gate::Reject(response) => {
                        return Some((response, step.is_counted()));
                    }
                    Gate::Wait(mut wait) => {
                        // A step limits its own wait; this is an additional limit.
                        let done = pingora_timeout::timeout(timeout, wait.done());
                        let _ = Box::pin(observe::step(step.name(), done)).await;
                        wait.decide(&head, &mut ctx.notes)
                    }
                };
            }
            ctx.notes.seen = ctx.notes.seen.take().or(seen);
        }
        None
    }

    /// Reads the body for the steps that must see it.
    pub(super) async fn keep_body(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        most: u64,
        timeout: Duration,
    ) -> Result<(), Failure> {
        if ctx.notes.body.is_some() {
            return Ok(());
        }
        let read = body::read(session, most, ctx.silence);
        let body = match tokio::time::timeout(timeout, read).await {
            Ok(body) => body?,
            // The deadline of an endpoint applies, whatever the time was spent on.
            Err(_) if ctx.endpoint().is_some() => return Err(Failure::deadline()),
            Err(_) => {
                return Err(Failure::new(
                    Kind::BodySlow,
                    "the client stopped sending the body",
                ));
            }
        };
        ctx.notes.body = Some(if ctx.notes.is_decoded {
            streamed_body::decoded(&body, most)?
        } else {
            body
        });
        Ok(())
    }
}
