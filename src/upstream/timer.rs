//! A timer for what is waited for often and seldom in vain.

use std::future::Future;
use std::time::Duration;

/// What `work` comes to, or `None` when it took longer than `limit`, give or take ten milliseconds.
pub(crate) async fn within<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    pingora_timeout::timeout(limit, work).await.ok()
}
