//! What the pipeline needs to know of a request, owned.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::jose::Claims;
use crate::jose::propagate::{Arrays, Elements, header_values};
use crate::runtime::forward;
use crate::runtime::json::Value;
use crate::runtime::request::{Head, Notes, Params};
use crate::runtime::service::{Endpoint, Options};
use crate::runtime::template::Values;

/// A request that has passed its endpoint's steps. It borrows nothing from the server's session, so that the server
/// can watch the client while the pipeline works.
#[derive(Debug, Clone)]
pub struct ClientCall {
    /// What the endpoint lets through, steps' overrides applied, with the gateway's own fields.
    pub headers: HeaderMap,
    /// The raw query.
    pub query: Option<Box<str>>,
    pub params: Params,
    pub claims: Option<Arc<Claims>>,
    /// The client's `Accept`, for `negotiate`.
    pub accept: Option<HeaderValue>,
    pub body: Bytes,
    /// Whether the body's length goes to backends: the client sent it, and the endpoint lists `Content-Length`.
    pub announce_length: bool,
    /// When the endpoint's timeout began to run.
    pub started: Instant,
}

impl ClientCall {
    /// Takes from a request what its endpoint lets through.
    pub fn new(
        options: &Options,
        endpoint: &Endpoint,
        head: &Head<'_>,
        notes: &Notes,
        body: Bytes,
        started: Instant,
    ) -> ClientCall {
        ClientCall {
            headers: forward::outgoing(&endpoint.headers, options, head, notes),
            query: head.query.map(Box::from),
            params: notes.params.clone(),
            claims: notes.claims.clone(),
            accept: notes.header_values(head, &ACCEPT).next().cloned(),
            body,
            announce_length: endpoint.headers.announces_length()
                && head.headers.contains_key(CONTENT_LENGTH),
            started,
        }
    }
}

/// Where the values of a backend's URL come from.
pub(super) struct Sources<'a> {
    pub(super) call: &'a ClientCall,
    /// The shaped answers of the backends before this one.
    pub(super) earlier: &'a [Value],
}

impl Values for Sources<'_> {
    fn params(&self) -> &Params {
        &self.call.params
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        let claim = self.call.claims.as_ref()?.claim(name)?;
        let values = header_values(Some(claim), Arrays::Joined, Elements::Go).ok()?;
        values.into_iter().next().map(Cow::Owned)
    }

    fn response(&self, backend: usize, path: &str) -> Option<Cow<'_, str>> {
        self.earlier.get(backend)?.text_at(path)
    }
}
