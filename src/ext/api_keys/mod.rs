//! `auth/api-keys`: the service lists keys and their roles, and an endpoint lists the roles that may call it.
//!
//! | module | content |
//! |---|---|
//! | `key_table` | the hashed keys, and the lookup of a presented key |
//! | `config`, `compile`, `runtime` | the blocks, their compilation, their step |

mod compile;
mod config;
mod key_table;
mod runtime;
#[cfg(test)]
mod tests;

pub(super) use compile::Keys;

use super::extension::{EndpointExtension, ServiceExtension};

/// `auth/api-keys` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/api-keys",
    aliases: &[],
    guard: true,
    doc: "The API keys of the service and their roles. Endpoints with a block of the same name require one.",
    keys: config::SERVICE_KEYS,
    compile: compile::service,
};

/// `auth/api-keys` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/api-keys",
    aliases: &[],
    guard: true,
    doc: "Accepts only requests with an API key that has one of these roles; all others get 401. With `auth/validator` or `auth/basic`, all of them must be satisfied.",
    keys: config::ENDPOINT_KEYS,
    compile: compile::endpoint,
};
