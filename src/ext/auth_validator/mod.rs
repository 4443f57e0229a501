//! `auth/validator`: lets only those in who show a good token.
//!
//! | module | what lives there |
//! |---|---|
//! | `credential` | where in a request a token may stand |
//! | `challenge` | what the refused are told (RFC 6750) |
//! | `resource` | what clients may read about where to get a token (RFC 9728) |
//! | `source` | where the keys come from |
//! | `url_claims` | `{JWT.claim}` in the URLs of backends |
//! | `explain` | the same checks, told one by one, for `token explain` |
//! | `config`, `compile`, `runtime` | the blocks, what they mean, what happens |

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
    doc: "Requests need a token that one of the provider's keys has signed and that keeps the rules of this block.",
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `auth/validator` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/validator",
    aliases: ALIASES,
    guard: true,
    doc: "What the validators of all endpoints share.",
    keys: config::SERVICE_KEYS,
    compile: compile::service,
};
