//! What an endpoint demands of tokens besides what its validator says itself.

use std::fmt;

use crate::jose::Claims;

/// Something that may refuse a good token. Asked on every request, also for a token that the cache remembers.
pub trait Demand: Send + Sync + fmt::Debug {
    /// Whether a token with these claims may pass. Must not wait.
    fn admits(&self, claims: &Claims) -> bool;
}
