//! The blocks as configured.

use std::time::Duration;

use crate::config::{Key, Kind, Node, key};

const MAX_RATE: Key = key(
    "max_rate",
    Kind::Number,
    "0",
    "Requests per `every` for the whole endpoint; 0 sets no limit.",
)
.guarding()
.also(&[
    "rate",
    "limit",
    "rate_limit",
    "max_requests",
    "requests",
    "requests_per_second",
]);
const CAPACITY: Key = key(
    "capacity",
    Kind::Integer,
    "",
    "How many requests may arrive at once. The default is the rate per second, at least 1. As in KrakenD, after a pause up to twice as many and one more may pass.",
)
.guarding()
.also(&["burst"]);
const CLIENT_MAX_RATE: Key = key(
    "client_max_rate",
    Kind::Number,
    "0",
    "Requests per `every` for each client; 0 sets no limit.",
)
.guarding()
.also(&["client_rate", "client_limit", "max_client_rate"]);
const EVERY: Key = key(
    "every",
    Kind::Duration,
    "1s",
    "The period of the rates, at least one second.",
)
.guarding()
.also(&["interval", "period", "per", "window"]);
const KEY: Key = key(
    "key",
    Kind::Text,
    "",
    "The header, the path parameter or the claim. With `ip`, a header with the address.",
);
const NUM_SHARDS: Key = key(
    "num_shards",
    Kind::Integer,
    "2048",
    "Parts of the table of clients. Values above 64 make no difference.",
);
const CLEANUP_PERIOD: Key = key(
    "cleanup_period",
    Kind::Duration,
    "1m",
    "Accepted and ignored: idle clients are removed without a period.",
);
const CLEANUP_THREADS: Key = key(
    "cleanup_threads",
    Kind::Integer,
    "1",
    "Accepted and ignored: idle clients are removed without extra threads.",
);
const LIMIT_HEADERS: Key = key(
    "limit_headers",
    Kind::Choice(&["none", "ratelimit", "x-ratelimit", "both"]),
    "none",
    "Ours: send clients their limits in `RateLimit` and `RateLimit-Policy`, or in `X-RateLimit-*`.",
);

/// Keys of `qos/ratelimit/router`.
pub(super) const ENDPOINT_KEYS: &[Key] = &[
    MAX_RATE,
    CAPACITY,
    CLIENT_MAX_RATE,
    key(
        "client_capacity",
        Kind::Integer,
        "",
        "How many requests of one client may arrive at once. The default is KrakenD's: `client_max_rate` per second if `max_rate` is at least one per second, otherwise 1. With `redis` it is `client_max_rate` per second, at least 1. As in KrakenD, after a pause up to twice as many and one more may pass.",
    ).guarding().also(&["client_burst"]),
    EVERY,
    key(
        "strategy",
        Kind::Choice(&["ip", "header", "param", "claim"]),
        "",
        "How clients are identified. `claim` is ours: a claim of the verified token.",
    ),
    KEY,
    NUM_SHARDS,
    CLEANUP_PERIOD,
    CLEANUP_THREADS,
    LIMIT_HEADERS,
    key(
        "redis",
        Kind::Bool,
        "false",
        "Ours: count in the Redis of `portcullis/redis`, together with all other gateways.",
    ),
];

const SERVICE_MAX_RATE: Key = key(
    "max_rate",
    Kind::Number,
    "0",
    "Requests per `every` for all clients together; 0 sets no limit.",
)
.guarding()
.also(&[
    "rate",
    "limit",
    "rate_limit",
    "max_requests",
    "requests",
    "requests_per_second",
]);
const CLIENT_CAPACITY: Key = key(
    "client_capacity",
    Kind::Integer,
    "",
    "How many requests of one client may arrive at once. The default is `client_max_rate` per second, at least 1. As in KrakenD, after a pause up to twice as many and one more may pass.",
).guarding().also(&["client_burst"]);
const STRATEGY: Key = key(
    "strategy",
    Kind::Choice(&["ip", "header", "jwt", "claim"]),
    "",
    "How clients are identified. `jwt`, and `claim` as its other name, is a claim of the verified token.",
);
const STRATEGY_WITH_PARAM: Key = key(
    "strategy",
    Kind::Choice(&["ip", "header", "param", "jwt", "claim"]),
    "",
    "How clients are identified. `jwt`, and `claim` as its other name, is a claim of the verified token. `param` is a path parameter, which only endpoints have.",
);
const CONNECTION_NAME: Key = key(
    "connection_name",
    Kind::Text,
    "",
    "Required: the pool or cluster of `redis`. `portcullis` is the Redis of `portcullis/redis`.",
);
const CONNECTION_POOL: Key = key(
    "connection_pool",
    Kind::Text,
    "",
    "Older name of `connection_name`.",
);
const ON_FAILURE_ALLOW: Key = key(
    "on_failure_allow",
    Kind::Bool,
    "false",
    "Whether requests pass while Redis cannot be reached. Otherwise they get 503.",
);

/// Keys of `qos/ratelimit/service`.
pub(super) const SERVICE_KEYS: &[Key] = &[
    SERVICE_MAX_RATE,
    CAPACITY,
    CLIENT_MAX_RATE,
    CLIENT_CAPACITY,
    EVERY,
    STRATEGY,
    KEY,
    NUM_SHARDS,
    CLEANUP_PERIOD,
    CLEANUP_THREADS,
    LIMIT_HEADERS,
];

/// Keys of `qos/ratelimit/service/redis`.
pub(super) const SERVICE_REDIS_KEYS: &[Key] = &[
    CONNECTION_NAME,
    CONNECTION_POOL,
    ON_FAILURE_ALLOW,
    SERVICE_MAX_RATE,
    CAPACITY,
    CLIENT_MAX_RATE,
    CLIENT_CAPACITY,
    EVERY,
    STRATEGY,
    KEY,
    LIMIT_HEADERS,
];

/// Keys of `qos/ratelimit/router/redis`, and of `ratelimit_redis` in a tier.
pub(in crate::ext) const ENDPOINT_REDIS_KEYS: &[Key] = &[
    CONNECTION_NAME,
    CONNECTION_POOL,
    ON_FAILURE_ALLOW,
    MAX_RATE,
    CAPACITY,
    CLIENT_MAX_RATE,
    CLIENT_CAPACITY,
    EVERY,
    STRATEGY_WITH_PARAM,
    KEY,
    LIMIT_HEADERS,
];

/// Keys of `ratelimit` in a tier.
pub(in crate::ext) const TIER_KEYS: &[Key] = &[
    MAX_RATE,
    CAPACITY,
    CLIENT_MAX_RATE,
    CLIENT_CAPACITY,
    EVERY,
    STRATEGY_WITH_PARAM,
    KEY,
    NUM_SHARDS,
    CLEANUP_PERIOD,
    CLEANUP_THREADS,
    LIMIT_HEADERS,
];

/// Keys of `qos/ratelimit/proxy`.
pub(super) const BACKEND_KEYS: &[Key] = &[
    key(
        "max_rate",
        Kind::Number,
        "0",
        "Calls per `every`; 0 sets no limit.",
    )
    .guarding()
    .also(&[
        "rate",
        "limit",
        "rate_limit",
        "max_requests",
        "requests",
        "requests_per_second",
    ]),
    key(
        "capacity",
        Kind::Integer,
        "",
        "How many calls may be made at once. The default is the rate per second, at least 1.",
    )
    .guarding()
    .also(&["burst"]),
    key("every", Kind::Duration, "1s", "The period of the rate.")
        .guarding()
        .also(&["interval", "period", "per", "window"]),
];

/// A block of limits as configured.
#[derive(Debug, Default)]
pub(super) struct LimitBlock<'a> {
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
    /// Of `qos/ratelimit/router`.
    pub(super) redis: bool,
    /// Of the blocks that count in a Redis of `redis`.
    pub(super) connection_name: Option<String>,
    pub(super) on_failure_allow: bool,
}

impl<'a> LimitBlock<'a> {
    /// Whether no rate is configured, not even 0.
    pub(super) fn has_no_rate(&self) -> bool {
        self.max_rate.is_none() && self.client_max_rate.is_none()
    }

    /// Reads a block with one of the tables above.
    pub(super) fn read(node: &Node<'a>, keys: &'static [Key]) -> Option<LimitBlock<'a>> {
        let block = node.block(keys)?;
        let shared = block.knows("connection_name");
        let connection = shared.then(|| {
            block
                .string("connection_name")
                .or_else(|| block.string("connection_pool"))
        });
        Some(LimitBlock {
            max_rate: block.number("max_rate"),
            capacity: block.count("capacity"),
            client_max_rate: block.number("client_max_rate"),
            client_capacity: block.count("client_capacity"),
            every: block.duration("every"),
            strategy: block.string("strategy"),
            strategy_at: block.get("strategy"),
            key: block.string("key"),
            key_at: block.get("key"),
            num_shards: block
                .knows("num_shards")
                .then(|| block.count("num_shards"))
                .flatten(),
            limit_headers: block.choice("limit_headers"),
            redis: block.knows("redis") && block.flag("redis"),
            connection_name: connection.flatten(),
            on_failure_allow: shared && block.flag("on_failure_allow"),
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
