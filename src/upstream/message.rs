//! A complete call and its complete response.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, TE, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::budget::{Budget, Charge, Full};
use super::resilience::AffinityKey;
use crate::jose::SubjectToken;
use crate::per_worker::OwnArc;

/// Whether a header concerns only one connection (RFC 9110 §7.6.1), so that no message carries it on. HTTP/2 rejects
/// messages with such headers (RFC 9113 §8.2.2). The framing of a message is not among them.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRAILER | UPGRADE)
        || matches!(
            name.as_str(),
            "http2-settings" | "keep-alive" | "proxy-connection"
        )
}

/// One call, ready to be sent. The host set adds `Host`, unless a step has set it.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub method: Method,
    /// Path and query on the wire, starting with `/`.
    pub target: RequestTarget,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The verified token of the client, for a backend that gets another one in exchange. It is not sent.
    pub subject: Option<SubjectToken>,
    /// Calls with the same key go to the same host, if the file asks for it. It is not sent.
    pub affinity: Option<AffinityKey>,
}

/// The target of a request (RFC 9112 §3.2). One that the configuration contains as it is is shared with it.
#[derive(Clone)]
pub struct RequestTarget(TargetText);

#[derive(Clone)]
enum TargetText {
    Shared(OwnArc<str>),
    Own(String),
}

impl Deref for RequestTarget {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            TargetText::Shared(text) => text,
            TargetText::Own(text) => text,
        }
    }
}

impl Default for RequestTarget {
    fn default() -> RequestTarget {
        String::new().into()
    }
}

impl From<OwnArc<str>> for RequestTarget {
    fn from(text: OwnArc<str>) -> RequestTarget {
        RequestTarget(TargetText::Shared(text))
    }
}

impl From<String> for RequestTarget {
    fn from(text: String) -> RequestTarget {
        RequestTarget(TargetText::Own(text))
    }
}

impl From<&str> for RequestTarget {
    fn from(text: &str) -> RequestTarget {
        text.to_owned().into()
    }
}

impl PartialEq<&str> for RequestTarget {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Debug for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// The memory of a call that waits for its response: its state, a connection and the buffers of the system. Measured as
/// 13 KiB and 4 KiB.
const CALL: usize = 16 * 1024;
/// The memory of each of its headers, besides the text: an entry in a map that may have doubled.
const FIELD: usize = 256;
/// The number of copies of its target: as text, in the head, and as much again because buffers double.
const TARGETS: usize = 4;

impl Outgoing {
    /// Charges the call, as long as it lasts.
    ///
    /// # Errors
    /// The memory has no space for it.
    pub(super) fn charge(&self) -> Result<Charge, Full> {
        let mut charge = Budget::calls().charge();
        charge.cover(CALL + FIELD * self.headers.len() + TARGETS * self.target.len())?;
        Ok(charge)
    }
}

/// A complete response of an upstream. The body is limited in size, and decoded if we had requested gzip.
pub(crate) type Incoming = Response<Bytes>;

/// A response of an upstream, or of a step in its place.
#[derive(Debug, Clone)]
pub struct Response<B> {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The whole body, or an `Option` where it may stream past instead.
    pub body: B,
    /// The host that was called first, as configured, for messages. `None` if no host was called.
    pub origin: Option<Arc<str>>,
}

impl<B> Response<B> {
    /// A response that no host gave.
    pub fn local(status: StatusCode, headers: HeaderMap, body: B) -> Response<B> {
        Response {
            status,
            headers,
            body,
            origin: None,
        }
    }

    /// The same response with `change` applied to its body.
    pub fn map_body<C>(self, change: impl FnOnce(B) -> C) -> Response<C> {
        Response {
            status: self.status,
            headers: self.headers,
            body: change(self.body),
            origin: self.origin,
        }
    }
}
