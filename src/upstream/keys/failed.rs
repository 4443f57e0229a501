//! Key ids that were looked for in vain.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Ids are foreign bytes: this many are remembered, and no more.
const MOST_IDS: usize = 10_000;

/// Remembers for a while which key ids do not exist (`failed_jwk_key_cooldown`), so that they ask for no refresh.
#[derive(Debug)]
pub struct FailedKeys {
    cooldown: Duration,
    ids: Mutex<HashMap<Box<str>, Instant>>,
}

impl FailedKeys {
    /// Remembers each id for `cooldown`.
    pub fn new(cooldown: Duration) -> FailedKeys {
        FailedKeys {
            cooldown,
            ids: Mutex::default(),
        }
    }

    /// Whether `id` was looked for in vain less than the cool-down ago.
    pub fn contains(&self, id: &str) -> bool {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(id).is_some_and(|until| *until > Instant::now())
    }

    /// Remembers `id`. With the memory full of ids that are not forgotten yet, nothing is added: the refreshes stay
    /// bounded by their own cool-down.
    pub fn insert(&self, id: &str) {
        let now = Instant::now();
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= MOST_IDS {
            ids.retain(|_, until| *until > now);
        }
        if ids.len() < MOST_IDS {
            ids.insert(id.into(), now + self.cooldown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_id_is_forgotten_after_the_cooldown() {
        let failed = FailedKeys::new(Duration::from_secs(2));
        failed.insert("a");
        assert!(failed.contains("a") && !failed.contains("b"));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!failed.contains("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_ids_does_not_grow_the_memory() {
        let failed = FailedKeys::new(Duration::from_secs(60));
        for id in 0..2 * MOST_IDS {
            failed.insert(&id.to_string());
        }
        assert_eq!(failed.ids.lock().unwrap().len(), MOST_IDS);
        tokio::time::advance(Duration::from_secs(61)).await;
        failed.insert("new");
        assert_eq!(failed.ids.lock().unwrap().len(), 1);
    }
}
