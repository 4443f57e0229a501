//! Warns about keys that change the data of a response, where the response is not decoded.

use crate::config::{Backend, Block, ConfigError, Node};
use crate::ext::backend_http::HTTP;
use crate::ext::proxy::PROXY_BACKEND;

/// The keys of a backend that change its data.
const KEYS: [&str; 6] = [
    "is_collection",
    "target",
    "allow",
    "deny",
    "mapping",
    "group",
];

/// Why the response of a backend has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compile) enum Undecoded {
    /// The endpoint is `no-op`.
    Stream,
    /// The endpoint is a WebSocket or `/__catchall`, which are always `no-op`.
    AlwaysStream,
    /// The `encoding` of the backend is `no-op`, but its endpoint composes a response.
    Backend,
}

impl Undecoded {
    pub(in crate::compile) fn warn(self, node: &Node<'_>, key: &str) {
        let why = match self {
            Undecoded::Stream | Undecoded::AlwaysStream => {
                "the endpoint is \"no-op\" and passes the response on unchanged"
            }
            Undecoded::Backend => {
                "the response of a \"no-op\" backend is not decoded, and the endpoint uses nothing of it"
            }
        };
        let text = ConfigError::invalid(format!("{key:?} has no effect: {why}"));
        match self {
            Undecoded::Stream => node.warn_hint(
                text,
                "\"output_encoding\": \"json\", and no \"encoding\": \"no-op\" in the backend",
            ),
            Undecoded::AlwaysStream => node.warn(text),
            Undecoded::Backend => node.warn_hint(text, "\"encoding\": \"json\""),
        }
    }

    fn streams(self) -> bool {
        self != Undecoded::Backend
    }
}

/// Warns about each key of `file` that would change the data of its response, or hide a part of it.
pub(super) fn warn(file: &Backend<'_>, why: Undecoded) {
    let is_set = |key| match key {
        "is_collection" => file.is_collection,
        "target" => file.target.is_some(),
        "allow" => !file.allow.is_empty(),
        "deny" => !file.deny.is_empty(),
        "mapping" => !file.mapping.is_empty(),
        _ => file.group.is_some(),
    };
    for key in KEYS.into_iter().filter(|key| is_set(key)) {
        key_in(&file.block, key, why);
    }
    if let Some(proxy) = file.extra.open(&PROXY_BACKEND) {
        flatmap(&proxy, why);
    }
    if why.streams()
        && let Some(name) = file.encoding.as_deref()
        && !name.eq_ignore_ascii_case("no-op")
    {
        key_in(&file.block, "encoding", why);
    }
    if let Some(http) = file.extra.open(&HTTP) {
        // The client of a stream gets the status of the backend in any case.
        if http.flag("return_error_code") && !why.streams() {
            key_in(&http, "return_error_code", why);
        }
        if http
            .text("return_error_details")
            .is_some_and(|name| !name.is_empty())
        {
            key_in(&http, "return_error_details", why);
        }
    }
}

/// The same for the `flatmap_filter` of a `proxy` block.
pub(in crate::compile) fn flatmap(proxy: &Block<'_>, why: Undecoded) {
    if !proxy.blocks("flatmap_filter").is_empty() {
        key_in(proxy, "flatmap_filter", why);
    }
}

fn key_in(block: &Block<'_>, key: &str, why: Undecoded) {
    if let Some(node) = block.get(key) {
        why.warn(&node, key);
    }
}
