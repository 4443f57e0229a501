//! An endpoint's work.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pingora_core::Result;
use pingora_proxy::Session;

use super::Gateway;
use super::context::{Ctx, head_of};
use super::report::count;
use crate::runtime::answer::Answer;
use crate::runtime::pipeline::{self, Ended};
use crate::runtime::service::{Endpoint, Work};
use crate::server::{relay, respond, tunnel};

impl Gateway {
    pub(super) async fn endpoint(
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
        if let Some(request) = &ctx.observed {
            request.works();
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

    pub(super) async fn local(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        answer: Answer,
    ) -> Result<()> {
        ctx.answered = Some(answer.status);
        let answer = ctx.dressed(answer);
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
