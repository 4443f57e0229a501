//! Which backends of an endpoint are called for a request.

use smallvec::SmallVec;

use super::backend::{Context, Earlier};
use super::seed::seed;
use super::time_limit::TimeLimit;
use crate::runtime::condition::When;
use crate::runtime::service::Backend;

/// The backends that are called at the same time, in the order of the file.
pub(super) fn together<'b, C>(
    cx: &Context<'_, C>,
    backends: &'b [Backend],
    limit: &TimeLimit,
) -> SmallVec<[&'b Backend; 4]> {
    if !backends.iter().any(|backend| backend.when.is_conditional()) {
        return backends.iter().collect();
    }
    let holding = |backend: &Backend| holds(cx, backend, Earlier::default(), limit);
    let held: SmallVec<[Option<bool>; 4]> = backends.iter().map(holding).collect();
    let none = !held.contains(&Some(true));
    let called = backends
        .iter()
        .zip(held)
        .filter(|(backend, held)| match held {
            Some(held) => *held,
            None => none || !backend.when.is_conditional(),
        });
    called.map(|(backend, _)| backend).collect()
}

/// Whether the condition of a backend holds. `None` if it has none of its own.
pub(super) fn holds<C>(
    cx: &Context<'_, C>,
    backend: &Backend,
    earlier: Earlier<'_>,
    limit: &TimeLimit,
) -> Option<bool> {
    let When::If(condition) = &backend.when else {
        return None;
    };
    let params = seed(cx, backend, earlier).params;
    let request = cx.call.seen(cx.query, params, limit);
    Some(condition.holds(&request))
}
