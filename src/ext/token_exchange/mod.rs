//! `portcullis/token-exchange`, in a backend: sends a token that the token server issued in exchange for the client's
//! (RFC 8693, or RFC 7523 for an on-behalf-of flow). The client's own token does not reach the backend.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "portcullis/token-exchange",
    aliases: &[],
    guard: true,
    doc: "Ours: exchanges the verified token of the request for one that is meant for this backend. The endpoint needs `auth/validator`.",
    keys: config::KEYS,
    compile: compile::backend,
};
