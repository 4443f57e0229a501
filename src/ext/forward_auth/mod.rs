//! `portcullis/forward-auth`, in an endpoint: another service decides whether a request may pass.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::EndpointExtension;

/// `portcullis/forward-auth`.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "portcullis/forward-auth",
    aliases: &[],
    guard: true,
    doc: "Ours: asks another service about each request. A status of 2xx lets it pass, any other below 500 is the response to the client. Without an answer the request is rejected with 503.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
