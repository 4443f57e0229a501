//! Which backends of an endpoint are called for a request.

use smallvec::SmallVec;

use super::backend::{Context, Earlier};
use super::seed::seed;
use super::time_limit::TimeLimit;
use crate::runtime::condition::When;
use crate::runtime::failure::Failure;
use crate::runtime::service::Backend;

/// The backends that are called at the same time, in the order of the file.
///
/// # Errors
/// The process has too much to do.
pub(super) fn together<'b, C>(
    cx: &Context<'_, C>,
    backends: &'b [Backend],
    limit: &TimeLimit,
) -> Result<SmallVec<[&'b Backend; 4]>, Failure> {
    if !backends.iter().any(|backend| backend.when.is_conditional()) {
        return Ok(backends.iter().collect());
    }
    let holding = |backend: &Backend| holds(cx, backend, Earlier::default(), limit);
    let held = backends.iter().map(holding);
    let held = held.collect::<Result<SmallVec<[Option<bool>; 4]>, Failure>>()?;
    let none = !held.contains(&Some(true));
    let called = backends
        .iter()
        .zip(held)
        .filter(|(backend, held)| match held {
            Some(held) => *held,
            None => none || !backend.when.is_conditional(),
        });
    Ok(called.map(|(backend, _)| backend).collect())
}

/// Whether the condition of a backend holds. `None` if it has none of its own.
///
/// # Errors
/// The process has too much to do.
pub(super) fn holds<C>(
    cx: &Context<'_, C>,
    backend: &Backend,
    earlier: Earlier<'_>,
    limit: &TimeLimit,
) -> Result<Option<bool>, Failure> {
    let When::If(condition) = &backend.when else {
        return Ok(None);
    };
    let params = seed(cx, backend, earlier).params;
    let request = cx.call.seen(cx.query, params, limit);
    Ok(Some(condition.holds(&request)?))
}
