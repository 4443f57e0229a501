//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

pub(crate) const UPSTREAM: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "The protocol of calls to one backend.",
    keys: &[
        key(
            "http_version",
            Kind::Choice(&["h1", "h2", "auto"]),
            "h1",
            "`h2` is always HTTP/2, without TLS with prior knowledge. `auto` is what the TLS handshake negotiates.",
        ),
        REDIRECTS,
        BODY_TO_OTHER_ORIGINS,
        PROXY_FROM_ENV,
    ],
};

pub(crate) const UPSTREAM_SERVICE: Namespace = Namespace {
    name: "portcullis/upstream",
    aliases: &[],
    guard: true,
    doc: "Defaults for calls to backends.",
    keys: &[REDIRECTS, BODY_TO_OTHER_ORIGINS, PROXY_FROM_ENV],
};

const REDIRECTS: Key = key(
    "redirects",
    Kind::Choice(&["follow", "same-origin", "none"]),
    "follow",
    "Which redirects of a backend the gateway follows itself; `same-origin` is the same scheme, host and port. Other redirects are responses like any other. Another origin gets only what the client sent, without credentials.",
);

const BODY_TO_OTHER_ORIGINS: Key = key(
    "send_body_to_other_origins",
    Kind::Bool,
    "false",
    "With `send_body_on_redirect`: also send it to another origin.",
);

const PROXY_FROM_ENV: Key = key(
    "proxy_from_env",
    Kind::Bool,
    "true",
    "Use the proxies of the environment variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
);
