mod shared;

use std::sync::Arc;

use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, head};
use crate::jose::{ClaimPath, Claims};
use crate::runtime::request::Notes;
use crate::runtime::response::{Branding, Response};
use crate::runtime::step::{EndpointStep, Gate};

fn step(block: &str) -> Box<dyn EndpointStep> {
    let mut file = File::new(block);
    let part = file.endpoint(&ENDPOINT, "/m/{id}");
    assert_eq!(file.config_errors(), 0, "{block}");
    match part {
        EndpointPart::Steps(mut steps) => steps.remove(0),
        other => panic!("{other:?}"),
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        })
        .collect()
}

/// Runs one request to its end.
fn ask(step: &dyn EndpointStep, pairs: &[(&str, &str)], notes: &mut Notes) -> Option<Response> {
    let headers = headers(pairs);
    let head = head(&Method::GET, "/m/7", &headers);
    let mut gate = step.check(&head, notes);
    for _ in 0..2 {
        gate = match gate {
            Gate::Pass => return None,
            Gate::Reject(response) => return Some(response),
            Gate::Wait(mut wait) => {
                let done = wait.done().now_or_never();
                done.expect("a store that answers at once");
                wait.decide(&head, notes)
            }
        }
    }
    panic!("waits twice")
}

fn status(step: &dyn EndpointStep, pairs: &[(&str, &str)]) -> u16 {
    ask(step, pairs, &mut Notes::default()).map_or(200, |response| response.status.as_u16())
}

#[test]
fn the_clients_limit_comes_first_and_then_the_endpoints() {
    let step = step(
        r#"{"max_rate": 3, "capacity": 3, "client_max_rate": 1, "client_capacity": 2, "every": "10m",
            "strategy": "header", "key": "X-Key"}"#,
    );
    let statuses: Vec<u16> = ["a", "a", "a", "b", "b", "c"]
        .iter()
        .map(|who| status(&*step, &[("x-key", who)]))
        .collect();
    assert_eq!(statuses, [200, 200, 429, 200, 503, 503]);
}

#[test]
fn a_rejection_is_empty_and_has_the_time_to_wait() {
    let step = step(r#"{"client_max_rate": 1, "every": "10m", "strategy": "ip"}"#);
    let mut notes = Notes::default();
    assert!(ask(&*step, &[], &mut notes).is_none());
    assert!(notes.response_fields.is_empty());
    let response = ask(&*step, &[], &mut notes).unwrap();
    assert_eq!(response.status.as_u16(), 429);
    assert_eq!(response.branding, Branding::None);
    assert!(response.body.is_empty());
    assert_eq!(response.fields.len(), 1);
    let wait: u64 = response.fields[0].1.to_str().unwrap().parse().unwrap();
    assert!((590..=600).contains(&wait), "{wait}");
    assert_eq!(notes.rejected, Some("rate_limited"));
    assert_eq!(notes.errors[0], "rate limit exceded");
}

#[test]
fn a_client_without_a_name_is_rejected() {
    let by_header = step(r#"{"client_max_rate": 9, "strategy": "HEADER", "key": "x-key"}"#);
    assert_eq!(status(&*by_header, &[]), 429);
    assert_eq!(status(&*by_header, &[("x-key", "")]), 429);
    let by_param = step(r#"{"client_max_rate": 9, "strategy": "param", "key": "Id"}"#);
    assert_eq!(status(&*by_param, &[]), 429);
}

#[test]
fn the_address_may_come_from_a_header() {
    let step = step(
        r#"{"client_max_rate": 1, "client_capacity": 2, "every": "10m", "strategy": "ip", "key": "X-Key"}"#,
    );
    let statuses: Vec<u16> = [
        "1.1.1.1",
        "1.1.1.1:80",
        "2.2.2.2",
        " 1.1.1.1 , 3.3.3.3",
        // KrakenD does not parse these as addresses: the connection's address is used.
        "2001:db8::1",
        "junk",
        "junk",
    ]
    .iter()
    .map(|value| status(&*step, &[("x-key", value)]))
    .collect();
    assert_eq!(statuses, [200, 200, 200, 429, 200, 200, 429]);
}

#[test]
fn a_propagated_claim_replaces_the_header_of_the_client() {
    let propagated = |value: &[&'static str]| {
        let mut notes = Notes::default();
        let values = value.iter().map(|text| HeaderValue::from_static(text));
        notes.set_header(&HeaderName::from_static("x-key"), values.collect());
        notes
    };
    for key in [r#""strategy": "header""#, r#""strategy": "ip""#] {
        let limit = step(&format!(
            r#"{{"client_max_rate": 1, "every": "10m", {key}, "key": "X-Key"}}"#
        ));
        let mut statuses = Vec::new();
        for sent in [&[][..], &[("x-key", "2.2.2.2")], &[("x-key", "3.3.3.3")]] {
            let response = ask(&*limit, sent, &mut propagated(&["1.1.1.1"]));
            statuses.push(response.map_or(200, |response| response.status.as_u16()));
        }
        assert_eq!(statuses, [200, 429, 429], "{key}");
    }
    // A missing claim empties the header, and a client without a name is rejected.
    let by_header = step(r#"{"client_max_rate": 9, "strategy": "header", "key": "x-key"}"#);
    for gone in [&[][..], &[""]] {
        let response = ask(&*by_header, &[("x-key", "z")], &mut propagated(gone));
        assert!(response.is_some(), "{gone:?}");
    }
}

#[test]
fn a_parameter_or_a_claim_identifies_clients() {
    let by_param =
        step(r#"{"client_max_rate": 1, "every": "10m", "strategy": "param", "key": "id"}"#);
    let with_id = |id: &str| {
        let mut notes = Notes::default();
        notes.params.0.push(("id".into(), id.to_owned()));
        ask(&*by_param, &[], &mut notes).is_none()
    };
    assert!(with_id("1") && !with_id("1") && with_id("2"));
    let by_claim =
        step(r#"{"client_max_rate": 1, "every": "10m", "strategy": "claim", "key": "org.id"}"#);
    let with_claims = |claims: &str| {
        let claims = Claims::parse(claims.as_bytes()).unwrap();
        let mut notes = Notes {
            claims: Some(Arc::new(claims)),
            ..Notes::default()
        };
        ask(&*by_claim, &[], &mut notes).is_none()
    };
    assert!(with_claims(r#"{"org":{"id":7}}"#) && !with_claims(r#"{"org":{"id":7}}"#));
    assert!(with_claims(r#"{"org.id":"x"}"#) && with_claims(r#"{"org.id":true}"#));
    assert!(!with_claims(r#"{"org":{"id":[1]}}"#) && !with_claims("{}"));
}

#[test]
fn without_a_capacity_the_defaults_of_krakend_apply() {
    let passing = |block: &str| {
        let step = step(block);
        (0..100).take_while(|_| status(&*step, &[]) == 200).count()
    };
    assert_eq!(passing(r#"{"max_rate": 0.01}"#), 1);
    assert_eq!(passing(r#"{"max_rate": 600, "every": "10m"}"#), 1);
    assert!(passing(r#"{"max_rate": 7.9}"#) >= 7);
    // KrakenD's quirk: the client's capacity depends on the endpoint's rate.
    assert_eq!(passing(r#"{"client_max_rate": 5, "strategy": "ip"}"#), 1);
    assert_eq!(
        passing(r#"{"client_max_rate": 5, "max_rate": 50, "capacity": 99, "strategy": "ip"}"#),
        5
    );
    assert_eq!(
        passing(r#"{"max_rate": 100, "client_max_rate": 3, "every": "10m", "strategy": "ip"}"#),
        1
    );
}

#[test]
fn a_rate_of_zero_is_not_a_limit() {
    for block in [
        "{}",
        r#"{"max_rate": 0}"#,
        r#"{"client_max_rate": 0, "strategy": "ip"}"#,
    ] {
        let mut file = File::new(block);
        assert!(matches!(
            file.endpoint(&ENDPOINT, "/m"),
            EndpointPart::Nothing
        ));
        assert_eq!(file.config_errors(), 0);
    }
}

#[test]
fn a_limit_with_a_clear_meaning_is_enforced() {
    for block in [
        r#"{"max_rate": "5"}"#,
        r#"{"Max_Rate": 5}"#,
        r#"{"max_rate": 5, "every": "60"}"#,
        r#"{"client_max_rate": 5, "strategy": "IP"}"#,
        r#"{"client_max_rate": 5, "strategy": "header", "key": ["X-Id"]}"#,
    ] {
        let mut file = File::new(block);
        let part = file.endpoint(&ENDPOINT, "/m");
        assert!(matches!(part, EndpointPart::Steps(_)), "{block}");
    }
}

#[test]
fn a_limit_that_cannot_be_enforced_stops_the_start() {
    for block in [
        r#"{"client_max_rate": 5, "strategy": "moon"}"#,
        r#"{"client_max_rate": 5}"#,
        r#"{"client_max_rate": 5, "strategy": "header", "key": "a b"}"#,
        r#"{"client_max_rate": 5, "strategy": "header"}"#,
        r#"{"client_max_rate": 5, "strategy": "claim"}"#,
        r#"{"max_rate": "many"}"#,
        r#"{"max_rate": -5}"#,
        r#"{"max_rate": 5, "every": "soon"}"#,
        r#"{"max_rate": 5, "redis": true}"#,
    ] {
        let mut file = File::new(block);
        assert!(matches!(
            file.endpoint(&ENDPOINT, "/m"),
            EndpointPart::Nothing
        ));
        assert_eq!(file.config_errors(), 1, "{block}");
    }
}

#[test]
fn buckets_survive_a_reload_that_does_not_change_them() {
    let block = r#"{"max_rate": 1, "every": "10m"}"#;
    let mut file = File::new(block);
    let EndpointPart::Steps(steps) = file.endpoint(&ENDPOINT, "/m") else {
        panic!("no step")
    };
    assert_eq!(status(&*steps[0], &[]), 200);
    let reload_state = file.finish();
    for (block, expected) in [(block, 503), (r#"{"max_rate": 2, "every": "10m"}"#, 200)] {
        let mut next = File::after(block, reload_state);
        let EndpointPart::Steps(steps) = next.endpoint(&ENDPOINT, "/m") else {
            panic!("no step")
        };
        assert_eq!(status(&*steps[0], &[]), expected);
    }
}

#[test]
fn clients_receive_limit_headers_if_configured() {
    let step = step(
        r#"{"max_rate": 0.5, "capacity": 9, "client_max_rate": 60, "client_capacity": 2, "every": "1m",
            "strategy": "ip", "limit_headers": "both"}"#,
    );
    let mut told = Vec::new();
    for _ in 0..3 {
        let mut notes = Notes::default();
        ask(&*step, &[], &mut notes);
        let fields = notes.response_fields.iter();
        told.push(
            fields
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(
        told[0],
        [
            "ratelimit-policy: \"client\";q=60;w=60, \"endpoint\";q=1;w=120",
            "ratelimit: \"client\";r=1, \"endpoint\";r=8",
            "x-ratelimit-limit: 60",
            "x-ratelimit-remaining: 1",
            "x-ratelimit-reset: 1",
        ]
    );
    assert_eq!(told[2][1], "ratelimit: \"client\";r=0;t=1");
}

#[test]
fn a_limited_backend_fails_with_the_text_of_krakend() {
    let mut file = File::new(r#"{"max_rate": 1, "capacity": 1, "every": "10m"}"#);
    let BackendPart::Step(step) = file.backend(&BACKEND, "{}") else {
        panic!("no step")
    };
    assert!(step.before().is_ok());
    let failure = step.before().unwrap_err();
    assert_eq!(failure.to_string(), "rate limit exceded");
    assert_eq!(failure.status.as_u16(), 500);
    let mut none = File::new(r#"{"max_rate": 0}"#);
    assert!(matches!(none.backend(&BACKEND, "{}"), BackendPart::Nothing));
}

#[test]
fn the_name_of_a_claim_may_be_a_url() {
    let path = ClaimPath::dotted_unless_url("https://example.com/org");
    let claims = Claims::parse(br#"{"https://example.com/org":"a"}"#).unwrap();
    assert_eq!(super::claim::text(&claims, &path).as_deref(), Some("a"));
}

proptest! {
    #[test]
    fn an_arbitrary_header_identifies_a_client(value in "\\PC*") {
        let step = step(r#"{"client_max_rate": 9, "strategy": "ip", "key": "x-key"}"#);
        if let Ok(value) = HeaderValue::try_from(value) {
            let headers: HeaderMap = [(HeaderName::from_static("x-key"), value)].into_iter().collect();
            let head = head(&Method::GET, "/", &headers);
            let passes = matches!(step.check(&head, &mut Notes::default()), Gate::Pass);
            prop_assert!(passes);
        }
    }
}
