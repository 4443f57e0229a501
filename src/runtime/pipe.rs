//! Steps that inspect a request and its response (scripts, expressions, schemas), and changes to a call on the wire.
//!
//! A [`PipeStep`] wraps the whole composition of an endpoint, or one call to a backend. A [`CallStep`] is closest to
//! the wire: it sees the call as it is sent and the response as it was received. An endpoint without such steps has
//! no overhead.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use tokio::time::Instant;

use crate::jose::Claims;
use crate::runtime::failure::Failure;
use crate::runtime::json::Value;
use crate::runtime::request::Params;
use crate::upstream::Response;
use crate::upstream::budget::Charge;

/// A request that a step may read and change.
#[derive(Debug, Clone)]
pub struct PipeRequest {
    /// Around an endpoint the client's method, around a call the backend's.
    pub method: Method,
    /// `scheme://authority` of the next host. `None` around an endpoint, where no host is selected yet.
    pub origin: Option<Box<str>>,
    /// Percent-encoded, as on the wire. Around an endpoint the client's path, around a call the backend's.
    pub path: Box<str>,
    /// Raw, without `?`. Around an endpoint only the parameters that `input_query_strings` lets through.
    pub query: Option<Box<str>>,
    /// Path parameters with the endpoint's spelling, and `sequential_propagated_params` (`resp0_id`).
    pub params: Params,
    /// The headers for backends. A `Host` here replaces the host's own name.
    pub headers: HeaderMap,
    /// Empty if the client's body is streamed and no step requires it.
    pub body: Bytes,
    pub claims: Option<Arc<Claims>>,
    /// The client's address.
    pub client: IpAddr,
    /// Only for steps that ask for it ([`PipeStep::reads_peer`]).
    pub peer: Option<Arc<Peer>>,
    /// The deadline of the inner work. A script that does not end is stopped here.
    pub deadline: Instant,
}

/// The other end of the client's connection, and what it says about the client.
#[derive(Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// All headers as sent.
    pub headers: HeaderMap,
}

impl PipeRequest {
    /// `scheme://authority/path?query`, without the origin around an endpoint.
    pub fn url(&self) -> String {
        format!(
            "{}{}",
            self.origin.as_deref().unwrap_or_default(),
            self.target()
        )
    }

    /// Path and query as on the wire.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }

    /// Sets path and query from a request target.
    pub fn set_target(&mut self, target: &str) {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        self.path = path.into();
        self.query = query.map(Box::from);
    }
}

/// A response as steps see it. The body is `None` where it was not read or is not the step's concern; what a step puts
/// there replaces it.
pub(crate) type Reply = Response<Option<Bytes>>;

/// The result of the inner work.
#[derive(Debug)]
pub struct PipeResponse {
    /// An object, or null. Its branches may be unparsed slices: [`Value::expanded`] parses all of it.
    pub data: Value,
    pub complete: bool,
    /// The original response, only for a `no-op` backend. `data` is empty then.
    pub reply: Option<Reply>,
    /// Metadata of a composed response.
    pub meta: Meta,
    /// For the memory of the data. A step that makes other data replaces it.
    pub held: Charge,
}

/// Metadata of a composed response, for the outer steps and for the client.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// Headers that steps set. They are sent to the client with the data.
    pub headers: HeaderMap,
    /// The status of the upstream, if the data reports it.
    pub status: Option<StatusCode>,
    /// The only call that was made.
    pub called: Option<CallTarget>,
}

/// The destination of a call.
#[derive(Debug, Clone)]
pub struct CallTarget {
    /// `None` if one of several hosts was selected.
    pub origin: Option<Box<str>>,
    pub target: Box<str>,
}

impl PipeResponse {
    /// The result of skipped work.
    pub fn skipped() -> PipeResponse {
        PipeResponse {
            data: Value::Object(Default::default()),
            complete: false,
            reply: None,
            meta: Meta::default(),
            held: Charge::default(),
        }
    }
}

/// How a step lets a request pass.
#[derive(Default)]
pub struct Passed {
    /// Skips the inner work: the outer steps see [`PipeResponse::skipped`].
    pub skip: bool,
    /// For the step's own [`PipeStep::after`].
    pub state: State,
}

/// The state that a step keeps between its two calls.
pub(crate) type State = Option<Box<dyn Any + Send>>;

/// How much of a streamed (`no-op`) response a step needs in [`PipeStep::after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResponseAccess {
    /// Nothing of it.
    Nothing,
    /// Status and headers. The body is streamed.
    Head,
    /// The whole response, which is read first.
    Whole,
}

/// A step around an endpoint's composition, or around one call to a backend: `modifier/lua-*`, `validation/*`.
#[async_trait]
pub trait PipeStep: Send + Sync + fmt::Debug {
    /// Whether [`PipeStep::before`] needs the client's body. It is always available unless the endpoint streams.
    fn needs_body(&self) -> bool {
        false
    }

    /// Whether [`PipeStep::before`] reads [`PipeRequest::peer`].
    fn reads_peer(&self) -> bool {
        false
    }

    /// Whether [`PipeStep::before`] or [`PipeStep::after`] reads what the client's body says, so that it must not be
    /// compressed.
    fn parses_body(&self) -> bool {
        false
    }

    /// How much of a response [`PipeStep::after`] needs.
    fn response_access(&self) -> ResponseAccess {
        ResponseAccess::Nothing
    }

    /// Called before the inner work.
    ///
    /// # Errors
    /// The request is not processed further.
    async fn before(&self, _request: &mut PipeRequest) -> Result<Passed, Failure> {
        Ok(Passed::default())
    }

    /// Called after the inner work, if it gave a response and no failure. `request` is the processed request.
    ///
    /// # Errors
    /// The response is discarded.
    async fn after(
        &self,
        _state: State,
        _request: &PipeRequest,
        _response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        Ok(())
    }
}

/// The step closest to the wire: `modifier/martian`, and everything that replaces a host.
pub trait CallStep: Send + Sync + fmt::Debug {
    /// Whether [`CallStep::request`] needs the client's whole body. It is always available unless the endpoint streams.
    fn needs_body(&self) -> bool {
        false
    }

    /// What the step puts in the place of a call.
    fn substitute(&self) -> Substitute {
        Substitute::Response
    }

    /// Headers of the step's own response that the client gets, if it is the only one.
    fn shown(&self) -> &[HeaderName] {
        &[]
    }

    /// Whether [`CallStep::response`] needs to be called. Otherwise a streamed response is not passed to the step.
    fn sees_responses(&self) -> bool;

    /// Whether the step replaces the upstream: it responds to every call, and nothing is sent.
    fn is_the_backend(&self) -> bool {
        false
    }

    /// Called before the call is sent. Decides immediately, or returns a future to wait for. The common case
    /// allocates nothing.
    ///
    /// # Errors
    /// The call is not made.
    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<CallDecision<'a>, Failure>;

    /// Called with the response, whatever its status. `request` is the sent request.
    ///
    /// # Errors
    /// The response is discarded.
    fn response(&self, request: &PipeRequest, reply: &mut Reply) -> Result<(), Failure>;
}

/// What a [`CallStep`] puts in the place of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substitute {
    /// A response, or nothing.
    Response,
    /// A message that it sends. There is no data.
    Send,
    /// A message that it takes from a queue. Each message is for one client, so there is one call for one client.
    Receive,
}

/// A message taken from a queue, which is not confirmed yet.
pub(crate) trait Message: Send {
    /// Confirms the message if its response was `good`, and else gives it back or drops it. A message that is dropped
    /// without this goes back to its queue.
    fn settle(self: Box<Self>, good: bool);
}

/// A response in the place of a call, and the message that it was made of.
pub struct Received {
    pub reply: Reply,
    pub(crate) message: Option<Box<dyn Message>>,
}

impl Received {
    /// A response that was not made of a message.
    pub(crate) fn plain(reply: Reply) -> Received {
        Received {
            reply,
            message: None,
        }
    }
}

/// The messages that are parts of a response that is not ready yet. Those that are left at the end go back to their
/// queues.
#[derive(Default)]
pub struct UnconfirmedMessages(Mutex<Vec<Box<dyn Message>>>);

impl fmt::Debug for UnconfirmedMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerCache")
    }
}

impl UnconfirmedMessages {
    /// Adds a message that its backend has decoded.
    pub(crate) fn keep(&self, message: Box<dyn Message>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(message);
    }

    /// The messages since the last call.
    pub(crate) fn take(&self) -> Vec<Box<dyn Message>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *all)
    }
}

/// Settles a message, if there is one.
pub(crate) fn settle(message: Option<Box<dyn Message>>, good: bool) {
    if let Some(message) = message {
        message.settle(good);
    }
}

/// The decision of a [`CallStep`] about a call.
pub enum CallDecision<'a> {
    /// Sends it with the body in the request, or else with the client's streamed body.
    Send,
    /// Sends it with the body in the request, even if that is empty. The client's own body is not sent.
    Replace,
    /// Sends nothing. This is the response.
    Response(Reply),
    /// Sends nothing. The response is the result of this future, which is limited by the endpoint's deadline.
    Wait(Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>),
    /// Receives a message, which is confirmed when the response is made.
    Receive(Pin<Box<dyn Future<Output = Result<Received, Failure>> + Send + 'a>>),
}

impl CallDecision<'_> {
    /// The response that replaces that of the call. `None` if the call is sent.
    ///
    /// # Errors
    /// The future failed.
    pub async fn response(self) -> Result<Option<Received>, Failure> {
        match self {
            CallDecision::Send | CallDecision::Replace => Ok(None),
            CallDecision::Response(reply) => Ok(Some(Received::plain(reply))),
            CallDecision::Wait(reply) => reply.await.map(Received::plain).map(Some),
            CallDecision::Receive(received) => received.await.map(Some),
        }
    }
}
