//! The health response, sent by the front loop itself.
//!
//! Load balancers probe often, and a proxy session costs more than the response. The response here equals the
//! gateway's byte for byte. If anything about a request or the service is unusual (a step that covers health, a
//! header that changes the connection, statistics, agents, a stop in progress), the request is handled normally.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pingora_core::protocols::http::date::get_cached_date;

use crate::server::builtin;
use crate::server::gateway::{Active, Probe, Shared};
use crate::server::head::{BodyFraming, HeadFacts};
use crate::telemetry::timestamp;

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
    let (started, now) = (Instant::now(), timestamp::now());
    let body_bytes = MADE.with_borrow_mut(|made| {
        if made.second != now.as_secs() {
            *made = made_at(now);
        }
        out.clear();
        out.extend_from_slice(&made.response);
        made.body_bytes
    });
    let probe = Probe {
        path,
        client: peer,
        bytes: body_bytes,
        at: now,
        took: started.elapsed(),
    };
    active.common().probed(&probe);
    Some(())
}

/// A response, with the second for which it was made.
struct Made {
    second: u64,
    response: Vec<u8>,
    body_bytes: u64,
}

thread_local! {
    /// The response of the current second: probes are frequent and need no finer time.
    static MADE: RefCell<Made> = const {
        RefCell::new(Made {
            second: u64::MAX,
            response: Vec::new(),
            body_bytes: 0,
        })
    };
}

fn made_at(now: Duration) -> Made {
    let body = builtin::healthy(now);
    let mut response = Vec::new();
    response.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ",
    );
    response.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    response.extend_from_slice(b"\r\nDate: ");
    response.extend_from_slice(get_cached_date().as_bytes());
    response.extend_from_slice(b"\r\nConnection: keep-alive\r\n\r\n");
    response.extend_from_slice(body.as_bytes());
    Made {
        second: now.as_secs(),
        response,
        body_bytes: body.len() as u64,
    }
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
