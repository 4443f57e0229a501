//! The metric of connections to Redis. It belongs to the process, because these connections outlive a configuration.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, Opts, Registry};

static FAILED: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let opts = Opts::new(
        "portcullis_redis_connection_errors_total",
        "Connections to Redis that were lost or could not be opened, by reason.",
    );
    // `None` only if the name is not a valid name of a metric.
    IntCounterVec::new(opts, &["reason"]).ok()
});

/// The registry with this metric. Without Redis, it has no series and is not on the page.
pub(super) fn registered(registry: Registry) -> Registry {
    if let Some(failed) = &*FAILED {
        // This can only fail if the registry has it already.
        let _ = registry.register(Box::new(failed.clone()));
    }
    registry
}

/// Counts a connection that was lost or could not be opened. `reason` is one word of a closed list.
pub(crate) fn connection_failed(reason: &'static str) {
    if let Some(failed) = &*FAILED {
        failed.with_label_values(&[reason]).inc();
    }
}
