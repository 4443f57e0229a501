//! Health checks, made in the background. A host is checked once for all backends that have it with the same rules.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::host_health::HostHealth;
use super::rules::{HealthCheck, Protocol};
use crate::upstream::call::{Call, CallOptions, Unwatched};
use crate::upstream::client::Client;
use crate::upstream::error::CallError;
use crate::upstream::exchange::Exchange;
use crate::upstream::head_writer::OUR_USER_AGENT;
use crate::upstream::host_rules::{HostRules, Redirects};
use crate::upstream::hosts::HostSet;
use crate::upstream::keys::jitter;
use crate::upstream::message::Outgoing;

/// The first checks of many hosts are spread over this time, or over a tenth of the interval.
const FIRST_SPREAD: Duration = Duration::from_millis(500);
/// The maximum size of a response to a check over gRPC. It has seven bytes.
const MAX_BYTES: usize = 4096;

/// Checks a host until it is no longer used.
pub(super) async fn watch(
    host: Weak<HostHealth>,
    client: Arc<Client>,
    check: Option<Arc<HealthCheck>>,
) {
    let Some(check) = check else { return };
    let Some(url) = host.upgrade().map(|health| health.address()) else {
        return;
    };
    let hosts = HostSet::fixed(&client, &[&*url]).ruled(HostRules {
        redirects: Redirects::None,
        timeout: Some(check.timeout),
        ..HostRules::default()
    });
    let spread = FIRST_SPREAD.min(check.interval / 10);
    // `jitter` is between 0.9 and 1.1.
    tokio::time::sleep(spread.mul_f64((jitter() - 0.9) * 5.0)).await;
    loop {
        let result = probe(&hosts, &check).await;
        let Some(health) = host.upgrade() else { return };
        health.checked(result, check.healthy_threshold, check.unhealthy_threshold);
        drop(health);
        tokio::time::sleep(check.interval.mul_f64(jitter())).await;
    }
}

/// Makes one check. The error is the reason why the host is not healthy.
pub(super) async fn probe(hosts: &HostSet, check: &HealthCheck) -> Result<(), String> {
    match tokio::time::timeout(check.timeout, ask(hosts, check)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no response within {:?}", check.timeout)),
    }
}

async fn ask(hosts: &HostSet, check: &HealthCheck) -> Result<(), String> {
    let options = CallOptions {
        max_body_bytes: MAX_BYTES as u64,
        send_body_on_redirect: false,
        gunzip: false,
        follows: false,
    };
    let call = Call::whole(question(check));
    let mut nobody = Unwatched::<CallError>::default();
    let sent = hosts.send(call, &options, &mut nobody).await;
    let mut exchange = sent.map_err(|error| error.text.into_owned())?;
    let Some((status, headers)) = exchange.header() else {
        return Err("no response".to_owned());
    };
    match &check.protocol {
        Protocol::Http { expected, .. } => {
            let is_expected = expected.contains(status);
            exchange.settle().await;
            if is_expected {
                Ok(())
            } else {
                Err(format!("status {}", status.as_u16()))
            }
        }
        Protocol::Grpc { .. } => {
            let early = grpc_status(headers);
            served(exchange, status, early).await
        }
    }
}

fn question(check: &HealthCheck) -> Outgoing {
    let mut headers = check.headers.clone();
    headers.entry(USER_AGENT).or_insert(OUR_USER_AGENT);
    if let Some(host) = &check.host {
        headers.insert(HOST, host.clone());
    }
    match &check.protocol {
        Protocol::Http { method, target, .. } => Outgoing {
            method: method.clone(),
            target: (**target).into(),
            headers,
            ..Outgoing::default()
        },
        Protocol::Grpc { service } => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
            Outgoing {
                method: Method::POST,
                target: "/grpc.health.v1.Health/Check".into(),
                headers,
                body: health_check_request(service),
                ..Outgoing::default()
            }
        }
    }
}

/// `HealthCheckRequest{service = 1}` in its frame.
fn health_check_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    let status = headers.get("grpc-status")?;
    Some(String::from_utf8_lossy(status.as_bytes()).into_owned())
}

/// Whether the response says SERVING.
async fn served(
    mut exchange: Box<Exchange<'_>>,
    status: StatusCode,
    early: Option<String>,
) -> Result<(), String> {
    if status != StatusCode::OK {
        return Err(format!("status {}", status.as_u16()));
    }
    let mut body = BytesMut::new();
    while let Ok(Some(piece)) = exchange.read_body().await {
        if body.len() + piece.len() > MAX_BYTES {
            return Err("the response is too large".to_owned());
        }
        body.put(piece);
    }
    let trailers = exchange.trailers().await.ok().flatten();
    exchange.release().await;
    let code = early.or_else(|| trailers.as_ref().and_then(grpc_status));
    match (code.as_deref(), serving_status(&body)) {
        (Some("0"), Some(1)) => Ok(()),
        (Some("0"), Some(2)) => Err("NOT_SERVING".to_owned()),
        (Some("0"), _) => Err("the response is not SERVING".to_owned()),
        // Of the status codes of gRPC, 5 is NOT_FOUND and 12 is UNIMPLEMENTED.
        (Some("5"), _) => Err("the server does not know the service".to_owned()),
        (Some("12"), _) => Err("the server has no grpc.health.v1.Health".to_owned()),
        (Some(code), _) => Err(format!("grpc-status {code}")),
        (None, _) => Err("no grpc-status".to_owned()),
    }
}

/// `HealthCheckResponse{status = 1}` in its frame. An absent field is 0, UNKNOWN.
fn serving_status(framed: &[u8]) -> Option<u8> {
    let (frame, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(frame.get(1..)?.try_into().ok()?);
    if frame.first() != Some(&0) || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_over_grpc_names_its_service() {
        assert_eq!(&*health_check_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(
            &*health_check_request("ab"),
            [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
        );
        let long = health_check_request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn only_a_whole_response_has_a_status() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        for bad in [
            &[][..],
            &[0, 0, 0, 0, 2, 8],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 1, 8],
        ] {
            assert_eq!(serving_status(bad), None, "{bad:?}");
        }
    }
}
