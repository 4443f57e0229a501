//! Memory for messages that wait in the gateway.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::Backoff;
use crate::upstream::budget::{Budget, SMALL};

/// How long a message for which there is no memory is kept without its body at most: another consumer of its queue may
/// have memory for it.
pub(in crate::ext) const FULL_PAUSE: Duration = Duration::from_secs(10);
/// The interval at which memory is looked for. A message that was returned is delivered again within it, as a rule.
const LOOK: Duration = Duration::from_millis(20);
/// The pauses while messages are returned in vain.
const PAUSES: Backoff = Backoff::doubling(LOOK, Duration::from_millis(2560));
/// A message that is skipped again within this time was returned in vain.
const SOON: Duration = Duration::from_secs(1);

/// The most bytes of all messages. Messages that wait for requests and workers leave half of the budget to others.
pub(in crate::ext) fn share() -> u64 {
    Budget::process().limit() / 2
}

/// Whether there is memory for a message now.
pub(in crate::ext) fn has_room(bytes: u64) -> bool {
    let used = Budget::process().used();
    bytes <= SMALL as u64 || used.saturating_add(bytes) <= share()
}

/// Messages without memory, which are returned to their queue one after another, so that each finds memory when it is
/// delivered again. Some queues count deliveries and give a message up.
#[derive(Debug, Default)]
pub(in crate::ext) struct Skipped(Mutex<Returned>);

#[derive(Debug, Default)]
pub(in crate::ext) struct Returned {
    last: Option<Instant>,
    /// How often in a row a message was returned and skipped again.
    in_vain: u32,
}

impl Returned {
    /// Notes that a message was skipped `at` this time.
    fn skipped(&mut self, at: Instant, redelivered: bool) {
        let since = self.last.and_then(|last| at.checked_duration_since(last));
        self.in_vain = match since {
            Some(since) if redelivered && since < SOON => self.in_vain.saturating_add(1),
            // It was skipped before the last one was returned.
            None if redelivered => self.in_vain,
            _ => 0,
        };
    }
}

impl Skipped {
    /// Waits until a message of so many bytes may be returned to its queue: there is memory for it and it is its turn,
    /// or it has waited for long. It must be returned before the result is dropped.
    pub(in crate::ext) async fn turn(
        &self,
        bytes: u64,
        redelivered: bool,
    ) -> Option<MutexGuard<'_, Returned>> {
        let at = Instant::now();
        let turn = async {
            // Those that wait get it in their order.
            let mut returned = self.0.lock().await;
            returned.skipped(at, redelivered);
            sleep(PAUSES.pause(returned.in_vain.saturating_add(1))).await;
            while !has_room(bytes) || Budget::process().left() < bytes {
                sleep(LOOK).await;
            }
            returned.last = Some(Instant::now());
            returned
        };
        timeout_at(at + FULL_PAUSE, turn).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_that_are_returned_in_vain_are_returned_ever_more_rarely() {
        let skipped = Skipped::default();
        let mut times = Vec::new();
        for redelivered in [false, true, true, true, false, true] {
            let started = Instant::now();
            assert!(skipped.turn(1, redelivered).await.is_some());
            times.push(started.elapsed().as_millis());
        }
        assert_eq!(times, [20, 40, 80, 160, 20, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_waits_for_its_turn_but_not_without_end() {
        let skipped = Skipped::default();
        let turn = skipped.turn(1, false).await;
        let started = Instant::now();
        assert!(skipped.turn(1, false).await.is_none());
        assert_eq!(started.elapsed(), FULL_PAUSE);
        drop(turn);
        assert!(skipped.turn(1, false).await.is_some());
    }
}
