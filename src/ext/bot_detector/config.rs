//! The block as configured.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "deny",
        Kind::Texts,
        "",
        "Values of `User-Agent` that are bots.",
    ),
    key(
        "allow",
        Kind::Texts,
        "",
        "Values that are not bots, even if a pattern matches.",
    ),
    key(
        "patterns",
        Kind::Texts,
        "",
        "Regular expressions, RE2 syntax; a value in which one of them matches is a bot.",
    ),
    key(
        "empty_user_agent_is_bot",
        Kind::Bool,
        "false",
        "Whether a request without `User-Agent` is a bot.",
    ),
    key(
        "cache_size",
        Kind::Integer,
        "0",
        "The number of cached results, so that the patterns run once for each value.",
    ),
];

/// `security/bot-detector` as configured.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) deny: Vec<String>,
    pub(super) allow: Vec<String>,
    pub(super) patterns: Vec<String>,
    pub(super) empty_user_agent_is_bot: bool,
    pub(super) cache_size: u64,
}

impl Block {
    pub(super) fn read(node: &Node<'_>) -> Option<Block> {
        let block = node.block(KEYS)?;
        Some(Block {
            deny: block.texts("deny"),
            allow: block.texts("allow"),
            patterns: block.texts("patterns"),
            empty_user_agent_is_bot: block.flag("empty_user_agent_is_bot"),
            cache_size: block.count("cache_size").unwrap_or(0),
        })
    }
}
