//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const FORWARDING: Namespace = Namespace {
    name: "portcullis/forwarding",
    aliases: &[],
    guard: true,
    doc: "Information about the client that backends get.",
    keys: &[
        key(
            "append_chain",
            Kind::Bool,
            "false",
            "For requests of a trusted proxy, send its whole `X-Forwarded-For` chain, not only the client's address. With `forwarded`, also its `Forwarded`.",
        ),
        key(
            "proto",
            Kind::Bool,
            "false",
            "Send `X-Forwarded-Proto`: `https` or `http`, as the client connected to the gateway, or as a trusted proxy reports.",
        ),
        key(
            "forwarded",
            Kind::Bool,
            "false",
            "Send `Forwarded` (RFC 7239) with the client's address, its `Host` and its scheme. This header of a client is not passed on.",
        ),
    ],
};
