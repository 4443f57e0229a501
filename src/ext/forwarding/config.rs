//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const FORWARDING: Namespace = Namespace {
    name: "portcullis/forwarding",
    aliases: &[],
    guard: true,
    doc: "What backends learn about the client.",
    keys: &[
        key(
            "append_chain",
            Kind::Bool,
            "false",
            "From a trusted proxy, send its whole `X-Forwarded-For` chain, not only the client's address; with `forwarded` its `Forwarded`, too.",
        ),
        key(
            "proto",
            Kind::Bool,
            "false",
            "Send `X-Forwarded-Proto`: `https` or `http`, as the client reached us, or as a trusted proxy says.",
        ),
        key(
            "forwarded",
            Kind::Bool,
            "false",
            "Send `Forwarded` (RFC 7239) with the client's address, its `Host` and its scheme. What a client sends under that name does not pass.",
        ),
    ],
};
