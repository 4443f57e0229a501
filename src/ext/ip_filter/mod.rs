//! `security/ip-filter`, in the service, in an endpoint and in a backend: rejects clients by their address. It is what
//! KrakenD's plugin `ip-filter` does.

mod compile;
mod config;
mod networks;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::{BackendExtension, EndpointExtension, ServiceExtension};

/// The namespace, for the names of plugins.
pub(crate) const NAMESPACE: &str = "security/ip-filter";
const DOC: &str = "Ours, with the keys of KrakenD's plugin `ip-filter`: rejects clients with 403 by their address.";

/// `security/ip-filter` of the service. It runs before the router and also covers the health endpoint.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::service,
};

/// `security/ip-filter` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::endpoint,
};

/// `security/ip-filter` of a backend, which is not called for the clients that the filter rejects.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: true,
    doc: DOC,
    keys: config::KEYS,
    compile: compile::backend,
};
