//! Key ids that were not found.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The maximum number of remembered ids, because clients choose them.
const MAX_IDS: usize = 10_000;

/// Remembers for a while which key ids do not exist (`failed_jwk_key_cooldown`), so that they trigger no refresh.
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

    /// Whether `id` was not found less than the cooldown ago.
    pub fn contains(&self, id: &str) -> bool {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(id).is_some_and(|until| *until > Instant::now())
    }

    /// Remembers `id`. If the memory is full of ids that have not expired, nothing is added: refreshes are still
    /// limited by their own cooldown.
    pub fn insert(&self, id: &str) {
        let now = Instant::now();
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= MAX_IDS {
            ids.retain(|_, until| *until > now);
        }
        if ids.len() < MAX_IDS {
            ids.insert(id.into(), now + self.cooldown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_id_expires_after_the_cooldown() {
        let failed = FailedKeys::new(Duration::from_secs(2));
        failed.insert("a");
        assert!(failed.contains("a") && !failed.contains("b"));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!failed.contains("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_ids_do_not_grow_the_memory() {
        let failed = FailedKeys::new(Duration::from_secs(60));
        for id in 0..2 * MAX_IDS {
            failed.insert(&id.to_string());
        }
        assert_eq!(failed.ids.lock().unwrap().len(), MAX_IDS);
        tokio::time::advance(Duration::from_secs(61)).await;
        failed.insert("new");
        assert_eq!(failed.ids.lock().unwrap().len(), 1);
    }
}
