//! Runs an endpoint.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::Gateway;
use super::active::Route;
use super::context::Ctx;
use super::report::count;
use crate::runtime::failure::{Failure, Kind, Report};
use crate::runtime::files::{Asked, Folder};
use crate::runtime::pipeline::{self, Ending, Outcome, Request};
use crate::runtime::response::Response;
use crate::runtime::service::{Payload, Work};
use crate::server::body::too_large;
use crate::server::client::Client;
use crate::server::http1_fast_path::end_connection;
use crate::server::streamed_body::{self, StreamedBody};
use crate::server::{files, respond, websocket};

impl Gateway {
    /// Runs the steps of an endpoint and its work, and responds.
    pub(super) async fn endpoint(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        route: &Route,
    ) -> Result<()> {
        let endpoint = &*route.endpoint;
        let options = &*route.common.options;
        if let Some(request) = &ctx.observed {
            request.routed(endpoint.observer.as_ref());
        }
        let payload = endpoint.payload;
        let most = payload.whole(options);
        if payload != Payload::default()
            && let Err(failure) = prepare(session, ctx, payload, most)
        {
            count(session, ctx);
            let outcome = Outcome::rejected(options, endpoint, failure);
            return self.conclude(session, ctx, outcome).await;
        }
        if endpoint.steps.iter().any(|step| step.needs_body())
            && let Err(failure) =
                Box::pin(self.keep_body(session, ctx, most, endpoint.timeout)).await
        {
            count(session, ctx);
            let outcome = Outcome::rejected(options, endpoint, failure);
            return self.conclude(session, ctx, outcome).await;
        }
        let gates = self.gates(session, ctx, &endpoint.steps, endpoint.timeout);
        if let Some((response, is_counted)) = gates.await {
            if is_counted {
                count(session, ctx);
            }
            return self.local(session, ctx, response).await;
        }
        count(session, ctx);
        let started = (ctx.counted || ctx.observed.is_some()).then(Instant::now);
        if let (Some(request), Some(started)) = (&ctx.observed, started) {
            request.works(started);
        }
        let outcome = work(session, ctx, route).await;
        let ended = outcome.ended.zip(started);
        ctx.ended = ended.map(|(ended, started)| (ended, started.elapsed()));
        self.conclude(session, ctx, outcome).await
    }

    /// Reports the result of the work, and responds if the work did not.
    ///
    /// # Errors
    /// The client closed its connection, or its response ended early: the connection must be closed.
    async fn conclude(&self, session: &mut Session, ctx: &mut Ctx, outcome: Outcome) -> Result<()> {
        if let Some(kind) = outcome.failure {
            self.report_failure(session, ctx, kind);
        }
        if !outcome.errors.is_empty() {
            ctx.notes.errors.extend(outcome.errors);
        }
        match outcome.ending {
            Ending::Response(response) => self.local(session, ctx, response).await,
            Ending::Streamed => Ok(()),
            Ending::Broken => Err(broken(outcome.failure)),
        }
    }

    /// Counts a failure; the pipeline has logged it.
    pub(super) fn report_failure(&self, session: &mut Session, ctx: &mut Ctx, kind: Kind) {
        let metrics = &self.shared.metrics;
        match kind.report() {
            Report::Upstream(reason) => {
                metrics.upstream_error(ctx.pattern(), reason);
            }
            Report::BadRequest(reason) => metrics.bad_request(reason),
            Report::Note(word) | Report::Guard(word) => ctx.notes.rejected = Some(word),
            Report::Token(word) => {
                ctx.notes.rejected = Some(word);
                ctx.notes.token_rejected = true;
            }
        }
        if kind.abandons_body() && !session.as_downstream_mut().is_body_done() {
            end_connection(session);
        }
    }

    /// Rejects a request that is not for an endpoint and whose body could not be read.
    pub(super) async fn reject(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        failure: Failure,
    ) -> Result<()> {
        self.report_failure(session, ctx, failure.kind);
        if failure.kind == Kind::ClientGone {
            return Err(broken(Some(failure.kind)));
        }
        self.local(session, ctx, failure.response()).await
    }

    /// Responds with a file of a folder.
    pub(super) async fn file(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        folder: Arc<Folder>,
        asked: Asked,
    ) -> Result<()> {
        match files::find(folder, asked).await {
            Err(failure) => self.reject(session, ctx, failure).await,
            Ok(files::Found::Whole(response)) => self.local(session, ctx, response).await,
            Ok(files::Found::Large(large)) => {
                ctx.answered = Some(large.status);
                respond::announce_end(session, ctx.common());
                let fields = &ctx.notes.response_fields;
                files::send(session, large, fields, ctx.response_edits()).await
            }
        }
    }

    /// Writes a response of the gateway itself.
    pub(super) async fn local(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        response: Response,
    ) -> Result<()> {
        ctx.answered = Some(response.status);
        let response = ctx.dressed(response);
        respond::announce_end(session, ctx.common());
        let fields = &ctx.notes.response_fields;
        respond::write(
            session,
            &ctx.common().options,
            response,
            fields,
            ctx.response_edits(),
            ctx.wire.as_ref(),
        )
        .await
    }
}

/// Prepares to read the body as the endpoint wants it. One that was read before is decoded and measured now.
fn prepare(
    session: &Session,
    ctx: &mut Ctx,
    payload: Payload,
    most: u64,
) -> std::result::Result<(), Failure> {
    let was_decoded = ctx.notes.is_decoded;
    if payload.gunzip {
        streamed_body::decode(&session.req_header().headers, &mut ctx.notes);
    }
    let Some(body) = &ctx.notes.body else {
        return Ok(());
    };
    if ctx.notes.is_decoded && !was_decoded {
        ctx.notes.body = Some(streamed_body::decoded(body, most)?);
    } else if body.len() as u64 > most {
        return Err(too_large());
    }
    Ok(())
}

/// Runs the work of the endpoint.
async fn work(session: &mut Session, ctx: &mut Ctx, route: &Route) -> Outcome {
    let endpoint = &*route.endpoint;
    let request = Request {
        options: &route.common.options,
        endpoint,
        body: ctx.notes.body.take(),
        notes: &ctx.notes,
    };
    let mut client = Client {
        session,
        wire: ctx.wire.as_ref(),
        address: ctx.client,
        common: &route.common,
        silence: ctx.silence,
        has_body: request.body.is_some(),
        fields: &ctx.notes.response_fields,
        response_edits: ctx.response_edits(),
        encoder: None,
        streamed_body: StreamedBody::new(&endpoint.payload, ctx.notes.is_decoded),
    };
    // The rare and the large cases are boxed, so that a plain request does not carry their state.
    match &endpoint.work {
        Work::Stream(work) => match &work.upgrade {
            Some(upgrade) if websocket::is_asked_for(client.session) => {
                Box::pin(websocket::run(&mut client, request, work, upgrade)).await
            }
            Some(upgrade) if upgrade.websocket.is_some() => {
                Outcome::response(websocket::wants_upgrade(client.session))
            }
            _ => pipeline::stream(&mut client, request, work).await,
        },
        Work::Compose(work) => pipeline::compose(&mut client, request, work).await,
        Work::Nothing => Outcome::response(Response::empty(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}

/// The error that closes a connection whose request cannot be completed.
fn broken(failure: Option<Kind>) -> Box<Error> {
    let error = Error::new(ErrorType::ConnectionClosed);
    if failure.is_some_and(Kind::is_of_client) {
        error.into_down()
    } else {
        error.into_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::future_sizes::{any, size_of_future};

    /// Larger ones are copied byte by byte.
    #[test]
    fn futures_that_are_moved_have_at_most_4_kib() {
        let composed = size_of_future(|| pipeline::compose::<Client<'_>>(any(), any(), any()));
        assert!(composed <= 4096, "{composed}");
    }

    /// Each request in progress has two of them, in boxes of their own.
    #[test]
    fn the_futures_of_a_request_have_a_few_kib() {
        let request = size_of_future(|| Gateway::filter(any(), any(), any()));
        assert!(request <= 4608, "{request}");
        let streamed = size_of_future(|| pipeline::stream::<Client<'_>>(any(), any(), any()));
        assert!(streamed <= 6400, "{streamed}");
        let endpoint = size_of_future(|| Gateway::endpoint(any(), any(), any(), any()));
        // An allocation of more than 7 KiB would be in the class of the buffers from which HTTP/2 connections read, and would
        // leave them with a second page in use.
        assert!(endpoint <= 7168, "{endpoint}");
    }
}
