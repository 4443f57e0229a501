//! The stores whose entries can be evicted when memory is short.

use std::sync::{Arc, Mutex, PoisonError, Weak};

static ALL: Mutex<Vec<Weak<dyn Store>>> = Mutex::new(Vec::new());

/// A store of responses.
pub(crate) trait Store: Send + Sync {
    /// The bytes that it holds.
    fn bytes(&self) -> usize;

    /// Evicts the entries that were not used for the longest time, of at least `bytes` if it has as many. Returns
    /// their bytes.
    fn evict(&self, bytes: usize) -> usize;
}

/// From now on, entries of this store may be evicted.
pub(crate) fn register(store: &Arc<impl Store + 'static>) {
    let store: Weak<dyn Store> = Arc::downgrade(store) as Weak<dyn Store>;
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|store| store.strong_count() > 0);
    all.push(store);
}

/// Evicts at least this many bytes, from the largest store first. `false` if there was nothing to evict.
pub(super) fn evict(bytes: u64) -> bool {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut stores: Vec<(usize, Arc<dyn Store>)> = {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.iter().filter_map(Weak::upgrade);
        all.map(|store| (store.bytes(), store)).collect()
    };
    stores.sort_by_key(|(held, _)| std::cmp::Reverse(*held));
    let mut evicted = 0;
    for (_, store) in stores {
        if evicted >= bytes {
            break;
        }
        evicted += store.evict(bytes - evicted);
    }
    evicted > 0
}
