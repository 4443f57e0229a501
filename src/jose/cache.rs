//! A cache of tokens whose signature was verified, so that it need not be verified again.
//!
//! An entry records a fact ("these bytes were signed with a key of that set"), never a decision. Time, issuer,
//! audience, roles, scopes and revocation are checked again for every request. Only verified tokens are inserted, so
//! a flood of forged tokens can neither fill the cache nor evict valid ones.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ahash::RandomState;

use crate::jose::claims::Claims;
use crate::jose::verifier::Verifier;

/// The key-set document that verified a token: its generation.
///
/// No two documents of a process share a generation, whatever their source. So a new document invalidates every token
/// verified with the old one, and no source finds the tokens of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(pub u64);

/// Everything that the result of a verification depends on, besides the token.
///
/// This includes algorithm and strategy: two endpoints may share a source and still select different keys, or reject
/// the algorithm of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope {
    pub origin: Origin,
    pub verifier: Verifier,
}

/// Size limits of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// 0 disables the cache.
    pub entries: usize,
    /// Approximate size of tokens and claims together. 0 disables the cache.
    pub bytes: usize,
    /// How long a token is cached if it has no `exp` or a distant one.
    pub max_age: Duration,
}

impl Default for CacheLimits {
    /// Large enough for the tokens of a busy site. Memory is allocated as the cache fills.
    fn default() -> CacheLimits {
        CacheLimits {
            entries: 1 << 17,
            bytes: 256 << 20,
            max_age: Duration::from_secs(3600),
        }
    }
}

/// Is told how many bytes a cache holds more, and how many fewer.
pub(crate) type Counted = fn(more: usize, fewer: usize);

/// Counters of a cache since its creation, and its current size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    /// Entries evicted by newer tokens. Expired and purged entries are not counted.
    pub evictions: u64,
    pub entries: usize,
    pub bytes: usize,
}

/// A bounded map from tokens to claims, shared by all worker threads.
pub struct TokenCache {
    shards: Box<[Shard]>,
    /// Keyed at random for each process, so that an attacker cannot aim tokens at one bucket. The standard library's
    /// hash is not used: over a whole token it costs as much as the rest of a lookup.
    hasher: RandomState,
    max_age: Duration,
    counted: Counted,
}

impl Drop for TokenCache {
    fn drop(&mut self) {
        (self.counted)(0, self.stats().bytes);
    }
}

impl TokenCache {
    /// Creates a cache with these limits.
    pub fn new(limits: CacheLimits) -> TokenCache {
        TokenCache::counted(limits, |_, _| {})
    }

    /// The same, for an owner who counts what it holds.
    pub(crate) fn counted(limits: CacheLimits, counted: Counted) -> TokenCache {
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
            counted,
        }
    }

    /// The hash of this token under this scope. It is computed once per request and passed to `get_at` and
    /// `insert_at`.
    pub(super) fn place(&self, token: &[u8], scope: Scope) -> Place {
        Place(self.hash(token, scope))
    }

    /// The claims of exactly this token, if it was verified under exactly this scope and the entry has not expired.
    pub fn get(&self, token: &str, scope: Scope, now: Duration) -> Option<Arc<Claims>> {
        let token = token.as_bytes();
        self.get_at(self.place(token, scope), token, scope, now)
    }

    /// Like [`TokenCache::get`], with the hash already computed.
    pub(super) fn get_at(
        &self,
        Place(hash): Place,
        token: &[u8],
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

    /// As [`TokenCache::get`], for a caller that asks for several scopes: a token that is not found is not counted.
    pub fn peek(&self, token: &[u8], scope: Scope, now: Duration) -> Option<Arc<Claims>> {
        let Place(hash) = self.place(token, scope);
        let shard = self.shard(hash)?;
        let found = shard.read(|held| held.get(hash, token, scope, now));
        if found.is_some() {
            shard.hits.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// Caches a token that was just verified. Never call it for any other token.
    pub fn insert(
        &self,
        token: &str,
        scope: Scope,
        claims: &Arc<Claims>,
        now: Duration,
        leeway: Duration,
    ) {
        let place = self.place(token.as_bytes(), scope);
        self.insert_at(place, token, scope, claims, now, leeway);
    }

    /// Like [`TokenCache::insert`], with the hash already computed.
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
            weight: size_of::<Entry>() + token.len() + claims.weight(),
            dies,
            used: AtomicBool::new(false),
        };
        let (evicted, before, after) = shard.write(|held| {
            let before = held.bytes;
            let evicted = held.insert(entry, now);
            (evicted, before, held.bytes)
        });
        (self.counted)(after.saturating_sub(before), before.saturating_sub(after));
        shard.evictions.fetch_add(evicted, Ordering::Relaxed);
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

    /// A hash of the end of the token, which is the end of its signature: it differs between tokens, and clients cannot
    /// choose it. It only locates the entry: all bytes are compared before the entry is used.
    fn hash(&self, token: &[u8], scope: Scope) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(token.last_chunk::<HASHED>().map_or(token, |end| &end[..]));
        hasher.write_usize(token.len());
        hasher.write_u64(scope.origin.0);
        let Verifier {
            algorithms,
            strategy,
            lone_key,
            purpose,
        } = scope.verifier;
        hasher.write_u64(
            u64::from(algorithms.bits()) << 9
                | (purpose as u64) << 4
                | (strategy as u64) << 1
                | u64::from(lone_key),
        );
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> Option<&Shard> {
        // The low bits choose the bucket within the shard.
        let count = u64::try_from(self.shards.len())
            .ok()
            .filter(|count| *count > 0)?;
        self.shards.get(usize::try_from((hash >> 48) % count).ok()?)
    }
}

/// A keyed hash of a token and its scope. It locates an entry but never decides on a match.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u64);

impl fmt::Debug for TokenCache {
    /// The entries are credentials, so only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenCache").field(&self.stats()).finish()
    }
}

const SHARDS: usize = 64;
/// The number of bytes at the end of a token that are hashed.
const HASHED: usize = 64;

/// Aligned, so that the counters of two shards never share a cache line.
#[repr(align(128))]
struct Shard {
    held: RwLock<Held>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    /// With this many entries or more, a token is inserted only when it is seen for the second time.
    crowded: usize,
    /// The hashes of tokens that were seen once. Allocated on first use.
    doorstep: OnceLock<Box<[AtomicU64]>>,
}

/// A shard with fewer entries accepts every token.
const SELECTIVE: usize = 1024;
/// How many tokens a shard remembers as seen once.
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

    /// Whether a verified token is inserted. A shard with many entries accepts only tokens that are seen again, so a
    /// stream of tokens that are used once costs no memory and evicts nothing.
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
        // A panic while the lock was held leaves at worst a lost entry.
        look(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The entries of one shard. A clock algorithm selects the entry to evict: the hand skips entries that were used
/// since its last visit and takes the first that was not.
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
    weight: usize,
    /// When the token expires, or must be verified again.
    dies: Duration,
    used: AtomicBool,
}

impl Held {
    fn get(&self, hash: u64, token: &[u8], scope: Scope, now: Duration) -> Option<Arc<Claims>> {
        let entry = self.slots.get(*self.index.get(&hash)?)?.as_ref()?;
        if entry.token.as_bytes() != token || entry.scope != scope || entry.dies <= now {
            return None;
        }
        // Written only when it changes, so that the cache line of a hot token stays shared between the cores.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.claims))
    }

    /// Returns the number of live entries that were evicted.
    fn insert(&mut self, entry: Entry, now: Duration) -> u64 {
        let weight = entry.weight;
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

    /// Advances the hand until it has removed an entry. The caller ensures that there is one, so it ends within two
    /// rounds.
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
            self.bytes -= entry.weight;
            self.free.push(slot);
        }
    }
}

/// The key is already a keyed hash, so it is not hashed again.
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
