//! `modifier/jmespath`, in endpoints and backends: applies a JMESPath expression to the decoded response.
//!
//! Expressions are parsed by the crate `jmespath`, which also has the functions. The evaluation is ours (`evaluate`): it
//! counts steps and bytes, and ends at the deadline of the request.

mod compile;
mod config;
mod evaluate;
mod expression;
mod runtime;
#[cfg(test)]
mod tests;

pub(in crate::ext) use evaluate::Fault;
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
