//! The block as configured.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "header",
        Kind::Text,
        "X-Request-Id",
        "The header with the id.",
    ),
    key(
        "trust",
        Kind::Bool,
        "false",
        "Keep the id that a client sends, if it is 1 to 128 visible ASCII characters. For gateways behind a proxy that sets it.",
    ),
    key(
        "respond",
        Kind::Bool,
        "true",
        "Send the id to the client, in the same header.",
    ),
];

/// `portcullis/request-id` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) header: Option<String>,
    pub(super) header_at: Node<'a>,
    pub(super) trust: bool,
    pub(super) respond: bool,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = node.block(KEYS)?;
        Some(Block {
            header: block.string("header"),
            header_at: block.get("header").unwrap_or_else(|| node.clone()),
            trust: block.flag("trust"),
            respond: block.bool("respond").unwrap_or(true),
        })
    }
}
