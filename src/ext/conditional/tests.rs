use http::HeaderValue;

use super::BACKEND;
use crate::ext::extension::BackendPart;
use crate::ext::testing::{File, pipe_request};
use crate::runtime::condition::{Condition, When};
use crate::runtime::pipe::PipeRequest;

fn condition(block: &str) -> Box<dyn Condition> {
    let mut file = File::new(block);
    match file.backend(&BACKEND, "{}") {
        BackendPart::When(When::If(condition)) => condition,
        other => panic!("{other:?}: {}", file.findings()),
    }
}

fn request(values: &[&'static str]) -> PipeRequest {
    let mut request = pipe_request(bytes::Bytes::new());
    for value in values {
        request
            .headers
            .append("x-beta", HeaderValue::from_static(value));
    }
    request
}

#[test]
fn a_header_has_exactly_the_value_in_one_of_its_lines() {
    let condition = condition(r#"{"strategy": "header", "name": "X-Beta", "value": "yes"}"#);
    for (values, want) in [
        (&["yes"][..], true),
        (&["no", "yes"], true),
        (&["Yes"], false),
        (&["yes, no"], false),
        (&[], false),
    ] {
        assert_eq!(condition.holds(&request(values)), Ok(want), "{values:?}");
    }
}

#[cfg(feature = "cel")]
#[test]
fn a_policy_decides_and_one_that_fails_is_not_true() {
    let by_policy = |text: &str| {
        condition(&serde_json::json!({"strategy": "policy", "value": text}).to_string())
    };
    let beta = by_policy("hasHeader('X-Beta') && req_headers['X-Beta'][0] == 'yes'");
    assert_eq!(beta.holds(&request(&["yes"])), Ok(true));
    assert_eq!(beta.holds(&request(&[])), Ok(false));
    let failing = by_policy("req_headers['X-Beta'][0] == 'yes'");
    assert_eq!(failing.holds(&request(&[])), Ok(false));
    let earlier = by_policy("req_params.Resp0_kind == 'a' || has(req_params.Id)");
    assert_eq!(earlier.responses(), ["resp0_kind"]);
}

#[test]
fn an_unclear_condition_stops_the_start() {
    for block in [
        "{}",
        r#"{"strategy": "headers"}"#,
        r#"{"strategy": "header", "name": "X-A"}"#,
        r#"{"strategy": "header", "value": "a"}"#,
        r#"{"strategy": "header", "name": "a b", "value": "a"}"#,
        r#"{"strategy": "policy"}"#,
        r#"{"strategy": "policy", "value": "unknown == 1"}"#,
    ] {
        let mut file = File::new(block);
        assert!(
            matches!(file.backend(&BACKEND, "{}"), BackendPart::Nothing),
            "{block}"
        );
        assert!(file.config_errors() > 0, "{block}");
    }
    let mut file = File::new(r#"{"strategy": "fallback"}"#);
    let part = file.backend(&BACKEND, "{}");
    assert!(matches!(part, BackendPart::When(When::Otherwise)));
}
