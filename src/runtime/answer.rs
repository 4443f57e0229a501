//! An answer made here, not by an upstream.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

/// A few header fields, in the order in which they are written; a name may stand several times.
pub type Fields = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// A whole answer: status, header fields, body. `Content-Length`, `Date` and `Connection` are added when it is written.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: Fields,
    pub body: Bytes,
    /// Whether the gateway's `X-Krakend` fields go with it: refusals of endpoint steps carry none
    /// (spec/modules.md §0.2), answers of the endpoint itself do.
    pub branding: Branding,
}

/// Which of the gateway's own fields an answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branding {
    /// Neither field: refusals by endpoint steps, built-in endpoints.
    None,
    /// `X-Krakend` alone: automatic OPTIONS answers, panics.
    Version,
    /// `X-Krakend` and `X-Krakend-Completed` with this value.
    Completed(bool),
}

impl Answer {
    /// An answer without a body and without the gateway's fields: what refusing steps give.
    pub fn empty(status: StatusCode) -> Answer {
        Answer {
            status,
            fields: Fields::new(),
            body: Bytes::new(),
            branding: Branding::None,
        }
    }

    /// Adds one field and hands the answer back.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.fields.push((name, value));
        self
    }
}
