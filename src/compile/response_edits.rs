//! Changes to every response before it is written: `modifier/response-headers` and `portcullis/compression`.

use std::sync::Arc;

use crate::config::{Endpoint, Service};
use crate::ext::router::ROUTER;
use crate::ext::{Compile, ServiceResponseEdits, compression, response_headers};
use crate::runtime::response_edits::ResponseEdits;

/// For responses that no endpoint makes. What endpoints need of it is left for them.
pub(super) fn service(file: &Service<'_>, cx: &mut Compile<'_>) -> Option<Box<ResponseEdits>> {
    let router = file.extra.open(&ROUTER);
    let gzip = router.as_ref().and_then(|block| block.bool("disable_gzip"));
    let setting = compression::service(&file.extra, gzip);
    let edits = response_headers::service(&file.extra);
    let shared = setting.compiled().map(Arc::new);
    let response_edits = ResponseEdits {
        edits: edits.iter().map(|(edits, _)| Arc::clone(edits)).collect(),
        compression: shared.clone(),
        covers_health: edits.as_ref().is_some_and(|(_, health)| *health),
    };
    cx.set_fact(Arc::new(ServiceResponseEdits {
        edits: edits.map(|(edits, _)| edits),
        compression: setting,
        shared,
    }));
    response_edits.some()
}

/// For the responses of an endpoint.
pub(super) fn endpoint(file: &Endpoint<'_>, cx: &Compile<'_>) -> Option<Box<ResponseEdits>> {
    let service = cx.fact::<ServiceResponseEdits>()?;
    let compression = match compression::endpoint(&file.extra, &service.compression) {
        Some(own) => own.compiled().map(Arc::new),
        None => service.shared.clone(),
    };
    let own = response_headers::endpoint(&file.extra);
    let response_edits = ResponseEdits {
        edits: service.edits.iter().cloned().chain(own).collect(),
        compression,
        covers_health: false,
    };
    response_edits.some()
}
