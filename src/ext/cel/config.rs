//! The block as configured.

use crate::config::{Block, ConfigError, Key, Kind, Node, Typing, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "check_expr",
        Kind::Text,
        "",
        "The expression, in CEL. Its names decide when it is evaluated: with `req` before the call, with `resp` after it, with `JWT` when the token is validated.",
    ).guarding().also(&["expr", "expression", "check", "condition", "rule"]),
    key("mod_expr", Kind::Leftover, "", "KrakenD ignores it too"),
];

/// One expression of the list.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Its location in the configuration.
    pub(super) node: Node<'a>,
    pub(super) text: &'a str,
}

/// The expressions of a block, without missing and empty ones.
pub(super) fn entries<'a>(node: &Node<'a>) -> Vec<Entry<'a>> {
    let items = node.list(Typing::Strict);
    if items.as_ref().is_some_and(Vec::is_empty) {
        node.warn_hint(
            ConfigError::invalid("the list is empty and guards nothing"),
            "an expression is an object: {\"check_expr\": \"…\"}",
        );
    }
    items
        .unwrap_or_default()
        .into_iter()
        .filter_map(|item| {
            let block = Block::open(item, KEYS, Typing::Strict)?;
            let node = block.get("check_expr");
            let text = match &node {
                Some(node) => node.text(Typing::Strict)?,
                None => "",
            };
            let Some(node) = node.filter(|_| !text.is_empty()) else {
                block.guards_nothing("the expression is in \"check_expr\"");
                return None;
            };
            Some(Entry { node, text })
        })
        .collect()
}
