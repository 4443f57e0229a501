//! `modifier/request-body-generator` and `modifier/response-body-generator`, in endpoints and backends: bodies made by
//! a Go template.
//!
//! | module | content |
//! |---|---|
//! | `config`, `compile` | the blocks |
//! | `generator` | a template with its settings: makes a body |
//! | `facts` | what a template sees of a request and a response |
//! | `runtime` | the steps |

mod compile;
mod config;
mod facts;
mod generator;
mod runtime;
#[cfg(test)]
mod tests;

pub(in crate::ext) use compile::{Defaults, compile_generator};
pub(in crate::ext) use config::KEYS;
pub(in crate::ext) use runtime::MakeRequest;

use super::extension::{BackendExtension, EndpointExtension};

const REQUEST: &str = "modifier/request-body-generator";
pub(super) const RESPONSE: &str = "modifier/response-body-generator";
const OLDER: &[&str] = &["modifier/body-generator"];

/// `modifier/request-body-generator` in an endpoint.
pub(super) const REQUEST_ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: REQUEST,
    aliases: OLDER,
    guard: true,
    doc: "Makes the body for all backends with a Go template. See [Body templates](modifiers.md#body-templates).",
    keys: KEYS,
    compile: compile::request_endpoint,
};

/// `modifier/request-body-generator` in a backend.
pub(super) const REQUEST_BACKEND: BackendExtension = BackendExtension {
    namespace: REQUEST,
    aliases: OLDER,
    guard: true,
    doc: "Makes the body of the call with a Go template. See [Body templates](modifiers.md#body-templates).",
    keys: KEYS,
    compile: compile::request_backend,
};

/// `modifier/response-body-generator` in an endpoint.
pub(super) const RESPONSE_ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: RESPONSE,
    aliases: &[],
    guard: true,
    doc: "Makes the response with a Go template. See [Body templates](modifiers.md#body-templates).",
    keys: KEYS,
    compile: compile::response_endpoint,
};

/// `modifier/response-body-generator` in a backend.
pub(super) const RESPONSE_BACKEND: BackendExtension = BackendExtension {
    namespace: RESPONSE,
    aliases: &[],
    guard: true,
    doc: "Makes the backend's response with a Go template. See [Body templates](modifiers.md#body-templates).",
    keys: KEYS,
    compile: compile::response_backend,
};
