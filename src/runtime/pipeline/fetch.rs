//! Credentials and cache around one exchange.

use http::StatusCode;
use http::header::AUTHORIZATION;

use super::cached::cached;
use super::carrier::Carrier;
use super::limit::Limit;
use crate::runtime::failure::Failure;
use crate::runtime::service::Backend;
use crate::runtime::step::Credentials;
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
                (backend, &**credentials),
                out,
                &how,
                limit,
            ))
            .await
        }
        (None, Some(cache)) => {
            Box::pin(cached(
                carrier,
                hosts,
                (backend, &**cache),
                out,
                &how,
                limit,
            ))
            .await
        }
    }
}

/// With a token of ours. An upstream that refuses it gets one more call with a new one.
async fn authorized<C: Carrier>(
    carrier: &C,
    hosts: &HostSet,
    (backend, credentials): (&Backend, &dyn Credentials),
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
        let incoming = match backend.cache.as_deref() {
            Some(cache) => cached(carrier, hosts, (backend, cache), out, how, limit).await?,
            None => carrier.call(hosts, out, how).await?,
        };
        let refused = incoming.status == StatusCode::UNAUTHORIZED;
        if last || !refused || !credentials.rejected(&value) {
            return Ok(incoming);
        }
        last = true;
    }
}
