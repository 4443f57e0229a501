//! `modifier/response-body`, in endpoints and backends: replaces content within strings of a response.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::{BackendExtension, EndpointExtension};

pub(super) const NAME: &str = "modifier/response-body";
const DOC: &str = "Replaces content within strings of the decoded response, in the order of `modifiers`. Other values stay as they are, unless `strict` is true. See [Content replacer](modifiers.md#content-replacer).";

/// `modifier/response-body` in an endpoint, after the responses were merged.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAME,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `modifier/response-body` in a backend, after its own filters.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAME,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::backend,
};
