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
    /// One state for each label, ordered by label. Sources may differ in more than their labels: of those with the same
    /// label the worst state counts.
    pub fn by_label(mut all: Vec<SourceStatus>) -> Vec<SourceStatus> {
        all.sort_by(|a, b| a.label.cmp(&b.label));
        all.dedup_by(|next, first| {
            let is_same = next.label == first.label;
            if is_same {
                first.age = first.age.max(next.age);
                first.keys = first.keys.min(next.keys);
                first.fetches += next.fetches;
                first.failures += next.failures;
                first.stale |= next.stale;
            }
            is_same
        });
        all
    }

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
    /// The state of this source, or of each origin of a union.
    pub(super) fn each(&self) -> Vec<SourceStatus> {
        match &*self.origins {
            [] => vec![self.status()],
            origins => origins.iter().map(|origin| origin.status()).collect(),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_of_sources_with_one_label_counts() {
        let status = |label: &str, keys: usize| SourceStatus {
            label: label.to_owned(),
            age: (keys > 0).then(|| Duration::from_secs(1)),
            keys,
            generation: 1,
            fetches: 2,
            failures: 1,
            last_error: None,
            stale: keys == 0,
        };
        let all = vec![status("b", 3), status("a", 1), status("b", 0)];
        let all = SourceStatus::by_label(all);
        let seen: Vec<_> = all
            .iter()
            .map(|one| (&*one.label, one.keys, one.fetches, one.stale))
            .collect();
        assert_eq!(seen, [("a", 1, 2, false), ("b", 0, 4, true)]);
    }
}
