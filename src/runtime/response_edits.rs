//! Changes to every response before it is written: changes to its headers, and compression of its body.
//!
//! The server does it where it writes heads, because a response may be made by any step, by a failure or by a backend.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::runtime::compression::Compression;

/// What is done to the responses of an endpoint, or to those that no endpoint made.
#[derive(Debug, Default, Clone)]
pub struct ResponseEdits {
    /// Changes to the headers, in this order: the service's, then the endpoint's.
    pub edits: Box<[Arc<HeaderEdits>]>,
    pub compression: Option<Arc<Compression>>,
    /// Whether it also concerns the health endpoint.
    pub covers_health: bool,
}

impl ResponseEdits {
    /// These edits, or `None` if they change nothing.
    pub fn some(self) -> Option<Box<ResponseEdits>> {
        let is_empty = self.edits.is_empty() && self.compression.is_none();
        (!is_empty).then(|| Box::new(self))
    }
}

/// Changes to the headers of a response, made in the order of the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    pub delete: Box<[HeaderName]>,
    /// The old name and the new one. All values move. They replace those of the new name.
    pub rename: Box<[(HeaderName, Name)]>,
    /// These values in place of those that are there.
    pub replace: Box<[(Name, Box<[HeaderValue]>)]>,
    /// These values after those that are there.
    pub add: Box<[(Name, Box<[HeaderValue]>)]>,
}

/// The name of a header, and its spelling over HTTP/1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub name: HeaderName,
    pub spelled: Bytes,
}

impl Name {
    /// `None` if it is not the name of a header.
    pub fn parse(text: &str) -> Option<Name> {
        Some(Name {
            name: HeaderName::from_bytes(text.as_bytes()).ok()?,
            spelled: Bytes::copy_from_slice(text.as_bytes()),
        })
    }
}
