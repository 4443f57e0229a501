//! A cheap timeout for work that rarely times out.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The result of `work`, or `None` after `limit`. The limit is accurate to about ten milliseconds.
pub(crate) async fn within<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut timer = None;
    poll_fn(move |cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        // Made only for work that waits, because it reads clocks.
        let never = || Box::pin(pingora_timeout::timeout(limit, pending::<()>()));
        timer
            .get_or_insert_with(never)
            .as_mut()
            .poll(cx)
            .map(|_| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn work_ends_or_is_aborted() {
        assert_eq!(within(Duration::ZERO, async { 1 }).await, Some(1));
        let short = tokio::time::sleep(Duration::from_millis(5));
        assert_eq!(within(Duration::from_secs(60), short).await, Some(()));
        let began = Instant::now();
        let given_up = within(Duration::from_millis(50), pending::<()>()).await;
        assert_eq!(given_up, None);
        assert!(began.elapsed() >= Duration::from_millis(40));
    }
}
