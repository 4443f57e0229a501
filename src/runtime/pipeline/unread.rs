//! Data of backends that nothing reads before they are written.

use crate::runtime::encode::Encoding;
use crate::runtime::service::{Composition, Order};

/// Tells the backends whose data are only merged and written as JSON, so that they build no tree of them.
pub(crate) fn mark_unread(work: &mut Composition) {
    let is_read = !work.pipes.is_empty()
        || work.flatmap.is_some()
        || work.static_data.is_some()
        || work.signer.is_some()
        || matches!(work.order, Order::Sequential { .. })
        || work.encoding != Encoding::Json;
    if is_read {
        return;
    }
    let alone = work.backends.len() == 1;
    for backend in &mut work.backends {
        if backend.pipes.is_empty() && backend.on_wire.is_none() {
            backend.shape.only_written(alone);
        }
    }
}
