//! Which headers of a request become metadata of a message.

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName};

use crate::ext::context::BackendSite;
use crate::upstream::title_case;

/// Headers of a connection, which mean nothing to a queue.
const OF_CONNECTIONS: [HeaderName; 9] = [
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The headers that the gateway adds to calls. A message contains them only if the endpoint lists them: addresses of
/// clients should not be stored in a queue by default.
fn is_added(name: &HeaderName) -> bool {
    *name == USER_AGENT || name.as_str().starts_with("x-forwarded-") || *name == "forwarded"
}

/// The headers that the endpoint lists.
#[derive(Debug, Clone)]
pub(in crate::ext) struct Listed(Box<[Box<str>]>);

impl Listed {
    pub(in crate::ext) fn new(site: &BackendSite<'_>) -> Listed {
        let inputs = site.endpoint.inputs;
        let names = inputs.map_or(&[][..], |inputs| inputs.headers);
        Listed(
            names
                .iter()
                .map(|name| name.to_lowercase().into())
                .collect(),
        )
    }

    fn passes(&self, name: &HeaderName) -> bool {
        if OF_CONNECTIONS.contains(name) {
            return false;
        }
        *name == CONTENT_TYPE
            || !is_added(name)
            || self.0.iter().any(|listed| **listed == *name.as_str())
    }

    /// The metadata of a message: as in KrakenD the first value of each header.
    pub(super) fn metadata(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let names = headers.keys().filter(|name| self.passes(name));
        let pairs = names.filter_map(|name| {
            let value = headers.get(name)?;
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            Some((title_case(name.as_str()), text))
        });
        pairs.collect()
    }

    /// The metadata of a message with all values of each header.
    #[cfg(feature = "amqp")]
    pub(in crate::ext) fn all(&self, headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
        let names = headers.keys().filter(|name| self.passes(name));
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let pairs = names.map(|name| {
            let values = headers.get_all(name).iter().map(text);
            (title_case(name.as_str()), values.collect())
        });
        pairs.collect()
    }
}
