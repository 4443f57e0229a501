//! The keys of the block.

use crate::config::{Key, Kind, key};

pub(super) const KEYS: &[Key] = &[key(
    "operations",
    Kind::Blocks(OPERATION),
    "",
    "The operations, in this order. Each object needs all keys.",
)];

const OPERATION: &[Key] = &[
    key(
        "type",
        Kind::Choice(&["header", "query_string"]),
        "",
        "Where the value goes.",
    ),
    key(
        "strategy",
        Kind::Choice(&["dotnotation", "jmespath"]),
        "",
        "The language of `expression`.",
    ),
    key(
        "expression",
        Kind::Text,
        "",
        "The field. If it is missing or null, the operation has no effect.",
    ),
    key(
        "target",
        Kind::Text,
        "",
        "The name of the header or parameter.",
    ),
    key(
        "on_conflict",
        Kind::Choice(&["skip", "replace", "append"]),
        "",
        "What happens if the client sends the header or parameter itself.",
    ),
];
