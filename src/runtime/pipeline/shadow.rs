//! Calls that nobody waits for.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::backend::{Context, exchange, prepare};
use super::carrier::Carrier;
use super::limit::Limit;
use crate::runtime::service::Shadow;

/// Calls of one shadow that may be under way: one that does not answer must not pile up memory.
const MOST: usize = 1024;

/// The right to one call of a shadow, given back when dropped.
struct Place(Arc<Shadow>);

impl Place {
    fn take(shadow: &Arc<Shadow>) -> Option<Place> {
        // Counted before the look, so that two cannot take the last place.
        let place = Place(Arc::clone(shadow));
        let before = shadow.under_way.fetch_add(1, Ordering::Relaxed);
        (before < MOST).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends a copy of the request to each shadow backend, in tasks that outlive the request.
pub(super) fn send<C: Carrier>(cx: &Context<'_, C>, shadows: &[Arc<Shadow>]) {
    for shadow in shadows {
        // A request that cannot be built would be no use to the shadow either; the regular backend reports it.
        let Ok(out) = prepare(cx, &shadow.backend, &[]) else {
            continue;
        };
        let Some(place) = Place::take(shadow) else {
            log::warn!(
                "[SHADOW: {}] too many calls under way",
                shadow.backend.pattern
            );
            continue;
        };
        let carrier = cx.carrier.clone();
        let most_bytes = cx.options.max_upstream_body_bytes;
        tokio::spawn(async move {
            let shadow = &*place.0;
            let limit = Limit::at(Instant::now() + shadow.timeout);
            let call = pin!(exchange(&carrier, most_bytes, &shadow.backend, out, &limit));
            if let Some(Err(failure)) = limit.wait(call).await {
                log::debug!("[SHADOW: {}] {failure}", shadow.backend.pattern);
            }
        });
    }
}
