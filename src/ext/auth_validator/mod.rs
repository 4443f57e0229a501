//! `auth/validator`: accepts only requests with a valid token.
//!
//! | module | content |
//! |---|---|
//! | `credential` | where a request may have a token |
//! | `challenge` | the responses to rejected requests (RFC 6750) |
//! | `resource` | metadata for clients: where to get a token (RFC 9728) |
//! | `source` | where the keys come from |
//! | `url_claims` | `{JWT.claim}` in the URLs of backends |
//! | `explain` | the same checks with explanations, for `token explain` |
//! | `config`, `compile`, `runtime` | the blocks, their compilation, their step |

mod challenge;
mod compile;
mod config;
mod credential;
mod explain;
mod resource;
mod runtime;
mod source;
#[cfg(test)]
mod tests;
mod url_claims;

pub use compile::{Guarded, Validators};
pub use explain::{Explanation, Line};
pub(super) use url_claims::unnamed;

pub use runtime::{Propagation, Provider, Validator};

use super::extension::{EndpointExtension, ServiceExtension};

const ALIASES: &[&str] = &["github.com/devopsfaith/krakend-jose/validator"];

/// `auth/validator` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/validator",
    aliases: ALIASES,
    guard: true,
    doc: "Requests need a token that is signed by one of the provider's keys and satisfies the rules of this block.",
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `auth/validator` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/validator",
    aliases: ALIASES,
    guard: true,
    doc: "Settings that the validators of all endpoints share.",
    keys: config::SERVICE_KEYS,
    compile: compile::service,
};
