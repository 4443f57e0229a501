//! How long a call waits for an equal one, learned from the responses of the backend.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use crate::runtime::single_flights::Patience;

/// So many responses are remembered.
const RESPONSES: usize = 16;

/// From so many responses on, one in eight that could not be shared is no evidence that the next one cannot.
const ENOUGH: u32 = 8;

/// So many responses of one kind, and none or few of the other kind, are evidence that the next one is of this kind.
const SOME: u32 = 3;

/// A call waits for this part of its time, less `RESERVE`, if nothing is known about the responses to equal calls. It
/// is small because the response may be one that cannot be shared and takes most of the time.
const PART: u32 = 5;

/// What a call may need beyond its usual time, for example for a new connection.
const RESERVE: Duration = Duration::from_millis(50);

/// What the last responses of a backend were like.
///
/// If the response to an equal call can be shared, the call that waits for it saves the backend a call. If it cannot be
/// shared, the call is made afterwards, in the time that is left. This is too little where responses take long. So
/// whether and how long a call waits depends on what is known: whether responses are shared, and what time they take.
///
/// A time _t_ **fits** if a call can wait for a response that takes _t_, and can then still be made. It **needs** a
/// sixteenth and 25 ms more than it usually takes. The *usual* time is the median of the responses that were shared.
/// The *safe start* is a fifth of the remaining time less 50 ms, or less so that the slowest response is awaited by no
/// call that then has too little time for it.
///
/// | the last sixteen responses | how long a call waits |
/// |---|---|
/// | none, or fewer than three, all shared, and the usual time does not fit | the safe start |
/// | all shared, the usual time fits | twice as long as they usually need, or a tenth of the remaining time. Beyond that the leading call is late, and may be of another kind |
/// | all shared, at least eight, the usual time fits | at least as long as the slowest one needs, but such that the usual time is left |
/// | all shared, at least three, the usual time does not fit | to its end: the response will serve all |
/// | at most one in eight could not be shared | as if all were shared, such that the slowest of the others is left. If only that does not fit, as long as the usual response needs |
/// | more could not be shared | the safe start; not longer than the usual response is worth waiting for |
/// | at least three could not be shared, and four times as many as were shared | not at all |
///
/// Where the store has an expired response to an equal call, its own time counts: the call waits for twice as long as
/// this needs, or a tenth of the remaining time, if it fits; and to its end if it does not fit, and at most one in eight
/// of the last responses could not be shared. Of this and the table, the longer time applies.
///
/// Not all calls that wait to their end may depend on one response. So the first of them makes its own call when it has
/// just enough time left for the usual one, and the others use the response that comes first. If a call fails, another
/// one is made at once as long as there is enough time. So a slow response costs two calls, and one failure costs at most
/// one request.
///
/// A configured time is the longest that a call waits. The call waits that long while at most one in eight responses
/// could not be shared, but leaves the usual time if that fits.
///
/// A call that does not wait long enough loses nothing but a call: it uses the response of the equal call if that comes
/// first. Only responses to leading calls count, so that one client cannot change much with many equal requests.
#[derive(Debug, Default)]
pub(super) struct Waits {
    anonymous: Recent,
    personal: Recent,
}

impl Waits {
    /// What is known about calls with or without credentials of a client. Responses to the former are rarely shared,
    /// which says nothing about the latter.
    pub(super) fn of(&self, is_personal: bool) -> &Recent {
        if is_personal {
            &self.personal
        } else {
            &self.anonymous
        }
    }
}

/// The last responses to calls of one kind.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// 0, or twice the time in milliseconds plus 1, plus 1 if the response was shared.
    slots: [AtomicU32; RESPONSES],
    next: AtomicUsize,
}

impl Recent {
    /// The response to a call came after `took`, and could be shared with equal calls or not.
    pub(super) fn learn(&self, took: Duration, is_shared: bool) {
        let millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        let number = millis.min(u32::MAX / 4).saturating_add(1) * 2 + u32::from(is_shared);
        let at = self.next.fetch_add(1, Ordering::Relaxed) % RESPONSES;
        if let Some(slot) = self.slots.get(at) {
            slot.store(number, Ordering::Relaxed);
        }
    }

    /// How long to wait if the request ends in `remaining`. `known` is the time of an equal call whose response was
    /// shared, and `most` is configured.
    pub(super) fn wait(
        &self,
        remaining: Duration,
        known: Option<Duration>,
        most: Option<Duration>,
    ) -> Patience {
        let seen = self.seen();
        let usual = known.max(seen.usual).map(needed).unwrap_or_default();
        let known = known.map(|took| seen.wait_for_known(took, remaining));
        let learned = seen.wait(remaining).max(known.unwrap_or_default());
        let most = match most {
            None => learned,
            Some(most) if seen.are_shared() => most.min(seen.longest(remaining)),
            Some(most) => most.min(learned),
        };
        Patience {
            own: remaining.saturating_sub(usual).min(most),
            most,
        }
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        let mut times = [Duration::MAX; RESPONSES];
        for (slot, time) in self.slots.iter().zip(&mut times) {
            let number = slot.load(Ordering::Relaxed);
            let took = Duration::from_millis((number / 2).saturating_sub(1).into());
            match (number, number % 2) {
                (0, _) => {}
                (_, 0) => {
                    seen.unshared += 1;
                    seen.slowest_unshared = seen.slowest_unshared.max(took);
                }
                _ => {
                    seen.shared += 1;
                    seen.slowest_shared = seen.slowest_shared.max(took);
                    *time = took;
                }
            }
        }
        times.sort_unstable();
        let middle = seen.shared.checked_sub(1).map(|last| last / 2);
        seen.usual = middle
            .and_then(|middle| times.get(middle as usize))
            .copied();
        seen
    }
}

/// A summary of the last responses.
#[derive(Debug, Default)]
struct Seen {
    shared: u32,
    unshared: u32,
    /// The median of those that were shared.
    usual: Option<Duration>,
    slowest_shared: Duration,
    slowest_unshared: Duration,
}

impl Seen {
    /// How long to wait for a response to an unknown call. See [`Waits`].
    fn wait(&self, remaining: Duration) -> Duration {
        if self.unshared >= SOME && self.unshared >= 4 * self.shared {
            return Duration::ZERO;
        }
        let start = (remaining / PART).saturating_sub(RESERVE);
        let Some(usual) = self.usual else {
            let own = (self.unshared > 0).then(|| needed(self.slowest_unshared));
            return start.min(remaining.saturating_sub(own.unwrap_or_default()));
        };
        if self.unshared == 0 {
            return self.wait_for_shared(usual, start, remaining);
        }
        if self.are_shared() {
            let fits = worthwhile(usual, usual, remaining).is_some();
            return worthwhile(usual, self.slowest_unshared, remaining).unwrap_or(if fits {
                needed(usual)
            } else {
                remaining
            });
        }
        let slowest = self.slowest_unshared.max(self.slowest_shared);
        worthwhile(usual, slowest, remaining)
            .filter(|_| needed(usual) <= start)
            .unwrap_or_else(|| remaining.saturating_sub(needed(slowest)))
            .min(start)
    }

    /// How long to wait if all responses were shared.
    fn wait_for_shared(&self, usual: Duration, start: Duration, remaining: Duration) -> Duration {
        let left = remaining.saturating_sub(needed(usual));
        match worthwhile(usual, usual, remaining) {
            Some(wait) if self.shared >= ENOUGH => wait.max(needed(self.slowest_shared).min(left)),
            Some(wait) => wait,
            None if self.shared >= SOME => remaining,
            None => start.min(left),
        }
    }

    /// How long to wait for the response to a call that took `took` before, and was shared.
    fn wait_for_known(&self, took: Duration, remaining: Duration) -> Duration {
        match worthwhile(took, took, remaining) {
            Some(wait) => wait,
            None if self.are_shared() => remaining,
            None => Duration::ZERO,
        }
    }

    /// Whether nothing says that the next response cannot be shared.
    fn are_shared(&self) -> bool {
        let all = self.shared + self.unshared;
        self.unshared == 0 || (all >= ENOUGH && self.unshared * 8 <= all)
    }

    /// The longest wait. The usual time is left if it fits.
    fn longest(&self, remaining: Duration) -> Duration {
        let usual = self.usual.map(needed).unwrap_or_default();
        remaining.saturating_sub(usual).max(usual).min(remaining)
    }
}

/// What a call may need that took `took` before: no two calls take the same time.
fn needed(took: Duration) -> Duration {
    took + took / 16 + RESERVE / 2
}

/// How long to wait for a response that usually takes `usual`, if a call takes `own` afterwards. `None` if that does not
/// fit.
fn worthwhile(usual: Duration, own: Duration, remaining: Duration) -> Option<Duration> {
    let enough = needed(usual);
    let wanted = (enough * 2).max(remaining / 10);
    let left = remaining.saturating_sub(needed(own));
    (enough + own + RESERVE / 2 <= remaining).then(|| wanted.min(left).max(enough))
}

#[cfg(test)]
mod tests;
