//! A response made by the gateway itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use smallvec::SmallVec;

/// The gateway's own headers. Like all headers that Pingora does not know, HTTP/1 clients receive them in lower case.
pub(crate) const X_KRAKEND: HeaderName = HeaderName::from_static("x-krakend");
pub(crate) const X_KRAKEND_COMPLETED: HeaderName = HeaderName::from_static("x-krakend-completed");

/// Whether a response has at most one line of this header. Clients take two lines for an error, or one of them at random.
pub(crate) fn has_one_value(name: &HeaderName) -> bool {
    const SINGLE: [HeaderName; 21] = [
        X_KRAKEND,
        X_KRAKEND_COMPLETED,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_MAX_AGE,
        header::AGE,
        header::CONTENT_LENGTH,
        header::CONTENT_LOCATION,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::DATE,
        header::ETAG,
        header::EXPIRES,
        header::LAST_MODIFIED,
        header::LOCATION,
        header::RETRY_AFTER,
        header::SERVER,
        header::STRICT_TRANSPORT_SECURITY,
        header::X_CONTENT_TYPE_OPTIONS,
        header::X_FRAME_OPTIONS,
        HeaderName::from_static("x-request-id"),
    ];
    SINGLE.contains(name)
}

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
