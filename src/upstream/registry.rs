//! Values that are shared by their key for as long as they are in use.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Entries by key, as long as they are in use.
#[derive(Debug)]
pub(super) struct Registry<K, V> {
    known: HashMap<K, Weak<V>>,
    /// At this number of entries the unused ones are removed. Removing them for each new entry would take quadratic
    /// time.
    sweep_at: usize,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Registry<K, V> {
        Registry {
            known: HashMap::new(),
            sweep_at: MIN_SWEPT,
        }
    }
}

/// With fewer entries a sweep is not worth its cost.
const MIN_SWEPT: usize = 64;

impl<K: Hash + Eq, V> Registry<K, V> {
    /// The entry of `key`, and whether it was just created.
    pub(super) fn shared(&mut self, key: K, make: impl FnOnce() -> V) -> (Arc<V>, bool) {
        let made = self.try_shared(key, || Ok::<V, Infallible>(make()));
        made.unwrap_or_else(|never| match never {})
    }

    /// The entry of `key`, and whether it was just created.
    ///
    /// # Errors
    /// That of `make`. An entry that could not be made is not kept.
    pub(super) fn try_shared<E>(
        &mut self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<(Arc<V>, bool), E> {
        if let Some(entry) = self.known.get(&key).and_then(Weak::upgrade) {
            return Ok((entry, false));
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, entry| entry.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(MIN_SWEPT);
        }
        let entry = Arc::new(make()?);
        self.known.insert(key, Arc::downgrade(&entry));
        Ok((entry, true))
    }

    /// The entries in use.
    pub(super) fn in_use(&self) -> Vec<Arc<V>> {
        self.known.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_entries_are_removed_and_used_ones_are_shared() {
        let mut registry = Registry::default();
        let held: Vec<_> = (0..100).map(|key| registry.shared(key, || key).0).collect();
        for key in 100..10_000 {
            let _ = registry.shared(key, || key);
            assert!(registry.known.len() <= 200, "{}", registry.known.len());
        }
        let (again, is_new) = registry.shared(7, || 0);
        assert!(!is_new && Arc::ptr_eq(&again, &held[7]));
    }
}
