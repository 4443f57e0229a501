//! Steps that look into a request and its answer: scripts, expressions, schemas, and changes to a call on the wire.
//!
//! A [`PipeStep`] stands around an endpoint's whole composition or around one call to a backend. A [`CallStep`] stands
//! closest to the wire: it sees the call as it is sent and the answer as it came. An endpoint without either pays
//! nothing for them.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use crate::jose::Claims;
use crate::runtime::failure::Failure;
use crate::runtime::json::Value;
use crate::runtime::request::Params;

/// A request, as a step may see and change it.
#[derive(Debug, Clone)]
pub struct PipeRequest {
    /// Around an endpoint the client's, around a call the backend's.
    pub method: Method,
    /// `scheme://authority` of the host whose turn it is; `None` around an endpoint, where there is none yet.
    pub origin: Option<Box<str>>,
    /// As on the wire, percent-encoded. Around an endpoint the client's path, around a call the backend's.
    pub path: Box<str>,
    /// Raw, without `?`. Around an endpoint only what `input_query_strings` lets through.
    pub query: Option<Box<str>>,
    /// Path parameters as the endpoint spells them, and `sequential_propagated_params` (`resp0_id`).
    pub params: Params,
    /// What goes to backends. A `Host` in here replaces the host's own name.
    pub headers: HeaderMap,
    /// Empty where the client's body streams past and no step asked for it.
    pub body: Bytes,
    pub claims: Option<Arc<Claims>>,
    /// When the work within must be done; a script that does not end is stopped here.
    pub deadline: Instant,
}

impl PipeRequest {
    /// `scheme://authority/path?query`; without the origin around an endpoint.
    pub fn url(&self) -> String {
        format!(
            "{}{}",
            self.origin.as_deref().unwrap_or_default(),
            self.target()
        )
    }

    /// Path and query, as they go on the wire.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }

    /// Takes path and query from a request target.
    pub fn set_target(&mut self, target: &str) {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        self.path = path.into();
        self.query = query.map(Box::from);
    }
}

/// An answer on the wire.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `None` where it was not read, or is none of the step's business; what a step puts here replaces it.
    pub body: Option<Bytes>,
}

/// What came out of the work within.
#[derive(Debug)]
pub struct PipeResponse {
    /// An object, or null. Its branches may be unread slices: [`Value::expanded`] reads all of it.
    pub data: Value,
    pub complete: bool,
    /// The answer as it came, of a `no-op` backend only; `data` is empty then.
    pub reply: Option<Reply>,
    /// What goes with the data of a composed answer.
    pub meta: Meta,
}

/// What goes with the data of a composed answer, for the steps around it and for the client.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// Header fields that steps set: they reach the client with the data.
    pub headers: HeaderMap,
    /// The upstream's status, where the data tells of it.
    pub status: Option<StatusCode>,
    /// The one call that was made.
    pub called: Option<Called>,
}

/// Where a call went.
#[derive(Debug, Clone)]
pub struct Called {
    /// `None` where one of several hosts had its turn.
    pub origin: Option<Box<str>>,
    pub target: Box<str>,
}

impl PipeResponse {
    /// What stands in for the answer of work that was passed over.
    pub fn skipped() -> PipeResponse {
        PipeResponse {
            data: Value::Object(Default::default()),
            complete: false,
            reply: None,
            meta: Meta::default(),
        }
    }
}

/// How a step lets a request pass.
#[derive(Default)]
pub struct Passed {
    /// Do not do the work within: the steps outside of it see [`PipeResponse::skipped`].
    pub skip: bool,
    /// For the step's own [`PipeStep::after`].
    pub state: State,
}

/// What a step keeps between its two calls.
pub type State = Option<Box<dyn Any + Send>>;

/// What a step needs to see of a streamed (`no-op`) answer in [`PipeStep::after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// It does not look at answers at all.
    Nothing,
    /// Status and header fields; the body streams past.
    Head,
    /// The whole answer is read first.
    Whole,
}

/// Around an endpoint's composition, or around one call to a backend: `modifier/lua-*`, `validation/*`.
#[async_trait]
pub trait PipeStep: Send + Sync + fmt::Debug {
    /// Whether [`PipeStep::before`] needs the client's body. It is there anyway unless the endpoint streams.
    fn needs_body(&self) -> bool;

    /// What [`PipeStep::after`] looks at.
    fn sight(&self) -> Sight;

    /// Before the work within.
    ///
    /// # Errors
    /// The request goes no further.
    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure>;

    /// After the work within, if that gave an answer and no failure. `request` is what went in.
    ///
    /// # Errors
    /// The answer is thrown away.
    async fn after(
        &self,
        state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure>;
}

/// Closest to the wire: `modifier/martian`.
pub trait CallStep: Send + Sync + fmt::Debug {
    /// Whether [`CallStep::response`] may have something to do; a streamed answer is not shown to a step that does not
    /// ask for it.
    fn sees_answers(&self) -> bool;

    /// Before the call is sent: decides at once, or says what to wait for. The usual case allocates nothing.
    ///
    /// # Errors
    /// The call is not made.
    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<Turn<'a>, Failure>;

    /// The answer, whatever its status; `request` is what was sent.
    ///
    /// # Errors
    /// The answer is thrown away.
    fn response(&self, request: &PipeRequest, reply: &mut Reply) -> Result<(), Failure>;
}

/// What a [`CallStep`] made of a call.
pub enum Turn<'a> {
    /// It is sent, with the body in the request, or else with the client's as it streams past.
    Send,
    /// It is sent with the body in the request, even an empty one: nothing of the client's own goes on.
    Replace,
    /// Nothing is sent; this is the answer.
    Answer(Reply),
    /// Nothing is sent; the answer is what this ends with. Bounded by the endpoint's deadline.
    Wait(Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>),
}

impl Turn<'_> {
    /// The answer that stands in for the call's own; `None` where the call is sent.
    ///
    /// # Errors
    /// What was waited for failed.
    pub async fn answer(self) -> Result<Option<Reply>, Failure> {
        match self {
            Turn::Send | Turn::Replace => Ok(None),
            Turn::Answer(reply) => Ok(Some(reply)),
            Turn::Wait(reply) => reply.await.map(Some),
        }
    }
}
