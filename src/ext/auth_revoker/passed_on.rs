//! The revoked tokens that a process passes to the one that takes over from it.

use std::time::Duration;

use bytes::Bytes;

use super::revocation_list::RevocationList;
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::passed::{self, Lines, Passed};

const TOKENS: &str = "revoked";
const LOGOUTS: &str = "logouts";

impl UpgradeState for RevocationList {
    fn give(&self) -> String {
        let (mut text, now) = (String::new(), self.clock.now());
        let mut add = |kind, of: &str, bytes: Vec<u8>| {
            let passed = Passed {
                age: Duration::ZERO,
                life: None,
                value: Bytes::from(bytes),
            };
            if !passed::write(&mut text, kind, &of, &passed) {
                log::error!(
                    "[SERVICE: Revoker] the list is too large for an upgrade: the new process starts without it"
                );
            }
        };
        if let Some(bytes) = self.tokens.to_bytes(now) {
            add(TOKENS, &self.shape, bytes);
        }
        add(LOGOUTS, LOGOUTS, self.logouts.to_bytes(now));
        text
    }

    fn take(&self, given: &str) {
        let now = self.clock.now();
        let tokens = Lines::new(given, TOKENS);
        let is_added = tokens
            .find(&self.shape)
            .is_some_and(|passed| self.tokens.add_bytes(&passed.value, now));
        if !is_added && !tokens.is_empty() {
            log::error!(
                "[SERVICE: Revoker] the new process starts with an empty list, because \"N\", \"P\", \"TTL\" or \"hash_name\" changed: revoked tokens are valid again"
            );
        }
        if let Some(passed) = Lines::new(given, LOGOUTS).find(&LOGOUTS) {
            self.logouts.add_bytes(&passed.value, now);
        }
    }
}
