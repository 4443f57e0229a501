//! Several backends, of which each is called only if those before it failed.

use std::pin::pin;

use super::backend::{Context, Earlier, get};
use super::merge::Merged;
use super::time_limit::TimeLimit;
use super::transport::Transport;
use crate::runtime::failure::Failure;
use crate::runtime::service::Backend;
use crate::telemetry::sanitize::printable;

/// The first complete response, or else the outcome of the last call. While there is another backend, a call gets an equal
/// share of the time that is left.
pub(super) async fn run<C: Transport>(
    cx: &Context<'_, C>,
    backends: &[Backend],
    limit: &TimeLimit,
) -> Merged {
    let mut last = Err(Failure::deadline());
    for (index, backend) in backends.iter().enumerate() {
        let others = backends.len() - index;
        let share = limit.remaining() / u32::try_from(others).unwrap_or(u32::MAX);
        let step = TimeLimit::at(limit.end() - limit.remaining() + share);
        let call = get(cx, backend, Earlier::default(), &step);
        let result = step.wait(pin!(call)).await;
        last = result
            .unwrap_or_else(|| Err(Failure::late()))
            .map_err(|failure| failure.of_backend(backend.index));
        match &last {
            Ok(part) if part.complete => break,
            Err(failure) if others > 1 => {
                log::warn!(
                    "{} failed, and the next one is called: {}",
                    backend.shown(),
                    printable(&failure.text)
                );
            }
            _ => {}
        }
    }
    Merged::single(last)
}
