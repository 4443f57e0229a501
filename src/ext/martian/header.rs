//! Headers, including those that describe the message itself.
//!
//! The framing of a message depends on its body, never on a header from the configuration: `Content-Length` and
//! `Transfer-Encoding` only choose between the actual length and chunks. Headers of a connection (RFC 9110 §7.6.1)
//! are never passed on, so changing them has no effect.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::url_authority;
use crate::runtime::failure::{Failure, Kind as Why};
use crate::runtime::forward::{remove_alike, set_alone};
use crate::runtime::pipe::PipeRequest;
use crate::runtime::response::has_one_value;
use crate::upstream::is_of_connection;

/// A header name, and its special role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub name: HeaderName,
    pub kind: Kind,
}

/// The role of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No special role.
    Plain,
    Host,
    /// `Content-Length`
    Length,
    /// `Transfer-Encoding`
    Coding,
    /// Headers of the connection.
    Connection,
}

impl Header {
    pub(crate) fn new(name: HeaderName) -> Header {
        let kind = match name {
            HOST => Kind::Host,
            CONTENT_LENGTH => Kind::Length,
            TRANSFER_ENCODING => Kind::Coding,
            _ if is_of_connection(&name) => Kind::Connection,
            _ => Kind::Plain,
        };
        Header { name, kind }
    }

    // Requests.

    /// The first value in the request. For host and length, the values that will be sent.
    pub(crate) fn first<'r>(&self, request: &'r PipeRequest) -> Option<Cow<'r, HeaderValue>> {
        match (request.headers.get(&self.name), self.kind) {
            (Some(value), _) => Some(Cow::Borrowed(value)),
            (None, Kind::Host) => {
                let authority = url_authority::authority(request.origin.as_deref()?);
                HeaderValue::from_str(authority).ok().map(Cow::Owned)
            }
            (None, Kind::Length) if !request.body.is_empty() => {
                Some(Cow::Owned(HeaderValue::from(request.body.len())))
            }
            (None, _) => None,
        }
    }

    /// Whether `wanted` returns true for one of the request's values.
    pub(crate) fn any(&self, request: &PipeRequest, wanted: impl Fn(&[u8]) -> bool) -> bool {
        let mut lines = request.headers.get_all(&self.name).iter().peekable();
        if lines.peek().is_none() {
            return self
                .first(request)
                .is_some_and(|value| wanted(value.as_bytes()));
        }
        lines.any(|value| wanted(value.as_bytes()))
    }

    /// Replaces the values in the request by `value`.
    ///
    /// # Errors
    /// The `Host` is invalid.
    pub(crate) fn set(
        &self,
        request: &mut PipeRequest,
        mut value: HeaderValue,
    ) -> Result<(), Failure> {
        // The target of a redirect must not see it.
        value.set_sensitive(true);
        match self.kind {
            Kind::Plain => set_alone(&mut request.headers, &self.name, value),
            // If it is empty, the host's own name is sent.
            Kind::Host if value.is_empty() => {
                request.headers.remove(HOST);
            }
            Kind::Host if url_authority::is_authority(value.as_bytes()) => {
                request.headers.insert(HOST, value);
            }
            Kind::Host => return Err(Failure::new(Why::Request, "http: invalid Host header")),
            Kind::Length => announce(request),
            Kind::Coding if is_chunked(value.as_bytes()) => {
                request.headers.remove(CONTENT_LENGTH);
                let chunked = HeaderValue::from_static("chunked");
                request.headers.insert(TRANSFER_ENCODING, chunked);
            }
            Kind::Coding => announce(request),
            Kind::Connection => {}
        }
        Ok(())
    }

    /// Adds `value` to the request. A header with a special role has only one value.
    ///
    /// # Errors
    /// As [`Header::set`].
    pub(crate) fn add(
        &self,
        request: &mut PipeRequest,
        mut value: HeaderValue,
    ) -> Result<(), Failure> {
        value.set_sensitive(true);
        match self.kind {
            Kind::Plain => {
                request.headers.append(&self.name, value);
                Ok(())
            }
            _ => self.set(request, value),
        }
    }

    /// Removes the header from the request.
    pub(crate) fn remove(&self, request: &mut PipeRequest) {
        match self.kind {
            Kind::Plain => remove_alike(&mut request.headers, &self.name),
            Kind::Host | Kind::Length => {
                request.headers.remove(&self.name);
            }
            Kind::Connection | Kind::Coding => {}
        }
    }

    // Responses.

    /// Replaces the values in the response by `value`.
    pub(crate) fn set_response(&self, headers: &mut HeaderMap, value: HeaderValue) {
        match self.kind {
            Kind::Plain | Kind::Host => {
                headers.insert(&self.name, value);
            }
            Kind::Coding if is_chunked(value.as_bytes()) => {
                headers.remove(CONTENT_LENGTH);
            }
            Kind::Length | Kind::Coding | Kind::Connection => {}
        }
    }

    /// Adds `value` to the response. It replaces that of a header that has only one.
    pub(crate) fn add_response(&self, headers: &mut HeaderMap, value: HeaderValue) {
        match self.kind {
            Kind::Plain if !has_one_value(&self.name) => {
                headers.append(&self.name, value);
            }
            _ => self.set_response(headers, value),
        }
    }

    /// Removes the header from the response. `Connection` is kept, because the headers that it names must not be
    /// passed on.
    pub(crate) fn remove_response(&self, headers: &mut HeaderMap) {
        if !matches!(self.kind, Kind::Connection | Kind::Coding) {
            headers.remove(&self.name);
        }
    }
}

/// A body in memory is sent with its length instead of in chunks.
fn announce(request: &mut PipeRequest) {
    request.headers.remove(TRANSFER_ENCODING);
    if !request.body.is_empty() {
        let length = HeaderValue::from(request.body.len());
        request.headers.insert(CONTENT_LENGTH, length);
    }
}

fn is_chunked(value: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(b"chunked")
}
