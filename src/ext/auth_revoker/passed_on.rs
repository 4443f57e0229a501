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
        let mut add = |kind, bytes: Vec<u8>| {
            let passed = Passed {
                age: Duration::ZERO,
                life: None,
                value: Bytes::from(bytes),
            };
            if !passed::write(&mut text, kind, &self.shape, &passed) {
                log::error!(
                    "[SERVICE: Revoker] the list is too large for an upgrade: the new process starts without it"
                );
            }
        };
        if let Some(bytes) = self.tokens.to_bytes(now) {
            add(TOKENS, bytes);
        }
        add(LOGOUTS, self.logouts.to_bytes(now));
        text
    }

    fn take(&self, given: &str) {
        let now = self.clock.now();
        let found = |kind| Lines::new(given, kind).find(&self.shape);
        if let Some(passed) = found(TOKENS)
            && !self.tokens.add_bytes(&passed.value, now)
        {
            log::error!("[SERVICE: Revoker] the list of the previous process has another form");
        }
        if let Some(passed) = found(LOGOUTS) {
            self.logouts.add_bytes(&passed.value, now);
        }
    }
}
