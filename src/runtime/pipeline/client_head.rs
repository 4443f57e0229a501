//! The head of a streamed response, as the client receives it.

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHENTICATE, TRAILER,
    TRANSFER_ENCODING,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use smallvec::SmallVec;

use crate::runtime::response::{X_KRAKEND, X_KRAKEND_COMPLETED};
use crate::runtime::service::{Options, StaticData};
use crate::upstream::{is_of_connection, is_trimmed, trimmed};

/// What the head of a response depends on, in addition to the head of the upstream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The HTTP version of the client.
    pub(super) version: Version,
    /// The client's method is HEAD.
    pub(super) by_head: bool,
}

impl Asked {
    pub(super) fn over_http2(self) -> bool {
        self.version == Version::HTTP_2
    }
}

/// The head of the upstream without headers that concern its own connection, and with our `X-Krakend` headers instead
/// of its own. `unframe`: the body has neither the length nor the encoding that the upstream announced.
///
/// It is built as a plain map: the setters of Pingora parse each name again, which costs too much for every response.
pub(super) fn for_client(
    asked: Asked,
    options: &Options,
    static_data: Option<&StaticData>,
    (status, headers): (StatusCode, HeaderMap),
    unframe: bool,
) -> Parts {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.headers = passing(asked, status, headers, unframe);
    // Only a length that the client receives frames its response: `Connection` may have removed it.
    let length_known = parts.headers.contains_key(CONTENT_LENGTH);
    let complete = if static_data.is_some_and(StaticData::completes_stream) {
        HeaderValue::from_static("true")
    } else {
        HeaderValue::from_static("false")
    };
    let version = options.version_header.clone();
    parts.headers.append(X_KRAKEND, version);
    parts.headers.append(X_KRAKEND_COMPLETED, complete);
    let chunks = !length_known
        && asked.version == Version::HTTP_11
        && !asked.by_head
        && !has_no_body(status);
    if chunks {
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(TRANSFER_ENCODING, chunked);
    }
    parts
}

/// The headers of the upstream that the client receives.
fn passing(asked: Asked, status: StatusCode, headers: HeaderMap, unframe: bool) -> HeaderMap {
    let nominated = nominated(&headers);
    let passes = |name: &HeaderName| {
        let skip = match *name {
            TRANSFER_ENCODING | PROXY_AUTHENTICATE => true,
            TRAILER => !asked.over_http2(),
            CONTENT_ENCODING => unframe,
            // Without a body, a length would be misleading. The runtime of KrakenD does the same.
            CONTENT_LENGTH => unframe || has_no_body(status),
            // As in the runtime of KrakenD: a 304 describes no body.
            CONTENT_TYPE => status == StatusCode::NOT_MODIFIED,
            _ => is_of_connection(name) || name == X_KRAKEND || name == X_KRAKEND_COMPLETED,
        };
        let is_nominated = |other: &&str| other.eq_ignore_ascii_case(name.as_str());
        !skip && !nominated.iter().any(is_nominated)
    };
    // The usual response passes as it is.
    if headers
        .iter()
        .all(|(name, value)| passes(name) && is_trimmed(value))
    {
        drop(nominated);
        return headers;
    }
    let mut passing = HeaderMap::with_capacity(headers.len() + 6);
    for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
        passing.append(name, trimmed(value));
    }
    passing
}

/// Whether a response of this status has no body (RFC 9110 §6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The headers that `Connection` names.
fn nominated(headers: &HeaderMap) -> SmallVec<[&str; 2]> {
    let lines = headers.get_all(CONNECTION).iter();
    let tokens = lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim));
    tokens.collect()
}
