//! `security/http`, in the service: allowed hosts, redirects to TLS, and security headers for browsers.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub use runtime::{AllowedHosts, SecurityHttp};

use super::extension::ServiceExtension;

/// `security/http`.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "security/http",
    aliases: &["github_com/devopsfaith/krakend-httpsecure"],
    guard: true,
    doc: "Allowed hosts, redirects to TLS, and security headers in every response except that of the health check.",
    keys: config::KEYS,
    compile: compile::service,
};
