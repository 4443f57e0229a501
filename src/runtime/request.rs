//! What the steps and the pipeline see of a request, and what they leave for later.

use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::jose::Claims;
use crate::runtime::answer::Fields;

/// The head of a request as the client sent it, borrowed from the server's own structures.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a Method,
    /// The path as on the wire, percent-encoded, without query: `/a/b%20c`.
    pub path: &'a str,
    /// What follows the first `?`, raw; `None` without one.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// `Host` (or `:authority`) as sent, port included.
    pub host: &'a str,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The client's address after `trusted_proxies` was honoured; equals `peer` when nobody is trusted.
    pub client: IpAddr,
    /// Whether the client reached us over TLS.
    pub secure: bool,
}

impl<'a> Head<'a> {
    /// The first line of header `name`, as text; `None` when absent or not visible ASCII/UTF-8.
    pub fn header(&self, name: &HeaderName) -> Option<&'a str> {
        self.headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }
}

/// Path parameters: the endpoint's spelling of the name (`id`, not `Id`) and the value decoded once.
#[derive(Debug, Clone, Default)]
pub struct Params(pub SmallVec<[(Arc<str>, String); 4]>);

impl Params {
    /// The value of parameter `name`, spelled as in the endpoint.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The name of one request, for everybody who has to do with it.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// The field that carries it to backends.
    pub header: HeaderName,
    pub value: HeaderValue,
}

/// What a step put in place of what the client sent. `None` leaves a part as it is; nothing here routes anew.
#[derive(Debug, Default)]
pub struct Rewritten {
    pub method: Option<Method>,
    pub path: Option<Box<str>>,
    /// `Some(None)` removes the query.
    pub query: Option<Option<Box<str>>>,
    pub host: Option<Box<str>>,
}

/// What steps learn about a request and leave for those after them. One per request, made empty.
#[derive(Debug, Default)]
pub struct Notes {
    pub params: Params,
    /// Header fields that replace what the client sent under that name; an empty list removes the name.
    pub overrides: SmallVec<[(HeaderName, SmallVec<[HeaderValue; 1]>); 2]>,
    /// Fields for whatever answer the client gets in the end; they replace an upstream's of the same name.
    pub response_fields: Fields,
    /// Goes to backends whatever an endpoint lets through, and to the access log.
    pub request_id: Option<RequestId>,
    /// The claims of the verified token, for `{JWT.x}` and for later steps.
    pub claims: Option<Arc<Claims>>,
    /// One word for the access log and the metrics when a step refused: `expired`, `rate_limited`, ….
    pub refused: Option<&'static str>,
    /// Whether it was the token that was refused: `refused` is then one of the closed set of token reasons.
    pub token_refused: bool,
    /// Lines that the access log prints under its own, as `Error #01: …`.
    pub errors: SmallVec<[Cow<'static, str>; 1]>,
    /// The client's body, where a step asked for it ([`crate::runtime::step::EndpointStep::needs_body`]); what a step
    /// puts here goes on in its place.
    pub body: Option<Bytes>,
    pub rewritten: Option<Box<Rewritten>>,
    /// What a step that asked to wait left for its own next call; that call takes it away.
    pub awaited: Option<Arc<dyn Any + Send + Sync>>,
    /// A step has kept its worker busy for as long as a few requests do. The server takes this away and lets whoever
    /// else is ready go first.
    pub computed: bool,
}

impl Notes {
    /// Replaces header `name` for everything after this step; no values removes it.
    pub fn set_header(&mut self, name: &HeaderName, values: SmallVec<[HeaderValue; 1]>) {
        match self.overrides.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = values,
            None => self.overrides.push((name.clone(), values)),
        }
    }

    /// The head with what steps put in place of its parts; header fields see [`Notes::header_values`].
    pub fn head<'a>(&'a self, head: &Head<'a>) -> Head<'a> {
        let mut head = *head;
        let Some(new) = self.rewritten.as_deref() else {
            return head;
        };
        head.method = new.method.as_ref().unwrap_or(head.method);
        head.path = new.path.as_deref().unwrap_or(head.path);
        head.host = new.host.as_deref().unwrap_or(head.host);
        if let Some(query) = &new.query {
            head.query = query.as_deref();
        }
        head
    }

    /// The values of header `name` after overrides, in order.
    pub fn header_values<'a>(
        &'a self,
        head: &Head<'a>,
        name: &HeaderName,
    ) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
        let replaced = self
            .overrides
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, values)| values);
        let sent = match replaced {
            Some(_) => None,
            None => Some(head.headers.get_all(name).iter()),
        };
        replaced
            .into_iter()
            .flatten()
            .chain(sent.into_iter().flatten())
    }
}
