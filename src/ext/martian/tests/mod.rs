//! Definitions as configured, and their effect on a request and its response.

mod config_errors;
mod requests;
mod responses;
mod serving;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::BACKEND;
use crate::ext::extension::BackendPart;
use crate::ext::testing::File;
use crate::runtime::failure::Failure;
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply};
use crate::runtime::request::Params;

/// The step of a definition.
fn step(block: &str) -> Box<dyn CallStep> {
    let mut file = File::new(block);
    match file.backend(&BACKEND, "{}") {
        BackendPart::OnWire(step) => step,
        _ => panic!("{block}: {}", file.findings()),
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_str(value).unwrap())
    });
    pairs.collect()
}

/// `GET http://h:81/u%20v?b=2&a=1` with these headers.
fn request(pairs: &[(&'static str, &str)]) -> PipeRequest {
    PipeRequest {
        peer: None,
        method: Method::GET,
        origin: Some("http://h:81".into()),
        path: "/u%20v".into(),
        query: Some("b=2&a=1".into()),
        params: Params::default(),
        headers: headers(pairs),
        body: Bytes::new(),
        claims: None,
        client: std::net::IpAddr::from([127, 0, 0, 1]),
        deadline: Instant::now() + Duration::from_secs(2),
    }
}

fn reply(pairs: &[(&'static str, &str)]) -> Reply {
    Reply {
        status: StatusCode::OK,
        headers: headers(pairs),
        body: None,
        origin: None,
    }
}

/// The result for a request.
fn sent(block: &str, request: &mut PipeRequest) -> Result<bool, Failure> {
    match step(block).request(request)? {
        CallDecision::Send => Ok(false),
        CallDecision::Replace => Ok(true),
        CallDecision::Response(_) | CallDecision::Wait(_) | CallDecision::Receive(_) => {
            panic!("nothing is sent")
        }
    }
}

/// The request after the change, for a request with these headers.
fn changed(block: &str, pairs: &[(&'static str, &str)]) -> PipeRequest {
    let mut request = request(pairs);
    sent(block, &mut request).unwrap();
    request
}

/// The response after the change.
fn answered(block: &str, request: &PipeRequest, mut reply: Reply) -> Reply {
    let step = step(block);
    assert!(step.sees_responses(), "{block}");
    step.response(request, &mut reply).unwrap();
    reply
}

/// All values of a header.
fn values<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    let lines = headers.get_all(name).iter();
    lines.map(|value| value.to_str().unwrap()).collect()
}

/// A definition that marks the request or the response with `X-Mark: mark`.
fn mark(mark: &str) -> String {
    format!(r#"{{"header.Modifier": {{"name": "X-Mark", "value": "{mark}"}}}}"#)
}
