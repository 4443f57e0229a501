use std::time::Duration;

use super::runtime::{CircuitBreaker, Settings};
use crate::runtime::clock::Clock;
use crate::runtime::step::{BackendStep, Outcome};

fn settings(max_errors: u64) -> Settings {
    Settings {
        interval: Some(Duration::from_secs(60)),
        timeout: Duration::from_secs(10),
        max_errors,
        name: "t".to_owned(),
        log_status_change: true,
        stream_errors: false,
    }
}

fn breaker(settings: Settings) -> (CircuitBreaker, Clock) {
    let clock = Clock::manual();
    (CircuitBreaker::new(settings, clock.clone()), clock)
}

/// Runs one call. `Err` is the text of the error.
fn call(breaker: &CircuitBreaker, outcome: Outcome) -> Result<(), String> {
    match breaker.before() {
        Ok(ticket) => {
            breaker.after(ticket, outcome);
            Ok(())
        }
        Err(failure) => Err(failure.to_string()),
    }
}

fn open() -> Result<(), String> {
    Err("circuit breaker is open".to_owned())
}

#[test]
fn one_failure_more_than_tolerated_opens_the_circuit() {
    let (breaker, _) = breaker(settings(2));
    for _ in 0..3 {
        assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    }
    assert_eq!(call(&breaker, Outcome::Success), open());
}

#[test]
fn a_success_in_between_starts_the_count_again() {
    let (breaker, _) = breaker(settings(1));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Success), Ok(()));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Failure), open());
}

#[test]
fn after_the_pause_one_call_tries_and_its_success_closes_the_circuit() {
    let (breaker, clock) = breaker(settings(0));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(10));
    assert_eq!(call(&breaker, Outcome::Success), open());
    clock.advance(Duration::from_millis(1));
    let trial = breaker.before().unwrap();
    let second = breaker.before().unwrap_err();
    assert_eq!(second.to_string(), "too many requests");
    breaker.after(trial, Outcome::Success);
    assert_eq!(call(&breaker, Outcome::Success), Ok(()));
}

#[test]
fn a_failed_trial_opens_the_circuit_again_for_the_whole_pause() {
    let (breaker, clock) = breaker(settings(0));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(11));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(9));
    assert_eq!(call(&breaker, Outcome::Failure), open());
}

#[test]
fn a_trial_whose_client_closed_its_connection_does_not_block_the_next() {
    let (breaker, clock) = breaker(settings(0));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(11));
    let lost = breaker.before().unwrap();
    clock.advance(Duration::from_secs(11));
    assert_eq!(call(&breaker, Outcome::Success), Ok(()));
    breaker.after(lost, Outcome::Failure);
    assert_eq!(call(&breaker, Outcome::Success), Ok(()));
}

#[test]
fn failures_count_together_only_within_the_interval() {
    let (breaker, clock) = breaker(settings(1));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(61));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Failure), open());
}

#[test]
fn without_an_interval_failures_count_forever() {
    let (breaker, clock) = breaker(Settings {
        interval: None,
        ..settings(1)
    });
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Failure), open());
}

#[test]
fn results_of_an_older_generation_are_ignored() {
    let (breaker, clock) = breaker(settings(0));
    let slow = breaker.before().unwrap();
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    clock.advance(Duration::from_secs(11));
    let trial = breaker.before().unwrap();
    breaker.after(slow, Outcome::Success);
    assert!(breaker.before().is_err());
    breaker.after(trial, Outcome::Failure);
    assert_eq!(call(&breaker, Outcome::Success), open());
}

#[test]
fn a_streamed_error_counts_only_if_enabled() {
    let response = Outcome::Streamed { status: 503 };
    let (breaker_as_is, _) = breaker(settings(0));
    for _ in 0..5 {
        assert_eq!(call(&breaker_as_is, response), Ok(()));
    }
    let (counting, _) = breaker(Settings {
        stream_errors: true,
        ..settings(0)
    });
    assert_eq!(call(&counting, Outcome::Streamed { status: 404 }), Ok(()));
    assert_eq!(call(&counting, response), Ok(()));
    assert_eq!(call(&counting, response), open());
}

#[test]
fn what_the_gateway_rejects_does_not_count_and_does_not_take_the_trial() {
    let (breaker, clock) = breaker(settings(0));
    for _ in 0..5 {
        assert_eq!(call(&breaker, Outcome::Rejected), Ok(()));
    }
    assert_eq!(call(&breaker, Outcome::Failure), Ok(()));
    assert_eq!(call(&breaker, Outcome::Success), open());
    clock.advance(Duration::from_secs(11));
    assert_eq!(call(&breaker, Outcome::Rejected), Ok(()));
    let ticket = breaker.before().unwrap();
    breaker.release(ticket);
    assert_eq!(call(&breaker, Outcome::Success), Ok(()));
    assert_eq!(call(&breaker, Outcome::Success), Ok(()));
}
