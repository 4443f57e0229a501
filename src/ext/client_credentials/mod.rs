//! `auth/client-credentials`, in a backend: calls carry a token that the gateway fetches for itself (RFC 6749 §4.4).
//!
//! Fetching, keeping and renewing is `upstream::credentials`; this is what the file says of it.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub use runtime::{BackendToken, Tokens};

use super::registry::BackendExtension;

/// `auth/client-credentials`.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "auth/client-credentials",
    aliases: &["github.com/devopsfaith/krakend-oauth2-clientcredentials"],
    doc: "Sends an OAuth2 token of the gateway's own to the backend; backends with equal definitions share it.",
    keys: config::KEYS,
    compile: compile::backend,
};
