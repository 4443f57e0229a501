//! `modifier/jmespath`, in endpoints and backends: applies a JMESPath expression to the decoded response.
//!
//! Expressions are parsed and evaluated by the crate `jmespath`, behind one file (`expression`) that bounds them and
//! catches its panics. An expression cannot refer to the whole document from within a projection, so that a run is
//! bounded by the size of the expression and that of the response.

mod compile;
mod config;
mod expression;
mod runtime;
#[cfg(test)]
mod tests;

pub(in crate::ext) use expression::Expression;

use super::extension::{BackendExtension, EndpointExtension};

pub(super) const NAME: &str = "modifier/jmespath";
const DOC: &str = "Applies a JMESPath expression to the decoded response. A list as the result is the member `collection`, and a scalar is `content`. See [JMESPath](modifiers.md#jmespath).";

/// `modifier/jmespath` in an endpoint, after the responses were merged.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAME,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `modifier/jmespath` in a backend, after its own filters.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAME,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::backend,
};
