//! A call and its answer, whole.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// One call, ready to be sent. `Host` is not among the headers unless a step set it; the host set supplies it.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub method: Method,
    /// Path and query as they go on the wire, starting with `/`.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A whole answer of an upstream, its body gunzipped if we had asked for gzip, and bounded.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The host that was called first, as the file has it, for texts; `None` when no host was asked.
    pub origin: Option<Arc<str>>,
}
