//! `validation/response-json-schema`, in endpoints and backends: rejects responses that do not match a schema.
//!
//! The validator, its drafts and its limits are those of `validation/json-schema`.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::{BackendExtension, EndpointExtension};

pub(super) const NAME: &str = "validation/response-json-schema";
const DOC: &str = "A JSON Schema for the response. A response that does not match is replaced by an error. See [Validation](validation.md).";

/// `validation/response-json-schema` in an endpoint, after the responses were merged.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAME,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `validation/response-json-schema` in a backend, before the merge.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAME,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::backend,
};
