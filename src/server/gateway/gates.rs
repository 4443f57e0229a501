//! Steps that may have to wait or need the body: around the service, and around an endpoint.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora_core::Result;
use pingora_proxy::Session;

use super::Gateway;
use super::active::Active;
use super::context::{Ctx, head_of};
use super::decide::text;
use crate::runtime::answer::Answer;
use crate::runtime::failure::Failure;
use crate::runtime::pipeline;
use crate::runtime::service::Service;
use crate::runtime::step::{EndpointStep, Gate};
use crate::server::body::{self, BodyError};

/// What the service's own gates came to.
pub(super) enum Gated {
    Pass,
    Refuse(Box<Answer>),
    /// The client has an answer.
    Answered,
}

impl Gateway {
    /// The whole body for `/__debug/` and `/__echo/`, which have no timeout of their own.
    pub(super) async fn body_in_time(&self, session: &mut Session, most: u64) -> Bytes {
        let read = body::read(session, most);
        match pingora_timeout::timeout(self.limits.read, read).await {
            Ok(body) => body.unwrap_or_default(),
            Err(_) => {
                session.set_keepalive(None);
                Bytes::new()
            }
        }
    }

    /// What stands around every request, and may have to wait.
    pub(super) async fn service_gates(
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
    pub(super) async fn gates(
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

    /// Reads the body for the steps that must see it. `false`: it was refused, and the client has its answer.
    pub(super) async fn keep_body(
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
    pub(super) async fn body(
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
}
