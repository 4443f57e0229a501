//! Connections and channels close themselves in a task when they are dropped.

use std::sync::Arc;

use tokio::runtime::Handle;

/// A connection or a channel that may be dropped on any thread.
///
/// Without a runtime, which is when the process ends, there are no tasks. The socket then closes with the process, and
/// the broker takes back what was not confirmed.
pub(super) struct Held<T>(Arc<Inner<T>>);

struct Inner<T> {
    value: Option<T>,
    /// The runtime that it was opened on.
    runtime: Handle,
}

impl<T> Held<T> {
    /// Must be called in a task.
    pub(super) fn new(value: T) -> Held<T> {
        Held(Arc::new(Inner {
            value: Some(value),
            runtime: Handle::current(),
        }))
    }

    /// It is there until this value is dropped.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.value.as_ref()
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Held<T> {
        Held(Arc::clone(&self.0))
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        self.value = None;
    }
}
