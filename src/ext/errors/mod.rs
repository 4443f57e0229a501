//! `portcullis/errors`, in the service: bodies of the gateway's own error responses.
//!
//! The bodies are rendered by [`crate::runtime::errors`], where the response is written: a step cannot know of a rejection
//! by a later step, or of a failure of a backend.

mod compile;
mod config;
#[cfg(test)]
mod tests;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/errors",
    aliases: &[],
    guard: true,
    doc: "Ours: bodies for error responses without a body or with plain text: 401, 403, 404, 405, 413, 429, 431, 500 and the others. Responses of backends stay as they are, and so do bodies that another key defines.",
    keys: config::KEYS,
    compile: compile::service,
};
