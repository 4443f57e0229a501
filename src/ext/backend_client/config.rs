//! The keys of the block.

use crate::config::tls::CLIENT_TLS;
use crate::config::{Kind, Namespace, key};

pub(crate) const HTTP_CLIENT: Namespace = Namespace {
    name: "backend/http/client",
    aliases: &[],
    // It decides which servers the calls of a backend trust, and which proxy they use.
    guard: true,
    doc: "The HTTP client of one backend.",
    keys: &[
        key(
            "send_body_on_redirect",
            Kind::Bool,
            "false",
            "Send the body again after 307 and 308.",
        ),
        key(
            "client_tls",
            Kind::Block(CLIENT_TLS),
            "the root's",
            "TLS to this backend. It replaces the whole `client_tls` of the root, and its `allow_insecure_connections`.",
        ),
        key(
            "no_redirect",
            Kind::Bool,
            "false",
            "Redirects are treated like any other response, as with `redirects` `none` of `portcullis/upstream`.",
        ),
        key(
            "proxy_address",
            Kind::Text,
            "",
            "The proxy for this backend, `http://[user:password@]host:port`; also `https://` and `socks5://`. Without it, the environment variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY apply, unless `proxy_from_env` of `portcullis/upstream` is off.",
        ),
    ],
};
