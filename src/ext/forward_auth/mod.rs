//! `portcullis/forward-auth`, in an endpoint: another service decides whether a request may pass.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::EndpointExtension;

pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "portcullis/forward-auth",
    aliases: &[],
    guard: true,
    doc: "Ours: asks another service whether a request may pass. With a status of 2xx it passes; any other status below 500 is the response to the client. If the service does not respond, the request is rejected with 503.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
