//! A complete call and its complete response.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// One call, ready to be sent. The host set adds `Host`, unless a step has set it.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub method: Method,
    /// Path and query on the wire, starting with `/`.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A complete response of an upstream. The body is limited in size, and decoded if we had requested gzip.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The host that was called first, as configured, for messages. `None` if no host was called.
    pub origin: Option<Arc<str>>,
}
