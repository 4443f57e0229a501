//! The block as configured.

use std::time::Duration;

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "host",
        Kind::Text,
        "",
        "Required: the Redis, `host:port` or a host alone.",
    ),
    key(
        "tokenizer",
        Kind::Choice(&["jwt", "ip", "url", "path", "header", "param", "cookie"]),
        "",
        "Required: how clients are distinguished. `jwt` is a claim of the verified token, `param` a query parameter. Requests without it are counted by their address.",
    ),
    key(
        "tokenizer_field",
        Kind::Text,
        "",
        "The claim (`jti` by default), the header, the parameter or the cookie.",
    ),
    key(
        "rate",
        Kind::Integer,
        "",
        "Required: requests per `period` for each client.",
    )
    .guarding()
    .also(&["max_rate", "limit"]),
    key(
        "period",
        Kind::Duration,
        "",
        "Required: the period of `rate`.",
    )
    .guarding()
    .also(&["every", "interval", "window"]),
    key(
        "burst",
        Kind::Integer,
        "0",
        "Requests that may arrive at once, in addition to `rate`.",
    )
    .guarding()
    .also(&["capacity"]),
];

/// `portcullis/redis-ratelimit` as configured.
#[derive(Debug)]
pub(super) struct LimiterBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) host: Option<String>,
    pub(super) tokenizer: Option<&'static str>,
    pub(super) field: Option<String>,
    pub(super) rate: Option<u64>,
    pub(super) period: Option<Duration>,
    pub(super) burst: Option<u64>,
}

impl<'a> LimiterBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<LimiterBlock<'a>> {
        let block = node.block(KEYS)?;
        Some(LimiterBlock {
            host: block.required("host"),
            tokenizer: block.choice("tokenizer"),
            field: block
                .string("tokenizer_field")
                .filter(|name| !name.is_empty()),
            rate: block.count("rate"),
            period: block.duration("period"),
            burst: block.count("burst"),
            block,
        })
    }
}
