//! The keys of the block.

use crate::config::{Key, Kind, key};

pub(super) const KEYS: &[Key] = &[key(
    "expr",
    Kind::Text,
    "",
    "The expression, such as `collection[:5].{id: id, name: user.name}`.",
)];
