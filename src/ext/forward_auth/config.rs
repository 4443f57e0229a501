//! The block as configured.

use std::time::Duration;

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "url",
        Kind::Text,
        "–",
        "The URL that is called with GET. It gets `X-Forwarded-Method`, `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-Uri` and `X-Forwarded-For`.",
    ),
    key(
        "request_headers",
        Kind::Texts,
        "Authorization, Cookie",
        "Headers of the client that are sent to the service.",
    ),
    key(
        "response_headers",
        Kind::Texts,
        "",
        "Headers of a positive response that are set for the backends. Headers of the client with these names are always removed. The endpoint must list them in `input_headers`.",
    ).guarding(),
    key(
        "client_headers",
        Kind::Texts,
        "Content-Type, Location, Retry-After, Set-Cookie, WWW-Authenticate",
        "Headers of a negative response that the client gets.",
    ),
    key(
        "cache_duration",
        Kind::Duration,
        "0s",
        "How long a decision is reused for equal requests. With `0s`, the service is called for every request.",
    ),
    key(
        "cache_key",
        Kind::Texts,
        "",
        "Headers of the client: requests with equal values of these headers get the same decision. Without it, requests are equal if exactly the same data would be sent to the service.",
    ),
    key(
        "cache_bytes",
        Kind::Integer,
        "16777216",
        "The approximate maximum memory for positive decisions.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "2s",
        "How long a request waits for the service, within the endpoint's timeout.",
    ),
];

/// The block.
#[derive(Debug)]
pub(super) struct ForwardAuth<'a> {
    pub(super) block: Block<'a>,
    pub(super) url: Option<String>,
    pub(super) request_headers: Option<Vec<String>>,
    pub(super) response_headers: Vec<String>,
    pub(super) client_headers: Option<Vec<String>>,
    pub(super) cache_duration: Option<Duration>,
    pub(super) cache_key: Option<Vec<String>>,
    pub(super) cache_bytes: Option<u64>,
}

impl<'a> ForwardAuth<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<ForwardAuth<'a>> {
        let block = node.block(KEYS)?;
        let texts = |key: &str| block.has(key).then(|| block.texts(key));
        Some(ForwardAuth {
            url: block.required("url"),
            request_headers: texts("request_headers"),
            response_headers: block.texts("response_headers"),
            client_headers: texts("client_headers"),
            cache_duration: block.duration("cache_duration"),
            cache_key: texts("cache_key"),
            cache_bytes: block.count("cache_bytes"),
            block,
        })
    }
}
