//! The block as configured.

use std::time::Duration;

use crate::config::tls::CLIENT_TLS;
use crate::config::{Block, Key, Kind, Node, key};

const NAME: Key = key(
    "name",
    Kind::Text,
    "",
    "Required: the name for `connection_name` of other blocks.",
);
const USER_NAME: Key = key(
    "user_name",
    Kind::Text,
    "",
    "The user, if Redis requires one.",
);
const PASSWORD: Key = key(
    "password",
    Kind::Secret,
    "",
    "The password, if Redis requires one.",
);
const TLS: Key = key(
    "tls",
    Kind::Block(CLIENT_TLS),
    "",
    "Connect over TLS. An empty object uses the system's CAs.",
);
const CLIENT_NAME: Key = key(
    "client_name",
    Kind::Leftover,
    "",
    "the client library has no name for a connection",
);
const POOL_SIZE: Key = key(
    "pool_size",
    Kind::Integer,
    "10",
    "The number of connections.",
);
const TIMEOUT: Key = key(
    "timeout",
    Kind::Duration,
    "5ms",
    "Ours: the time in which Redis usually responds. After it, a request that is over its limit according to the last responses is rejected, and a late token goes to the next request. Other requests wait until Redis has been silent for half a second.",
);
const DIAL_TIMEOUT: Key = key(
    "dial_timeout",
    Kind::Duration,
    "5s",
    "The time in which a connection must be made. Requests do not wait for it.",
);
const MIN_BACKOFF: Key = key(
    "min_retry_backoff",
    Kind::Duration,
    "100ms",
    "The pause before a lost connection is made again; it doubles with each failure.",
);
const MAX_BACKOFF: Key = key(
    "max_retry_backoff",
    Kind::Duration,
    "5s",
    "The longest such pause.",
);

const fn ignored(name: &'static str) -> Key {
    key(
        name,
        Kind::Leftover,
        "",
        "connections are shared and stay open, and no command is repeated",
    )
}

const TELEMETRY: Key = key(
    "opentelemetry",
    Kind::Leftover,
    "",
    "calls to Redis have no traces or metrics of their own",
);

const POOL: &[Key] = &[
    NAME,
    key("address", Kind::Text, "", "Required: `host:port`."),
    key("db", Kind::Integer, "0", "The number of the database."),
    key("database", Kind::Integer, "", "Older name of `db`."),
    USER_NAME,
    PASSWORD,
    TLS,
    CLIENT_NAME,
    POOL_SIZE,
    TIMEOUT,
    DIAL_TIMEOUT,
    MIN_BACKOFF,
    MAX_BACKOFF,
    ignored("pool_timeout"),
    ignored("min_idle_conns"),
    ignored("max_idle_conns"),
    ignored("max_active_conns"),
    ignored("conn_max_idle_time"),
    ignored("conn_max_life_time"),
    ignored("max_retries"),
    TELEMETRY,
];

const CLUSTER: &[Key] = &[
    NAME,
    key(
        "addresses",
        Kind::Texts,
        "",
        "Required: `host:port` of some of the members. The others are found through them.",
    ),
    USER_NAME,
    PASSWORD,
    TLS,
    CLIENT_NAME,
    POOL_SIZE,
    TIMEOUT,
    DIAL_TIMEOUT,
    MIN_BACKOFF,
    MAX_BACKOFF,
    ignored("pool_timeout"),
    ignored("min_idle_conns"),
    ignored("max_idle_conns"),
    ignored("max_active_conns"),
    ignored("conn_max_idle_time"),
    ignored("conn_max_life_time"),
    ignored("max_retries"),
    ignored("max_redirects"),
    TELEMETRY,
];

pub(super) const KEYS: &[Key] = &[
    key(
        "connection_pools",
        Kind::Blocks(POOL),
        "",
        "Redis servers, 5 or newer.",
    ),
    key("clusters", Kind::Blocks(CLUSTER), "", "Redis clusters."),
];

/// One connection as configured.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) block: Block<'a>,
    pub(super) is_cluster: bool,
    pub(super) name: String,
    pub(super) addresses: Vec<(String, Node<'a>)>,
    pub(super) database: Option<u64>,
    pub(super) user_name: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Node<'a>>,
    pub(super) pool_size: Option<i64>,
    pub(super) timeout: Option<Duration>,
    pub(super) dial_timeout: Option<Duration>,
    pub(super) min_backoff: Option<Duration>,
    pub(super) max_backoff: Option<Duration>,
}

impl<'a> Entry<'a> {
    /// All connections of the block.
    pub(super) fn all(node: &Node<'a>) -> Vec<Entry<'a>> {
        let Some(block) = node.block(KEYS) else {
            return Vec::new();
        };
        let pools = block.blocks("connection_pools").into_iter();
        let clusters = block.blocks("clusters").into_iter();
        pools
            .filter_map(|block| Entry::read(block, false))
            .chain(clusters.filter_map(|block| Entry::read(block, true)))
            .collect()
    }

    fn read(block: Block<'a>, is_cluster: bool) -> Option<Entry<'a>> {
        let name = block.required("name")?;
        Some(Entry {
            is_cluster,
            name,
            addresses: addresses(&block, is_cluster)?,
            database: if is_cluster {
                None
            } else {
                block.count("db").or_else(|| block.count("database"))
            },
            user_name: block.string("user_name").filter(|name| !name.is_empty()),
            password: block.string("password").filter(|word| !word.is_empty()),
            tls: block.get("tls"),
            pool_size: block.within("pool_size", 1, 256),
            timeout: block.set_duration("timeout"),
            dial_timeout: block.set_duration("dial_timeout"),
            min_backoff: block.set_duration("min_retry_backoff"),
            max_backoff: block.set_duration("max_retry_backoff"),
            block,
        })
    }
}

fn addresses<'a>(block: &Block<'a>, is_cluster: bool) -> Option<Vec<(String, Node<'a>)>> {
    if !is_cluster {
        return Some(vec![(block.required("address")?, block.get("address")?)]);
    }
    let addresses = block.text_items("addresses");
    if addresses.is_empty() {
        block.missing("addresses");
        return None;
    }
    Some(addresses)
}
