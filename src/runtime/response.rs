//! A response made by the gateway itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

/// The gateway's own headers. Like all headers that Pingora does not know, HTTP/1 clients receive them in lower case.
pub(crate) const X_KRAKEND: HeaderName = HeaderName::from_static("x-krakend");
pub(crate) const X_KRAKEND_COMPLETED: HeaderName = HeaderName::from_static("x-krakend-completed");

/// A few headers, in the order in which they are written. A name may occur several times.
pub(crate) type Fields = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// A complete response: status, headers, body. `Content-Length`, `Date` and `Connection` are added when it is
/// written.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: StatusCode,
    pub fields: Fields,
    pub body: Bytes,
    /// Whether the response carries the gateway's `X-Krakend` headers. As in KrakenD, responses of endpoint steps
    /// that reject a request carry none; responses of the endpoint itself do.
    pub branding: Branding,
}

/// The gateway's own headers that a response carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branding {
    /// None: rejections by endpoint steps, built-in endpoints.
    None,
    /// Only `X-Krakend`: automatic OPTIONS responses, panics.
    Version,
    /// `X-Krakend` and `X-Krakend-Completed` with this value.
    Completed(bool),
}

impl Response {
    /// A response without a body and without the gateway's headers, as steps use it to reject a request.
    pub fn empty(status: StatusCode) -> Response {
        Response {
            status,
            fields: Fields::new(),
            body: Bytes::new(),
            branding: Branding::None,
        }
    }

    /// Adds one header and returns the response.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.fields.push((name, value));
        self
    }
}
