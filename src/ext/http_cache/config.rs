//! The block as the file has it.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "shared",
        Kind::Bool,
        "false",
        "One store for all backends that say so.",
    ),
    key(
        "max_size",
        Kind::Integer,
        "67108864",
        "Bytes that the store may hold; of a shared one, the first backend that says so decides.",
    ),
    key(
        "max_items",
        Kind::Integer,
        "100000",
        "Answers that the store may hold; of a shared one, the first backend that says so decides.",
    ),
    key(
        "share_identities",
        Kind::Bool,
        "false",
        "Ours: requests whose propagated claims differ may get the same stored answer, as in KrakenD.",
    ),
];

/// `qos/http-cache`, as the file has it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) shared: bool,
    pub(super) max_size: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) share_identities: bool,
}

impl Block {
    pub(super) fn read(node: &Node<'_>) -> Option<Block> {
        let block = node.block(KEYS)?;
        Some(Block {
            shared: block.flag("shared"),
            max_size: block.count("max_size").filter(|n| *n > 0),
            max_items: block.count("max_items").filter(|n| *n > 0),
            share_identities: block.flag("share_identities"),
        })
    }
}
