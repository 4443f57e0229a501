//! Key sets and token cache in numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ext::identity::keys::Identity;
use crate::jose::CacheStats;
use crate::upstream::keys::SourceStatus;

/// What the server asks when it is asked for metrics; left by the first block that has to do with tokens.
#[derive(Debug)]
pub struct IdentityStatus(Arc<Identity>);

impl IdentityStatus {
    pub(super) fn new(identity: Arc<Identity>) -> IdentityStatus {
        IdentityStatus(identity)
    }

    /// Every source of keys, in the order of their labels.
    pub fn key_sets(&self) -> Vec<SourceStatus> {
        self.0.keys.status()
    }

    /// Whether every source has had keys at least once.
    pub fn key_sets_have_arrived(&self) -> bool {
        self.0.keys.have_arrived()
    }

    /// How often a token without `exp` was let in.
    pub fn without_expiry(&self) -> u64 {
        self.0.without_expiry.load(Ordering::Relaxed)
    }

    /// What the token cache has done and holds.
    pub fn token_cache(&self) -> CacheStats {
        self.0.tokens.stats()
    }
}
