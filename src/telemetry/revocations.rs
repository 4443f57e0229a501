//! Metrics of the revocations that gateways share through Redis. They belong to the process, like the list.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

static SHARING: LazyLock<Option<Sharing>> = LazyLock::new(Sharing::new);

struct Sharing {
    unsent: IntGaugeVec,
    current: GaugeVec,
    dropped: IntCounterVec,
}

impl Sharing {
    /// `None` only if a name below is not a valid name of a metric. Without labels, a metric is on the page as soon as
    /// it is set.
    fn new() -> Option<Sharing> {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        Some(Sharing {
            unsent: IntGaugeVec::new(
                opts(
                    "portcullis_revocations_unsent",
                    "Revocations of this gateway that are not in Redis yet.",
                ),
                &[],
            )
            .ok()?,
            current: GaugeVec::new(
                opts(
                    "portcullis_revocations_current_timestamp_seconds",
                    "When this gateway last had sent all its revocations and read all of the others.",
                ),
                &[],
            )
            .ok()?,
            dropped: IntCounterVec::new(
                opts(
                    "portcullis_revocations_dropped_total",
                    "Revocations that were not sent to Redis, because too many waited.",
                ),
                &[],
            )
            .ok()?,
        })
    }
}

/// The registry with these metrics. Without a shared list, they have no series and are not on the page.
pub(super) fn registered(registry: Registry) -> Registry {
    if let Some(sharing) = &*SHARING {
        // This can only fail if the registry has them already.
        let _ = registry.register(Box::new(sharing.unsent.clone()));
        let _ = registry.register(Box::new(sharing.current.clone()));
        let _ = registry.register(Box::new(sharing.dropped.clone()));
    }
    registry
}

/// Reports how many revocations Redis does not have yet.
pub(crate) fn unsent(count: usize) {
    if let Some(sharing) = &*SHARING {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        sharing.unsent.with_label_values::<&str>(&[]).set(count);
    }
}

/// Reports how many were dropped since the last report.
pub(crate) fn dropped(count: u64) {
    if let Some(sharing) = &*SHARING {
        let counter = sharing.dropped.with_label_values::<&str>(&[]);
        counter.inc_by(count);
    }
}

/// Begins to share: until everything is sent and read for the first time, the time of the start is reported, so that an alert
/// for an old time fires.
pub(crate) fn begun() {
    if let Some(sharing) = &*SHARING {
        let current = sharing.current.with_label_values::<&str>(&[]);
        if current.get() == 0.0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            current.set(now.unwrap_or_default().as_secs_f64());
        }
    }
}

/// Logs how many revocations are lost for the other gateways, because the process ends before Redis has them.
pub(crate) fn end() {
    let unsent = SHARING.as_ref().map(|sharing| {
        let unsent = sharing.unsent.with_label_values::<&str>(&[]);
        unsent.get()
    });
    if let Some(unsent) = unsent.filter(|unsent| *unsent > 0) {
        log::error!(
            "[SERVICE: Revoker] {unsent} revocations were not sent to Redis before the end: other gateways do not learn them"
        );
    }
}

/// Reports that everything is sent and read at this time, in seconds since the Unix epoch.
pub(crate) fn current(at: f64) {
    if let Some(sharing) = &*SHARING {
        sharing.current.with_label_values::<&str>(&[]).set(at);
    }
}
