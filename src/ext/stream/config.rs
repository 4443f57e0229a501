//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const STREAM: Namespace = Namespace {
    name: "portcullis/stream",
    aliases: &[],
    guard: true,
    doc: "Responses of `no-op` endpoints, which are streamed.",
    keys: &[
        key(
            "idle_timeout",
            Kind::Duration,
            "60s",
            "How long a stream may be idle.",
        ),
        key(
            "total_timeout",
            Kind::Bool,
            "false",
            "End streams at the endpoint's timeout, as KrakenD does.",
        ),
    ],
};

pub(crate) const STREAM_ENDPOINT: Namespace = Namespace {
    name: "portcullis/stream",
    aliases: &[],
    guard: true,
    doc: "The response of a `no-op` endpoint.",
    keys: &[
        key(
            "upgrade",
            Kind::Bool,
            "false",
            "Let clients open a WebSocket to the backend. Token and limits are checked at the handshake; the service's `idle_timeout` ends a tunnel in which neither side sends anything.",
        ),
        key(
            "origins",
            Kind::Texts,
            "[] (any)",
            "Web pages that may open a WebSocket, such as `https://app.example.com` (403 for others). Clients without `Origin` are not browsers and pass. Without this list any web page may: browsers send cookies with the handshake, so `check` warns if a cookie can be the credential, or reaches the backend.",
        ).guarding().also(&["origin", "allow_origins", "allowed_origins"]),
        key(
            "connections",
            Kind::Integer,
            "0 (no limit)",
            "WebSockets of this endpoint at a time (503).",
        ),
        key(
            "until_expiry",
            Kind::Bool,
            "false",
            "Close a WebSocket when the token of its handshake expires.",
        ).guarding(),
    ],
};
