//! What a streamed (`no-op`) endpoint shares with composed ones: building the call, steps, credentials, the answer to
//! a failure. The copying itself is the server's.

use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use smallvec::SmallVec;

use super::backend::{self, Context};
use super::carrier::Upstream;
use super::client::ClientCall;
use super::fetch::fetch;
use super::finish;
use super::limit::Limit;
use super::merge::Merged;
use crate::runtime::answer::Answer;
use crate::runtime::failure::Failure;
use crate::runtime::service::{Backend, Endpoint, Options};
use crate::runtime::step::Credentials;
use crate::upstream::{Incoming, Outgoing};

/// A call that is ready to be made.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub out: Outgoing,
    /// We ask for gzip where the client did not: what comes is decoded for it.
    pub gunzip: bool,
}

/// Builds the call of a streamed endpoint.
///
/// # Errors
/// A value for its URL is missing or dangerous, or the body is not what GraphQL needs.
pub fn prepare(
    options: &Options,
    endpoint: &Endpoint,
    backend: &Backend,
    mut call: ClientCall,
) -> Result<Prepared, Failure> {
    let headers = std::mem::take(&mut call.headers);
    let body = std::mem::take(&mut call.body);
    let cx = Context {
        carrier: &Upstream,
        options,
        query: &endpoint.query,
        call: &call,
        concurrent_calls: 1,
    };
    let asked_by_client = headers.contains_key(ACCEPT_ENCODING)
        && backend
            .headers
            .as_ref()
            .is_none_or(|rules| rules.passes(&ACCEPT_ENCODING));
    let out = backend::prepare_with(&cx, backend, &[], headers, body)?;
    Ok(Prepared {
        out,
        gunzip: backend.compression && !asked_by_client,
    })
}

/// The `Authorization` of a backend call, waited for until `limit` at the longest.
///
/// # Errors
/// No token could be had.
pub async fn authorization(
    credentials: &dyn Credentials,
    limit: &Limit,
) -> Result<HeaderValue, Failure> {
    match credentials.ready() {
        Some(value) => Ok(value),
        None => credentials.fetch(limit.remaining()).await,
    }
}

/// Gets a whole answer through the backend's cache and credentials, for endpoints that cannot stream.
///
/// # Errors
/// As a composed endpoint's call fails.
pub async fn whole(
    options: &Options,
    backend: &Backend,
    out: Outgoing,
    limit: &Limit,
) -> Result<Incoming, Failure> {
    fetch(
        &Upstream,
        options.max_upstream_body_bytes,
        backend,
        out,
        limit,
    )
    .await
}

/// The answer when the one backend gave none; only `return_error_msg` shows why.
pub fn failed(options: &Options, failure: Failure) -> Answer {
    finish::failed(
        options,
        &Merged {
            data: None,
            complete: false,
            failures: SmallVec::from_elem(failure, 1),
            group: false,
            passed: None,
        },
    )
}
