//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const SECRETS: Namespace = Namespace {
    name: "portcullis/secrets",
    aliases: &[],
    guard: true,
    doc: "Replaces `${NAME}`, `${file:/path}` and `${credential:name}` in every string of the file.",
    keys: &[key(
        "expand",
        Kind::Bool,
        "false",
        "Whether such placeholders are replaced. A literal `${` is then written `$${`.",
    )],
};
