//! `documentation/openapi`, in the service and in endpoints: what `portcullis openapi export` adds to its document. It never
//! changes a request.

mod config;

use super::extension::{EndpointExtension, EndpointPart, ServiceExtension, ServicePart};

/// `documentation/openapi` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "documentation/openapi",
    aliases: &[],
    guard: false,
    doc: "For `portcullis openapi export`: the parts of the document about the whole API. It does not affect requests.",
    keys: config::SERVICE,
    compile: |_, _| ServicePart::Nothing,
};

/// `documentation/openapi` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "documentation/openapi",
    aliases: &[],
    guard: false,
    doc: "For `portcullis openapi export`: the parts of the document about this endpoint. It does not affect requests.",
    keys: config::ENDPOINT,
    compile: |_, _, _| EndpointPart::Nothing,
};
