//! The state of key sets and token cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ext::identity::keys::Identity;
use crate::jose::CacheStats;
use crate::upstream::keys::SourceStatus;

/// The data for the server's metrics, provided by the first block that uses tokens.
#[derive(Debug)]
pub struct IdentityStatus(Arc<Identity>);

impl IdentityStatus {
    pub(super) fn new(identity: Arc<Identity>) -> IdentityStatus {
        IdentityStatus(identity)
    }

    /// Every source of keys, ordered by label.
    pub fn key_sets(&self) -> Vec<SourceStatus> {
        self.0.sources()
    }

    /// Whether every source has had keys at least once.
    pub fn key_sets_have_arrived(&self) -> bool {
        self.0.have_arrived()
    }

    /// The number of accepted tokens without `exp`.
    pub fn without_expiry(&self) -> u64 {
        self.0.without_expiry.load(Ordering::Relaxed)
    }

    /// The counters and the size of the token cache.
    pub fn token_cache(&self) -> CacheStats {
        self.0.tokens.stats()
    }
}
