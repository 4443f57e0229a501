//! State that survives a reload: buckets, circuit breakers, key sets, token and response caches whose definition is
//! unchanged.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// State by definition. Each compiled configuration has one registry. Compiling the next configuration takes state
/// over from it.
#[derive(Default)]
pub struct ReloadState {
    entries: HashMap<String, Arc<dyn Any + Send + Sync>>,
}

impl ReloadState {
    /// The number of states.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn find<T: Any + Send + Sync>(&self, key: &str) -> Option<Arc<T>> {
        self.entries
            .get(key)
            .and_then(|entry| Arc::clone(entry).downcast::<T>().ok())
    }

    pub(super) fn keep<T: Any + Send + Sync>(&mut self, key: String, state: Arc<T>) {
        self.entries.insert(key, state);
    }
}

impl std::fmt::Debug for ReloadState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys contain definitions, which may contain secrets.
        write!(f, "Carry({} states)", self.entries.len())
    }
}

/// Background work that the server starts once the compiled service is in use.
///
/// Create it only in the closure that creates a carried state, so that a reload does not start it twice. It should
/// refer to its state by `Weak` and end when the state is dropped.
pub struct Task {
    /// The name for log lines.
    pub name: String,
    /// An action that must succeed before the configuration is used, such as starting a thread. `check` does not run it.
    pub open: Option<Open>,
    /// Whether the action replaces what is in use. It comes after all others, so that nothing is replaced if one of them fails.
    pub replaces: bool,
    pub run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Runs the action, or returns why it failed.
pub(crate) type Open = Box<dyn FnOnce() -> Result<(), String> + Send>;

impl Task {
    /// Work that is done when the configuration is put to use.
    pub fn opening(
        name: impl Into<String>,
        open: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Task {
        Task {
            open: Some(Box::new(open)),
            ..Task::new(name, async {})
        }
    }

    /// Like [`Task::opening`], for an action that replaces what is in use.
    pub fn replacing(
        name: impl Into<String>,
        open: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Task {
        Task {
            replaces: true,
            ..Task::opening(name, open)
        }
    }

    pub fn new(name: impl Into<String>, run: impl Future<Output = ()> + Send + 'static) -> Task {
        Task {
            name: name.into(),
            open: None,
            replaces: false,
            run: Box::pin(run),
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({})", self.name)
    }
}
