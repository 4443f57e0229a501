//! The stores whose entries can be evicted when memory is short, and the copies that are to be stored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

static ALL: List = List(Mutex::new(Vec::new()));
/// Separate, because only requests may evict copies: otherwise copies would evict each other, and none would be stored.
static COPIES: List = List(Mutex::new(Vec::new()));

struct List(Mutex<Vec<Weak<dyn Store>>>);

/// A store of responses, or a copy that is to be stored.
pub(crate) trait Store: Send + Sync {
    /// The bytes that it holds.
    fn bytes(&self) -> usize;

    /// Evicts the entries that were not used for the longest time, of at least `bytes` if it has as many. Returns
    /// their bytes.
    fn evict(&self, bytes: usize) -> usize;
}

/// From now on, entries of this store may be evicted.
pub(crate) fn register(store: &Arc<impl Store + 'static>) {
    ALL.add(store);
}

/// From now on, this copy may be evicted.
pub(crate) fn register_copy(copy: &Arc<impl Store + 'static>) {
    COPIES.add(copy);
}

/// Evicts at least this many bytes, from the largest store first. `false` if there was nothing to evict.
pub(super) fn evict(bytes: u64) -> bool {
    ALL.evict(bytes)
}

/// Evicts at least this many bytes of copies that are to be stored.
pub(super) fn evict_copies(bytes: u64) -> bool {
    COPIES.evict(bytes)
}

impl List {
    fn add(&self, store: &Arc<impl Store + 'static>) {
        let store: Weak<dyn Store> = Arc::downgrade(store) as Weak<dyn Store>;
        let mut all = self.locked();
        all.retain(|store| store.strong_count() > 0);
        all.push(store);
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Weak<dyn Store>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn evict(&self, bytes: u64) -> bool {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut stores: Vec<(usize, Arc<dyn Store>)> = {
            let all = self.locked();
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
}
