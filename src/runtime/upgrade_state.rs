//! What an upgrade passes to the new process besides the sockets.

use std::fmt;

/// State that was fetched from elsewhere, and that the process which takes over would have to fetch again.
pub trait UpgradeState: fmt::Debug + Send + Sync {
    /// The state now, in lines of text. It may contain secrets.
    fn give(&self) -> String;

    /// Takes what the old process gave, for all its states. What does not belong to this one is ignored.
    fn take(&self, given: &str);
}
