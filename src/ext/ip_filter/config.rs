//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "CIDR",
        Kind::Texts,
        "",
        "Required: networks in CIDR notation, and single addresses.",
    ).guarding().also(&["cidrs", "ips", "networks", "ranges"]),
    key(
        "allow",
        Kind::Bool,
        "",
        "Required: with `true` only these networks pass, with `false` these networks are rejected.",
    ),
    key(
        "client_ip_headers",
        Kind::Texts,
        "",
        "Headers with the client's address; the first one that is present is used. They are read only from trusted proxies. The default is `remote_ip_headers` of `router`, or KrakenD's list if `trusted_proxies` is set here.",
    ).guarding(),
    key(
        "trusted_proxies",
        Kind::Texts,
        "",
        "Networks whose headers are trusted, in addition to `trusted_proxies` of `router`.",
    ).guarding(),
];

/// `security/ip-filter` as configured.
#[derive(Debug)]
pub(super) struct FilterBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) cidr: Vec<(String, Node<'a>)>,
    pub(super) allow: Option<bool>,
    pub(super) client_ip_headers: Vec<String>,
    pub(super) trusted_proxies: Vec<(String, Node<'a>)>,
}

impl<'a> FilterBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<FilterBlock<'a>> {
        let block = node.block(KEYS)?;
        Some(FilterBlock {
            cidr: block.text_items("CIDR"),
            allow: block.bool("allow"),
            client_ip_headers: block.texts("client_ip_headers"),
            trusted_proxies: block.text_items("trusted_proxies"),
            block,
        })
    }
}
