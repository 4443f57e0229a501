//! The path of a request through its endpoint: prepare, steps, call or calls, steps, and one of two endings. The
//! response of a composed endpoint is built here; that of a streamed endpoint is copied.

use std::borrow::Cow;
use std::pin::pin;

use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::client::ClientCall;
use super::downstream::{Downstream, has_disconnected, watched};
use super::transport::{Transport, Upstream};
use super::{compose as composing, finish, stream as streaming};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::grpc::is_grpc;
use crate::runtime::pipe::Message;
use crate::runtime::request::Notes;
use crate::runtime::response::{Branding, Response};
use crate::runtime::service::{Composition, Endpoint, Options, StreamWork};

/// A request that passed the steps of its endpoint.
#[derive(Debug)]
pub(crate) struct Request<'r> {
    pub options: &'r Options,
    pub endpoint: &'r Endpoint,
    pub notes: &'r Notes,
    /// The body of the client, if a step has read it.
    pub body: Option<Bytes>,
}

/// The result of an endpoint for a request.
#[derive(Debug)]
pub struct Outcome {
    pub ending: Ending,
    /// The failures, one line each. They are already logged; the access log repeats them as `Error #01: …`.
    pub errors: SmallVec<[Cow<'static, str>; 1]>,
    /// The first failure, for the metrics. Partial responses have one, too.
    pub failure: Option<Kind>,
    /// `None` if the endpoint did not start its work.
    pub ended: Option<Ended>,
}

/// What remains to be done.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each request, and a box would be one more allocation"
)]
pub enum Ending {
    /// The response for the client.
    Response(Response),
    /// Nothing: the client has received its response.
    Streamed,
    /// The response ended early, or the client closed its connection: the connection must be closed.
    Broken,
}

/// How the work of an endpoint ended, in the terms of `telemetry/metrics`. `complete` and `error` are independent,
/// except that a response with an error is never complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub complete: bool,
    pub error: bool,
}

impl Ended {
    /// Everything is present.
    pub const WHOLE: Ended = Ended {
        complete: true,
        error: false,
    };
    /// Something is missing, and nothing went wrong.
    pub const PARTIAL: Ended = Ended {
        complete: false,
        error: false,
    };
    /// The work failed.
    pub const FAILED: Ended = Ended {
        complete: false,
        error: true,
    };
}

/// Runs a composed endpoint for one request.
pub(crate) async fn compose<D: Downstream>(
    client: &mut D,
    request: Request<'_>,
    work: &Composition,
) -> Outcome {
    let started = Instant::now();
    let Request {
        options,
        endpoint,
        notes,
        body,
    } = request;
    let body = match body {
        Some(body) => Ok(body),
        None if client.has_no_body() => Ok(Bytes::new()),
        None => read_in_time(client, options, endpoint).await,
    };
    let body = match body {
        Ok(body) => body,
        Err(failure) => return Outcome::rejected(options, endpoint, failure),
    };
    let Some(head) = client.head() else {
        return Outcome::rejected(options, endpoint, Failure::bad_target());
    };
    let mut call = ClientCall::new(options, endpoint, &head, notes, body, started);
    let outcome = {
        let composing = pin!(async {
            Ok(composing::run_with(&Upstream, options, endpoint, work, &mut call).await)
        });
        // If the client closes its connection, the work is dropped with its calls.
        match watched(client, composing).await {
            Ok(outcome) => outcome,
            Err(failure) => return Outcome::broken(options, endpoint, failure),
        }
    };
    let messages = call.kept.as_ref().map(|kept| kept.take());
    match messages.filter(|messages| !messages.is_empty()) {
        None => outcome,
        Some(messages) => match has_disconnected(client).await {
            None => {
                settled(messages, &outcome);
                outcome
            }
            // The messages go back to their queues.
            Some(failure) => Outcome::broken(options, endpoint, failure),
        },
    }
}

/// Confirms the messages that the response contains. If it is an error of the steps around the endpoint, its messages could
/// not become a response.
fn settled(messages: Vec<Box<dyn Message>>, outcome: &Outcome) {
    let good = match &outcome.ending {
        Ending::Response(response) => outcome.failure.is_none() || response.status.is_success(),
        Ending::Streamed | Ending::Broken => false,
    };
    for message in messages {
        message.settle(good);
    }
}

async fn read_in_time<D: Downstream>(
    client: &mut D,
    options: &Options,
    endpoint: &Endpoint,
) -> Result<Bytes, Failure> {
    let read = client.read_whole(endpoint.payload.whole(options));
    let read = tokio::time::timeout(endpoint.timeout, read).await;
    read.unwrap_or_else(|_| Err(Failure::deadline()))
}

/// Responds with the response of the only backend of a streamed endpoint.
pub(crate) async fn stream<D: Downstream>(
    client: &mut D,
    request: Request<'_>,
    work: &StreamWork,
) -> Outcome {
    stream_with(&Upstream, client, request, work).await
}

/// Responds like [`stream()`], with another [`Transport`].
pub(crate) async fn stream_with<C: Transport, D: Downstream>(
    transport: &C,
    client: &mut D,
    request: Request<'_>,
    work: &StreamWork,
) -> Outcome {
    let Request {
        options, endpoint, ..
    } = request;
    match streaming::run(transport, client, request, work).await {
        Ok(()) => Outcome {
            ending: Ending::Streamed,
            errors: SmallVec::new(),
            failure: None,
            ended: Some(Ended::WHOLE),
        },
        Err(failure) => {
            let failure = failure.hiding(work.backend.url.hidden());
            failed(client, (options, endpoint), work, failure)
        }
    }
}

/// The end of a streamed request that failed.
fn failed<D: Downstream>(
    client: &mut D,
    (options, endpoint): (&Options, &Endpoint),
    work: &StreamWork,
    failure: Failure,
) -> Outcome {
    let over_grpc = client.version() == http::Version::HTTP_2
        && client.head().is_some_and(|head| is_grpc(head.headers));
    // The work counts as done when there is a head, whatever happens to the body.
    if client.has_head() {
        return Outcome {
            ended: Some(Ended::WHOLE),
            ..Outcome::broken(options, endpoint, failure)
        };
    }
    if failure.kind == Kind::ClientGone {
        return Outcome::broken(options, endpoint, failure);
    }
    if failure.kind.is_of_client() {
        return Outcome::rejected(options, endpoint, failure);
    }
    // Static data does not apply to failures of steps around the endpoint.
    let data = work.static_data.as_ref().filter(|_| !failure.outside);
    let covered = data.is_some_and(|data| data.covers_failure());
    let failure = if over_grpc {
        failure.for_grpc()
    } else {
        failure
    };
    let mut outcome = Outcome {
        ended: Some(if covered {
            Ended::PARTIAL
        } else {
            Ended::FAILED
        }),
        ..Outcome::rejected(options, endpoint, failure)
    };
    if covered && !over_grpc {
        outcome.ending = Ending::Response(Response {
            branding: Branding::Completed(false),
            ..Response::empty(StatusCode::OK)
        });
    }
    outcome
}

impl Outcome {
    /// A response without any work.
    pub fn response(response: Response) -> Outcome {
        Outcome {
            ending: Ending::Response(response),
            errors: SmallVec::new(),
            failure: None,
            ended: None,
        }
    }

    /// A failure that the client receives as a response, if it is still there.
    pub fn rejected(options: &Options, endpoint: &Endpoint, failure: Failure) -> Outcome {
        let kind = failure.kind;
        let (errors, response) = finish::rejected(options, endpoint, failure);
        let mut outcome = Outcome {
            errors,
            failure: Some(kind),
            ..Outcome::response(response)
        };
        if kind == Kind::ClientGone {
            outcome.ending = Ending::Broken;
        }
        outcome
    }

    /// A failure after which no response can be sent.
    fn broken(options: &Options, endpoint: &Endpoint, failure: Failure) -> Outcome {
        Outcome {
            ending: Ending::Broken,
            ended: Some(Ended::FAILED),
            ..Outcome::rejected(options, endpoint, failure)
        }
    }
}
