//! The id of the request that a task handles, for log lines.

use http::HeaderValue;

tokio::task_local! {
    static ID: HeaderValue;
}

/// Runs `work` as part of the request with this id.
pub(crate) fn within<F: Future>(id: HeaderValue, work: F) -> impl Future<Output = F::Output> {
    ID.scope(id, work)
}

/// The same for work that does not wait.
pub(crate) fn within_sync<R>(id: HeaderValue, work: impl FnOnce() -> R) -> R {
    ID.sync_scope(id, work)
}

/// The id of the request that the current task handles.
pub(crate) fn current() -> Option<HeaderValue> {
    ID.try_with(HeaderValue::clone).ok()
}
