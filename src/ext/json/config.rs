//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const JSON: Namespace = Namespace {
    name: "portcullis/json",
    aliases: &[],
    guard: true,
    doc: "How composed JSON is written.",
    keys: &[key(
        "canonical",
        Kind::Bool,
        "false",
        "Byte for byte as KrakenD: all levels sorted, compact, `<`, `>` and `&` escaped.",
    )],
};
