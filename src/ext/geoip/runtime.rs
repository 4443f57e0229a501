//! Looks up addresses.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use maxminddb::{MaxMindDbError, Reader, WithinOptions};

use super::record::Place;
use crate::named_file;
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
    /// What is not as expected in the first records.
    doubt: Option<String>,
}

/// The record of an address cannot be read, so that nothing is known about its place, not even that it is unknown.
#[derive(Debug)]
pub(crate) struct Unreadable;

/// How many records are read when a database is loaded.
const TRIED: usize = 1000;

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
                if let Some(doubt) = &loaded.doubt {
                    log::warn!("[SERVICE: GeoIP] {doubt}");
                }
                self.loaded.store(Arc::new(loaded));
                self.complained.store(false, Ordering::Relaxed);
                log::info!("[SERVICE: GeoIP] the new database is in use");
            }
            Err(reason) => log::error!("[SERVICE: GeoIP] the old database stays in use: {reason}"),
        }
    }

    /// What is not as expected in the database.
    pub(super) fn doubt(&self) -> Option<String> {
        self.loaded.load().doubt.clone()
    }

    /// The place of `address`. It is empty if the database has none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(crate) fn place(&self, address: IpAddr) -> Result<Place, Unreadable> {
        let loaded = self.loaded.load();
        let found = loaded.reader.lookup(address.to_canonical());
        let place = found.and_then(|found| found.decode::<Place>());
        let mut place = place
            .map_err(|error| {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    log::error!("[SERVICE: GeoIP] a lookup in the database failed: {error}");
                }
                Unreadable
            })?
            .unwrap_or_default();
        if !self.complained.load(Ordering::Relaxed)
            && let Some(doubt) = unexpected(&place)
        {
            self.complained.store(true, Ordering::Relaxed);
            log::error!("[SERVICE: GeoIP] {doubt}");
        }
        if !self.languages.is_empty() {
            place.keep(&self.languages);
        }
        Ok(place)
    }

    /// The members of the place, for expressions.
    ///
    /// # Errors
    /// As [`Locator::place`].
    #[cfg(feature = "cel")]
    pub(crate) fn members(
        &self,
        address: IpAddr,
    ) -> Result<serde_json::Map<String, serde_json::Value>, Unreadable> {
        match serde_json::to_value(self.place(address)?) {
            Ok(serde_json::Value::Object(members)) => Ok(members),
            _ => Err(Unreadable),
        }
    }

    /// `None` if nothing is known about the place. A guard that reads the header then finds none.
    fn header(&self, address: IpAddr) -> Option<HeaderValue> {
        let text = serde_json::to_vec(&self.place(address).ok()?).ok()?;
        HeaderValue::from_bytes(&text).ok()
    }
}

/// What is not as expected in a record.
fn unexpected(place: &Place) -> Option<String> {
    let members = place.unreadable_members();
    (!members.is_empty()).then(|| {
        let names = members.join(", ");
        format!("values of an unexpected type in the database are left out, such as {names}")
    })
}

/// The maximum size of a database. The largest one that is sold has less than 200 MiB.
const MAX_FILE: u64 = 1 << 30;

impl Loaded {
    fn read(path: &std::path::Path) -> Result<Loaded, String> {
        let shown = path.display();
        // Before the content, so that a later change is not missed.
        let changed = modified(path);
        let bytes = named_file::read_only_file(path, MAX_FILE)
            .map_err(|error| format!("{shown}: {error}"))?;
        let reader = Reader::from_source(bytes)
            .map_err(|error| format!("{shown} is not a database: {error}"))?;
        let kind = &reader.metadata().database_type;
        if !["City", "Enterprise"]
            .iter()
            .any(|known| kind.contains(known))
        {
            return Err(format!("{shown} is a {kind} database, not a City database"));
        }
        let doubt = tried(&reader).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        Ok(Loaded {
            reader,
            changed,
            doubt,
        })
    }
}

/// Reads the first records. Returns what is not as expected.
fn tried(reader: &Reader<Vec<u8>>) -> Result<Option<String>, MaxMindDbError> {
    let mut doubt = (reader.metadata().ip_version == 4).then(|| {
        "the database has only IPv4 addresses: policies with geoIP() reject other clients".into()
    });
    for found in reader.networks(WithinOptions::default())?.take(TRIED) {
        let place = found?.decode::<Place>()?.unwrap_or_default();
        doubt = doubt.or_else(|| unexpected(&place));
    }
    Ok(doubt)
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
        notes.set_header(&HEADER, value.into_iter().collect());
        None
    }
}
