//! Several backends at once.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use http::HeaderMap;
use smallvec::SmallVec;

use super::backend::{Context, Earlier, get_with};
use super::merge::{Merged, Part};
use super::time_limit::TimeLimit;
use super::transport::Transport;
use crate::runtime::failure::Failure;
use crate::runtime::service::Backend;
use crate::upstream::spare_map;

/// The response of one backend so far.
type Slot = Option<(usize, Result<Part, Failure>)>;

/// The slot of a call. If the limit drops the call, it is late.
struct InTime<'s>(&'s mut Slot);

impl Drop for InTime<'_> {
    fn drop(&mut self) {
        if self.0.is_none() {
            *self.0 = Some((usize::MAX, Err(Failure::late())));
        }
    }
}

/// Calls all backends and merges the responses that arrived before the limit. `headers` are those of the request.
pub(super) async fn run<C: Transport>(
    cx: &Context<'_, C>,
    backends: &[&Backend],
    headers: HeaderMap,
    limit: &TimeLimit,
) -> Merged {
    if backends.is_empty() {
        return Merged::idle();
    }
    // Outside of the future that the limit drops, so that finished parts are kept.
    let mut slots: Vec<Slot> = backends.iter().map(|_| None).collect();
    {
        let arrived = &AtomicUsize::new(0);
        let mut left = backends.len();
        let mut headers = headers;
        let calls = backends
            .iter()
            .zip(slots.iter_mut())
            .map(|(backend, slot)| {
                left -= 1;
                // The last call gets the map itself.
                let headers = match left {
                    0 => std::mem::take(&mut headers),
                    _ => spare_map::copy_of(&headers),
                };
                let call = get_with(cx, backend, Earlier::default(), limit, headers);
                async move {
                    let place = InTime(slot);
                    let result = call.await;
                    *place.0 = Some((arrived.fetch_add(1, Ordering::Relaxed), result));
                }
            });
        limit.wait(pin!(join_all(calls))).await;
    }
    collect(backends, slots)
}

/// The slots are those of the backends, in the same order.
fn collect(backends: &[&Backend], slots: Vec<Slot>) -> Merged {
    let total = slots.len();
    let mut failures: SmallVec<[(usize, Failure); 2]> = SmallVec::new();
    let parts = slots
        .into_iter()
        .zip(backends)
        .filter_map(|(slot, backend)| {
            let (arrival, failure) = match slot {
                Some((_, Ok(part))) => return Some(part),
                Some((arrival, Err(failure))) => (arrival, failure),
                None => (usize::MAX, Failure::deadline()),
            };
            failures.push((arrival, failure.of_backend(backend.index)));
            None
        });
    let mut merged = Merged::group(parts, total, SmallVec::new());
    if !failures.is_empty() {
        failures.sort_by_key(|(arrival, _)| *arrival);
        merged.failures = failures.into_iter().map(|(_, failure)| failure).collect();
    }
    merged
}
