//! The health response, sent by the front loop itself.
//!
//! Load balancers probe often, and a proxy session costs more than the response. The response here equals the
//! gateway's byte for byte. If anything about a request or the service is unusual (a step that covers health, a
//! header that changes the connection, statistics, agents, a stop in progress), the request is handled normally.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pingora_core::protocols::http::date::get_cached_date;

use crate::server::builtin;
use crate::server::gateway::{Active, Shared};
use crate::server::head::{BodyFraming, HeadFacts};

/// The complete response to a probe with the head `head`, or `None` if the request must be handled normally.
pub(super) fn health(
    shared: &Shared,
    head: &[u8],
    facts: HeadFacts,
    peer: IpAddr,
    out: &mut Vec<u8>,
) -> Option<()> {
    if !facts.simple || facts.body != BodyFraming::None {
        return None;
    }
    let rest = head.strip_prefix(b"GET ")?;
    let active = shared.active.load();
    let path = active.service.options.health_path.as_deref()?;
    rest.strip_prefix(path.as_bytes())?
        .starts_with(b" HTTP/1.1\r\n")
        .then_some(())?;
    if !is_ordinary(&active) || shared.draining.load(Ordering::Relaxed) {
        return None;
    }
    let started = Instant::now();
    let response = builtin::health(&[]);
    out.clear();
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ",
    );
    out.extend_from_slice(itoa::Buffer::new().format(response.body.len()).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(get_cached_date().as_bytes());
    out.extend_from_slice(b"\r\nConnection: keep-alive\r\n\r\n");
    out.extend_from_slice(&response.body);
    active
        .common()
        .probed(path, peer, response.body.len() as u64, started.elapsed());
    Some(())
}

/// Whether nothing in the service needs to see this request.
fn is_ordinary(active: &Active) -> bool {
    let service = &active.service;
    let address = &service.options.client_address;
    let observed = service
        .observer
        .as_ref()
        .zip(service.options.health_path.as_ref());
    let response_edits = service.response_edits.as_ref();
    service.agents.is_empty()
        && !service.steps.iter().any(|step| step.covers_health())
        && response_edits.is_none_or(|response_edits| !response_edits.covers_health)
        && observed.is_none_or(|(observer, path)| observer.settings.skips(path))
        && address.trusted.is_empty()
        && !address.app_engine
}
