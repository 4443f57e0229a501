//! The store: bounded in bytes and in number, the longest unused go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::runtime::flights::{Digest, Flights};
use crate::runtime::step::CacheKey;
use crate::upstream::Incoming;

/// The bounds where the file names none: KrakenD's cache has no end then.
const MAX_BYTES: usize = 64 << 20;
const MAX_ITEMS: usize = 100_000;

/// What an entry costs beside its bytes: tables, keys and counters. It counts against our own bounds only; a size in the
/// file is that of answers.
const OVERHEAD: usize = 512;

/// What each header field of an entry costs beside its bytes; counted like [`OVERHEAD`].
const FIELD_OVERHEAD: usize = 128;

/// Header fields that an answer depends on (`Vary`), and digests of what was sent in them.
pub type Varied = Box<[(HeaderName, Digest)]>;

/// One stored answer.
#[derive(Debug)]
pub struct Entry {
    pub answer: Incoming,
    pub varied: Varied,
    /// Whether anyone may have it, also those who sent credentials.
    pub public: bool,
}

/// Stored answers by key.
#[derive(Debug)]
pub struct Entries {
    max_bytes: usize,
    max_items: usize,
    /// Counted for each entry, and for each of its fields.
    overhead: (usize, usize),
    table: Mutex<Table>,
    /// The calls under way that fill the store.
    pub flights: Flights,
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
    /// A store of at most `max_items` answers, which with their URLs and fields have `max_bytes`.
    pub fn new(max_bytes: usize, max_items: usize) -> Entries {
        Entries {
            max_bytes,
            max_items,
            overhead: (0, 0),
            table: Mutex::default(),
            flights: Flights::default(),
        }
    }

    /// A store without bounds in the file.
    pub fn unconfigured() -> Entries {
        Entries {
            overhead: (OVERHEAD, FIELD_OVERHEAD),
            ..Entries::new(MAX_BYTES, MAX_ITEMS)
        }
    }

    /// The answer under `key`, now the last used one.
    pub fn get(&self, key: &Digest) -> Option<Arc<Entry>> {
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

    /// Stores an answer, and forgets others until all fit. One that could never fit only replaces what was there.
    ///
    /// What is stored is a copy: the fields and the body of an answer may be small parts of large buffers.
    pub fn put(&self, key: &CacheKey, entry: Entry) {
        let (per_entry, per_field) = self.overhead;
        let fields = entry.answer.headers.len() + entry.varied.len();
        let bytes = per_entry + per_field * fields + size(key, &entry);
        let fits = bytes <= self.max_bytes && self.max_items > 0;
        let entry = fits.then(|| copied(entry));
        let mut table = self.locked();
        table.remove(&key.digest);
        let Some(entry) = entry else { return };
        while table.bytes + bytes > self.max_bytes || table.entries.len() >= self.max_items {
            if !table.remove_oldest() {
                break;
            }
        }
        table.insert(key.digest, entry, bytes);
    }

    /// Forgets the answer under `key`.
    pub fn remove(&self, key: &Digest) {
        self.locked().remove(key);
    }

    /// Bytes and answers that are stored now.
    pub fn usage(&self) -> (usize, usize) {
        let table = self.locked();
        (table.bytes, table.entries.len())
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics half way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn remove(&mut self, key: &Digest) {
        if let Some(slot) = self.entries.remove(key) {
            self.order.remove(&slot.used);
            self.bytes = self.bytes.saturating_sub(slot.bytes);
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_first() else {
            return false;
        };
        self.remove(&key);
        true
    }
}

fn size(key: &CacheKey, entry: &Entry) -> usize {
    let fields = entry.answer.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len());
    let varied = entry.varied.iter();
    let varied = varied.map(|(name, digest)| name.as_str().len() + digest.len());
    key.url_bytes + fields.sum::<usize>() + varied.sum::<usize>() + entry.answer.body.len()
}

/// The entry in memory of its own.
fn copied(mut entry: Entry) -> Entry {
    entry.answer.body = Bytes::copy_from_slice(&entry.answer.body);
    let mut headers = HeaderMap::with_capacity(entry.answer.headers.len());
    for (name, value) in &entry.answer.headers {
        // Valid, as it is a copy of a valid one.
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_str().as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.append(name, value);
        }
    }
    entry.answer.headers = headers;
    entry
}
