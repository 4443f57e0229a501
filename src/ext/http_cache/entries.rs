//! The store: limited in bytes and in number, with eviction of the least recently used entries.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::runtime::single_flights::{Digest, SingleFlights};
use crate::runtime::step::CacheKey;
use crate::upstream::Incoming;
use crate::upstream::budget::{Budget, Charge, Store, register};

/// The default limits. KrakenD's cache has no limit then.
const MAX_BYTES: usize = 64 << 20;
const MAX_ITEMS: usize = 100_000;

/// The overhead of an entry: tables, keys and counters. It counts only against our own limits; a configured size
/// applies to responses.
const OVERHEAD: usize = 512;

/// The overhead of each header of an entry, counted like [`OVERHEAD`].
const FIELD_OVERHEAD: usize = 128;

/// The headers that a response depends on (`Vary`), and digests of the values that were sent.
pub(super) type Varied = Box<[(HeaderName, Digest)]>;

/// A stored response.
#[derive(Debug)]
pub(crate) struct Entry {
    pub response: Incoming,
    pub varied: Varied,
    /// Whether clients that sent credentials may receive it.
    pub public: bool,
    /// The time of the call that fetched it.
    pub took: Duration,
}

/// Stored responses by key.
#[derive(Debug)]
pub(crate) struct Entries {
    max_bytes: usize,
    max_items: usize,
    /// Added for each entry, and for each of its headers.
    overhead: (usize, usize),
    table: Mutex<Table>,
    /// The calls in progress that fill the store.
    pub single_flights: SingleFlights,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Digest, Slot>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Digest>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
    used: u64,
    bytes: usize,
}

impl Entries {
    /// A store of at most `max_items` responses, whose URLs, headers and bodies have at most `max_bytes`.
    pub(crate) fn new(max_bytes: usize, max_items: usize) -> Entries {
        Entries {
            max_bytes,
            max_items,
            overhead: (0, 0),
            table: Mutex::default(),
            single_flights: SingleFlights::default(),
        }
    }

    /// A store without configured limits.
    pub(crate) fn unconfigured() -> Entries {
        Entries {
            overhead: (OVERHEAD, FIELD_OVERHEAD),
            ..Entries::new(MAX_BYTES, MAX_ITEMS)
        }
    }

    /// The maximum size of a response.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes as u64
    }

    /// The response under `key`, which becomes the most recently used one.
    pub(crate) fn get(&self, key: &Digest) -> Option<Arc<Entry>> {
        let mut table = self.locked();
        let Table {
            entries,
            order,
            uses,
            ..
        } = &mut *table;
        let slot = entries.get_mut(key)?;
        *uses += 1;
        if let Some(key) = order.remove(&slot.used) {
            order.insert(*uses, key);
        }
        slot.used = *uses;
        Some(Arc::clone(&slot.entry))
    }

    /// The same store, whose entries may be evicted when memory is short.
    pub(crate) fn evictable(self) -> Arc<Entries> {
        let entries = Arc::new(self);
        register(&entries);
        entries
    }

    /// Stores a response, and evicts others until all fit. One that could never fit, or for which there is no memory,
    /// only removes the previous one.
    ///
    /// A copy is stored, because the headers and the body of a response may be small parts of large buffers.
    pub(crate) fn put(&self, key: &CacheKey, entry: Entry) {
        let (per_entry, per_field) = self.overhead;
        let fields = entry.response.headers.len() + entry.varied.len();
        let size = size(key, &entry);
        let bytes = per_entry + per_field * fields + size;
        let fits = bytes <= self.max_bytes && self.max_items > 0;
        let mut charge = Budget::stores().charge();
        let charged = OVERHEAD + FIELD_OVERHEAD * fields + size;
        // Before the table is locked: others may be evicted from it.
        let fits =
            fits && charged as u64 <= Budget::stores().limit() / 2 && charge.cover(charged).is_ok();
        let entry = fits.then(|| copied(entry, charge));
        let mut table = self.locked();
        table.remove(&key.digest);
        let Some(entry) = entry else { return };
        while table.bytes + bytes > self.max_bytes || table.entries.len() >= self.max_items {
            if table.remove_oldest().is_none() {
                break;
            }
        }
        table.insert(key.digest, entry, bytes);
    }

    /// Removes the response under `key`.
    pub(crate) fn remove(&self, key: &Digest) {
        self.locked().remove(key);
    }

    /// The number of stored bytes and responses.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let table = self.locked();
        (table.bytes, table.entries.len())
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Entries {
    fn bytes(&self) -> usize {
        self.locked().bytes
    }

    fn evict(&self, bytes: usize) -> usize {
        let mut table = self.locked();
        let mut evicted = 0;
        while evicted < bytes {
            match table.remove_oldest() {
                Some(more) => evicted += more.max(1),
                None => break,
            }
        }
        evicted
    }
}

impl Table {
    fn insert(&mut self, key: Digest, entry: Entry, bytes: usize) {
        self.uses += 1;
        self.order.insert(self.uses, key);
        self.bytes += bytes;
        let slot = Slot {
            entry: Arc::new(entry),
            used: self.uses,
            bytes,
        };
        self.entries.insert(key, slot);
    }

    /// Returns the bytes of the removed response.
    fn remove(&mut self, key: &Digest) -> usize {
        let Some(slot) = self.entries.remove(key) else {
            return 0;
        };
        self.order.remove(&slot.used);
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        slot.bytes
    }

    fn remove_oldest(&mut self) -> Option<usize> {
        let (_, key) = self.order.pop_first()?;
        Some(self.remove(&key))
    }
}

fn size(key: &CacheKey, entry: &Entry) -> usize {
    let fields = entry.response.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len());
    let varied = entry.varied.iter();
    let varied = varied.map(|(name, digest)| name.as_str().len() + digest.len());
    key.url_bytes + fields.sum::<usize>() + varied.sum::<usize>() + entry.response.body.len()
}

/// A copy of the entry in its own memory, which is charged until its last reader is done.
fn copied(mut entry: Entry, charge: Charge) -> Entry {
    entry.response.body = charge.hold_copy(&entry.response.body);
    let mut headers = HeaderMap::with_capacity(entry.response.headers.len());
    for (name, value) in &entry.response.headers {
        // Valid, because it is a copy of a valid one.
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_str().as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.append(name, value);
        }
    }
    entry.response.headers = headers;
    entry
}
