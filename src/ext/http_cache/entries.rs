//! The store: bounded in bytes and in number, the longest unused go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderName, HeaderValue};

use crate::upstream::Incoming;

/// The bounds where the file names none: KrakenD's cache has no end then.
const MAX_BYTES: usize = 64 << 20;
const MAX_ITEMS: usize = 100_000;

/// What an entry costs beside its bytes: tables, keys and counters. It counts against our own bounds only; a size in the
/// file is that of answers.
const OVERHEAD: usize = 512;

/// Header fields that an answer depends on (`Vary`), as they were sent for it.
pub type Varied = Box<[(HeaderName, Option<HeaderValue>)]>;

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
    /// Counted for each entry.
    overhead: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Arc<str>, Slot>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Arc<str>>,
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
            overhead: 0,
            table: Mutex::default(),
        }
    }

    /// A store without bounds in the file.
    pub fn unconfigured() -> Entries {
        Entries {
            overhead: OVERHEAD,
            ..Entries::new(MAX_BYTES, MAX_ITEMS)
        }
    }

    /// The answer under `key`, now the last used one.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
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
    pub fn put(&self, key: &str, entry: Entry) {
        let bytes = self.overhead + size(key, &entry);
        let mut table = self.locked();
        table.remove(key);
        if bytes > self.max_bytes || self.max_items == 0 {
            return;
        }
        while table.bytes + bytes > self.max_bytes || table.entries.len() >= self.max_items {
            if !table.remove_oldest() {
                break;
            }
        }
        table.insert(key, entry, bytes);
    }

    /// Forgets the answer under `key`.
    pub fn remove(&self, key: &str) {
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
    fn insert(&mut self, key: &str, entry: Entry, bytes: usize) {
        let key: Arc<str> = key.into();
        self.uses += 1;
        self.order.insert(self.uses, Arc::clone(&key));
        self.bytes += bytes;
        let slot = Slot {
            entry: Arc::new(entry),
            used: self.uses,
            bytes,
        };
        self.entries.insert(key, slot);
    }

    fn remove(&mut self, key: &str) {
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

fn size(key: &str, entry: &Entry) -> usize {
    let fields: usize = entry
        .answer
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len())
        .sum();
    key.len() + fields + entry.answer.body.len()
}
