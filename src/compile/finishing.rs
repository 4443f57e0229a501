//! Changes to every response before it is written: `modifier/response-headers` and `portcullis/compression`.

use std::sync::Arc;

use crate::config::{Endpoint, Service};
use crate::ext::router::ROUTER;
use crate::ext::{Compile, ServiceFinishing, compression, response_headers};
use crate::runtime::finishing::Finishing;

/// For responses that no endpoint makes. What endpoints need of it is left for them.
pub(super) fn service(file: &Service<'_>, cx: &mut Compile<'_>) -> Option<Box<Finishing>> {
    let router = file.extra.open(&ROUTER);
    let gzip = router.as_ref().and_then(|block| block.bool("disable_gzip"));
    let setting = compression::service(&file.extra, gzip);
    let edits = response_headers::service(&file.extra);
    let shared = setting.compiled().map(Arc::new);
    let finishing = Finishing {
        edits: edits.iter().map(|(edits, _)| Arc::clone(edits)).collect(),
        compression: shared.clone(),
        covers_health: edits.as_ref().is_some_and(|(_, health)| *health),
    };
    cx.leave(Arc::new(ServiceFinishing {
        edits: edits.map(|(edits, _)| edits),
        compression: setting,
        shared,
    }));
    finishing.some()
}

/// For the responses of an endpoint.
pub(super) fn endpoint(file: &Endpoint<'_>, cx: &Compile<'_>) -> Option<Box<Finishing>> {
    let service = cx.left::<ServiceFinishing>()?;
    let compression = match compression::endpoint(&file.extra, &service.compression) {
        Some(own) => own.compiled().map(Arc::new),
        None => service.shared.clone(),
    };
    let own = response_headers::endpoint(&file.extra);
    let finishing = Finishing {
        edits: service.edits.iter().cloned().chain(own).collect(),
        compression,
        covers_health: false,
    };
    finishing.some()
}
