//! Key sets, refreshed in the background and read without waiting.
//!
//! There is exactly one [`KeySource`] for each distinct [`SourceSpec`]: two endpoints whose keys come from different
//! places, or over differently verified connections, never see each other's keys. A request reads the current set
//! with one atomic load. It waits only if there is no set, or the token's key is unknown, and then for one shared
//! fetch.

mod failed;
mod passed_on;
mod sealed;
mod source;
mod spec;
mod status;
mod store;
mod union;

pub(crate) use failed::FailedKeys;
pub use sealed::SealedFile;
pub(crate) use source::Snapshot;
pub use source::{KeyDocument, KeySource};
pub(crate) use spec::read_key_file;
pub use spec::{Location, SourceSpec};
pub(crate) use status::SourceStatus;
pub(crate) use store::FetchLimiter;
pub(super) use store::jitter;
pub use store::{KeySetStore, Schedule};
