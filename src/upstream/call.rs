//! Whole-body calls: redirects, gzip, limits.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use super::budget::Full;
use super::collect::{Collector, Overflow};
use super::error::CallError;
use super::exchange::{Exchange, RequestBody};
use super::gunzip::{Gunzip, is_gzip};
use super::hosts::HostSet;
use super::message::{Incoming, Outgoing};
use super::redirect::NextCall;

/// What a whole-body call may do.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// Largest body of the answer, as sent and as decoded.
    pub max_body_bytes: u64,
    /// Send the body again on 307 and 308.
    pub send_body_on_redirect: bool,
    /// Decode `Content-Encoding: gzip`.
    pub gunzip: bool,
}

impl HostSet {
    /// Sends `out` and waits for the whole answer. There is no deadline: drop the future to end the call, which
    /// closes its connection.
    ///
    /// # Errors
    /// See [`super::CallErrorKind`]. Any answer that arrives whole is a success here, whatever its status.
    pub async fn call(&self, out: Outgoing, options: &CallOptions) -> Result<Incoming, CallError> {
        let (mut next, origin) = match once(self, &out, options, 1).await? {
            Step::Answer(incoming) => return Ok(incoming),
            Step::Redirect(next, origin) => (next, origin),
        };
        drop(out);
        let mut requests = 1;
        loop {
            requests += 1;
            // Boxed so that calls without a redirect do not carry this second, equal state around.
            let step = Box::pin(once(&next.hosts, &next.out, options, requests)).await?;
            match step {
                // Texts name the call that was asked for, not where it led.
                Step::Answer(incoming) => return Ok(Incoming { origin, ..incoming }),
                Step::Redirect(further, _) => next = further,
            }
        }
    }
}

enum Step {
    Answer(Incoming),
    Redirect(Box<NextCall>, Option<Arc<str>>),
}

/// One request and its answer; `requests` is its number in the chain.
async fn once(
    hosts: &HostSet,
    out: &Outgoing,
    options: &CallOptions,
    requests: u32,
) -> Result<Step, CallError> {
    let mut exchange = hosts.open(out, framing(out)).await?;
    if !out.body.is_empty()
        && let Err(broken) = exchange.write_own_body().await
        && exchange.read_header().await.is_err()
    {
        // An upstream may answer and close without reading a body that it does not want; this one did not answer.
        return Err(broken);
    }
    let (status, _) = exchange.read_header().await?;
    if status.is_redirection() {
        let next = exchange.redirect(requests, options.send_body_on_redirect)?;
        if let Some(next) = next {
            let origin = exchange.origin();
            exchange.settle().await;
            return Ok(Step::Redirect(Box::new(next), origin));
        }
    }
    answer(exchange, out, options).await.map(Step::Answer)
}

fn framing(out: &Outgoing) -> RequestBody {
    if out.body.is_empty() {
        RequestBody::Empty
    } else if out.headers.contains_key(TRANSFER_ENCODING) {
        // A step of the file asks for chunks.
        RequestBody::Chunked
    } else {
        RequestBody::Length(out.body.len() as u64)
    }
}

async fn answer(
    mut exchange: Exchange<'_>,
    out: &Outgoing,
    options: &CallOptions,
) -> Result<Incoming, CallError> {
    let Some((status, headers)) = exchange.header() else {
        return Err(CallError::truncated());
    };
    let (status, mut headers) = (status, headers.clone());
    // A HEAD's length is that of the body it does not have.
    let bodiless = out.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    let announced = if bodiless { Some(0) } else { length(&headers) };
    let mut body = read_all(&mut exchange, announced, options.max_body_bytes).await?;
    let origin = exchange.origin();
    exchange.release().await;
    if options.gunzip && !body.is_empty() && is_gzip(&headers) {
        body = gunzip(body, options.max_body_bytes)?;
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
    Ok(Incoming {
        status,
        headers,
        body,
        origin,
    })
}

/// Reads to the end, at most `limit` bytes. The usual answer is one chunk, which is returned as it came.
async fn read_all(
    exchange: &mut Exchange<'_>,
    announced: Option<u64>,
    limit: u64,
) -> Result<Bytes, CallError> {
    if announced.is_some_and(|length| length > limit) {
        return Err(CallError::too_large(limit));
    }
    let Some(first) = exchange.read_body().await? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 > limit {
        return Err(CallError::too_large(limit));
    }
    let Some(second) = exchange.read_body().await? else {
        return Ok(first);
    };
    let expected = announced.and_then(|length| usize::try_from(length).ok());
    let room = expected.unwrap_or(first.len() * 4).max(first.len());
    let mut all = Collector::new(room, limit, COPIES);
    all.push(&first).map_err(|over| overflow(over, limit))?;
    let mut chunk = Some(second);
    while let Some(more) = chunk {
        all.push(&more).map_err(|over| overflow(over, limit))?;
        chunk = exchange.read_body().await?;
    }
    Ok(all.done())
}

fn gunzip(body: Bytes, limit: u64) -> Result<Bytes, CallError> {
    let mut gunzip = Gunzip::default();
    let mut all = Collector::new(body.len() * 4, limit, COPIES);
    gunzip.push(body);
    let mut last = false;
    loop {
        let piece = match gunzip.next_piece()? {
            None if last => return Ok(all.done()),
            None => {
                last = true;
                gunzip.finish()?
            }
            piece => piece,
        };
        if let Some(piece) = piece {
            all.push(&piece).map_err(|over| overflow(over, limit))?;
        }
    }
}

/// The budget is charged twice for a body: what is made of it will be there beside it.
const COPIES: usize = 2;

fn overflow(overflow: Overflow, limit: u64) -> CallError {
    match overflow {
        Overflow::TooLarge => CallError::too_large(limit),
        Overflow::Full => CallError::full(Full),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
}
