//! Looks up addresses.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use maxminddb::Reader;
use smallvec::SmallVec;

use super::place::Place;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::ServiceStep;

/// The header with the place.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-geoip");

/// A database of places, which follows its file.
pub(crate) struct Locator {
    path: PathBuf,
    languages: Vec<String>,
    loaded: ArcSwap<Loaded>,
    /// Whether a record was found to be unreadable, which is logged once for each file.
    complained: AtomicBool,
}

struct Loaded {
    reader: Reader<Vec<u8>>,
    changed: Option<SystemTime>,
}

impl Locator {
    /// Reads the database at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a database of cities. The text is a sentence.
    pub(crate) fn open(path: PathBuf, languages: Vec<String>) -> Result<Locator, String> {
        let loaded = Loaded::read(&path)?;
        Ok(Locator {
            path,
            languages,
            loaded: ArcSwap::from_pointee(loaded),
            complained: AtomicBool::new(false),
        })
    }

    /// Reads the file again if it has changed. One that cannot be read leaves the old data in use.
    pub(crate) fn look(&self) {
        let changed = modified(&self.path);
        if changed.is_none() || changed == self.loaded.load().changed {
            return;
        }
        match Loaded::read(&self.path) {
            Ok(loaded) => {
                self.loaded.store(Arc::new(loaded));
                self.complained.store(false, Ordering::Relaxed);
                log::info!("[SERVICE: GeoIP] the new database is in use");
            }
            Err(reason) => log::error!("[SERVICE: GeoIP] the old database stays in use: {reason}"),
        }
    }

    /// The place of `address`. It is empty if the database has none.
    pub(crate) fn place(&self, address: IpAddr) -> Place {
        let loaded = self.loaded.load();
        let found = loaded.reader.lookup(address.to_canonical());
        let mut place = match found.and_then(|found| found.decode::<Place>()) {
            Ok(place) => place.unwrap_or_default(),
            Err(error) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    log::error!(
                        "[SERVICE: GeoIP] a record of the database cannot be read: {error}"
                    );
                }
                Place::default()
            }
        };
        if !self.languages.is_empty() {
            place.keep(&self.languages);
        }
        place
    }

    /// The members of the place, for expressions.
    #[cfg(feature = "cel")]
    pub(crate) fn members(&self, address: IpAddr) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self.place(address)) {
            Ok(serde_json::Value::Object(members)) => members,
            _ => serde_json::Map::new(),
        }
    }

    fn header(&self, address: IpAddr) -> HeaderValue {
        let text = serde_json::to_vec(&self.place(address)).unwrap_or_default();
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("{}"))
    }
}

impl Loaded {
    fn read(path: &std::path::Path) -> Result<Loaded, String> {
        let shown = path.display();
        // Before the content, so that a later change is not missed.
        let changed = modified(path);
        let bytes = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
        let reader = Reader::from_source(bytes)
            .map_err(|error| format!("{shown} is not a database: {error}"))?;
        let kind = &reader.metadata().database_type;
        if !["City", "Enterprise"]
            .iter()
            .any(|known| kind.contains(known))
        {
            return Err(format!("{shown} is a {kind} database and none of cities"));
        }
        Ok(Loaded { reader, changed })
    }
}

fn modified(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

impl std::fmt::Debug for Locator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locator")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Sets the header on every request. It replaces what the client sent under this name.
#[derive(Debug)]
pub(super) struct GeoStep(pub(super) Arc<Locator>);

impl ServiceStep for GeoStep {
    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        let value = self.0.header(head.client);
        notes.set_header(&HEADER, SmallVec::from_iter([value]));
        None
    }
}
