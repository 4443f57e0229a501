//! Streamed (`no-op`) endpoints: copies the response of the only backend to the client while it arrives.
//!
//! The timeout of the endpoint applies until the head of the response. After that, only silence ends a stream.

use std::pin::pin;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::backend::Prepared;
use super::backend_steps::BackendSteps;
use super::client_head::{Asked, for_client, has_no_body};
use super::copy::{Copy, Silence};
use super::downstream::{Downstream, has_disconnected, watched};
use super::endpoint::Request;
use super::fetch::{fill, streamed, through_cache, whole};
use super::pipe_steps::{self, AdmittedCall};
use super::prepare_stream::{prepare_stream, response_access};
use super::race::race;
use super::response_cache::{Filling, Opened};
use super::response_steps::{EndpointSteps, ResponseSteps, UpstreamFraming};
use super::time_limit::TimeLimit;
use super::trailers::Announced;
use super::transport::{OpenResponse, Transport};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::{Received, Reply, ResponseAccess, settle};
use crate::runtime::service::{Options, StreamWork};
use crate::runtime::step::{Answer, Outcome, ResponseCache};
use crate::telemetry::observe;
use crate::upstream::{Call, CallBody, Unwatched, is_gzip};

/// A prepared call, with its body and the steps around the endpoint.
struct Job<'r> {
    prepared: Prepared,
    body: CallBody,
    outer: Option<Box<EndpointSteps<'r>>>,
}

/// A response whose head has arrived, and what stores it in the cache, if it may be stored.
type Filled<'r, C> = (<C as Transport>::Response<'r>, Option<Box<Filling<'r>>>);

/// The context of a streamed request.
struct Stream<'r, C> {
    transport: &'r C,
    options: &'r Options,
    work: &'r StreamWork,
    limit: &'r TimeLimit,
    asked: Asked,
}

/// Responds to the client with the response of the endpoint's only backend.
///
/// # Errors
/// There is no response, or it ended early; [`Downstream::has_head`] distinguishes the two.
pub(super) async fn run<C: Transport, D: Downstream>(
    transport: &C,
    client: &mut D,
    request: Request<'_>,
    work: &StreamWork,
) -> Result<(), Failure> {
    let options = request.options;
    // Concurrent calls end earlier, as for composed endpoints.
    let percent = if work.concurrent_calls > 1 { 75 } else { 100 };
    let started = Instant::now();
    let limit = TimeLimit::at(started + request.endpoint.timeout * percent / 100);
    let (begun, asked) = prepare_stream(client, request, work, &limit, started).await?;
    let stream = Stream {
        transport,
        options,
        work,
        limit: &limit,
        asked,
    };
    match begun.prepared {
        Some(prepared) => {
            let mut job = Job {
                prepared,
                body: begun.body,
                outer: begun.outer,
            };
            // Lent, so that not every future on the way has room for it.
            stream.observed(client, &mut job).await
        }
        // The response of a step around the endpoint. The steps of the backend do not see it.
        None => {
            let response_steps = ResponseSteps {
                inner: None,
                outer: begun.outer,
            };
            let reply = pipe_steps::instead(begun.instead);
            let local = Box::pin(stream.local(client, reply, response_steps));
            local.await.map(|_| ()).map_err(Failure::outside)
        }
    }
}

impl<'r, C: Transport> Stream<'r, C> {
    /// Makes the call, and reports it to traces and series if the configuration asks for it.
    async fn observed<D: Downstream>(
        &self,
        client: &mut D,
        job: &mut Job<'r>,
    ) -> Result<(), Failure> {
        let observer = self.work.backend.observer.as_ref();
        let call = observe::Call::begin(
            observer,
            self.limit.end().into_std(),
            &job.prepared.out.headers,
        );
        // Pinned here, because a copy of it would cost more than the rest of the observation.
        let work = pin!(self.guarded(client, job));
        let Some(call) = call else {
            return work.await;
        };
        let result = call.run(work).await;
        call.end(match &result {
            Ok(()) => observe::Outcome::Answered(true),
            Err(failure) => failure.observed(),
        });
        result
    }

    /// Makes the call inside the steps of the backend, and copies the response.
    async fn guarded<D: Downstream>(
        &self,
        client: &mut D,
        job: &mut Job<'r>,
    ) -> Result<(), Failure> {
        let mut guard = BackendSteps::enter(&self.work.backend.steps, self.limit)?;
        let result = if job.prepared.seed.is_none() {
            let call = Call {
                body: job.body,
                ..Call::whole(std::mem::take(&mut job.prepared.out))
            };
            let response_steps = ResponseSteps {
                inner: None,
                outer: job.outer.take(),
            };
            self.send(client, call, job.prepared.gzip, response_steps)
                .await
        } else {
            // Boxed, so that calls without steps do not pay for the state of steps.
            Box::pin(self.stepped(client, job)).await
        };
        match &result {
            Ok(status) => guard.end(
                Outcome::Streamed {
                    status: status.as_u16(),
                },
                Answer::Status(*status),
            ),
            Err(failure) => guard.failed(failure),
        }
        result.map(|_| ())
    }

    /// A call with steps around it.
    async fn stepped<D: Downstream>(
        &self,
        client: &mut D,
        job: &mut Job<'r>,
    ) -> Result<StatusCode, Failure> {
        let prepared = Prepared {
            out: std::mem::take(&mut job.prepared.out),
            gzip: job.prepared.gzip,
            seed: job.prepared.seed.take(),
        };
        let (body, outer) = (job.body, job.outer.take());
        let mut admitting = pin!(pipe_steps::admit(prepared, &self.work.backend, self.limit));
        let admitted = if self.work.backend.takes_messages() {
            // The body of the client is not used, so it may be read to see whether the client is still connected.
            let watching = pin!(watched(client, admitting.as_mut()));
            self.limit.wait(watching).await
        } else {
            self.limit.wait(admitting).await
        };
        let AdmittedCall {
            mut call,
            gunzip,
            local,
            replaced,
            around,
        } = admitted.unwrap_or_else(|| Err(Failure::deadline()))?;
        // A body that a step has emptied counts as a body of its own.
        if !replaced && call.out.body.is_empty() {
            call.body = body;
        }
        let response_steps = ResponseSteps {
            inner: (around.sees_responses() || outer.is_some()).then(|| Box::new(around)),
            outer,
        };
        match local {
            Some(Received { reply, message }) => {
                if message.is_some()
                    && let Some(failure) = has_disconnected(client).await
                {
                    return Err(failure);
                }
                let written = Box::pin(self.local(client, reply, response_steps)).await;
                match &written {
                    // The message goes back to its queue.
                    Err(failure) if failure.kind == Kind::ClientGone => drop(message),
                    _ => settle(message, written.is_ok()),
                }
                written
            }
            None => self.send(client, call, gunzip, response_steps).await,
        }
    }

    /// Sends a call that passed its steps.
    async fn send<D: Downstream>(
        &self,
        client: &mut D,
        call: Call,
        gunzip: bool,
        response_steps: ResponseSteps<'r>,
    ) -> Result<StatusCode, Failure> {
        if response_access(self.work) == ResponseAccess::Whole {
            return Box::pin(self.whole(client, call, response_steps)).await;
        }
        if let Some(cache) = self.work.backend.cache.as_deref() {
            return Box::pin(self.cached(client, cache, (call, gunzip), response_steps)).await;
        }
        let opening = self.open(client, call);
        let response = self.limit.wait(pin!(opening)).await;
        let response = response.unwrap_or_else(|| Err(Failure::late()))?;
        self.pass(client, response, None, gunzip, response_steps)
            .await
    }

    /// Responds through the cache of the backend. A response that may be stored is stored after it was copied.
    async fn cached<D: Downstream>(
        &self,
        client: &mut D,
        cache: &'r dyn ResponseCache,
        (call, gunzip): (Call, bool),
        response_steps: ResponseSteps<'r>,
    ) -> Result<StatusCode, Failure> {
        let opened = {
            let opening = pin!(through_cache(
                self.transport,
                &self.work.backend,
                cache,
                call,
                self.limit
            ));
            self.limit.wait(pin!(watched(client, opening))).await
        };
        match opened.unwrap_or_else(|| Err(Failure::late()))? {
            Opened::Stored(incoming) => {
                self.local(client, incoming.map_body(Some), response_steps)
                    .await
            }
            Opened::Live(response, filling) => {
                // What is stored has no content coding, and every client gets the same.
                let gunzip = gunzip || filling.is_some();
                self.pass(client, response, filling, gunzip, response_steps)
                    .await
            }
        }
    }

    /// Passes on a response whose head has arrived.
    async fn pass<D: Downstream>(
        &self,
        client: &mut D,
        mut response: C::Response<'r>,
        filling: Option<Box<Filling<'r>>>,
        gunzip: bool,
        response_steps: ResponseSteps<'r>,
    ) -> Result<StatusCode, Failure> {
        if response_steps.is_empty() {
            let Some((status, headers)) = response.take_head() else {
                return Err(ended_early());
            };
            let decode = gunzip && is_gzip(&headers);
            let parts = self.parts((status, headers), decode || self.unframed(&response));
            return self
                .copy(client, (response, filling), parts, decode, false)
                .await;
        }
        Box::pin(self.seen(client, (response, filling), gunzip, response_steps)).await
    }

    /// Waits for the head of a response: of the only call, or of the first of several concurrent ones.
    async fn open<D: Downstream>(
        &self,
        client: &mut D,
        call: Call,
    ) -> Result<C::Response<'r>, Failure> {
        let (backend, many) = (&self.work.backend, self.work.concurrent_calls);
        if many > 1 && call.is_repeatable() {
            let open = || async {
                let mut nobody = Unwatched::<Failure>::default();
                streamed(
                    self.transport,
                    backend,
                    call.clone(),
                    self.limit,
                    &mut nobody,
                )
                .await
            };
            let mut racing = Box::pin(race(many, open, |_| true));
            return watched(client, racing.as_mut()).await;
        }
        streamed(self.transport, backend, call, self.limit, client).await
    }

    /// For steps that must see the whole response.
    async fn whole<D: Downstream>(
        &self,
        client: &mut D,
        call: Call,
        response_steps: ResponseSteps<'r>,
    ) -> Result<StatusCode, Failure> {
        let most = self.options.max_upstream_body_bytes;
        let incoming = {
            let getting = pin!(whole(
                self.transport,
                most,
                &self.work.backend,
                call,
                self.limit
            ));
            self.limit.wait(pin!(watched(client, getting))).await
        };
        let incoming = incoming.unwrap_or_else(|| Err(Failure::late()))?;
        self.local(client, incoming.map_body(Some), response_steps)
            .await
    }

    /// Passes a complete response through the steps that want to see it.
    async fn local<D: Downstream>(
        &self,
        client: &mut D,
        mut reply: Reply,
        response_steps: ResponseSteps<'r>,
    ) -> Result<StatusCode, Failure> {
        if !response_steps.is_empty() {
            let showing = response_steps.show(&mut reply);
            let shown = self.limit.wait(pin!(showing)).await;
            shown.unwrap_or_else(|| Err(Failure::deadline()))?;
        }
        self.write(client, reply).await
    }

    /// Shows the head of a response to steps, while its body is streamed.
    async fn seen<D: Downstream>(
        &self,
        client: &mut D,
        (response, filling): Filled<'r, C>,
        gunzip: bool,
        response_steps: ResponseSteps<'r>,
    ) -> Result<StatusCode, Failure> {
        let Some((status, headers)) = response.head() else {
            return Err(ended_early());
        };
        let decode = gunzip && is_gzip(headers);
        let mut reply = Reply::local(status, headers.clone(), None);
        if decode {
            reply.headers.remove(CONTENT_ENCODING);
            reply.headers.remove(CONTENT_LENGTH);
        }
        let upstream_framing = UpstreamFraming::of(&reply);
        let showing = response_steps.show(&mut reply);
        let shown = self.limit.wait(pin!(showing)).await;
        shown.unwrap_or_else(|| Err(Failure::deadline()))?;
        if reply.body.is_some() {
            if let Some(filling) = filling {
                let most = self.options.max_upstream_body_bytes;
                let storing = fill(response, *filling, &self.work.backend, most);
                let _ = self.limit.wait(pin!(storing)).await;
            }
            return self.write(client, reply).await;
        }
        upstream_framing.frame(&mut reply);
        // A step may set a status that has no body. The body of the upstream is then discarded.
        let silenced = has_no_body(reply.status) && !has_no_body(status);
        let unframe = decode || self.unframed(&response);
        let parts = self.parts((reply.status, reply.headers), unframe);
        let filled = (response, filling);
        self.copy(client, filled, parts, decode, silenced).await
    }

    /// Whether the length of a response to our HEAD request does not apply to the client, which used another method.
    fn unframed(&self, response: &C::Response<'r>) -> bool {
        response.asked_by_head() && !self.asked.by_head
    }

    fn parts(&self, head: (StatusCode, HeaderMap), unframe: bool) -> Parts {
        let data = self.work.static_data.as_ref();
        for_client(self.asked, self.options, data, head, unframe)
    }

    /// Copies a response to the client while it arrives. `silenced`: its body is discarded.
    async fn copy<D: Downstream>(
        &self,
        client: &mut D,
        (mut response, filling): Filled<'r, C>,
        parts: Parts,
        decode: bool,
        silenced: bool,
    ) -> Result<StatusCode, Failure> {
        let status = parts.status;
        let over_http2 = self.asked.over_http2();
        let announced = if over_http2 {
            Announced::of(&parts.headers)
        } else {
            Announced::nothing()
        };
        // A response without a body must end with its head: gRPC then reads its status from the head.
        let bodiless =
            self.asked.by_head || has_no_body(status) || (over_http2 && response.is_done());
        client.write_head(parts, bodiless).await?;
        if silenced && !response.is_done() {
            return Ok(status);
        }
        let copy = Copy {
            client,
            response,
            filling,
            silence: Silence::new(self.options, self.limit),
            over_http2,
            announced,
        };
        copy.run(decode, bodiless).await?;
        Ok(status)
    }

    /// Writes a complete response.
    async fn write<D: Downstream>(
        &self,
        client: &mut D,
        reply: Reply,
    ) -> Result<StatusCode, Failure> {
        let body = reply.body.unwrap_or_default();
        let (status, mut headers) = (reply.status, reply.headers);
        // A response to HEAD may have no body here although one to GET has (RFC 9110 §8.6).
        if !(self.asked.by_head && body.is_empty()) {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        let bodiless = self.asked.by_head || has_no_body(status) || body.is_empty();
        let parts = self.parts((status, headers), false);
        client.write_head(parts, bodiless).await?;
        if !bodiless {
            client.write(body, true).await?;
        }
        Ok(status)
    }
}

fn ended_early() -> Failure {
    Failure::new(Kind::Broken, "EOF")
}
