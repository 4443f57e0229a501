//! Tokens whose signature was verified, so that it need not be verified again.
//!
//! What is remembered is a fact, "these bytes were signed with a key of that set", and never a decision: time, issuer,
//! audience, roles, scopes and revocation are asked again for every request. Only verified tokens get in, so a flood
//! of forged ones can neither fill the cache nor push good ones out.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ahash::RandomState;

use crate::jose::claims::Claims;
use crate::jose::verifier::Verifier;

/// Which keys vouch for a token: a source, and which of its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// One number for each distinct source of keys in this process.
    pub source: u64,
    /// Goes up whenever the source's document changes, which forgets every token verified with the old one.
    pub generation: u64,
}

/// All that the verdict on a token depends on, besides the token.
///
/// Algorithm and strategy belong to it: two endpoints may share a source and yet choose another key, or refuse the
/// token's algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope {
    pub origin: Origin,
    pub verifier: Verifier,
}

/// Bounds of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// 0 switches the cache off.
    pub entries: usize,
    /// Roughly, tokens and claims together. 0 switches the cache off.
    pub bytes: usize,
    /// How long a token without `exp`, or with a distant one, is remembered.
    pub max_age: Duration,
}

impl Default for CacheLimits {
    /// Room for the tokens of a busy site; memory is taken as it fills.
    fn default() -> CacheLimits {
        CacheLimits {
            entries: 1 << 17,
            bytes: 256 << 20,
            max_age: Duration::from_secs(3600),
        }
    }
}

/// What a cache has done since it was made, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    /// Pushed out by newer tokens; those that expired or were purged are not counted.
    pub evictions: u64,
    pub entries: usize,
    pub bytes: usize,
}

/// A bounded map from tokens to claims, shared by all workers.
pub struct TokenCache {
    shards: Box<[Shard]>,
    /// Keyed at random for each process, so that nobody can aim tokens at one bucket. Not the standard library's hash:
    /// over a whole token that costs as much as all the rest of a look-up.
    hasher: RandomState,
    max_age: Duration,
}

impl TokenCache {
    /// A cache with these bounds.
    pub fn new(limits: CacheLimits) -> TokenCache {
        let count = match limits.entries {
            0 => 0,
            _ if limits.bytes == 0 => 0,
            1..=1023 => 1,
            _ => SHARDS,
        };
        TokenCache {
            shards: (0..count)
                .map(|_| Shard::new(limits.entries.div_ceil(count), limits.bytes.div_ceil(count)))
                .collect(),
            hasher: RandomState::new(),
            max_age: limits.max_age,
        }
    }

    /// Where this token stands under this scope, for the calls that need to know; made once for a request.
    pub(super) fn place(&self, token: &str, scope: Scope) -> Place {
        Place(self.hash(token, scope))
    }

    /// The claims of this very token, if it was verified under this very scope and is still worth remembering.
    pub fn get(&self, token: &str, scope: Scope, now: Duration) -> Option<Arc<Claims>> {
        self.get_at(self.place(token, scope), token, scope, now)
    }

    /// The same at its place.
    pub(super) fn get_at(
        &self,
        Place(hash): Place,
        token: &str,
        scope: Scope,
        now: Duration,
    ) -> Option<Arc<Claims>> {
        let shard = self.shard(hash)?;
        let found = shard.read(|held| held.get(hash, token, scope, now));
        let counter = match found {
            Some(_) => &shard.hits,
            None => &shard.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Remembers a token that was just verified. Never call it for any other.
    pub fn insert(
        &self,
        token: &str,
        scope: Scope,
        claims: &Arc<Claims>,
        now: Duration,
        leeway: Duration,
    ) {
        self.insert_at(self.place(token, scope), token, scope, claims, now, leeway);
    }

    /// The same at its place.
    pub(super) fn insert_at(
        &self,
        Place(hash): Place,
        token: &str,
        scope: Scope,
        claims: &Arc<Claims>,
        now: Duration,
        leeway: Duration,
    ) {
        let Some(shard) = self.shard(hash) else {
            return;
        };
        let oldest = now.saturating_add(self.max_age);
        let dies = claims.expiry().map_or(oldest, |expiry| {
            expiry.since_epoch().saturating_add(leeway).min(oldest)
        });
        if dies <= now {
            return;
        }
        if !shard.admits(hash) {
            return;
        }
        let entry = Entry {
            hash,
            scope,
            token: token.into(),
            claims: Arc::clone(claims),
            dies,
            used: AtomicBool::new(false),
        };
        let evicted = shard.write(|held| held.insert(entry, now));
        shard.evictions.fetch_add(evicted, Ordering::Relaxed);
    }

    /// Drops what this source's older documents vouched for. It could not be found any more; this frees its memory.
    pub fn purge(&self, current: Origin) {
        self.retain(|scope| scope.origin.source != current.source || scope.origin == current);
    }

    /// Drops everything.
    pub fn clear(&self) {
        self.retain(|_| false);
    }

    /// Counters and sizes, summed over the shards.
    pub fn stats(&self) -> CacheStats {
        self.shards
            .iter()
            .fold(CacheStats::default(), |sum, shard| {
                let (entries, bytes) = shard.read(|held| (held.index.len(), held.bytes));
                CacheStats {
                    hits: sum.hits + shard.hits.load(Ordering::Relaxed),
                    misses: sum.misses + shard.misses.load(Ordering::Relaxed),
                    evictions: sum.evictions + shard.evictions.load(Ordering::Relaxed),
                    entries: sum.entries + entries,
                    bytes: sum.bytes + bytes,
                }
            })
    }

    fn retain(&self, keep: impl Fn(Scope) -> bool) {
        for shard in &self.shards {
            shard.write(|held| held.retain(&keep));
        }
    }

    /// A hash of the whole token. It only finds the place: the bytes are compared in full before anything is believed.
    fn hash(&self, token: &str, scope: Scope) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(token.as_bytes());
        hasher.write_u64(scope.origin.source);
        hasher.write_u64(scope.origin.generation);
        hasher.write_u16((scope.verifier.algorithm as u16) << 8 | scope.verifier.strategy as u16);
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> Option<&Shard> {
        // The low bits choose the bucket inside the shard.
        let count = u64::try_from(self.shards.len())
            .ok()
            .filter(|count| *count > 0)?;
        self.shards.get(usize::try_from((hash >> 48) % count).ok()?)
    }
}

/// A keyed hash of a token and its scope. It finds, and decides nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u64);

impl fmt::Debug for TokenCache {
    /// What it holds are credentials, so only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenCache").field(&self.stats()).finish()
    }
}

const SHARDS: usize = 64;

/// Aligned, so that the counters of two shards never share a cache line.
#[repr(align(128))]
struct Shard {
    held: RwLock<Held>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    /// Entries from which on a token gets in only when it comes for the second time.
    crowded: usize,
    /// The hashes of tokens that came once; made when first needed.
    doorstep: OnceLock<Box<[AtomicU64]>>,
}

/// Below this a shard is small enough to take everybody.
const SELECTIVE: usize = 1024;
/// Tokens that a shard remembers as seen once.
const DOORSTEP: usize = 2048;

impl Shard {
    fn new(max_entries: usize, max_bytes: usize) -> Shard {
        Shard {
            held: RwLock::new(Held {
                index: HashMap::default(),
                slots: Vec::new(),
                free: Vec::new(),
                hand: 0,
                bytes: 0,
                max_entries,
                max_bytes,
            }),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            crowded: match max_entries {
                0..SELECTIVE => usize::MAX,
                many => many / 32,
            },
            doorstep: OnceLock::new(),
        }
    }

    /// Whether a verified token is to be kept. A shard with many entries keeps only those that come again: a stream of
    /// tokens that are used once costs neither memory nor the places of others.
    fn admits(&self, hash: u64) -> bool {
        if self.read(|held| held.index.len()) < self.crowded {
            return true;
        }
        let doorstep = self
            .doorstep
            .get_or_init(|| (0..DOORSTEP).map(|_| AtomicU64::new(0)).collect());
        let place = usize::try_from(hash >> 16).unwrap_or_default() % DOORSTEP;
        doorstep
            .get(place)
            .is_none_or(|seen| seen.swap(hash, Ordering::Relaxed) == hash)
    }

    fn read<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        // A panic while the lock was held leaves at worst a forgotten token.
        look(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One shard's entries. Which one goes when room is needed is decided by a clock: the hand passes over entries that
/// were used since its last visit and takes the first that was not.
struct Held {
    index: HashMap<u64, usize, AsIs>,
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

struct Entry {
    hash: u64,
    scope: Scope,
    token: Box<str>,
    claims: Arc<Claims>,
    /// From then on the token has expired for everybody, or is to be verified again.
    dies: Duration,
    used: AtomicBool,
}

impl Entry {
    fn weight(&self) -> usize {
        std::mem::size_of::<Entry>() + self.token.len() + self.claims.weight()
    }
}

impl Held {
    fn get(&self, hash: u64, token: &str, scope: Scope, now: Duration) -> Option<Arc<Claims>> {
        let entry = self.slots.get(*self.index.get(&hash)?)?.as_ref()?;
        if *entry.token != *token || entry.scope != scope || entry.dies <= now {
            return None;
        }
        // Written only when it changes: a hot token's line then stays shared between the cores.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.claims))
    }

    /// Returns how many living entries had to go.
    fn insert(&mut self, entry: Entry, now: Duration) -> u64 {
        let weight = entry.weight();
        if weight > self.max_bytes {
            return 0;
        }
        if let Some(old) = self.index.get(&entry.hash).copied() {
            self.remove(old);
        }
        let mut evicted = 0;
        while self.index.len() >= self.max_entries || self.bytes + weight > self.max_bytes {
            evicted += self.evict(now);
        }
        self.bytes += weight;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.index.insert(entry.hash, slot);
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(entry);
        }
        evicted
    }

    /// Moves the hand on until it has taken an entry. Called only while there is one, so it ends within two rounds.
    fn evict(&mut self, now: Duration) -> u64 {
        loop {
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            let Some(Some(entry)) = self.slots.get_mut(self.hand) else {
                continue;
            };
            let dead = entry.dies <= now;
            if dead || !std::mem::take(entry.used.get_mut()) {
                self.remove(self.hand);
                return u64::from(!dead);
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        if let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) {
            self.index.remove(&entry.hash);
            self.bytes -= entry.weight();
            self.free.push(slot);
        }
    }

    fn retain(&mut self, keep: impl Fn(Scope) -> bool) {
        for slot in 0..self.slots.len() {
            if matches!(self.slots.get(slot), Some(Some(entry)) if !keep(entry.scope)) {
                self.remove(slot);
            }
        }
    }
}

/// The key is a keyed hash already; hashing it again would only cost.
#[derive(Clone, Copy, Default)]
struct AsIs;

impl BuildHasher for AsIs {
    type Hasher = AsIsHasher;

    fn build_hasher(&self) -> AsIsHasher {
        AsIsHasher(0)
    }
}

struct AsIsHasher(u64);

impl Hasher for AsIsHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests;
