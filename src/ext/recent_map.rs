//! A bounded map that drops entries that were not used recently.

use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::upstream::budget::available;

/// A map in two generations, split into shards.
///
/// A used entry moves to the young generation. When that is full, or older than the time to live, it becomes the old
/// one, and the previous old one is dropped. So an entry lives at least as long as the time to live unless the map is
/// full, nothing ever scans the map, and no task is needed to clean it. If all maps of the process together have as many
/// entries as the memory allows, the shards with more than their share drop an old generation for each full share of new
/// entries.
///
/// Clients choose the keys. A long key is stored as a digest, so that an entry has at most 41 bytes of key.
#[derive(Debug)]
pub(super) struct RecentMap<V> {
    /// Made for the first entry: a file may have thousands of limits that no client has met.
    shards: OnceLock<Box<[Mutex<Shard<V>>]>>,
    shard_count: u16,
    hasher: RandomState,
    limits: Limits,
    total: &'static Total,
}

/// The entries of all maps of the process. A file may have thousands of limits, and clients may fill each of them.
#[derive(Debug, Default)]
struct Total {
    entries: AtomicUsize,
    shards: AtomicUsize,
    /// The maximum number of entries.
    most: OnceLock<usize>,
}

static PROCESS: Total = Total {
    entries: AtomicUsize::new(0),
    shards: AtomicUsize::new(0),
    most: OnceLock::new(),
};

/// The memory of an entry, including its share of a table.
const ENTRY_BYTES: u64 = 150;
/// More locks have no benefit.
const MAX_SHARDS: u16 = 4096;
/// The share of the memory for all entries.
const MEMORY_SHARE: u64 = 16;

impl Total {
    /// Counts a new entry of a shard whose young generation has this many. `true` if the shard must drop some.
    fn is_crowded_by(&self, young: usize) -> bool {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        let most = *self.most.get_or_init(|| {
            let entries = available() / MEMORY_SHARE / ENTRY_BYTES;
            usize::try_from(entries).unwrap_or(usize::MAX)
        });
        let shards = self.shards.load(Ordering::Relaxed).max(1);
        entries >= most && young >= (most / shards / 2).max(1)
    }

    fn forget<V>(&self, generation: &HashMap<Box<str>, V>) {
        self.entries.fetch_sub(generation.len(), Ordering::Relaxed);
    }
}

/// How many entries a [`RecentMap`] may hold, and for how long at least.
#[derive(Debug, Clone, Copy)]
struct Limits {
    entries_per_generation: usize,
    time_to_live: Duration,
}

#[derive(Debug)]
struct Shard<V> {
    young: HashMap<Box<str>, V>,
    old: HashMap<Box<str>, V>,
    turned: Duration,
}

/// Longer keys are stored as a digest of 160 bits in hexadecimal digits, with a prefix that makes it longer than any
/// key that is stored literally.
const MAX_SHORT_BYTES: usize = 40;

fn bounded(key: &str) -> Cow<'_, str> {
    if key.len() <= MAX_SHORT_BYTES {
        return Cow::Borrowed(key);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let (kept, _) = digest.as_ref().split_at(MAX_SHORT_BYTES / 2);
    Cow::Owned(format!("#{}", hex::encode(kept)))
}

impl<V> RecentMap<V> {
    /// A map of at most `entries` (rounded up to two in each shard), with `shards` locks.
    pub(super) fn new(entries: usize, shards: usize, time_to_live: Duration) -> RecentMap<V> {
        RecentMap::within(entries, shards, time_to_live, &PROCESS)
    }

    fn within(
        entries: usize,
        shards: usize,
        time_to_live: Duration,
        total: &'static Total,
    ) -> RecentMap<V> {
        let shards = u16::try_from(shards).unwrap_or(MAX_SHARDS);
        let shard_count = shards.clamp(1, MAX_SHARDS);
        RecentMap {
            total,
            shards: OnceLock::new(),
            shard_count,
            hasher: RandomState::new(),
            limits: Limits {
                entries_per_generation: (entries / usize::from(shard_count) / 2).max(1),
                time_to_live,
            },
        }
    }

    /// Calls `with` on the entry of `key`, which is created by `new` if there is none. The shard is locked meanwhile,
    /// so `with` must be short and must not block.
    pub(super) fn with<R>(
        &self,
        key: &str,
        now: Duration,
        new: impl FnOnce() -> V,
        with: impl FnOnce(&mut V) -> R,
    ) -> R {
        let key = &*bounded(key);
        let mut shard = self.shard(key);
        // Freed only after the lock is released, because a generation may be large.
        let forgotten = shard.turn_if_due(now, &self.limits);
        let mut crowded_out = None;
        let result = match shard.young.get_mut(key) {
            Some(value) => with(value),
            None => {
                let (key, mut value) = match shard.old.remove_entry(key) {
                    Some(entry) => entry,
                    None => {
                        if self.total.is_crowded_by(shard.young.len()) {
                            crowded_out = Some(shard.turn(now));
                        }
                        (key.into(), new())
                    }
                };
                let result = with(&mut value);
                shard.young.insert(key, value);
                result
            }
        };
        drop(shard);
        for generation in [forgotten, crowded_out].into_iter().flatten() {
            self.total.forget(&generation);
        }
        result
    }

    /// The current number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.get().into_iter().flatten();
        shards
            .map(|shard| {
                let shard = lock(shard);
                shard.young.len() + shard.old.len()
            })
            .sum()
    }

    fn shard<Q: ?Sized + Hash>(&self, key: &Q) -> MutexGuard<'_, Shard<V>>
    where
        Box<str>: Borrow<Q>,
    {
        // A keyed hash, so that a client cannot choose keys that are all in one shard.
        let hash = self.hasher.hash_one(key) as usize;
        let shards = self.shards.get_or_init(|| self.new_shards());
        lock(&shards[hash % shards.len()])
    }

    #[cold]
    fn new_shards(&self) -> Box<[Mutex<Shard<V>>]> {
        let count = self.shard_count;
        self.total.shards.fetch_add(count.into(), Ordering::Relaxed);
        (0..count).map(|_| Mutex::new(Shard::new())).collect()
    }
}

impl<V> Drop for RecentMap<V> {
    fn drop(&mut self) {
        let Some(shards) = self.shards.get() else {
            return;
        };
        self.total.shards.fetch_sub(shards.len(), Ordering::Relaxed);
        for shard in shards {
            let shard = lock(shard);
            self.total.forget(&shard.young);
            self.total.forget(&shard.old);
        }
    }
}

impl<V> Shard<V> {
    fn new() -> Shard<V> {
        Shard {
            young: HashMap::new(),
            old: HashMap::new(),
            turned: Duration::ZERO,
        }
    }

    /// Starts a new generation if the young one is full or old enough. Returns the dropped one.
    fn turn_if_due(&mut self, now: Duration, limits: &Limits) -> Option<HashMap<Box<str>, V>> {
        let full = self.young.len() >= limits.entries_per_generation;
        let due = now.saturating_sub(self.turned) >= limits.time_to_live;
        (full || due).then(|| self.turn(now))
    }

    /// Starts a new generation. Returns the dropped one.
    fn turn(&mut self, now: Duration) -> HashMap<Box<str>, V> {
        self.turned = now;
        let young = std::mem::take(&mut self.young);
        std::mem::replace(&mut self.old, young)
    }
}

/// Every change is a single map operation, so a panic under the lock leaves no partial change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn bump(map: &RecentMap<u32>, key: &str, now: u64) -> u32 {
        map.with(
            key,
            Duration::from_secs(now),
            || 0,
            |count| {
                *count += 1;
                *count
            },
        )
    }

    #[test]
    fn a_map_without_entries_has_no_shards() {
        let map = RecentMap::new(100, 64, TTL);
        assert!(map.shards.get().is_none());
        assert!(size_of_val(&map) <= 96, "{}", size_of_val(&map));
        bump(&map, "a", 1);
        assert_eq!(map.shards.get().unwrap().len(), 64);
    }

    #[test]
    fn used_entries_are_kept() {
        let map = RecentMap::new(100, 4, TTL);
        for (count, now) in (1..10).zip((0..).step_by(50)) {
            assert_eq!(bump(&map, "a", now), count);
        }
    }

    #[test]
    fn entries_that_are_unused_for_two_lifetimes_are_dropped() {
        let map = RecentMap::new(100, 1, TTL);
        bump(&map, "a", 100);
        bump(&map, "b", 161);
        bump(&map, "b", 222);
        assert_eq!(bump(&map, "a", 223), 1);
    }

    #[test]
    fn the_size_is_limited() {
        let map = RecentMap::new(1000, 8, TTL);
        for n in 0..20_000 {
            bump(&map, &n.to_string(), 1);
        }
        assert!(map.len() <= 1000, "{}", map.len());
    }

    #[test]
    fn all_maps_together_are_limited_by_the_memory() {
        let total: &'static Total = Box::leak(Box::new(Total {
            most: OnceLock::from(1000),
            ..Total::default()
        }));
        let entries = || total.entries.load(Ordering::Relaxed);
        let quiet = RecentMap::within(1_000_000, 2, TTL, total);
        bump(&quiet, "a", 1);
        let maps: Vec<RecentMap<u32>> = (0..4)
            .map(|_| RecentMap::within(1_000_000, 2, TTL, total))
            .collect();
        for n in 0..5_000 {
            for map in &maps {
                bump(map, &n.to_string(), 1);
            }
        }
        let held: usize = maps.iter().map(RecentMap::len).sum();
        assert!((400..=1010).contains(&held), "{held}");
        assert_eq!(entries(), held + 1);
        // A map within its share keeps its entries.
        assert_eq!(bump(&quiet, "a", 1), 2);
        drop(maps);
        assert_eq!(entries(), 1);
    }

    #[test]
    fn a_long_key_is_not_stored_but_still_distinct() {
        let map = RecentMap::new(100, 1, TTL);
        let (one, two) = ("a".repeat(1 << 20), "a".repeat((1 << 20) + 1));
        assert_eq!((bump(&map, &one, 1), bump(&map, &one, 1)), (1, 2));
        assert_eq!(bump(&map, &two, 1), 1);
        assert_eq!(
            bump(&map, &bounded(&one), 1),
            1,
            "nobody can send the digest"
        );
        for length in 39..43 {
            assert_eq!(bump(&map, &"b".repeat(length), 1), 1, "{length}");
        }
        let shard = lock(&map.shards.get().unwrap()[0]);
        let longest = shard.young.keys().map(|key| key.len()).max();
        assert_eq!(longest, Some(MAX_SHORT_BYTES + 1));
    }

    #[test]
    fn a_flood_of_keys_does_not_evict_one_that_is_used_often() {
        let map = RecentMap::new(64, 1, TTL);
        let mut seen = 0;
        for n in 0..1000 {
            bump(&map, &n.to_string(), 1);
            if n % 8 == 0 {
                seen += 1;
                assert_eq!(bump(&map, "regular", 1), seen);
            }
        }
    }
}
