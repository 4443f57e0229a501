//! The block as configured.

use std::time::Duration;

use crate::config::{ConfigError, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "shared",
        Kind::Bool,
        "false",
        "Use one store for all backends with this setting.",
    ),
    key(
        "max_size",
        Kind::Integer,
        "67108864",
        "Bytes of responses that the store may hold, if `max_items` is also set. For a shared store, the first backend decides.",
    ),
    key(
        "max_items",
        Kind::Integer,
        "100000",
        "Responses that the store may hold, if `max_size` is also set. For a shared store, the first backend decides.",
    ),
    key(
        "share_identities",
        Kind::Bool,
        "false",
        "Ours: requests of different clients may get the same stored response, as in KrakenD. The cache key then does not contain `Authorization`, `Cookie`, the headers that the endpoint sets from tokens and API keys, and the headers from which it reads them. Otherwise it contains those of them that are sent to the backend.",
    ),
    key(
        "ignore_headers",
        Kind::Texts,
        "[]",
        "Ours: request headers that reach the backend and do not change its response, for example `User-Agent`. They are not part of the cache key.",
    ),
    key(
        "max_wait",
        Kind::Duration,
        "see the text",
        "Ours: how long a request waits at most for an equal request that is already in flight to the backend. Then it makes its own call, and the first response that can be shared is used. `0s` means that it never waits. By default the gateway learns the wait from the last sixteen such responses of the backend: about twice as long as those that could be shared usually take, a fifth of the remaining time less 50 ms as long as nothing is known, and not at all where most responses cannot be shared. The request then has the time that its own call needs. Where the first calls of at least three such groups took more than half of the time and could be shared, there is no time for both, and requests wait to their end, because one response serves all. But a second call is made while it is in time, and after a failed call up to two at once, so that one failure does not fail all of them. A configured time applies while at most one in eight responses could not be shared, and leaves the time that a call usually takes, if that is less than half; the first requests for a slow response that cannot be shared may be too late then.",
    ),
];

/// `qos/http-cache` as configured.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) shared: bool,
    /// `max_size` and `max_items`. Only one of them is not a limit.
    pub(super) limits: Option<(usize, usize)>,
    pub(super) share_identities: bool,
    pub(super) ignore_headers: Vec<String>,
    pub(super) max_wait: Option<Duration>,
}

impl Block {
    pub(super) fn read(node: &Node<'_>) -> Option<Block> {
        let block = node.block(KEYS)?;
        let limit = |name| {
            let number = block.count(name).filter(|number| *number > 0);
            number.map(|number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        let limits = match (limit("max_size"), limit("max_items")) {
            (Some(size), Some(items)) => Some((size, items)),
            (None, None) => None,
            (Some(_), None) => lonely(node, "max_size", "max_items"),
            (None, Some(_)) => lonely(node, "max_items", "max_size"),
        };
        Some(Block {
            shared: block.flag("shared"),
            limits,
            share_identities: block.flag("share_identities"),
            ignore_headers: block.texts("ignore_headers"),
            max_wait: block.duration("max_wait"),
        })
    }
}

fn lonely<T>(node: &Node<'_>, given: &'static str, missing: &'static str) -> Option<T> {
    node.warn_hint(
        ConfigError::invalid(format!("{given:?} has no effect without {missing:?}")),
        "write both, or neither",
    );
    None
}
