//! Credentials and cache around one exchange.

use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::carrier::Carrier;
use super::limit::Limit;
use crate::runtime::failure::Failure;
use crate::runtime::service::Backend;
use crate::runtime::step::{Credentials, Lookup, ResponseCache};
use crate::upstream::{CallOptions, HostSet, Incoming, Outgoing};

/// Gets a whole answer for `out` from one of `hosts`, whatever its status.
pub(super) async fn fetch<C: Carrier>(
    carrier: &C,
    most_bytes: u64,
    backend: &Backend,
    hosts: &HostSet,
    out: Outgoing,
    limit: &Limit,
) -> Result<Incoming, Failure> {
    let how = CallOptions {
        max_body_bytes: most_bytes,
        send_body_on_redirect: backend.send_body_on_redirect,
        gunzip: true,
    };
    // The rare ways are boxed, so that the usual one does not carry their state around.
    match (&backend.credentials, &backend.cache) {
        (None, None) => carrier.call(hosts, out, &how).await,
        (Some(credentials), _) => {
            Box::pin(authorized(
                carrier,
                hosts,
                (&**credentials, backend.cache.as_deref()),
                out,
                &how,
                limit,
            ))
            .await
        }
        (None, Some(cache)) => Box::pin(cached(carrier, hosts, &**cache, out, &how)).await,
    }
}

/// With a token of ours. An upstream that refuses it gets one more call with a new one.
async fn authorized<C: Carrier>(
    carrier: &C,
    hosts: &HostSet,
    (credentials, cache): (&dyn Credentials, Option<&dyn ResponseCache>),
    out: Outgoing,
    how: &CallOptions,
    limit: &Limit,
) -> Result<Incoming, Failure> {
    let mut last = false;
    loop {
        let value = match credentials.ready() {
            Some(value) => value,
            None => credentials.fetch(limit.remaining()).await?,
        };
        let mut out = out.clone();
        out.headers.insert(AUTHORIZATION, value.clone());
        let incoming = match cache {
            Some(cache) => cached(carrier, hosts, cache, out, how).await?,
            None => carrier.call(hosts, out, how).await?,
        };
        let refused = incoming.status == StatusCode::UNAUTHORIZED;
        if last || !refused || !credentials.rejected(&value) {
            return Ok(incoming);
        }
        last = true;
    }
}

/// From the cache if it has a fresh answer; otherwise from the upstream, with the cache told about it.
async fn cached<C: Carrier>(
    carrier: &C,
    hosts: &HostSet,
    cache: &dyn ResponseCache,
    mut out: Outgoing,
    how: &CallOptions,
) -> Result<Incoming, Failure> {
    let (method, sent) = (out.method.clone(), out.headers.clone());
    // Caches may be shared between backends: only the host tells their paths apart.
    let url = format!("{}{}", hosts.name(), out.target);
    let mut revalidating = false;
    match cache.lookup(&method, &url, &sent) {
        Lookup::Fresh(incoming) => return Ok(incoming),
        // The cache answers in the upstream's place (RFC 9111 §5.2.1.7).
        Lookup::Refused => {
            return Ok(Incoming {
                status: StatusCode::GATEWAY_TIMEOUT,
                headers: HeaderMap::new(),
                body: Bytes::new(),
                origin: Some(Arc::from(hosts.name())),
            });
        }
        Lookup::Stale(conditions) => {
            revalidating = true;
            for (name, value) in conditions {
                out.headers.insert(name, value);
            }
        }
        Lookup::Miss => {}
    }
    match carrier.call(hosts, out, how).await {
        Ok(answer) if revalidating && answer.status == StatusCode::NOT_MODIFIED => Ok(cache
            .revalidated(&method, &url, &sent, &answer)
            .unwrap_or(answer)),
        Ok(answer) if answer.status.is_server_error() => {
            Ok(cache.on_error(&method, &url, &sent).unwrap_or(answer))
        }
        Ok(answer) => {
            cache.store(&method, &url, &sent, &answer);
            Ok(answer)
        }
        Err(failure) => cache.on_error(&method, &url, &sent).ok_or(failure),
    }
}
