//! What a process passes to the one that takes over from it: the revocations that Redis does not have yet, and those that
//! are sent again if Redis loses them.
//!
//! | kind | value |
//! |---|---|
//! | `revoked-unsent` | a line for each element that waits for Redis |
//! | `revoked-known` | a line for each element that this process remembers: how long still, in milliseconds, and the element |

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::Fleet;
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::passed::{Lines, write_text};

const UNSENT: &str = "revoked-unsent";
const KNOWN: &str = "revoked-known";

impl UpgradeState for Fleet {
    fn give(&self) -> String {
        let (mut text, now) = (String::new(), Instant::now());
        let unsent = self.waiting().all().join("\n");
        if !unsent.is_empty() && !write_text(&mut text, UNSENT, &UNSENT, unsent) {
            log::error!(
                "[SERVICE: Revoker] the revocations that wait for Redis are too large for an upgrade: other gateways do not learn them"
            );
        }
        let mut known = String::new();
        for (ends, element) in self.heard().all(now) {
            // Writing to a String cannot fail.
            let _ = writeln!(known, "{} {element}", (ends - now).as_millis());
        }
        if !known.is_empty() && !write_text(&mut text, KNOWN, &KNOWN, known) {
            log::warn!(
                "[SERVICE: Revoker] the known revocations are too large for an upgrade: the new process does not send them again if Redis loses them"
            );
        }
        text
    }

    fn take(&self, given: &str) {
        let now = Instant::now();
        for line in Lines::new(given, KNOWN).text(&KNOWN).lines() {
            if let Some((left, element)) = line.split_once(' ')
                && let Some(ends) = left.parse().ok().map(Duration::from_millis)
                && let Some(ends) = now.checked_add(ends.min(self.keep))
            {
                self.heard().push(element.into(), ends);
            }
        }
        for element in Lines::new(given, UNSENT).text(&UNSENT).lines() {
            self.waiting().push(element.into());
        }
        self.wake.notify_one();
    }
}
