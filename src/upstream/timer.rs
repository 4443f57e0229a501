//! A cheap timeout for work that rarely times out.

use std::future::Future;
use std::time::Duration;

/// The result of `work`, or `None` after `limit`. The limit is accurate to about ten milliseconds.
pub(crate) async fn within<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    pingora_timeout::timeout(limit, work).await.ok()
}
