//! How long a call waits for an equal one, learned from the responses of the backend.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// So many responses are remembered.
const RESPONSES: usize = 16;

/// From so many responses on, none or few that could not be shared are evidence that the next one can.
const ENOUGH: u32 = 8;

/// So many responses that could not be shared are evidence that the next one cannot be shared either.
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
/// | none | the safe start |
/// | all shared, the usual time fits | twice as long as they usually need, or a tenth of the remaining time. Beyond that the leading call is late, and may be of another kind |
/// | all shared, at least eight | at least as long as the slowest one needs, but such that the usual time is left. Without this limit if the usual time does not fit: the response will serve all |
/// | all shared, fewer than eight, the usual time does not fit | the safe start |
/// | at most one in eight could not be shared | as if all were shared, such that the slowest of the others is left. If that does not fit, as long as the usual response needs |
/// | more could not be shared | the safe start; not longer than the usual response is worth waiting for |
/// | at least three could not be shared, and four times as many as were shared | not at all |
///
/// Where the store has an expired response to an equal call, its own time counts: the call waits for twice as long as
/// this needs, or a tenth of the remaining time, if it fits; and as long as it needs if it does not fit, and at most one
/// in eight of the last responses could not be shared. Of this and the table, the longer time applies.
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
    ) -> Duration {
        let seen = self.seen();
        let known = known.map(|took| seen.wait_for_known(took, remaining));
        let learned = seen.wait(remaining).max(known.unwrap_or_default());
        match most {
            None => learned,
            Some(most) if seen.are_shared() => most.min(seen.longest(remaining)),
            Some(most) => most.min(learned),
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
            return worthwhile(usual, self.slowest_unshared, remaining)
                .unwrap_or(needed(usual))
                .min(remaining);
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
            None if self.shared >= ENOUGH => needed(self.slowest_shared).min(remaining),
            None => start.min(left),
        }
    }

    /// How long to wait for the response to a call that took `took` before, and was shared.
    fn wait_for_known(&self, took: Duration, remaining: Duration) -> Duration {
        match worthwhile(took, took, remaining) {
            Some(wait) => wait,
            None if self.are_shared() => needed(took).min(remaining),
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
mod tests {
    use super::*;

    /// The time of a request.
    const ALL: Duration = Duration::from_secs(2);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// The calls that a burst of ten equal requests makes, and the requests that get no response in time.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Outcome {
        calls: u32,
        lost: u32,
    }

    const ONE_CALL: Outcome = Outcome { calls: 1, lost: 0 };

    const TEN_CALLS: Outcome = Outcome { calls: 10, lost: 0 };

    /// A backend, and what is known about it.
    #[derive(Debug, Default)]
    struct Backend {
        recent: Recent,
        max_wait: Option<Duration>,
    }

    impl Backend {
        /// Ten equal requests for what was not requested before. The response takes `took`.
        fn burst(&self, took: u64, is_shared: bool) -> Outcome {
            self.burst_for(None, took, is_shared)
        }

        /// Ten equal requests for what took `known` before, and was shared.
        fn burst_for(&self, known: Option<u64>, took: u64, is_shared: bool) -> Outcome {
            let took = ms(took);
            let wait = self.recent.wait(ALL, known.map(ms), self.max_wait);
            let waited = wait.min(took);
            let outcome = if is_shared && took <= wait {
                ONE_CALL
            } else {
                let is_late = !is_shared && waited + took > ALL;
                Outcome {
                    calls: 10,
                    lost: if is_late { 9 } else { 0 },
                }
            };
            self.recent.learn(took, is_shared);
            outcome
        }

        /// A backend that responded like this before, so often.
        fn after(times: usize, took: u64, is_shared: bool) -> Backend {
            Backend::default().and(times, took, is_shared)
        }

        fn and(self, times: usize, took: u64, is_shared: bool) -> Backend {
            for _ in 0..times {
                self.recent.learn(ms(took), is_shared);
            }
            self
        }
    }

    #[test]
    fn fast_shared_responses_make_one_call() {
        let backend = Backend::default();
        for _ in 0..30 {
            assert_eq!(backend.burst(200, true), ONE_CALL);
        }
        // Also in a spell in which they take a few times as long.
        for took in [400, 600, 800] {
            assert_eq!(backend.burst_for(Some(took / 2), took, true), ONE_CALL);
        }
    }

    #[test]
    fn slow_shared_responses_make_one_call_once_known() {
        for took in [1200, 1700] {
            let backend = Backend::default();
            for number in 0..30 {
                let expected = if number < ENOUGH { TEN_CALLS } else { ONE_CALL };
                assert_eq!(backend.burst(took, true), expected, "{took} {number}");
            }
            // Earlier where an equal call was shared.
            let backend = Backend::after(1, took, true);
            assert_eq!(backend.burst_for(Some(took), took, true), ONE_CALL);
        }
    }

    #[test]
    fn no_call_waits_for_responses_that_are_not_shared() {
        for took in [50, 1600] {
            let backend = Backend::default();
            for _ in 0..30 {
                assert_eq!(backend.burst(took, false), TEN_CALLS);
            }
            assert_eq!(backend.recent.wait(ALL, None, None), Duration::ZERO);
            assert_eq!(backend.recent.wait(ALL, None, Some(ALL)), Duration::ZERO);
        }
    }

    #[test]
    fn calls_wait_again_when_responses_are_shared_again() {
        let backend = Backend::after(100, 50, false);
        let outcomes: Vec<_> = (0..5).map(|_| backend.burst(50, true)).collect();
        assert_eq!(outcomes.last(), Some(&ONE_CALL));
    }

    #[test]
    fn one_slow_response_does_not_stop_the_sharing_of_fast_ones() {
        for usual in [50, 200, 300] {
            for before in [1, 2, 7, 8, 20] {
                let backend = Backend::after(before, usual, true).and(1, 1700, true);
                for _ in 0..20 {
                    assert_eq!(backend.burst(usual, true), ONE_CALL, "{before}");
                }
            }
        }
        // Nor one that is not shared, if others fit beside it or it is rare.
        for (usual, before) in [(50, 1), (200, 1), (300, 7), (500, 15)] {
            let backend = Backend::after(before, usual, true).and(1, 1700, false);
            assert_eq!(backend.burst(usual, true), ONE_CALL, "{usual}");
        }
    }

    #[test]
    fn no_request_is_lost_where_slow_private_and_fast_public_responses_mix() {
        for before in [0, 1, 5, 12] {
            let backend = Backend::after(before, 50, true);
            for _ in 0..8 {
                assert_eq!(backend.burst(1650, false), TEN_CALLS);
                assert_eq!(backend.burst(50, true).lost, 0);
            }
        }
        for took in [300, 1200, 1600, 1700] {
            let backend = Backend::after(1, took, true);
            for _ in 0..20 {
                assert_eq!(backend.burst(took, false), TEN_CALLS, "{took}");
                assert_eq!(backend.burst(took, true).lost, 0, "{took}");
            }
        }
    }

    #[test]
    fn no_request_is_lost_when_fast_public_responses_become_slow_and_private() {
        for took in [1200, 1600, 1750] {
            for before in [1, 5, 16] {
                let backend = Backend::after(before, 50, true);
                assert_eq!(backend.burst_for(Some(50), took, false), TEN_CALLS);
                assert_eq!(backend.burst(took, false), TEN_CALLS);
            }
        }
    }

    #[test]
    fn no_request_is_lost_when_private_responses_become_slower() {
        let backend = Backend::default();
        for (took, is_shared) in [
            (300, false),
            (600, true),
            (900, false),
            (1200, true),
            (1400, false),
            (1600, true),
            (1700, false),
        ] {
            assert_eq!(backend.burst(took, is_shared).lost, 0, "{took}");
        }
    }

    #[test]
    fn the_first_burst_at_an_unknown_backend_has_four_fifths_of_its_time() {
        assert_eq!(Backend::default().burst(1650, false), TEN_CALLS);
        // The cost of waiting for what may be shared.
        let backend = Backend::default();
        assert_eq!(backend.burst(1700, false).lost, 9);
        assert_eq!(backend.burst(1700, false), TEN_CALLS);
    }

    #[test]
    fn a_leading_call_that_hangs_leaves_the_others_their_time() {
        for usual in [50, 300, 900] {
            for (backend, known) in [
                (Backend::after(20, usual, true), None),
                (Backend::after(20, usual, true).and(1, 1700, true), None),
                (Backend::default(), Some(ms(usual))),
            ] {
                let wait = backend.recent.wait(ALL, known, None);
                assert!(wait + ms(usual) < ALL, "{usual}: {wait:?}");
            }
        }
    }

    #[test]
    fn a_configured_wait_applies_while_responses_are_shared() {
        let backend = |backend: Backend, most| Backend {
            max_wait: Some(ms(most)),
            ..backend
        };
        let unknown = backend(Backend::default(), 1500);
        assert_eq!(unknown.burst(1200, true), ONE_CALL);
        assert_eq!(unknown.burst(1200, true), ONE_CALL);
        let short = backend(Backend::after(20, 200, true), 100);
        assert_eq!(short.burst(200, true), TEN_CALLS);
        let long = backend(Backend::after(20, 200, true), 5000);
        let left = ALL - long.recent.wait(ALL, None, long.max_wait);
        assert_eq!(left, needed(ms(200)));
        let private = backend(Backend::after(1, 1200, false), 1500);
        for _ in 0..5 {
            assert_eq!(private.burst(1200, false), TEN_CALLS);
        }
    }

    #[test]
    fn credentials_separate_what_is_known() {
        let waits = Waits::default();
        for _ in 0..SOME {
            waits.of(true).learn(ms(50), false);
        }
        assert_eq!(waits.of(true).wait(ALL, None, None), Duration::ZERO);
        assert_eq!(waits.of(false).wait(ALL, None, None), ms(350));
    }

    #[test]
    fn any_time_can_be_learned() {
        let recent = Recent::default();
        for _ in 0..RESPONSES {
            recent.learn(Duration::MAX, true);
        }
        assert_eq!(recent.wait(ALL, None, None), ALL);
        for _ in 0..2 {
            recent.learn(Duration::ZERO, false);
        }
        assert_eq!(recent.wait(Duration::ZERO, Some(ms(1)), None), ms(0));
    }
}
