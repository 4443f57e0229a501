//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

pub const UPSTREAM: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "How one backend is spoken to.",
    keys: &[
        key(
            "http_version",
            Kind::Choice(&["h1", "h2", "auto"]),
            "h1",
            "`h2` is HTTP/2 throughout, without TLS by prior knowledge; `auto` is what the TLS handshake agrees on.",
        ),
        REDIRECTS,
        BODY_TO_OTHER_ORIGINS,
    ],
};

pub const UPSTREAM_SERVICE: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "How backends are spoken to that say nothing else themselves.",
    keys: &[REDIRECTS, BODY_TO_OTHER_ORIGINS],
};

const REDIRECTS: Key = key(
    "redirects",
    Kind::Choice(&["follow", "same-origin", "none"]),
    "follow",
    "Which redirects of a backend the gateway follows itself; `same-origin` is the same scheme, host and port. Others are answers like any other. To another origin goes only what the client sent, without credentials.",
);

const BODY_TO_OTHER_ORIGINS: Key = key(
    "send_body_to_other_origins",
    Kind::Bool,
    "false",
    "With `send_body_on_redirect`: send it to another origin, too.",
);
