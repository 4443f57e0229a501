//! `portcullis/request-id`, in the service: one id for a request, in the gateway, at the backends and in the log.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use compile::IdHeader;
pub(crate) use runtime::random;

use super::extension::ServiceExtension;

/// `portcullis/request-id`.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/request-id",
    aliases: &[],
    guard: true,
    doc: "Gives each request an id that backends get, whatever `input_headers` lists, and that a JSON access log shows. A backend's own `input_headers` still has to name it.",
    keys: config::KEYS,
    compile: compile::service,
};
