//! How long calls wait, for backends of every kind.

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

const TWO_CALLS: Outcome = Outcome { calls: 2, lost: 0 };

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
        let waited = wait.most.min(took);
        let outcome = if is_shared && took <= wait.own {
            ONE_CALL
        } else if is_shared && took <= wait.most {
            TWO_CALLS
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
fn slow_shared_responses_make_two_calls_once_known() {
    for took in [1100, 1200, 1700] {
        let backend = Backend::default();
        for number in 0..30 {
            let expected = if number < SOME { TEN_CALLS } else { TWO_CALLS };
            assert_eq!(backend.burst(took, true), expected, "{took} {number}");
        }
        // Earlier where an equal call was shared.
        let backend = Backend::after(1, took, true);
        assert_eq!(backend.burst_for(Some(took), took, true), TWO_CALLS);
    }
}

#[test]
fn a_second_call_is_made_while_it_is_in_time_if_the_usual_time_does_not_fit() {
    for took in [1100, 1300, 1700] {
        for (backend, known) in [
            (Backend::after(3, took, true), None),
            (Backend::after(16, took, true), None),
            (Backend::after(15, took, true).and(1, took, false), None),
            (Backend::default(), Some(took)),
            (Backend::after(16, 50, true), Some(took)),
        ] {
            let wait = backend.recent.wait(ALL, known.map(ms), None);
            assert_eq!(wait.own, ALL - needed(ms(took)));
            assert_eq!(wait.most, ALL);
        }
    }
    // No such call is made where all have their time.
    for usual in [50, 300, 900] {
        for number in [1, 3, 16] {
            let wait = Backend::after(number, usual, true)
                .recent
                .wait(ALL, None, None);
            assert_eq!(wait.own, wait.most);
        }
    }
}

#[test]
fn one_slow_response_that_is_not_shared_stops_long_waits() {
    let backend = Backend::after(3, 1300, true);
    assert!(backend.burst(1300, false).lost > 0);
    for _ in 0..4 {
        assert_eq!(backend.burst(1300, false), TEN_CALLS);
    }
}

#[test]
fn no_call_waits_for_responses_that_are_not_shared() {
    for took in [50, 1600] {
        let backend = Backend::default();
        for _ in 0..30 {
            assert_eq!(backend.burst(took, false), TEN_CALLS);
        }
        for most in [None, Some(ALL)] {
            let wait = backend.recent.wait(ALL, None, most);
            assert_eq!(wait.most, Duration::ZERO);
        }
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
            let wait = backend.recent.wait(ALL, known, None).most;
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
    assert_eq!(unknown.burst(1200, true), TWO_CALLS);
    let short = backend(Backend::after(20, 200, true), 100);
    assert_eq!(short.burst(200, true), TEN_CALLS);
    let long = backend(Backend::after(20, 200, true), 5000);
    let left = ALL - long.recent.wait(ALL, None, long.max_wait).most;
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
    let wait = |is_personal| waits.of(is_personal).wait(ALL, None, None).most;
    assert_eq!((wait(true), wait(false)), (ms(0), ms(350)));
}

#[test]
fn any_time_can_be_learned() {
    let recent = Recent::default();
    for _ in 0..RESPONSES {
        recent.learn(Duration::MAX, true);
    }
    assert_eq!(recent.wait(ALL, None, None).most, ALL);
    for _ in 0..2 {
        recent.learn(Duration::ZERO, false);
    }
    let wait = recent.wait(Duration::ZERO, Some(ms(1)), None);
    assert_eq!((wait.own, wait.most), (ms(0), ms(0)));
}
