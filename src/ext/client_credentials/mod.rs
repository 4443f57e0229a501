//! `auth/client-credentials`, in a backend: sends a token that the gateway obtains for itself (RFC 6749 §4.4).
//!
//! `upstream::credentials` fetches, stores and renews the token. This module compiles the configuration.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(super) use config::lists;

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "auth/client-credentials",
    aliases: &["github.com/devopsfaith/krakend-oauth2-clientcredentials"],
    guard: true,
    doc: "Sends an OAuth2 token of the gateway to the backend. Backends with equal definitions share it.",
    keys: config::KEYS,
    compile: compile::backend,
};
