//! `auth/validator`: accepts only requests with a valid token.
//!
//! | module | content |
//! |---|---|
//! | `credential` | where a request may have a token |
//! | `binding` | tokens that are bound to a certificate (RFC 8705) or a key (RFC 9449) |
//! | `forwarded` | certificates in the headers of proxies |
//! | `key_source` | the keys that verify tokens, and what a request may wait for |
//! | `challenge` | the responses to rejected requests (RFC 6750) |
//! | `log` | the log lines of rejected tokens |
//! | `resource` | metadata for clients: where to get a token (RFC 9728) |
//! | `used_proofs`, `shared_proofs` | the proofs of possession that were used; those that gateways share through Redis |
//! | `compile_provider` | where the keys come from |
//! | `introspection` | opaque tokens: introspection by the provider (RFC 7662) |
//! | `signed_introspection` | signed introspection responses (RFC 9701) |
//! | `url_claims` | `{JWT.claim}` in the URLs of backends |
//! | `warnings` | warnings about blocks that are valid but probably not intended |
//! | `explain` | the same checks with explanations, for `token explain` |
//! | `config_keys`, `config`, `compile`, `runtime` | the tables of keys, the blocks, their compilation, their step |
//! | `compile_introspection`, `compile_binding`, `compile_propagation` | the compilation of `introspection`, `binding` and `propagate_claims` |

mod binding;
mod challenge;
mod compile;
mod compile_binding;
mod compile_introspection;
mod compile_propagation;
mod compile_provider;
mod config;
mod config_keys;
mod credential;
mod explain;
mod forwarded;
mod introspection;
mod key_source;
mod log;
mod resource;
mod runtime;
mod shared_proofs;
mod signed_introspection;
#[cfg(test)]
mod tests;
mod url_claims;
mod used_proofs;
mod warnings;

pub(crate) use compile::{Guarded, Validators};
pub(super) use compile_provider::standalone;
pub(super) use config_keys::PROVIDER_KEYS;
pub(super) use resource::Resource;
pub(super) use url_claims::unnamed;

pub(crate) use runtime::Provider;

pub(super) use compile::SharedLife;
pub(super) use used_proofs::LongestAge;

use super::extension::{EndpointExtension, ServiceExtension};

const ALIASES: &[&str] = &["github.com/devopsfaith/krakend-jose/validator"];

/// `auth/validator` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/validator",
    aliases: ALIASES,
    guard: true,
    doc: "Requests need a token that is signed by one of the provider's keys and satisfies the rules of this block.",
    keys: config_keys::KEYS,
    compile: compile::endpoint,
};

/// `auth/validator` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/validator",
    aliases: ALIASES,
    guard: true,
    doc: "Settings that the validators of all endpoints share.",
    keys: config_keys::SERVICE_KEYS,
    compile: compile::service,
};
