//! `security/policies`, in an endpoint and in a backend: expressions that must be true for requests, responses or tokens.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(in crate::ext) use compile::token_demand;

use super::extension::{BackendExtension, EndpointExtension};

const NAMESPACE: &str = "security/policies";

/// `security/policies` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: "Expressions, each of which must be true: for requests before the backends are called (`req`), for responses (`resp`), for tokens (`jwt`, otherwise 401). One that fails is not true. See [filters, limits and policies](guards.md).",
    keys: config::ENDPOINT_KEYS,
    compile: compile::endpoint,
};

/// `security/policies` of a backend: a request that is rejected is a failure of this backend alone.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: "Expressions, each of which must be true: for the call (`req`) and for the response (`resp`). Otherwise this backend has failed.",
    keys: config::BACKEND_KEYS,
    compile: compile::backend,
};
