//! The cache in front of a backend, and the calls that fill it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::carrier::Carrier;
use super::fetch::carry;
use super::limit::Limit;
use crate::runtime::decode;
use crate::runtime::failure::Failure;
use crate::runtime::forward::set_alone;
use crate::runtime::service::{Backend, ErrorMode};
use crate::runtime::single_flights::{End, Join, Landing, SingleFlight};
use crate::runtime::step::{CacheKey, Lookup, ResponseCache};
use crate::telemetry::observe;
use crate::upstream::{Call, CallOptions, Incoming};

/// Returns a fresh response from the cache; otherwise calls the upstream and offers the response to the cache. Of
/// equal calls at the same time only one is made.
pub(super) async fn cached<C: Carrier>(
    carrier: &C,
    backend: &Backend,
    cache: &dyn ResponseCache,
    mut call: Call,
    how: &CallOptions,
    limit: &Limit,
) -> Result<Incoming, Failure> {
    // Backends may share a cache, so the host must distinguish their paths.
    let Some(key) = cache.key(origin(backend, &call), &call.out) else {
        return carry(carrier, backend, call, how, limit).await;
    };
    let sent = call.out.headers.clone();
    let (found, turn) = look(cache, &key, &sent, limit).await;
    let mut revalidating = false;
    observe::looked_up(observed(&found));
    match found {
        Lookup::Fresh(incoming) => {
            if let Turn::Lead(single_flight) = turn {
                single_flight.end(End::Shared);
            }
            return Ok(incoming);
        }
        Lookup::Rejected => return Ok(rejected(origin(backend, &call))),
        Lookup::Stale(conditions) => {
            revalidating = true;
            for (name, value) in conditions {
                set_alone(&mut call.out.headers, &name, value);
            }
        }
        Lookup::Miss | Lookup::Bypass => {}
    }
    let calling = carry(carrier, backend, call, how, limit);
    let (late, turn) = match turn {
        Turn::Late(landing) => (Some(landing), Turn::None),
        turn => (None, turn),
    };
    let result = match late {
        Some(landing) => {
            let landed = landed(cache, &key, &sent, landing, limit);
            tokio::select! {
                biased;
                Some(incoming) = landed => {
                    observe::looked_up(observe::Lookup::Hit);
                    return Ok(incoming);
                }
                result = calling => result,
            }
        }
        None => calling.await,
    };
    let (result, end) = match result {
        Ok(response) if revalidating && response.status == StatusCode::NOT_MODIFIED => {
            let updated = cache.revalidated(&key, &sent, &response);
            (Ok(updated.unwrap_or(response)), end(cache, &key, &sent))
        }
        Ok(response) if response.status.is_server_error() => {
            let other = cache.on_error(&key, &sent);
            (Ok(other.unwrap_or(response)), End::Failed)
        }
        Ok(response) => {
            if is_read(backend, response.status) {
                cache.store(&key, &sent, &response);
            }
            (Ok(response), end(cache, &key, &sent))
        }
        Err(failure) => (cache.on_error(&key, &sent).ok_or(failure), End::Failed),
    };
    match turn {
        Turn::Lead(single_flight) => single_flight.end(end),
        Turn::Alone => cache.single_flights().learn(&key.digest, end),
        Turn::None | Turn::Late(_) => {}
    }
    result
}

fn observed(found: &Lookup) -> observe::Lookup {
    match found {
        Lookup::Fresh(_) => observe::Lookup::Hit,
        Lookup::Stale(_) => observe::Lookup::Stale,
        Lookup::Miss => observe::Lookup::Miss,
        Lookup::Bypass | Lookup::Rejected => observe::Lookup::Bypass,
    }
}

/// The role of a call among equal calls at the same time.
enum Turn<'c> {
    Lead(SingleFlight<'c>),
    Alone,
    /// It has waited for an equal call as long as it may, and makes its own. If the other one ends first, its response
    /// is good for both.
    Late(Landing),
    /// No part: it is made by itself.
    None,
}

/// Looks up the response in the cache. If it is missing and an equal call is in progress, waits for that call as long
/// as the cache allows.
async fn look<'c>(
    cache: &'c dyn ResponseCache,
    key: &CacheKey,
    sent: &HeaderMap,
    limit: &Limit,
) -> (Lookup, Turn<'c>) {
    let found = cache.lookup(key, sent);
    let timeout = cache.timeout(limit.remaining());
    if !matches!(found, Lookup::Miss | Lookup::Stale(_)) || timeout.is_zero() {
        return (found, Turn::None);
    }
    let until = Instant::now() + timeout;
    loop {
        match cache.single_flights().join(&key.digest) {
            // Another call may have ended between the two lookups.
            Join::Lead(single_flight) => {
                return (cache.lookup(key, sent), Turn::Lead(single_flight));
            }
            Join::Alone => return (found, Turn::Alone),
            Join::Wait(mut landing) => match landing.wait(until).await {
                Some(true) => return (cache.lookup(key, sent), Turn::None),
                // The task that made the call was dropped: one of the waiting tasks makes the call.
                Some(false) => {}
                None => return (found, Turn::Late(landing)),
            },
        }
    }
}

/// The response that an equal call leaves in the cache. `None` if it leaves none.
async fn landed(
    cache: &dyn ResponseCache,
    key: &CacheKey,
    sent: &HeaderMap,
    mut landing: Landing,
    limit: &Limit,
) -> Option<Incoming> {
    landing.wait(limit.end()).await?;
    match cache.lookup(key, sent) {
        Lookup::Fresh(incoming) => Some(incoming),
        _ => None,
    }
}

fn end(cache: &dyn ResponseCache, key: &CacheKey, sent: &HeaderMap) -> End {
    match cache.lookup(key, sent) {
        Lookup::Fresh(_) => End::Shared,
        _ => End::Unshared,
    }
}

/// Whether the body of such a response is read. As in KrakenD, an error response that is not read is not stored.
fn is_read(backend: &Backend, status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::CREATED)
        || backend.errors != ErrorMode::Hide
        || backend.decoder.encoding == decode::Kind::NoOp
}

/// The first host of the call, or a text that represents all hosts.
fn origin<'c>(backend: &'c Backend, call: &'c Call) -> &'c str {
    call.elsewhere.as_ref().unwrap_or(&backend.hosts).name()
}

/// The response of the cache instead of the upstream (RFC 9111 §5.2.1.7).
fn rejected(origin: &str) -> Incoming {
    Incoming {
        status: StatusCode::GATEWAY_TIMEOUT,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        origin: Some(Arc::from(origin)),
    }
}
