use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method};

use super::{ENDPOINT, SERVICE};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::response::Branding;
use crate::runtime::step::{Gate, ServiceStep};

fn step(block: &str) -> Box<dyn ServiceStep> {
    match File::new(block).service(&SERVICE) {
        ServicePart::Step(step) => step,
        _ => panic!("no step"),
    }
}

fn passes(step: &dyn ServiceStep, agent: Option<&[u8]>) -> bool {
    let mut headers = HeaderMap::new();
    if let Some(agent) = agent {
        headers.insert(USER_AGENT, HeaderValue::from_bytes(agent).unwrap());
    }
    let mut notes = Notes::default();
    match step.request(&head(&Method::GET, "/m", &headers), &mut notes) {
        None => true,
        Some(response) => {
            assert_eq!(response.status.as_u16(), 403);
            assert_eq!(response.branding, Branding::None);
            assert!(response.body.is_empty() && response.fields.is_empty());
            assert_eq!(notes.rejected, Some("bot"));
            false
        }
    }
}

#[test]
fn lists_match_exactly_and_patterns_anywhere() {
    for cache in [0, 100] {
        let block = format!(
            r#"{{"deny": ["a"], "allow": ["curl/8 ours"], "patterns": ["(Bot)/.*", "^curl"], "cache_size": {cache}}}"#
        );
        let step = step(&block);
        for _ in 0..2 {
            for bot in ["a", "x Bot/1", "curl/8"] {
                assert!(!passes(&*step, Some(bot.as_bytes())), "{bot}");
            }
            for human in ["A", "ab", "my curl", "bot/1", "curl/8 ours"] {
                assert!(passes(&*step, Some(human.as_bytes())), "{human}");
            }
        }
        assert!(!step.covers_health());
    }
}

#[test]
fn a_missing_agent_is_a_bot_only_if_configured() {
    let lenient = step(r#"{"deny": ["zz"]}"#);
    assert!(passes(&*lenient, None) && passes(&*lenient, Some(b"")));
    let strict = step(r#"{"empty_user_agent_is_bot": true, "allow": [""]}"#);
    assert!(!passes(&*strict, None) && !passes(&*strict, Some(b"")));
}

#[test]
fn bytes_that_are_not_utf8_are_checked_too() {
    let step = step(r#"{"patterns": ["(?i)EVIL"], "cache_size": 10}"#);
    assert!(!passes(&*step, Some(b"\xff evil")));
    assert!(passes(&*step, Some(b"\xff good")));
}

#[test]
fn an_endpoint_has_its_own_rules() {
    let mut file = File::new(r#"{"deny": ["a"]}"#);
    let EndpointPart::Steps(steps) = file.endpoint(&ENDPOINT, "/m") else {
        panic!("no step")
    };
    let headers: HeaderMap = [(USER_AGENT, HeaderValue::from_static("a"))]
        .into_iter()
        .collect();
    let gate = steps[0].check(&head(&Method::GET, "/m", &headers), &mut Notes::default());
    assert!(matches!(gate, Gate::Reject(_)));
}

#[test]
fn an_invalid_block_stops_the_start() {
    for block in [r#"{"patterns": ["("]}"#, r#"{"deny": {}}"#, "[]"] {
        let mut file = File::new(block);
        assert!(matches!(file.service(&SERVICE), ServicePart::Nothing));
        assert_eq!(file.config_errors(), 1, "{block}");
    }
}
