use http::{HeaderMap, HeaderValue, Method};

use super::{BACKEND, ENDPOINT, SERVICE};
use crate::ext::ServiceFacts;
use crate::ext::extension::{BackendPart, EndpointPart, ServicePart};
use crate::ext::testing::{File, head, pipe_request};
use crate::runtime::request::Notes;
use crate::runtime::service::ClientAddress;
use crate::runtime::step::{Gate, ServiceStep};

const FORWARDED: &str = "x-forwarded-for";

/// A service whose `router` trusts these proxies.
fn trusting(block: &str, proxies: &[&str]) -> File {
    let mut file = File::new(block);
    file.set_fact(ServiceFacts {
        client_address: ClientAddress {
            by_header: true,
            trusted: proxies.iter().map(|net| net.parse().unwrap()).collect(),
            headers: [http::HeaderName::from_static(FORWARDED)].into(),
            ..ClientAddress::default()
        },
        ..ServiceFacts::default()
    });
    file
}

fn step(file: &mut File) -> Box<dyn ServiceStep> {
    match file.service(&SERVICE) {
        ServicePart::Step(step) => step,
        other => panic!("{other:?}: {}", file.findings()),
    }
}

/// Whether a request from 127.0.0.1 with these headers passes.
fn passes(step: &dyn ServiceStep, sent: &[(&'static str, &'static str)]) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in sent {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let mut notes = Notes::default();
    match step.request(&head(&Method::GET, "/a", &headers), &mut notes) {
        None => true,
        Some(response) => {
            assert_eq!(response.status, 403);
            assert!(response.body.is_empty());
            assert_eq!(notes.rejected, Some("ip_filter"));
            false
        }
    }
}

#[test]
fn the_list_allows_or_denies() {
    for (allow, cidr, want) in [
        (true, "127.0.0.0/8", true),
        (true, "127.0.0.1", true),
        (true, "10.0.0.0/8", false),
        (false, "127.0.0.0/8", false),
        (false, "10.0.0.0/8", true),
    ] {
        let mut file = File::new(&format!(r#"{{"CIDR": ["{cidr}"], "allow": {allow}}}"#));
        let step = step(&mut file);
        assert_eq!(passes(&*step, &[]), want, "{allow} {cidr}");
        assert!(step.covers_health() && !step.is_silent());
    }
}

#[test]
fn headers_of_a_peer_that_is_not_a_proxy_are_ignored() {
    let mut file = trusting(r#"{"CIDR": ["192.0.2.0/24"], "allow": true}"#, &[]);
    let step = step(&mut file);
    for name in [FORWARDED, "x-real-ip", "x-appengine-remote-addr"] {
        assert!(!passes(&*step, &[(name, "192.0.2.7")]), "{name}");
    }
}

#[test]
fn the_right_most_address_that_is_not_a_proxy_is_used() {
    let block = r#"{"CIDR": ["192.0.2.0/24"], "allow": true, "trusted_proxies": ["10.0.0.0/8"]}"#;
    let mut file = trusting(block, &["127.0.0.1/32"]);
    let step = step(&mut file);
    for (value, want) in [
        ("192.0.2.7", true),
        ("192.0.2.7, 10.1.1.1", true),
        ("192.0.2.7, 198.51.100.1", false),
        ("198.51.100.1, 192.0.2.7", true),
        ("::ffff:192.0.2.7", true),
        ("192.0.2.7, junk", false),
        ("junk", false),
        ("unknown, 10.0.0.1", false),
    ] {
        assert_eq!(passes(&*step, &[(FORWARDED, value)]), want, "{value}");
    }
    // KrakenD's list and order apply where the block names proxies.
    assert!(passes(&*step, &[("x-real-ip", "192.0.2.7")]));
    assert!(passes(&*step, &[("x-appengine-remote-addr", "192.0.2.7")]));
    let both = [("x-real-ip", "192.0.2.7"), (FORWARDED, "198.51.100.1")];
    assert!(!passes(&*step, &both));
}

#[test]
fn an_address_that_cannot_be_read_is_rejected_in_both_modes() {
    for allow in [true, false] {
        let block = format!(r#"{{"CIDR": ["127.0.0.0/8"], "allow": {allow}}}"#);
        let mut file = trusting(&block, &["127.0.0.1/32"]);
        let step = step(&mut file);
        assert!(!passes(&*step, &[(FORWARDED, "junk")]), "{allow}");
    }
}

#[test]
fn the_block_names_its_own_header() {
    let block = r#"{"CIDR": ["192.0.2.7"], "allow": false, "client_ip_headers": ["X-Client"], "trusted_proxies": ["127.0.0.1"]}"#;
    let mut file = File::new(block);
    let step = step(&mut file);
    assert!(!passes(&*step, &[("x-client", "192.0.2.7")]));
    let other = [("x-client", "192.0.2.8"), (FORWARDED, "192.0.2.7")];
    assert!(passes(&*step, &other));
    // The proxy does not name the client.
    assert!(!passes(&*step, &[(FORWARDED, "192.0.2.8")]));
}

#[test]
fn an_endpoint_and_a_backend_filter_too() {
    let denied = r#"{"CIDR": ["127.0.0.1"], "allow": false}"#;
    let EndpointPart::Steps(steps) = File::new(denied).endpoint(&ENDPOINT, "/a") else {
        panic!("no step");
    };
    let headers = HeaderMap::new();
    let gate = steps[0].check(&head(&Method::GET, "/a", &headers), &mut Notes::default());
    assert!(matches!(gate, Gate::Reject(response) if response.status == 403));
    let BackendPart::Pipe(pipe) = File::new(denied).backend(&BACKEND, "{}") else {
        panic!("no pipe");
    };
    let mut request = pipe_request(bytes::Bytes::new());
    let rejected = futures::executor::block_on(pipe.before(&mut request));
    assert_eq!(
        rejected.err().map(|failure| failure.status.as_u16()),
        Some(403)
    );
    request.client = [192, 0, 2, 1].into();
    assert!(futures::executor::block_on(pipe.before(&mut request)).is_ok());
}

#[test]
fn an_unclear_block_stops_the_start() {
    for block in [
        "{}",
        r#"{"CIDR": ["10.0.0.0/8"]}"#,
        r#"{"allow": true}"#,
        r#"{"CIDR": [], "allow": true}"#,
        r#"{"CIDR": [], "allow": false}"#,
        r#"{"CIDR": "all", "allow": true}"#,
        r#"{"CIDR": ["10.0.0.0/33"], "allow": true}"#,
        r#"{"CIDR": ["10.0.0.0/8", "localhost"], "allow": true}"#,
        r#"{"CIDR": ["10.0.0.0/8"], "allow": "maybe"}"#,
        r#"{"CIDR": ["10.0.0.0/8"], "allow": true, "client_ip_headers": ["a b"]}"#,
        r#"{"CIDR": ["10.0.0.0/8"], "allow": true, "trusted_proxies": ["x"]}"#,
    ] {
        let mut file = File::new(block);
        assert!(
            matches!(file.service(&SERVICE), ServicePart::Nothing),
            "{block}"
        );
        assert!(file.config_errors() > 0, "{block}");
    }
}

#[test]
fn a_backend_may_name_proxies_of_its_own() {
    let mut file = File::new(r#"{"CIDR": ["::1"], "allow": true, "trusted_proxies": ["::1"]}"#);
    file.backend(&BACKEND, "{}");
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
}

#[test]
fn doubtful_blocks_give_a_warning() {
    for (block, word) in [
        (r#"{"CIDR": ["10.0.0.1/16"], "allow": true}"#, "10.0.0.0/16"),
        (
            r#"{"CIDR": ["10.0.0.1"], "allow": true, "client_ip_headers": ["X-A"]}"#,
            "no proxy is trusted",
        ),
    ] {
        let mut file = File::new(block);
        step(&mut file);
        assert!(file.findings().contains(word), "{}", file.findings());
        assert_eq!(file.config_errors(), 0);
    }
    let mut file = File::new(r#"{"CIDR": ["198.51.100.0/24"], "allow": true}"#);
    file.set_fact(ServiceFacts {
        health_path: Some("/__health".to_owned()),
        ..ServiceFacts::default()
    });
    step(&mut file);
    assert!(file.findings().contains("/__health"), "{}", file.findings());
}
