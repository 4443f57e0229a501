//! `security/cors`, in the service and, as our own extension, in an endpoint: which origins may call the gateway from
//! a web page.
//!
//! | module | content |
//! |---|---|
//! | `policy` | one set of rules, and the headers that it adds to a response |
//! | `config`, `compile`, `runtime` | the block, its compilation, its step |

mod compile;
mod config;
mod policy;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use runtime::Own;

use super::extension::{EndpointExtension, ServiceExtension};

const ALIASES: &[&str] = &["github_com/devopsfaith/krakend-cors"];

/// `security/cors` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "security/cors",
    aliases: ALIASES,
    guard: true,
    doc: "Lets web pages of other origins call the gateway, and responds to preflight requests.",
    keys: config::SERVICE_KEYS,
    compile: compile::service,
};

/// `security/cors` of an endpoint, our own extension.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "security/cors",
    aliases: ALIASES,
    guard: true,
    doc: "Ours: rules for one endpoint, instead of the service's rules.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
