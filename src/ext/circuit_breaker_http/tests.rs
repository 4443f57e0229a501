use std::time::Duration;

use http::StatusCode;

use super::BACKEND;
use super::runtime::HttpBreaker;
use crate::ext::circuit_breaker::{CircuitBreaker, Settings};
use crate::ext::extension::BackendPart;
use crate::ext::testing::File;
use crate::runtime::clock::Clock;
use crate::runtime::step::{Answer, BackendStep, Outcome};

fn breaker(max_errors: u64) -> (HttpBreaker, Clock) {
    let settings = Settings {
        interval: None,
        timeout: Duration::from_secs(10),
        max_errors,
        name: String::new(),
        log_status_change: false,
        stream_errors: false,
    };
    let clock = Clock::manual();
    let breaker = CircuitBreaker::new(settings, clock.clone());
    (HttpBreaker::new(breaker, vec![404, 200]), clock)
}

fn call(breaker: &HttpBreaker, answer: Answer) -> bool {
    let Ok(ticket) = breaker.before() else {
        return false;
    };
    breaker.ended(ticket, Outcome::Failure, answer);
    true
}

fn status(code: u16) -> Answer {
    Answer::Status(StatusCode::from_u16(code).unwrap())
}

#[test]
fn only_listed_statuses_are_not_failures() {
    for (answer, opens) in [
        (status(200), false),
        (status(404), false),
        (status(101), false),
        (status(201), true),
        (status(403), true),
        (status(500), true),
        (Answer::Nothing, true),
        (Answer::NotAsked, false),
    ] {
        let (breaker, _) = breaker(0);
        assert!(call(&breaker, answer));
        assert_eq!(!call(&breaker, status(200)), opens, "{answer:?}");
    }
}

#[test]
fn one_failure_more_than_tolerated_opens_the_circuit_until_a_trial() {
    let (breaker, clock) = breaker(1);
    assert!(call(&breaker, status(500)));
    assert!(call(&breaker, status(404)));
    assert!(call(&breaker, status(500)));
    assert!(call(&breaker, status(500)));
    assert!(!call(&breaker, status(200)));
    clock.advance(Duration::from_secs(11));
    // A trial that a step rejected says nothing: the next call tries.
    assert!(call(&breaker, Answer::NotAsked));
    assert!(call(&breaker, status(200)));
    assert!(call(&breaker, status(500)));
    assert!(call(&breaker, status(200)));
}

#[test]
fn the_block_is_compiled_or_stops_the_start() {
    let whole =
        r#"{"interval": 60, "timeout": 10, "max_errors": 1, "valid_status_codes": [200, 404]}"#;
    let mut file = File::new(whole);
    assert!(matches!(file.backend(&BACKEND, "{}"), BackendPart::Step(_)));
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
    for block in [
        r#"{"timeout": 10, "max_errors": 1, "valid_status_codes": [200]}"#,
        r#"{"interval": 60, "max_errors": 1, "valid_status_codes": [200]}"#,
        r#"{"interval": 60, "timeout": 10, "valid_status_codes": [200]}"#,
        r#"{"interval": 60, "timeout": 10, "max_errors": 1}"#,
        r#"{"interval": 60, "timeout": 10, "max_errors": 1, "valid_status_codes": []}"#,
        r#"{"interval": 60, "timeout": 10, "max_errors": 1, "valid_status_codes": [200, 600]}"#,
        r#"{"interval": 60, "timeout": 10, "max_errors": 1, "valid_status_codes": ["2xx"]}"#,
    ] {
        let mut file = File::new(block);
        assert!(
            matches!(file.backend(&BACKEND, "{}"), BackendPart::Nothing),
            "{block}"
        );
        assert!(file.config_errors() > 0, "{block}");
    }
}
