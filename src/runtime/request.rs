//! The view of a request for steps and pipeline, and the notes that steps leave for later ones.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::jose::{Claims, SubjectToken};
use crate::runtime::response::Fields;
use crate::upstream::budget::Charge;
use crate::upstream::resilience::AffinityKey;

/// The head of a request as the client sent it, borrowed from the server's own structures.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a Method,
    /// The percent-encoded path as on the wire, without query: `/a/b%20c`.
    pub path: &'a str,
    /// The raw text after the first `?`. `None` without one.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub host: Host<'a>,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The client's address, after `trusted_proxies` was applied. Equals `peer` if no peer is trusted.
    pub client: IpAddr,
    /// Whether the client is connected over TLS.
    pub secure: bool,
    /// The SHA-256 of the certificate that the client presented.
    pub certificate: Option<&'a [u8]>,
}

/// The host of a request. It is looked up when something asks for it, which few requests need.
#[derive(Debug, Clone, Copy)]
pub enum Host<'a> {
    /// `Host` as sent, or else this authority of the target.
    Sent(Option<&'a str>),
    /// A step has replaced it.
    Given(&'a str),
}

impl<'a> Head<'a> {
    /// `Host` (or `:authority`), including the port. Empty if there is none.
    pub fn host(&self) -> &'a str {
        match self.host {
            Host::Sent(authority) => self.header(&HOST).or(authority).unwrap_or_default(),
            Host::Given(host) => host,
        }
    }

    /// The first line of header `name` as text. `None` if it is absent or not visible ASCII/UTF-8.
    pub fn header(&self, name: &HeaderName) -> Option<&'a str> {
        self.headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }
}

/// Path parameters: the name as the endpoint spells it (`id`, not `Id`), and the value decoded once.
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

/// The id of one request, for logs, backends and the client.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// The header that carries it to backends.
    pub header: HeaderName,
    pub value: HeaderValue,
}

/// The id that the gateway gives a request.
#[derive(Debug, Clone)]
pub struct GivenId {
    pub id: RequestId,
    /// The client gets it, too.
    pub respond: bool,
}

/// The parts of a request that a step replaced. `None` leaves a part unchanged. The request is not routed again.
#[derive(Debug, Default)]
pub struct Rewritten {
    pub method: Option<Method>,
    pub path: Option<Box<str>>,
    /// `Some(None)` removes the query.
    pub query: Option<Option<Box<str>>>,
    pub host: Option<Box<str>>,
}

/// Headers and query as later steps see them, where a step has changed what these check: a credential, or the key of a
/// limit.
#[derive(Debug, Clone)]
pub struct Seen {
    pub headers: HeaderMap,
    pub query: Option<Box<str>>,
}

/// What steps learn about a request and pass to later steps. One per request, initially empty.
#[derive(Debug, Default)]
pub struct Notes {
    pub params: Params,
    /// Headers that replace those of the client with the same name. An empty list removes the header.
    pub overrides: SmallVec<[(HeaderName, SmallVec<[HeaderValue; 1]>); 2]>,
    /// Headers for the response to the client, whatever it will be. They replace an upstream's headers with the same
    /// name.
    pub response_fields: Fields,
    /// Sent to backends regardless of the endpoint's lists, and written to the access log.
    pub request_id: Option<RequestId>,
    /// The claims of the verified token, for `{JWT.x}` and for later steps.
    pub claims: Option<Arc<Claims>>,
    /// The verified token itself, if a backend exchanges it for another one.
    pub subject: Option<SubjectToken>,
    /// The keys that decide about the hosts of backends, by the ids of their rules.
    pub affinity: Option<Arc<[(u64, AffinityKey)]>>,
    /// Why a step rejected the request, as one word for the access log and the metrics: `expired`, `rate_limited`, ….
    pub rejected: Option<&'static str>,
    /// Whether the token was rejected. `rejected` is then one of the closed list of token reasons.
    pub token_rejected: bool,
    /// Lines that the access log prints after its own, as `Error #01: …`.
    pub errors: SmallVec<[Cow<'static, str>; 1]>,
    /// The client's body, if a step requested it ([`crate::runtime::step::EndpointStep::needs_body`]). A step may
    /// replace it.
    pub body: Option<Bytes>,
    /// The client's body is decoded as it is read: its announced length is not that of what is read.
    pub is_decoded: bool,
    pub rewritten: Option<Box<Rewritten>>,
    /// Steps that run after this was set see it in their [`Head`].
    pub seen: Option<Box<Seen>>,
    /// The charge for what steps made of the request, besides what they hold themselves.
    pub held: Charge,
    /// A step has kept its worker busy for as long as a few requests take. The server clears this flag and lets other
    /// ready tasks run first.
    pub computed: bool,
}

impl Notes {
    /// Sets the id of the request.
    pub fn identify(&mut self, given: GivenId) {
        let GivenId { id, respond } = given;
        if respond {
            self.response_fields
                .push((id.header.clone(), id.value.clone()));
        }
        self.request_id = Some(id);
    }

    /// Replaces header `name` for everything after this step. No values remove it.
    pub fn set_header(&mut self, name: &HeaderName, values: SmallVec<[HeaderValue; 1]>) {
        match self.overrides.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = values,
            None => self.overrides.push((name.clone(), values)),
        }
    }

    /// The head with the parts that steps replaced. For headers see [`Notes::header_values`].
    pub fn head<'a>(&'a self, head: &Head<'a>) -> Head<'a> {
        let mut head = *head;
        let Some(new) = self.rewritten.as_deref() else {
            return head;
        };
        head.method = new.method.as_ref().unwrap_or(head.method);
        head.path = new.path.as_deref().unwrap_or(head.path);
        head.host = new.host.as_deref().map_or(head.host, Host::Given);
        head.query = self.query(&head);
        head
    }

    /// The query of [`Notes::head`].
    pub fn query<'a>(&'a self, head: &Head<'a>) -> Option<&'a str> {
        let rewritten = self.rewritten.as_deref();
        match rewritten.and_then(|new| new.query.as_ref()) {
            Some(query) => query.as_deref(),
            None => head.query,
        }
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
