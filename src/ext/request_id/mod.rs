//! `portcullis/request-id`, in the service: one id for a request, in the gateway, at the backends and in the log.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use compile::IdHeader;
pub(crate) use runtime::random;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/request-id",
    aliases: &[],
    guard: true,
    doc: "Gives each request an id, which is sent to backends even if `input_headers` does not list it, and is part of the JSON access log and of the JSON log lines of the request. A backend's own `input_headers` must list it.",
    keys: config::KEYS,
    compile: compile::service,
};
