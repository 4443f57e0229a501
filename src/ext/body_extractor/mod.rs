//! `modifier/request-body-extractor` and `modifier/request-body-extractor/early`, in the service and in endpoints: take
//! fields of the client's JSON body into headers or query parameters.
//!
//! The early one runs before tokens and limits, so that these can read what it sets.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use compile::TakenByService;

use super::extension::{EndpointExtension, ServiceExtension};

const LATE: &str = "modifier/request-body-extractor";
const EARLY: &str = "modifier/request-body-extractor/early";
const DOC: &str = "Copies fields of the client's JSON body to headers or query parameters. See [Request body extractor](modifiers.md#request-body-extractor).";
const DOC_EARLY: &str = "The same before tokens, keys and limits are checked.";

/// `modifier/request-body-extractor` in the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: LATE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::service,
};

/// `modifier/request-body-extractor/early` in the service.
pub(super) const SERVICE_EARLY: ServiceExtension = ServiceExtension {
    namespace: EARLY,
    aliases: &[],
    guard: true,
    doc: DOC_EARLY,
    keys: config::KEYS,
    compile: compile::service_early,
};

/// `modifier/request-body-extractor` in an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: LATE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `modifier/request-body-extractor/early` in an endpoint.
pub(super) const ENDPOINT_EARLY: EndpointExtension = EndpointExtension {
    namespace: EARLY,
    aliases: &[],
    guard: true,
    doc: DOC_EARLY,
    keys: config::KEYS,
    compile: compile::endpoint_early,
};
