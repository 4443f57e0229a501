//! `auth/signer`, in an endpoint: members of the answer become signed tokens (RFC 7515).
//!
//! The signature itself is `jose::sign`, the answer around it the pipeline's; here is where the key comes from. A key
//! file is read at start. A key behind a URL, or in a file whose passphrase a Vault has, is fetched in the background
//! until it is there, and the endpoint answers 401 meanwhile.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(super) use compile::unnamed;

pub use runtime::{AnswerSigner, FirstAttempt, KeyFetch, Origin, SigningKey};

use super::registry::EndpointExtension;

/// `auth/signer`.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/signer",
    aliases: &["github.com/devopsfaith/krakend-jose/signer"],
    doc: "Replaces members of the answer by signed tokens of their content. Takes the place of the endpoint's rate \
          limit and Lua script, as in KrakenD.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
