//! The block as configured.

use std::time::Duration;

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "url",
        Kind::Secret,
        "",
        "`redis://user:password@host:6379/0`, `rediss://` for TLS, `redis-cluster://` for a cluster (`?node=host:6379` names more members), `redis-sentinel://host:26379/0?sentinelServiceName=main` for a server that sentinels name (`node` names more of them, `sentinelUsername` and `sentinelPassword` are their own credentials). TLS trusts the system's CAs, or else those in the file that the environment's `SSL_CERT_FILE` names.",
    ),
    key(
        "pool_size",
        Kind::Integer,
        "4",
        "The number of connections of each gateway.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "5ms",
        "The time in which Redis usually responds. After it, a request that is over its limit according to the last responses is rejected (with `\"on_failure\": \"closed\"` every request is), and a late token goes to the next request. Other requests wait until Redis has been silent for half a second. Then `on_failure` decides until Redis responds again.",
    ),
    key(
        "on_failure",
        Kind::Choice(&["local", "open", "closed"]),
        "local",
        "Without Redis: each gateway counts for itself, all requests pass, or no request passes.",
    ),
    key(
        "namespace",
        Kind::Text,
        "default",
        "Separates the keys of several installations in one Redis.",
    ),
];

/// `portcullis/redis` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) url: String,
    pub(super) url_at: Node<'a>,
    pub(super) pool_size: Option<i64>,
    pub(super) timeout: Option<Duration>,
    pub(super) on_failure: Option<&'static str>,
    pub(super) namespace: Option<String>,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = node.block(KEYS)?;
        Some(Block {
            url: block.required("url")?,
            url_at: block.get("url")?,
            pool_size: block.within("pool_size", 1, 256),
            timeout: block.set_duration("timeout"),
            on_failure: block.choice("on_failure"),
            namespace: block.string("namespace"),
        })
    }
}
