//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const SECRETS: Namespace = Namespace {
    name: "portcullis/secrets",
    aliases: &[],
    guard: true,
    doc: "Fills in `${NAME}`, `${file:/path}` and `${credential:name}` in every text of the file.",
    keys: &[key(
        "expand",
        Kind::Bool,
        "false",
        "Whether it does. A literal `${` is then written `$${`.",
    )],
};
