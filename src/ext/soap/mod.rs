//! `backend/soap`, in a backend: calls a SOAP service with a body made by a Go template.
//!
//! It is `modifier/request-body-generator` with other defaults: the printed values are escaped for XML, the method is
//! POST, and the response is XML.

mod compile;
#[cfg(test)]
mod tests;

use super::body_generator;
use super::extension::BackendExtension;
use crate::config::Extra;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "backend/soap",
    aliases: &[],
    guard: true,
    doc: "Calls a SOAP service. The body is made by a Go template, whose values are escaped for XML unless an action ends in `| safe`. `content_type` is `text/xml` if it is not set, the `method` is POST and the `encoding` is `xml`. See [SOAP](modifiers.md#soap).",
    keys: body_generator::KEYS,
    compile: compile::backend,
};

/// Whether a backend with these namespaces calls a SOAP service.
pub(crate) fn is_wanted(extra: &Extra<'_>) -> bool {
    extra.find(BACKEND.namespace, BACKEND.aliases).is_some()
}
