//! `auth/signer`, in an endpoint: replaces members of the response by signed tokens (RFC 7515).
//!
//! The signature is made by `jose::sign`, and the pipeline writes the response. This module obtains the key. A key
//! file is read at start. A key at a URL, or in a file whose passphrase is in a Vault, is fetched in the background.
//! Until then the endpoint responds with 401.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(super) use compile::unnamed;

use super::extension::EndpointExtension;

pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/signer",
    aliases: &["github.com/devopsfaith/krakend-jose/signer"],
    guard: true,
    doc: "Replaces members of the response with signed tokens of their content. As in KrakenD, it replaces the endpoint's rate limit and Lua script.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
