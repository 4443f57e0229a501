//! What the pipeline needs of a request, as owned values.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

use super::time_limit::TimeLimit;
use crate::jose::propagate::url_text;
use crate::jose::{Claims, Rejection, SubjectToken};
use crate::runtime::forward::{self, QueryRules};
use crate::runtime::json::Value;
use crate::runtime::pipe::{Peer, PipeRequest, UnconfirmedMessages};
use crate::runtime::request::{Head, Notes, Params};
use crate::runtime::service::{Backend, Endpoint, Options, Work};
use crate::runtime::template::{self, Values};
use crate::upstream::resilience::AffinityKey;

/// A request that passed the steps of its endpoint. It borrows nothing from the session of the server, so the server
/// can watch the client while the pipeline works.
#[derive(Debug, Clone)]
pub struct ClientCall {
    /// The headers that the endpoint passes on, with the changes of steps and the gateway's own headers.
    pub headers: HeaderMap,
    /// The raw query.
    pub query: Option<Box<str>>,
    pub params: Params,
    pub claims: Option<Arc<Claims>>,
    /// The client's address.
    pub client: IpAddr,
    /// See [`Notes::subject`].
    pub subject: Option<SubjectToken>,
    /// See [`Notes::affinity`].
    pub affinity: Option<Arc<[(u64, AffinityKey)]>>,
    /// The client's `Accept`, for `negotiate`. `None` for a streamed endpoint.
    pub accept: Option<HeaderValue>,
    pub body: Bytes,
    /// Whether steps see the length of the body: the client sent it, and the endpoint lists `Content-Length`.
    pub announce_length: bool,
    /// A step around the endpoint made the body. Its `Content-Type` belongs to it, whatever a backend lists.
    pub made: bool,
    /// What steps around calls may ask for.
    pub peer: Option<Arc<Peer>>,
    /// When the timeout of the endpoint started.
    pub started: Instant,
    /// The parts that only pipe steps and conditions read. `None` for endpoints without these.
    pub line: Option<Box<RequestLine>>,
    /// The client's method, where it is that of the call: in the endpoint for everything else.
    pub method: Option<Method>,
    /// Messages of queues in the response. `None` for endpoints that take none.
    pub kept: Option<Arc<UnconfirmedMessages>>,
}

/// The request line of the client.
#[derive(Debug, Clone)]
pub struct RequestLine {
    pub method: Method,
    /// As on the wire.
    pub path: Box<str>,
}

impl ClientCall {
    /// Copies from a request what its endpoint passes on.
    pub fn new(
        options: &Options,
        endpoint: &Endpoint,
        head: &Head<'_>,
        notes: &Notes,
        body: Bytes,
        started: Instant,
    ) -> ClientCall {
        let head = &notes.head(head);
        let headers = forward::outgoing(&endpoint.headers, options, head, notes);
        if let Some(observer) = &endpoint.observer {
            observer.works_with(&headers);
        }
        let line = endpoint.work.is_watched().then(|| {
            Box::new(RequestLine {
                method: head.method.clone(),
                path: head.path.into(),
            })
        });
        ClientCall {
            method: endpoint.is_catch_all().then(|| head.method.clone()),
            line,
            headers,
            query: head.query.map(Box::from),
            params: notes.params.clone(),
            claims: notes.claims.clone(),
            client: head.client,
            subject: notes.subject.clone(),
            affinity: notes.affinity.clone(),
            accept: match &endpoint.work {
                Work::Compose(_) => notes.header_values(head, &ACCEPT).next().cloned(),
                Work::Stream(_) | Work::Nothing => None,
            },
            body,
            announce_length: endpoint.headers.announces_length()
                && head.headers.contains_key(CONTENT_LENGTH),
            made: false,
            peer: endpoint.work.reads_peer().then(|| {
                Arc::new(Peer {
                    address: head.peer,
                    headers: head.headers.clone(),
                })
            }),
            started,
            kept: endpoint.work.takes_messages().then(Arc::default),
        }
    }

    /// The call of a message of a queue: its bytes and their type, and nothing else.
    #[cfg(feature = "amqp")]
    pub(crate) fn of_message(
        endpoint: &Endpoint,
        body: Bytes,
        content_type: Option<HeaderValue>,
    ) -> ClientCall {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(http::header::CONTENT_TYPE, value);
        }
        let line = endpoint.work.is_watched().then(|| {
            Box::new(RequestLine {
                method: endpoint.method.clone(),
                path: Box::default(),
            })
        });
        ClientCall {
            headers,
            query: None,
            params: Params::default(),
            claims: None,
            client: IpAddr::from([0, 0, 0, 0]),
            subject: None,
            affinity: None,
            accept: None,
            body,
            announce_length: true,
            // The type belongs to the body, whatever a backend lists.
            made: true,
            peer: None,
            started: Instant::now(),
            line,
            method: None,
            kept: endpoint.work.takes_messages().then(Arc::default),
        }
    }

    /// The key that decides about the host of `backend`.
    pub(super) fn affinity(&self, backend: &Backend) -> Option<AffinityKey> {
        let (keys, rule) = (self.affinity.as_ref()?, backend.hosts.sticky()?);
        let found = keys.iter().find(|(id, _)| *id == rule);
        found.map(|(_, key)| *key)
    }

    /// The request as the endpoint's pipe steps see it.
    pub(super) fn request(&self, endpoint: &Endpoint, limit: &TimeLimit) -> PipeRequest {
        let (method, path) = match self.line.as_deref() {
            Some(line) => (line.method.clone(), line.path.clone()),
            None => (endpoint.method.clone(), Box::from(&*endpoint.pattern)),
        };
        PipeRequest {
            method,
            origin: None,
            path,
            query: template::query(&endpoint.query.pairs(self.query.as_deref(), None)),
            params: self.params.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            claims: self.claims.clone(),
            client: self.client,
            peer: self.peer.clone(),
            deadline: limit.end(),
        }
    }

    /// The request as the conditions of backends see it.
    pub(super) fn seen(
        &self,
        query: &QueryRules,
        params: Params,
        limit: &TimeLimit,
    ) -> PipeRequest {
        let (method, path) = match self.line.as_deref() {
            Some(line) => (line.method.clone(), line.path.clone()),
            None => (Method::GET, Box::from("/")),
        };
        PipeRequest {
            method,
            origin: None,
            path,
            query: template::query(&query.pairs(self.query.as_deref(), None)),
            params,
            headers: self.headers.clone(),
            body: Bytes::new(),
            claims: self.claims.clone(),
            client: self.client,
            peer: self.peer.clone(),
            deadline: limit.end(),
        }
    }

    /// The call with the changes of the pipe steps. Its query needs no further filter.
    pub(super) fn replaced(&self, request: &PipeRequest) -> ClientCall {
        ClientCall {
            headers: request.headers.clone(),
            query: request.query.clone(),
            params: request.params.clone(),
            claims: request.claims.clone(),
            body: request.body.clone(),
            made: !request.body.is_empty() && request.body.as_ptr() != self.body.as_ptr(),
            ..self.clone()
        }
    }
}

/// The sources of the values in the URL of a backend.
pub(super) struct Sources<'a> {
    pub(super) call: &'a ClientCall,
    /// The shaped responses of the backends before this one.
    pub(super) earlier: &'a [Value],
}

impl Values for Sources<'_> {
    fn params(&self) -> &Params {
        &self.call.params
    }

    fn claim(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        let claims = self.call.claims.as_deref();
        let Some(claim) = claims.and_then(|claims| claims.claim(name)) else {
            return Ok(None);
        };
        url_text(claim).map(|text| Some(Cow::Owned(text)))
    }

    fn response(&self, backend: usize, path: &str) -> Option<Cow<'_, str>> {
        self.earlier.get(backend)?.text_at(path)
    }
}
