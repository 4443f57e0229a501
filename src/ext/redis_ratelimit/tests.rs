use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::SERVICE;
use crate::ext::extension::ServicePart;
use crate::ext::inherited_steps;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::step::{EndpointStep, Gate};

/// A Redis that does not respond: the gateway counts for itself.
fn limiter(tokenizer: &str) -> (File, Option<Box<dyn EndpointStep>>) {
    let mut file = File::new(&format!(
        r#"{{"host": "127.0.0.1:1", "rate": 1, "burst": 1, "period": "1h", {tokenizer}}}"#
    ));
    let part = file.service(&SERVICE);
    assert_eq!(file.config_errors(), 0, "{tokenizer}: {}", file.findings());
    match part {
        ServicePart::Gate(step) => (file, Some(step)),
        ServicePart::Nothing => (file, None),
        other => panic!("{other:?}"),
    }
}

fn status(step: &dyn EndpointStep, path: &str, sent: &[(&str, &str)]) -> u16 {
    let headers: HeaderMap = sent
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::try_from(*name).unwrap();
            (name, HeaderValue::try_from(*value).unwrap())
        })
        .collect();
    let head = head(&Method::GET, path, &headers);
    let mut notes = Notes::default();
    match step.check(&head, &mut notes) {
        Gate::Pass => 200,
        Gate::Reject(response) => response.status.as_u16(),
        // Nothing was connected, so the decision needs no result.
        Gate::Wait(wait) => match wait.decide(&head, &mut notes) {
            Gate::Pass => 200,
            Gate::Reject(response) => response.status.as_u16(),
            Gate::Wait(_) => panic!("waits twice"),
        },
    }
}

#[test]
fn each_tokenizer_tells_clients_apart() {
    for (tokenizer, one, other) in [
        (
            r#""tokenizer": "url""#,
            ("/a?x=1", vec![]),
            ("/a?x=2", vec![]),
        ),
        (r#""tokenizer": "path""#, ("/a?x=1", vec![]), ("/b", vec![])),
        (
            r#""tokenizer": "header", "tokenizer_field": "X-Key""#,
            ("/a", vec![("x-key", "1")]),
            ("/a", vec![("x-key", "2")]),
        ),
        (
            r#""tokenizer": "param", "tokenizer_field": "k y""#,
            ("/a?z=0&k+y=1", vec![]),
            ("/a?k%20y=2", vec![]),
        ),
        (
            r#""tokenizer": "cookie", "tokenizer_field": "sid""#,
            ("/a", vec![("cookie", "a=b; sid=1")]),
            ("/a", vec![("cookie", "sid=2")]),
        ),
    ] {
        let (_file, step) = limiter(tokenizer);
        let step = step.unwrap();
        let statuses: Vec<u16> = [&one, &one, &one, &other]
            .iter()
            .map(|(path, sent)| status(&*step, path, sent))
            .collect();
        assert_eq!(statuses, [200, 200, 429, 200], "{tokenizer}");
        // A request without the token is counted by its address.
        if tokenizer.contains("field") {
            let statuses: Vec<u16> = (0..3).map(|_| status(&*step, "/a", &[])).collect();
            assert_eq!(statuses, [200, 200, 429], "{tokenizer}");
        }
    }
}

#[test]
fn a_claim_is_counted_in_the_endpoints() {
    let (mut file, step) = limiter(r#""tokenizer": "jwt", "tokenizer_field": "sub""#);
    assert!(step.is_none());
    let steps = inherited_steps::steps(file.compile());
    let statuses: Vec<u16> = (0..3).map(|_| status(&*steps[0], "/a", &[])).collect();
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn an_unclear_block_stops_the_start() {
    for block in [
        "{}",
        r#"{"host": "redis", "tokenizer": "ip", "rate": 1}"#,
        r#"{"host": "redis", "tokenizer": "ip", "rate": 0, "period": "1s"}"#,
        r#"{"host": "redis", "tokenizer": "ip", "rate": 1, "period": "0s"}"#,
        r#"{"host": "redis", "rate": 1, "period": "1s"}"#,
        r#"{"host": "redis", "tokenizer": "name", "rate": 1, "period": "1s"}"#,
        r#"{"host": "redis", "tokenizer": "header", "rate": 1, "period": "1s"}"#,
        r#"{"host": "redis", "tokenizer": "header", "tokenizer_field": "a b", "rate": 1, "period": "1s"}"#,
        r#"{"host": "redis://x", "tokenizer": "ip", "rate": 1, "period": "1s"}"#,
        r#"{"tokenizer": "ip", "rate": 1, "period": "1s"}"#,
    ] {
        let mut file = File::new(block);
        assert!(
            matches!(file.service(&SERVICE), ServicePart::Nothing),
            "{block}"
        );
        assert!(file.config_errors() > 0, "{block}");
    }
}
