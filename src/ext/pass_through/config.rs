//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const PASS_THROUGH: Namespace = Namespace {
    name: "portcullis/pass-through",
    aliases: &[],
    guard: true,
    doc: "Clients get the backend's status, and its body is still decoded and transformed. Any 2xx is a success; any other response is passed on with its own body. For endpoints with one backend.",
    keys: &[key(
        "headers",
        Kind::Texts,
        "[]",
        "Response headers that are also sent to the client, except `Content-Type` and the headers that frame the body.",
    )],
};
