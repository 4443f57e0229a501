//! The block as configured.

use crate::config::{Block as Open, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "deny",
        Kind::Texts,
        "",
        "Values of `User-Agent` that are bots.",
    )
    .guarding()
    .also(&[
        "denied",
        "denylist",
        "deny_list",
        "blacklist",
        "black_list",
        "block",
        "blocklist",
        "bots",
    ]),
    key(
        "allow",
        Kind::Texts,
        "",
        "Values that are not bots, even if a pattern matches.",
    )
    .also(&[
        "allowed",
        "allowlist",
        "allow_list",
        "whitelist",
        "white_list",
    ]),
    key(
        "patterns",
        Kind::Texts,
        "",
        "Regular expressions, RE2 syntax; a value in which one of them matches is a bot.",
    )
    .guarding()
    .also(&["regex", "regexes", "deny_patterns", "rules"]),
    key(
        "empty_user_agent_is_bot",
        Kind::Bool,
        "false",
        "Whether a request without `User-Agent` is a bot.",
    )
    .guarding()
    .also(&["empty", "empty_is_bot"]),
    key(
        "cache_size",
        Kind::Integer,
        "0",
        "The number of cached results, so that the patterns run once for each value.",
    ),
];

/// `security/bot-detector` as configured.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) block: Open<'a>,
    pub(super) deny: Vec<String>,
    pub(super) allow: Vec<String>,
    pub(super) patterns: Vec<String>,
    pub(super) empty_user_agent_is_bot: bool,
    pub(super) cache_size: u64,
}

impl<'a> Block<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Block<'a>> {
        let block = node.block(KEYS)?;
        Some(Block {
            deny: block.texts("deny"),
            allow: block.texts("allow"),
            patterns: block.texts("patterns"),
            empty_user_agent_is_bot: block.flag("empty_user_agent_is_bot"),
            cache_size: block.count("cache_size").unwrap_or(0),
            block,
        })
    }

    /// Whether it has no rule by which a client is a bot.
    pub(super) fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.patterns.is_empty() && !self.empty_user_agent_is_bot
    }
}
