//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const PASS_THROUGH: Namespace = Namespace {
    name: "portcullis/pass-through",
    aliases: &[],
    guard: true,
    doc: "Clients get the backend's status while its body is still decoded and shaped: any 2xx is success, any other answer passes with its own body. For the one backend of an endpoint.",
    keys: &[key(
        "headers",
        Kind::Texts,
        "[]",
        "Header fields of the answer that reach the client, too; not `Content-Type` and what frames the body.",
    )],
};
