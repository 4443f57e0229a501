//! `qos/ratelimit/tiered`, in the service and in an endpoint: a limit for each plan, which a header names.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::{EndpointExtension, ServiceExtension};

const NAMESPACE: &str = "qos/ratelimit/tiered";
const DOC: &str = "Limits requests by plans (tiers). The value of a header selects the tier.";

/// `qos/ratelimit/tiered` of the service: counted in every endpoint, behind the steps that identify the client.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::service,
};

/// `qos/ratelimit/tiered` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};
