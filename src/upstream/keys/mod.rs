//! Key sets kept fresh in the background, read without waiting.
//!
//! One [`KeySource`] for each distinct [`SourceSpec`] and nothing less: two endpoints whose keys come from different
//! places, or over differently verified connections, never see each other's keys. A request reads the current set
//! with one atomic load. It waits only when there is no set at all or the token's key is new, and then for the one
//! fetch that all wait for.

mod failed;
mod sealed;
mod source;
mod spec;
mod store;

pub use failed::FailedKeys;
pub use sealed::SealedFile;
pub use source::{KeyDocument, KeySource, Snapshot, SourceStatus};
pub use spec::{FetchError, Location, SourceSpec, read_key_file};
pub use store::{KeySetStore, Schedule};
