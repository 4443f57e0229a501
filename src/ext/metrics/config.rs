//! The block as configured.

use std::time::Duration;

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "collection_time",
        Kind::Duration,
        "60s",
        "Histograms are reset after this time.",
    ),
    key(
        "listen_address",
        Kind::Text,
        "127.0.0.1:8090",
        "The address and port of `/__stats`.",
    ),
    key(
        "proxy_disabled",
        Kind::Bool,
        "false",
        "The work of endpoints is not counted.",
    ),
    key(
        "router_disabled",
        Kind::Bool,
        "false",
        "Requests and responses are not counted.",
    ),
    key(
        "backend_disabled",
        Kind::Bool,
        "false",
        "Backend calls are not counted.",
    ),
    key(
        "endpoint_disabled",
        Kind::Bool,
        "false",
        "`/__stats` is not served.",
    ),
];

/// `telemetry/metrics` as configured.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) collection_time: Option<Duration>,
    pub(super) listen_address: Option<String>,
    pub(super) proxy_disabled: bool,
    pub(super) router_disabled: bool,
    pub(super) backend_disabled: bool,
    pub(super) endpoint_disabled: bool,
}

impl Block {
    pub(super) fn read(node: &Node<'_>) -> Option<Block> {
        let block = node.block(KEYS)?;
        Some(Block {
            collection_time: block.set_duration("collection_time"),
            listen_address: block
                .string("listen_address")
                .filter(|text| !text.is_empty()),
            proxy_disabled: block.flag("proxy_disabled"),
            router_disabled: block.flag("router_disabled"),
            backend_disabled: block.flag("backend_disabled"),
            endpoint_disabled: block.flag("endpoint_disabled"),
        })
    }
}
