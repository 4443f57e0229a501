//! `validation/cel`, in an endpoint and in a backend: rejects requests and responses for which an expression is not
//! true.
//!
//! | module | content |
//! |---|---|
//! | `language` | the Common Expression Language, independent of requests |
//! | `policy`, `value_rule` | expressions of policies and of tiers |
//! | `facts` | the variables: the view of an expression on a request, its response and its token |
//! | `documents` | the data of responses and the claims of tokens as values |
//! | `runtime` | evaluates the expressions of one place, before and after, and on a token |
//! | `absent_names` | names in an expression that no request can have |
//! | `config`, `compile` | the block and its compilation |

mod absent_names;
mod compile;
mod config;
mod documents;
mod facts;
mod language;
mod policy;
mod runtime;
#[cfg(test)]
mod tests;
mod value_rule;

pub(in crate::ext) use compile::demand;
pub(in crate::ext) use facts::{PolicyFacts, usual};
pub(in crate::ext) use language::Path;
pub(in crate::ext) use policy::{Policy, Rules, Subject, open_reads};
pub(in crate::ext) use runtime::Denied;
pub use runtime::judge_anything;
pub(in crate::ext) use value_rule::ValueRule;

use super::extension::{BackendExtension, EndpointExtension};

const NAMESPACE: &str = "validation/cel";

/// Whether an expression names cookies: `req_headers['Cookie']`, `hasCookie('sid')`.
pub(in crate::ext) fn names_cookies(text: &str) -> bool {
    text.to_ascii_lowercase().contains("cookie")
}
const ALIASES: &[&str] = &["github.com/devopsfaith/krakend-cel"];

/// `validation/cel` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: ALIASES,
    guard: true,
    doc: "A list of objects, each with an expression that must be `true` for requests (`req_…`), responses (`resp_…`) or tokens (`JWT`). Otherwise the client gets 500, or 401 for a token. See [validation](validation.md).",
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `validation/cel` of a backend.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAMESPACE,
    aliases: ALIASES,
    guard: true,
    doc: "A list of objects, each with an expression that must be `true` for calls to this backend (`req_…`) or its responses (`resp_…`). Otherwise the call fails. See [validation](validation.md).",
    keys: config::KEYS,
    compile: compile::backend,
};
