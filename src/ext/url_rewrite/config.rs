//! The keys of the block.

use crate::config::{Key, Kind, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "literal",
        Kind::TextMap,
        "{}",
        "Paths and what replaces them. They are looked up first.",
    ),
    key(
        "regexp",
        Kind::List,
        "[]",
        "Pairs of a regular expression (RE2) and what replaces its match, which may name groups: `[\"^/user/(.*)$\", \
         \"/users/${1}\"]`. The first match is used.",
    ),
];
