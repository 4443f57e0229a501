//! `security/http`, in the service: allowed hosts, redirects to TLS, and security headers for browsers. In an endpoint:
//! security headers only.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::{EndpointExtension, ServiceExtension};

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "security/http",
    aliases: &["github_com/devopsfaith/krakend-httpsecure"],
    guard: true,
    doc: "Allowed hosts, redirects to TLS, and security headers in every response except that of the health check.",
    keys: config::KEYS,
    compile: compile::service,
};

/// `security/http` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "security/http",
    aliases: &["github_com/devopsfaith/krakend-httpsecure"],
    guard: true,
    doc: "Security headers of one endpoint, which replace those of the service. Hosts and redirects to TLS belong into the service.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
