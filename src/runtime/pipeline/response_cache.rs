//! The cache in front of a backend, and the calls that fill it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use super::fetch::{open, send_call};
use super::time_limit::TimeLimit;
use super::transport::{OpenResponse, Transport};
use crate::runtime::decode;
use crate::runtime::failure::Failure;
use crate::runtime::forward::remove_alike;
use crate::runtime::service::{Backend, ErrorMode};
use crate::runtime::single_flights::{Awaited, End, Join, Late, SingleFlight};
use crate::runtime::step::{CacheKey, Lookup, ResponseCache};
use crate::telemetry::observe;
use crate::upstream::collect::StoreCopy;
use crate::upstream::{Call, CallOptions, Incoming, is_gzip};

/// Returns a fresh response from the cache; otherwise calls the upstream and offers the response to the cache. Of
/// equal calls at the same time only one is made.
pub(super) async fn cached<C: Transport>(
    transport: &C,
    backend: &Backend,
    cache: &dyn ResponseCache,
    mut call: Call,
    how: &CallOptions,
    limit: &TimeLimit,
) -> Result<Incoming, Failure> {
    // Backends may share a cache, so the host must distinguish their paths.
    let Some(key) = cache.key(origin(backend, &call), &call.out) else {
        return send_call(transport, backend, call, how, limit).await;
    };
    let mut miss = match Miss::look(backend, cache, key, &mut call, limit).await {
        Ok(stored) => return Ok(stored),
        Err(miss) => miss,
    };
    let result = match miss
        .call(send_call(transport, backend, call, how, limit))
        .await
    {
        Ok(stored) => return Ok(stored),
        Err(result) => result,
    };
    let response = match result {
        Ok(response) => response,
        Err(failure) => return miss.failed().ok_or(failure),
    };
    if let Some(other) = miss.replaced(response.status, &response.headers) {
        return Ok(other);
    }
    if is_read(backend, response.status) {
        miss.store(&response);
    }
    miss.end(response.status);
    Ok(response)
}

/// The client's own conditions, which are not sent when the stored response is validated: a 304 must be about that one.
const CONDITIONS: [HeaderName; 5] = [
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
];

/// The response to a call whose body is streamed.
pub(super) enum Opened<'a, R> {
    /// The stored response.
    Stored(Incoming),
    /// The response of the upstream. With [`Filling`], it is to be stored while it is copied.
    Live(R, Option<Box<Filling<'a>>>),
}

/// Like [`cached`], for a response that is copied to the client while it arrives.
pub(super) async fn opened<'a, C: Transport>(
    transport: &C,
    backend: &'a Backend,
    cache: &'a dyn ResponseCache,
    mut call: Call,
    how: &CallOptions,
    limit: &TimeLimit,
) -> Result<Opened<'a, C::Response<'a>>, Failure> {
    let Some(key) = cache.key(origin(backend, &call), &call.out) else {
        let response = open(transport, backend, call, how, limit).await?;
        return Ok(Opened::Live(response, None));
    };
    let origin = Arc::from(origin(backend, &call));
    let mut miss = match Miss::look(backend, cache, key, &mut call, limit).await {
        Ok(stored) => return Ok(Opened::Stored(stored)),
        Err(miss) => miss,
    };
    let result = match miss.call(open(transport, backend, call, how, limit)).await {
        Ok(stored) => return Ok(Opened::Stored(stored)),
        Err(result) => result,
    };
    let mut response = match result {
        Ok(response) => response,
        Err(failure) => return miss.failed().map(Opened::Stored).ok_or(failure),
    };
    let Some((status, headers)) = response.head() else {
        return Ok(Opened::Live(response, None));
    };
    if let Some(other) = miss.replaced(status, headers) {
        response.release().await;
        return Ok(Opened::Stored(other));
    }
    let mut headers = headers.clone();
    if is_gzip(&headers) {
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
    let space = miss.cache.space(&miss.key, &miss.sent, (status, &headers));
    let Some(most) = space else {
        miss.end(status);
        return Ok(Opened::Live(response, None));
    };
    let head = Incoming {
        status,
        headers,
        body: Bytes::new(),
        origin: Some(origin),
    };
    let filling = Filling::new(miss, head, most);
    Ok(Opened::Live(response, Some(Box::new(filling))))
}

/// A call whose response is not in the cache.
pub(super) struct Miss<'c> {
    cache: &'c dyn ResponseCache,
    key: CacheKey,
    /// What the call sent.
    sent: HeaderMap,
    turn: Turn<'c>,
    /// When the call began.
    started: Instant,
    /// The upstream is asked whether the stored response is still valid.
    revalidating: bool,
}

impl<'c> Miss<'c> {
    /// Looks up the response. If it is stored but not fresh, `call` gets the conditions.
    async fn look(
        backend: &Backend,
        cache: &'c dyn ResponseCache,
        key: CacheKey,
        call: &mut Call,
        limit: &TimeLimit,
    ) -> Result<Incoming, Miss<'c>> {
        let sent = call.out.headers.clone();
        let (found, turn) = look(cache, &key, &sent, limit).await;
        observe::looked_up(observed(&found));
        let mut revalidating = false;
        match found {
            Lookup::Fresh(incoming) => {
                if let Turn::Lead(single_flight) = turn {
                    single_flight.end(End::Shared);
                }
                return Ok(incoming);
            }
            Lookup::Rejected => return Ok(rejected(origin(backend, call))),
            Lookup::Stale(conditions) => {
                revalidating = !conditions.is_empty();
                if revalidating {
                    for name in &CONDITIONS {
                        remove_alike(&mut call.out.headers, name);
                    }
                    call.out.headers.extend(conditions);
                }
            }
            Lookup::Miss | Lookup::Bypass => {}
        }
        Err(Miss {
            cache,
            key,
            sent,
            turn,
            started: Instant::now(),
            revalidating,
        })
    }

    /// Makes the call. `Ok` if an equal call leaves its response in the cache before this one has its own.
    async fn call<T>(
        &mut self,
        calling: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Incoming, Result<T, Failure>> {
        let Turn::Late(late) = &mut self.turn else {
            return Err(calling.await);
        };
        tokio::select! {
            biased;
            Some(incoming) = landed(self.cache, &self.key, &self.sent, late) => {
                observe::looked_up(observe::Lookup::Hit);
                Ok(incoming)
            }
            result = calling => Err(result),
        }
    }

    /// The stored response that may replace this one of the upstream: the response is still valid (304), or the
    /// upstream failed.
    fn replaced(&mut self, status: StatusCode, headers: &HeaderMap) -> Option<Incoming> {
        if status.is_server_error() {
            return self.failed();
        }
        if !self.revalidating || status != StatusCode::NOT_MODIFIED {
            return None;
        }
        let response = Incoming {
            status,
            headers: headers.clone(),
            body: Bytes::new(),
            origin: None,
        };
        let took = self.started.elapsed();
        let updated = self
            .cache
            .revalidated(&self.key, &self.sent, &response, took)?;
        self.end(updated.status);
        Some(updated)
    }

    /// The upstream failed. Returns the stored response that may be used instead. An equal call may have stored one.
    fn failed(&mut self) -> Option<Incoming> {
        self.end_as(End::Failed);
        fresh(self.cache, &self.key, &self.sent)
            .or_else(|| self.cache.on_error(&self.key, &self.sent))
    }

    fn store(&self, response: &Incoming) {
        let is_failure = response.status.is_server_error();
        let is_check = self.revalidating && response.status == StatusCode::NOT_MODIFIED;
        if !is_failure && !is_check {
            let took = self.started.elapsed();
            self.cache.store(&self.key, &self.sent, response, took);
        }
    }

    /// Lets the equal calls go on.
    fn end(&mut self, status: StatusCode) {
        let end = match self.cache.lookup(&self.key, &self.sent) {
            Lookup::Fresh(_) => End::Shared,
            _ => End::Unshared,
        };
        // Only of a call that others can wait for: one client could make any number of equal calls. And anyone can ask
        // for what does not exist, which says nothing about other responses.
        let is_awaited = matches!(self.turn, Turn::Lead(_));
        if is_awaited && (end == End::Shared || status.is_success()) {
            let took = self.started.elapsed();
            self.cache.learn(&self.sent, took, end == End::Shared);
        }
        self.end_as(end);
    }

    /// Only the first end counts.
    fn end_as(&mut self, end: End) {
        match std::mem::replace(&mut self.turn, Turn::None) {
            Turn::Lead(single_flight) => single_flight.end(end),
            Turn::Alone => self.cache.single_flights().learn(&self.key.digest, end),
            Turn::Late(late) => late.end(end),
            Turn::None => {}
        }
    }
}

/// A response that is stored after it was copied to the client. If it does not come to its end, an equal call that
/// waits for it is made instead.
pub(super) struct Filling<'c> {
    miss: Miss<'c>,
    head: Incoming,
    /// `None` if the body is too large to be stored, or the budget of stored responses is full.
    body: Option<StoreCopy>,
}

impl<'c> Filling<'c> {
    fn new(miss: Miss<'c>, head: Incoming, most: u64) -> Filling<'c> {
        Filling {
            miss,
            head,
            body: Some(StoreCopy::new(most)),
        }
    }

    /// Adds a piece of the body, without its content coding.
    pub(super) fn push(&mut self, piece: &[u8]) {
        if let Some(body) = &mut self.body
            && body.push(piece).is_err()
        {
            self.body = None;
            self.miss.end_as(End::Unshared);
        }
    }

    /// Equal calls no longer wait for this response, because its client reads slowly: one of them is made instead.
    pub(super) fn let_others_go(&mut self) {
        self.miss.turn = Turn::None;
    }

    /// The body is complete.
    pub(super) fn complete(mut self) {
        if let Some(body) = self.body.take().and_then(StoreCopy::done) {
            self.head.body = body;
            self.miss.store(&self.head);
        }
        self.miss.end(self.head.status);
    }
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
    /// It has waited for an equal call, and now makes its own call. The response that arrives first is used.
    Late(Late),
    /// The call takes no part in single-flight.
    None,
}

/// Looks up the response in the cache. If it is missing and an equal call is in progress, waits for that call as long
/// as the cache allows.
async fn look<'c>(
    cache: &'c dyn ResponseCache,
    key: &CacheKey,
    sent: &HeaderMap,
    limit: &TimeLimit,
) -> (Lookup, Turn<'c>) {
    let found = cache.lookup(key, sent);
    let Some(wait) = cache.wait(key, sent, &found, limit.remaining()) else {
        return (found, Turn::None);
    };
    let now = Instant::now();
    let until = (now + wait.own, now + wait.most);
    loop {
        match cache.single_flights().join(&key.digest) {
            // Another call may have ended between the two lookups.
            Join::Lead(single_flight) => {
                return (cache.lookup(key, sent), Turn::Lead(single_flight));
            }
            Join::Alone => return (found, Turn::Alone),
            Join::Wait(pending) => match pending.wait(until).await {
                Awaited::Shared => return (cache.lookup(key, sent), Turn::None),
                // The task that made the call was dropped: one of the waiting tasks makes the call.
                Awaited::Dropped => {}
                Awaited::Call(late) => return (found, Turn::Late(late)),
            },
        }
    }
}

/// The response that an equal call stored. `None` if this request may not use it.
async fn landed(
    cache: &dyn ResponseCache,
    key: &CacheKey,
    sent: &HeaderMap,
    late: &mut Late,
) -> Option<Incoming> {
    late.shared().await;
    fresh(cache, key, sent)
}

fn fresh(cache: &dyn ResponseCache, key: &CacheKey, sent: &HeaderMap) -> Option<Incoming> {
    match cache.lookup(key, sent) {
        Lookup::Fresh(incoming) => Some(incoming),
        _ => None,
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
