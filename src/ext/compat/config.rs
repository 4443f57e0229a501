//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const COMPAT: Namespace = Namespace {
    name: "portcullis/compat",
    aliases: &[],
    guard: true,
    doc: "Where to do as KrakenD does although it is not safe, and where not to although it is common.",
    keys: &[
        key(
            "trust_all_proxies",
            Kind::Bool,
            "false",
            "Believe the client address that anyone sends.",
        ),
        key(
            "gateway_status_codes",
            Kind::Bool,
            "false",
            "When no backend has answered: 502 for one that cannot be reached or breaks off, 504 for one that is late, 503 for an open circuit breaker or a backend's rate limit, instead of KrakenD's 500.",
        ),
    ],
};

pub const COMPAT_BACKEND: Namespace = Namespace {
    name: "portcullis/compat",
    aliases: &[],
    guard: true,
    doc: "Ways of KrakenD that trust the backends before this one.",
    keys: &[key(
        "raw_response_params",
        Kind::Bool,
        "false",
        "Values of earlier answers (`{resp0_href}`) go into the URL with their slashes and their query, not as one segment or one value. Dot segments are refused all the same.",
    )],
};
