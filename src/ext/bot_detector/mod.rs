//! `security/bot-detector`, in the service and in an endpoint: rejects clients by their `User-Agent`.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::{EndpointExtension, ServiceExtension};

const NAMESPACE: &str = "security/bot-detector";
const ALIASES: &[&str] = &["github_com/devopsfaith/krakend-botdetector"];
const DOC: &str = "Rejects clients by their `User-Agent`.";

/// `security/bot-detector` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: NAMESPACE,
    aliases: ALIASES,
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::service,
};

/// `security/bot-detector` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: ALIASES,
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};
