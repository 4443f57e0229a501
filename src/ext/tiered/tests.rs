use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{ENDPOINT, SERVICE};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::inherited_steps;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::step::{EndpointStep, Gate};

const HOUR: &str = r#""every": "1h", "strategy": "header", "key": "X-User""#;

fn plans(rest: &str) -> String {
    format!(
        r#"{{"tier_key": "X-Plan", "tiers": [
            {{"tier_value": "gold", "ratelimit": {{"client_max_rate": 3, "client_capacity": 3, {HOUR}}}}},
            {{"tier_value": "value.matches('^silver')", "tier_value_as": "policy",
              "ratelimit": {{"client_max_rate": 2, "client_capacity": 2, {HOUR}}}}}{rest}"#
    )
}

fn status(step: &dyn EndpointStep, plan: Option<&'static str>, notes: &mut Notes) -> u16 {
    let mut headers = HeaderMap::new();
    headers.insert("x-user", HeaderValue::from_static("ada"));
    if let Some(plan) = plan {
        headers.insert("x-plan", HeaderValue::from_static(plan));
    }
    match step.check(&head(&Method::GET, "/a", &headers), notes) {
        Gate::Pass => 200,
        Gate::Reject(response) => response.status.as_u16(),
        Gate::Wait(_) => panic!("nothing to wait for"),
    }
}

/// How many of five requests of one client pass.
fn passing(step: &dyn EndpointStep, plan: Option<&'static str>) -> usize {
    let passed = |_: &usize| status(step, plan, &mut Notes::default()) == 200;
    (0..5).filter(passed).count()
}

fn step(block: &str) -> Box<dyn EndpointStep> {
    let mut file = File::new(block);
    match file.endpoint(&ENDPOINT, "/a") {
        EndpointPart::Steps(mut steps) => steps.remove(0),
        other => panic!("{other:?}: {}", file.findings()),
    }
}

#[test]
fn the_first_tier_that_matches_is_used() {
    let any = r#", {"tier_value_as": "*", "ratelimit": {"client_max_rate": 1, "client_capacity": 1, "strategy": "ip", "every": "1h"}}]}"#;
    let step = step(&plans(any));
    assert_eq!(passing(&*step, Some("gold")), 3);
    assert_eq!(passing(&*step, Some("silver-7")), 2);
    assert_eq!(passing(&*step, Some("Gold")), 1);
    // The tier of all others has one bucket for this address.
    assert_eq!(passing(&*step, None), 0);
}

#[test]
fn a_request_without_a_tier_passes_or_not() {
    assert_eq!(passing(&*step(&plans("]}")), Some("tin")), 5);
    let closed = step(&plans(r#"], "on_unmatched_tier_allow": false}"#));
    let mut notes = Notes::default();
    assert_eq!(status(&*closed, Some("tin"), &mut notes), 403);
    assert_eq!(notes.rejected, Some("tier"));
    assert_eq!(passing(&*closed, Some("gold")), 3);
}

#[test]
fn the_value_that_a_step_has_set_is_used() {
    let step = step(&plans(r#"], "on_unmatched_tier_allow": false}"#));
    let mut notes = Notes::default();
    let plan = HeaderName::from_static("x-plan");
    notes.set_header(&plan, smallvec::smallvec![HeaderValue::from_static("tin")]);
    assert_eq!(status(&*step, Some("gold"), &mut notes), 403);
}

#[test]
fn a_tier_that_clients_can_choose_is_reported() {
    let mut file = File::new(&plans("]}"));
    file.endpoint(&ENDPOINT, "/a");
    let findings = file.findings();
    assert!(
        findings.contains("clients can choose their tier"),
        "{findings}"
    );
    assert!(findings.contains("match no tier"), "{findings}");
    // A header from the body of the client is the client's choice, too.
    let mut file = File::new(&plans("]}"));
    let plan = HeaderName::from_static("x-plan");
    file.compile().identify_by_client(plan);
    file.endpoint(&ENDPOINT, "/a");
    let findings = file.findings();
    assert!(
        findings.contains("clients can choose their tier"),
        "{findings}"
    );
    let mut file = File::new(&plans(r#"], "on_unmatched_tier_allow": false}"#));
    file.compile().identify(HeaderName::from_static("x-plan"));
    file.endpoint(&ENDPOINT, "/a");
    assert_eq!(file.hints(), [""; 0]);
}

#[test]
fn tiers_of_the_service_count_over_all_endpoints() {
    let mut file = File::new(&plans(r#"], "on_unmatched_tier_allow": false}"#));
    assert!(matches!(file.service(&SERVICE), ServicePart::Nothing));
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
    let first = inherited_steps::steps(file.compile());
    assert!(
        file.findings().contains("clients can choose"),
        "{}",
        file.findings()
    );
    let second = inherited_steps::steps(file.compile());
    assert_eq!(passing(&*first[0], Some("gold")), 3);
    assert_eq!(passing(&*second[0], Some("gold")), 0);
}

#[test]
fn unclear_tiers_stop_the_start() {
    let limit = r#""ratelimit": {"max_rate": 1}"#;
    for block in [
        "{}".to_owned(),
        r#"{"tier_key": "X-Plan"}"#.to_owned(),
        r#"{"tier_key": "X-Plan", "tiers": []}"#.to_owned(),
        format!(r#"{{"tier_key": "a b", "tiers": [{{"tier_value": "x", {limit}}}]}}"#),
        format!(r#"{{"tiers": [{{"tier_value": "x", {limit}}}]}}"#),
        r#"{"tier_key": "X-Plan", "tiers": [{"tier_value": "x"}]}"#.to_owned(),
        r#"{"tier_key": "X-Plan", "tiers": [{"tier_value": "x", "ratelimit": {}}]}"#.to_owned(),
        r#"{"tier_key": "X-Plan", "tiers": [{"tier_value": "x", "ratelimit": {"client_max_rate": 1}}]}"#.to_owned(),
        r#"{"tier_key": "X-Plan", "tiers": [{"tier_value": "x", "ratelimit_redis": {"max_rate": 1}}]}"#.to_owned(),
        r#"{"tier_key": "X-Plan", "tiers": [{"tier_value": "x", "ratelimit_redis": {"max_rate": 1, "connection_name": "no"}}]}"#.to_owned(),
        format!(r#"{{"tier_key": "X-Plan", "tiers": [{{"tier_value": "x", "tier_value_as": "regex", {limit}}}]}}"#),
        format!(r#"{{"tier_key": "X-Plan", "tiers": [{{"tier_value": "valeu == 'a'", "tier_value_as": "policy", {limit}}}]}}"#),
        format!(r#"{{"tier_key": "X-Plan", "tiers": [{{"tier_value": "size(value)", "tier_value_as": "policy", {limit}}}]}}"#),
    ] {
        let mut file = File::new(&block);
        let part = file.endpoint(&ENDPOINT, "/a");
        assert!(matches!(part, EndpointPart::Nothing), "{block}");
        assert!(file.config_errors() > 0, "{block}");
    }
}
