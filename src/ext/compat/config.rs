//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const COMPAT: Namespace = Namespace {
    name: "portcullis/compat",
    aliases: &[],
    guard: true,
    doc: "Compatibility with KrakenD: its behaviour where it is unsafe, and other status codes than its own.",
    keys: &[
        key(
            "trust_all_proxies",
            Kind::Bool,
            "false",
            "Trust the client address that any client sends.",
        ),
        key(
            "gateway_status_codes",
            Kind::Bool,
            "false",
            "If no backend has responded: 502 if it cannot be reached or closes the connection early, 504 after a timeout, 503 for an open circuit breaker or the rate limit of a backend, instead of KrakenD's 500.",
        ),
        key(
            "ignore_plugins",
            Kind::Texts,
            "[]",
            "Names of plugins that may be missing. Any other plugin that is not built in stops the start.",
        ),
    ],
};

pub(crate) const COMPAT_BACKEND: Namespace = Namespace {
    name: "portcullis/compat",
    aliases: &[],
    guard: true,
    doc: "Behaviour of KrakenD that trusts the backends called before this one.",
    keys: &[key(
        "raw_response_params",
        Kind::Bool,
        "false",
        "Values of earlier responses (`{resp0_href}`) are put into the URL with their slashes and their query, not as one segment or one value. Dot segments are still rejected.",
    )],
};
