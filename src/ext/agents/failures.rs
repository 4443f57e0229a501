//! How often a message has failed, for queues that do not count this themselves.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

/// The maximum number of remembered messages. Others count as new.
const MOST: usize = 4096;
/// A failure is forgotten after this time: another consumer has probably taken the message.
const LIFE: Duration = Duration::from_secs(600);

/// Counts failures by the content of messages. Equal messages share a counter with one entry for each, so each gets as
/// many attempts as it would have alone.
#[derive(Debug, Default)]
pub(super) struct Failures {
    known: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// The failures of each message with this content.
    entries: HashMap<u64, (SmallVec<[u32; 1]>, Instant)>,
    messages: usize,
}

impl Failures {
    /// The key of a message.
    pub(super) fn key(&self, body: &[u8], id: &str) -> u64 {
        self.hasher.hash_one((body, id))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure. Returns the number of failures of this message, at least 1.
    pub(super) fn failed(&self, key: u64, redelivered: bool) -> u32 {
        let now = Instant::now();
        let mut known = self.lock();
        let again = redelivered && known.entries.contains_key(&key);
        if !again {
            if known.messages >= MOST {
                known.forget(now);
            }
            if known.messages >= MOST {
                return 1;
            }
            known.messages += 1;
        }
        let (counts, at) = known
            .entries
            .entry(key)
            .or_insert_with(|| (SmallVec::new(), now));
        *at = now;
        if again && let Some(least) = counts.iter_mut().min() {
            *least = least.saturating_add(1);
            return *least;
        }
        counts.push(1);
        1
    }

    /// Notes that a message is done, or was rejected.
    pub(super) fn over(&self, key: u64) {
        let mut known = self.lock();
        let Some((counts, _)) = known.entries.get_mut(&key) else {
            return;
        };
        let largest = counts.iter().enumerate().max_by_key(|(_, count)| **count);
        if let Some((index, _)) = largest {
            counts.swap_remove(index);
        }
        let is_empty = counts.is_empty();
        known.messages = known.messages.saturating_sub(1);
        if is_empty {
            known.entries.remove(&key);
        }
    }
}

impl Known {
    fn forget(&mut self, now: Instant) {
        self.entries
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < LIFE);
        self.messages = self.entries.values().map(|(counts, _)| counts.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_messages_have_as_many_attempts_as_different_ones() {
        let failures = Failures::default();
        let key = failures.key(b"{}", "");
        assert_eq!(key, failures.key(b"{}", ""));
        assert_ne!(key, failures.key(b"{}", "id"));
        assert_eq!(failures.failed(key, false), 1);
        assert_eq!(failures.failed(key, true), 2);
        // A second one with the same content.
        assert_eq!(failures.failed(key, false), 1);
        assert_eq!(failures.failed(key, true), 2);
        assert_eq!(failures.failed(key, true), 3);
        assert_eq!(failures.failed(key, true), 3);
        failures.over(key);
        failures.over(key);
        failures.over(key);
        assert_eq!(failures.failed(key, true), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_known_messages_is_bounded() {
        let failures = Failures::default();
        for key in 0..MOST as u64 {
            failures.failed(key, false);
        }
        assert_eq!(failures.failed(u64::MAX, false), 1);
        assert_eq!(failures.failed(u64::MAX, true), 1);
        assert_eq!(failures.failed(7, true), 2);
        tokio::time::advance(LIFE).await;
        assert_eq!(failures.failed(u64::MAX, false), 1);
        assert_eq!(failures.failed(u64::MAX, true), 2);
        assert_eq!(failures.lock().messages, 1);
    }
}
