//! The blocks as configured.

use std::time::Duration;

use crate::config::{Key, Kind, Node, key};

/// Keys of `qos/ratelimit/router`.
pub(super) const ENDPOINT_KEYS: &[Key] = &[
    key(
        "max_rate",
        Kind::Number,
        "0",
        "Requests per `every` for the whole endpoint; 0 sets no limit.",
    ),
    key(
        "capacity",
        Kind::Integer,
        "",
        "How many requests may arrive at once. The default is the rate per second, at least 1.",
    ),
    key(
        "client_max_rate",
        Kind::Number,
        "0",
        "Requests per `every` for each client; 0 sets no limit.",
    ),
    key(
        "client_capacity",
        Kind::Integer,
        "",
        "How many requests of one client may arrive at once. The default is KrakenD's: `client_max_rate` per second if `max_rate` is at least one per second, otherwise 1.",
    ),
    key(
        "every",
        Kind::Duration,
        "1s",
        "The period of the rates, at least one second.",
    ),
    key(
        "strategy",
        Kind::Choice(&["ip", "header", "param", "claim"]),
        "",
        "How clients are identified. `claim` is ours: a claim of the verified token.",
    ),
    key(
        "key",
        Kind::Text,
        "",
        "The header, the path parameter or the claim. With `ip`, a header with the address.",
    ),
    key(
        "num_shards",
        Kind::Integer,
        "2048",
        "Parts of the table of clients. Values above 64 make no difference.",
    ),
    key(
        "cleanup_period",
        Kind::Duration,
        "1m",
        "Accepted and ignored: idle clients are removed without a period.",
    ),
    key(
        "cleanup_threads",
        Kind::Integer,
        "1",
        "Accepted and ignored: idle clients are removed without extra threads.",
    ),
    key(
        "limit_headers",
        Kind::Choice(&["none", "ratelimit", "x-ratelimit", "both"]),
        "none",
        "Ours: tell clients their limits in `RateLimit` and `RateLimit-Policy`, or in `X-RateLimit-*`.",
    ),
    key(
        "redis",
        Kind::Bool,
        "false",
        "Ours: count in the Redis of `portcullis/redis`, together with all other gateways.",
    ),
];

/// Keys of `qos/ratelimit/proxy`.
pub(super) const BACKEND_KEYS: &[Key] = &[
    key(
        "max_rate",
        Kind::Number,
        "0",
        "Calls per `every`; 0 sets no limit.",
    ),
    key(
        "capacity",
        Kind::Integer,
        "",
        "How many calls may be made at once. The default is the rate per second, at least 1.",
    ),
    key("every", Kind::Duration, "1s", "The period of the rate."),
];

/// `qos/ratelimit/router` as configured.
#[derive(Debug)]
pub(super) struct EndpointBlock<'a> {
    pub(super) max_rate: Option<f64>,
    pub(super) capacity: Option<u64>,
    pub(super) client_max_rate: Option<f64>,
    pub(super) client_capacity: Option<u64>,
    pub(super) every: Option<Duration>,
    pub(super) strategy: Option<String>,
    pub(super) strategy_at: Option<Node<'a>>,
    pub(super) key: Option<String>,
    pub(super) key_at: Option<Node<'a>>,
    pub(super) num_shards: Option<u64>,
    pub(super) limit_headers: Option<&'static str>,
    pub(super) redis: bool,
}

impl<'a> EndpointBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<EndpointBlock<'a>> {
        let block = node.block(ENDPOINT_KEYS)?;
        Some(EndpointBlock {
            max_rate: block.number("max_rate"),
            capacity: block.count("capacity"),
            client_max_rate: block.number("client_max_rate"),
            client_capacity: block.count("client_capacity"),
            every: block.duration("every"),
            strategy: block.string("strategy"),
            strategy_at: block.get("strategy"),
            key: block.string("key"),
            key_at: block.get("key"),
            num_shards: block.count("num_shards"),
            limit_headers: block.choice("limit_headers"),
            redis: block.flag("redis"),
        })
    }
}

/// `qos/ratelimit/proxy` as configured.
#[derive(Debug)]
pub(super) struct BackendBlock {
    pub(super) max_rate: Option<f64>,
    pub(super) capacity: Option<u64>,
    pub(super) every: Option<Duration>,
}

impl BackendBlock {
    pub(super) fn read(node: &Node<'_>) -> Option<BackendBlock> {
        let block = node.block(BACKEND_KEYS)?;
        Some(BackendBlock {
            max_rate: block.number("max_rate"),
            capacity: block.count("capacity"),
            every: block.duration("every"),
        })
    }
}
