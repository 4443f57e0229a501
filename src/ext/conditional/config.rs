//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "strategy",
        Kind::Choice(&["header", "policy", "fallback"]),
        "",
        "Required: the kind of condition. `fallback`: the backend is called if no other condition of the endpoint is true.",
    ),
    key(
        "name",
        Kind::Text,
        "",
        "With `header`: the header, which must be in `input_headers` of the endpoint.",
    ),
    key(
        "value",
        Kind::Text,
        "",
        "With `header` the exact value; with `policy` an expression, such as `hasQuerystring('beta')`.",
    ),
];

/// `backend/conditional` as configured.
#[derive(Debug)]
pub(super) struct ConditionBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) strategy: Option<&'static str>,
}

impl<'a> ConditionBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<ConditionBlock<'a>> {
        let block = node.block(KEYS)?;
        if !block.has("strategy") {
            block.missing("strategy");
        }
        Some(ConditionBlock {
            strategy: block.choice("strategy"),
            block,
        })
    }
}
