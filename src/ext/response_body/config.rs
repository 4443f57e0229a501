//! The keys of the block.

use crate::config::{Key, Kind, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "modifiers",
        Kind::Blocks(MODIFIER),
        "",
        "The changes. Each object has exactly one of `literal`, `regexp`, `lower`, `upper` and `trim`.",
    ),
    key(
        "strict",
        Kind::Bool,
        "false",
        "Ours: a field that is not a string becomes null, so that no unmasked value is sent.",
    ),
];

const FIELD: Key = key(
    "field",
    Kind::Text,
    "",
    "A dotted path. `*` (ours) means all elements of a list.",
);
const FIND: Key = key("find", Kind::Text, "", "What is replaced.");
const REPLACE: Key = key("replace", Kind::Text, "", "What replaces it.");

const MODIFIER: &[Key] = &[
    key(
        "literal",
        Kind::Block(&[FIELD, FIND, REPLACE]),
        "",
        "Replaces all occurrences of a text.",
    ),
    key(
        "regexp",
        Kind::Block(&[FIELD, FIND, REPLACE]),
        "",
        "Replaces all matches of a regular expression (RE2). `replace` may name groups: `${1}`.",
    ),
    key(
        "lower",
        Kind::Block(&[FIELD]),
        "",
        "Converts to lower case.",
    ),
    key(
        "upper",
        Kind::Block(&[FIELD]),
        "",
        "Converts to upper case.",
    ),
    key(
        "trim",
        Kind::Block(&[FIELD, FIND]),
        "",
        "Removes the characters of `find` from both ends.",
    ),
];
