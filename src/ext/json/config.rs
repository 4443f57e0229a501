//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const JSON: Namespace = Namespace {
    name: "portcullis/json",
    aliases: &[],
    guard: true,
    doc: "How composed JSON is written.",
    keys: &[key(
        "canonical",
        Kind::Bool,
        "false",
        "Write the same bytes as KrakenD: compact, members of all levels sorted, `<`, `>` and `&` escaped.",
    )],
};
