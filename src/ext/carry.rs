//! What survives a reload: buckets, breakers, key sets, token and response caches whose definition has not changed.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// State by definition. One registry belongs to one compiled file; compiling the next file takes over from it.
#[derive(Default)]
pub struct Carry {
    entries: HashMap<String, Arc<dyn Any + Send + Sync>>,
}

impl Carry {
    /// How many states are kept.
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

impl std::fmt::Debug for Carry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys hold definitions, which may hold secrets.
        write!(f, "Carry({} states)", self.entries.len())
    }
}

/// Background work that the server starts once the compiled service is in use.
///
/// Start one only from the closure that makes a carried state, so that a reload does not start it twice; let it hold
/// its state by `Weak` and end when that is gone.
pub struct Task {
    /// For log lines.
    pub name: String,
    /// What must succeed before the file is put to use: a port that must be free, for instance. `check` does not try.
    pub open: Option<Open>,
    pub run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Does what must succeed, or says why it did not.
pub type Open = Box<dyn FnOnce() -> Result<(), String> + Send>;

impl Task {
    /// Work that is done at once, when the file is put to use.
    pub fn opening(
        name: impl Into<String>,
        open: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Task {
        Task {
            open: Some(Box::new(open)),
            ..Task::new(name, async {})
        }
    }

    pub fn new(name: impl Into<String>, run: impl Future<Output = ()> + Send + 'static) -> Task {
        Task {
            name: name.into(),
            open: None,
            run: Box::pin(run),
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({})", self.name)
    }
}
