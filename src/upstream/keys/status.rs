//! The state of a source.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::source::{KeyDocument, KeySource};

/// The state of a source, for metrics and for `portcullis jwks`.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The URL without credentials and query, or the path.
    pub label: String,
    /// `None` while there is no set.
    pub age: Option<Duration>,
    pub keys: usize,
    pub generation: u64,
    /// All attempts, successful or not.
    pub fetches: u64,
    pub failures: u64,
    /// Why the last attempt failed. `None` if it succeeded.
    pub last_error: Option<String>,
    /// Whether the set is older than intended because refreshes fail, or there is no set.
    pub stale: bool,
}

impl SourceStatus {
    /// The state of a union, with that of one of its origins: the oldest keys and any failure count.
    fn and(mut self, origin: SourceStatus) -> SourceStatus {
        self.age = self.age.max(origin.age.filter(|_| self.age.is_some()));
        self.fetches += origin.fetches;
        self.failures += origin.failures;
        self.stale |= origin.stale;
        let error = |error| format!("{}: {error}", origin.label);
        self.last_error = self.last_error.or(origin.last_error.map(error));
        self
    }
}

impl<S: KeyDocument> KeySource<S> {
    /// The state of this source.
    pub fn status(&self) -> SourceStatus {
        let current = self.current.load();
        let snapshot = current.as_ref();
        let log = self.log();
        let own = SourceStatus {
            label: self.spec.location.label(),
            age: snapshot.map(|snapshot| snapshot.fetched.elapsed()),
            keys: snapshot.map_or(0, |snapshot| snapshot.set.key_count()),
            generation: snapshot.map_or(0, |snapshot| snapshot.generation),
            fetches: self.fetches.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_error: log.last_error.clone(),
            stale: log.stale || snapshot.is_none(),
        };
        let origins = self.origins.iter();
        origins.fold(own, |sum, origin| sum.and(origin.status()))
    }
}
