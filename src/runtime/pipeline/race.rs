//! Several equal calls at once.

use std::future::Future;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::runtime::failure::{Failure, Kind};

/// Makes `many` equal calls. The first response for which `wins` is true ends the others. Without such a response the
/// result is the last response, or else the last failure.
pub(super) async fn race<T, F>(
    many: u32,
    mut call: impl FnMut() -> F,
    wins: impl Fn(&T) -> bool,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut calls: FuturesUnordered<_> = (0..many).map(|_| call()).collect();
    let mut last = Err(Failure::new(Kind::Broken, "context canceled"));
    while let Some(result) = calls.next().await {
        match (&result, &last) {
            (Ok(response), _) if wins(response) => return result,
            (Err(_), Ok(_)) => {}
            _ => last = result,
        }
    }
    last
}
