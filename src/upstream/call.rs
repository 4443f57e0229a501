//! One call: opens it, sends it, follows redirects, and returns a head and a body, which is streamed or collected up
//! to a limit.
//!
//! This module has no deadline: to stop waiting, drop the future, which closes the connection.

use std::future::{Future, pending};
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};

use super::budget::Full;
use super::client::Client;
use super::collect::{Collector, Overflow, Pieces, charged, whole};
use super::error::CallError;
use super::exchange::{Exchange, RequestBody};
use super::gunzip::{Gunzip, is_gzip};
use super::head_writer::content_length;
use super::hosts::HostSet;
use super::message::{Incoming, Outgoing};
use super::redirect::{NextCall, Start};
use super::resilience::Pick;
use super::session::Session;

/// The limits and permissions of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// Largest body of a response that is collected, as sent and as decoded.
    pub max_body_bytes: u64,
    /// Send the body again on 307 and 308, if it is still available.
    pub send_body_on_redirect: bool,
    /// Decode `Content-Encoding: gzip` of a response that is collected.
    pub gunzip: bool,
    /// Follow redirects, as far as the rules of the hosts allow.
    pub follows: bool,
}

/// A call that is ready to be made.
#[derive(Debug, Clone, Default)]
pub struct Call {
    pub out: Outgoing,
    /// The hosts of the call, instead of those of the backend.
    pub elsewhere: Option<Arc<HostSet>>,
    pub body: CallBody,
}

/// The source of the body of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallBody {
    /// The body is [`Outgoing::body`], which may be empty.
    #[default]
    Whole,
    /// The body of the client, piece by piece, with its length if the client announced one.
    Streamed(Option<u64>),
}

impl Call {
    /// A call with a complete body.
    pub fn whole(out: Outgoing) -> Call {
        Call {
            out,
            ..Call::default()
        }
    }

    /// Whether the call can be made a second time.
    pub fn is_repeatable(&self) -> bool {
        self.body == CallBody::Whole
    }

    fn framing(&self) -> RequestBody {
        match self.body {
            CallBody::Streamed(None) => RequestBody::Chunked,
            CallBody::Streamed(Some(length)) => RequestBody::Length(length),
            CallBody::Whole => framing(&self.out),
        }
    }
}

/// The client while a call waits for its response: it sends the body, and the call ends if it closes the connection.
pub trait Source: Send {
    type Error: From<CallError> + Send;

    /// Whether there is a client to watch.
    const WATCHED: bool;

    /// Called once before a body is streamed: the client may wait for `100 Continue`.
    fn begin(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The next piece. After the last one this only returns an error, when the client has closed its connection.
    ///
    /// May be cancelled, and called again.
    fn next(&mut self) -> impl Future<Output = Result<Piece, Self::Error>> + Send;
}

/// A piece of a body on its way to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub bytes: Bytes,
    pub last: bool,
}

/// No client to watch while a call waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwatched<E>(PhantomData<fn() -> E>);

impl<E> Default for Unwatched<E> {
    fn default() -> Unwatched<E> {
        Unwatched(PhantomData)
    }
}

impl<E: From<CallError> + Send> Source for Unwatched<E> {
    type Error = E;

    const WATCHED: bool = false;

    async fn begin(&mut self) -> Result<(), E> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Piece, E> {
        pending().await
    }
}

impl HostSet {
    /// Makes a call and waits for the head of its response. Follows redirects as far as the rules of the host set
    /// allow.
    ///
    /// # Errors
    /// See [`super::CallErrorKind`], or the error of `source`. Any response is a success here, whatever its status.
    pub async fn send<'a, S: Source>(
        &'a self,
        call: Call,
        options: &CallOptions,
        source: &mut S,
    ) -> Result<Box<Exchange<'a>>, S::Error> {
        let framing = call.framing();
        let own = call.is_repeatable();
        let retry = call.elsewhere.as_deref().unwrap_or(self).retry();
        let exchange = if let Some(retry) = retry.filter(|_| own) {
            // Boxed, so that calls that are made once do not carry this state.
            Box::pin(self.send_repeatedly(&retry, &call, framing, source)).await?
        } else {
            let pick = Pick::of(&call.out);
            let mut exchange = match call.elsewhere {
                None => self.open_picked(call.out, framing, pick).await?,
                Some(set) => {
                    Box::pin(set.open_apart(&self.client, call.out, framing, pick)).await?
                }
            };
            exchange.ask(own, source).await?;
            exchange
        };
        if options.follows
            && exchange
                .status()
                .is_some_and(|status| status.is_redirection())
        {
            // Boxed, so that calls without a redirect do not carry this second state.
            return Box::pin(follow(exchange, &self.client, options, source)).await;
        }
        Ok(exchange)
    }

    /// Sends `out` and waits for the whole response.
    ///
    /// # Errors
    /// See [`super::CallErrorKind`]. Any complete response is a success here, whatever its status.
    pub async fn call(&self, out: Outgoing, options: &CallOptions) -> Result<Incoming, CallError> {
        let mut nobody = Unwatched::<CallError>::default();
        let exchange = self.send(Call::whole(out), options, &mut nobody).await?;
        exchange.collect(options).await
    }
}

/// Follows the redirects of the response, with at most ten requests in total.
async fn follow<'a, S: Source>(
    mut exchange: Box<Exchange<'a>>,
    mut client: &'a Arc<Client>,
    options: &CallOptions,
    source: &mut S,
) -> Result<Box<Exchange<'a>>, S::Error> {
    let mut requests = 1;
    loop {
        let keep_body = options.send_body_on_redirect && exchange.own_body;
        let Some(next) = exchange.redirect(requests, keep_body).transpose() else {
            return Ok(exchange);
        };
        let start = exchange.start.clone().unwrap_or_else(|| {
            let start = Start::of(exchange.origin(), &exchange.head.headers);
            Arc::new(start)
        });
        let next = next.map_err(|error| start.hide(error))?;
        exchange.settle().await;
        // This frees its connection slot at the host for the next call.
        drop(exchange);
        requests += 1;
        let NextCall {
            hosts,
            out,
            elsewhere,
        } = next;
        if elsewhere {
            client = client.anonymous().unwrap_or(client);
        }
        let framing = framing(&out);
        exchange = hosts
            .open_apart(client, out, framing, Pick::default())
            .await
            .map_err(|error| start.hide(error))?;
        exchange.start = Some(start);
        exchange.ask(true, source).await?;
    }
}

fn framing(out: &Outgoing) -> RequestBody {
    if out.body.is_empty() {
        RequestBody::Empty
    } else if out.headers.contains_key(TRANSFER_ENCODING) {
        // A configured step asks for chunks.
        RequestBody::Chunked
    } else {
        RequestBody::Length(out.body.len() as u64)
    }
}

impl Exchange<'_> {
    fn status(&self) -> Option<StatusCode> {
        self.header().map(|(status, _)| status)
    }

    /// The length of the body before it is read, if the response with these headers announces it.
    fn announced(&self, headers: &HeaderMap) -> Option<u64> {
        let known = self.session.as_ref().and_then(Session::body_bytes);
        known.or_else(|| content_length(headers))
    }

    /// Sends the body and waits for the head of the response. `own`: the body is that of the call.
    pub(super) async fn ask<S: Source>(
        &mut self,
        own: bool,
        source: &mut S,
    ) -> Result<(), S::Error> {
        if !own {
            self.uploading = true;
            source.begin().await?;
        } else if !self.head.body.is_empty()
            && let Err(broken) = self.write_own_body().await
            && self.read_header().await.is_err()
        {
            // An upstream may respond and close the connection without reading a body that it does not want. This one
            // did not respond.
            return Err(broken.into());
        }
        if !S::WATCHED {
            self.read_header().await?;
            return Ok(());
        }
        loop {
            tokio::select! {
                biased;
                header = self.read_header() => {
                    header?;
                    return Ok(());
                }
                piece = source.next() => self.forward(piece?).await,
            }
        }
    }

    /// Forwards a piece of the client's body. An upstream that stopped reading may have responded; further pieces are
    /// then discarded, and so are pieces of a body that a step has replaced.
    pub async fn forward(&mut self, piece: Piece) {
        if self.uploading {
            let read = self.write_body(piece.bytes, piece.last).await.is_ok();
            self.uploading = read && !piece.last;
        }
    }

    /// Whether the client's body is still forwarded.
    pub fn is_uploading(&self) -> bool {
        self.uploading
    }

    /// Reads the response to its end and returns the connection to the pool.
    ///
    /// # Errors
    /// It is too large, exceeds the budget, or ended early.
    pub async fn collect(
        mut self: Box<Self>,
        options: &CallOptions,
    ) -> Result<Incoming, CallError> {
        let Some((status, mut headers)) = self.take_header() else {
            return Err(CallError::truncated());
        };
        // The length in a response to HEAD is that of a body that is not sent.
        let bodiless = self.head.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let announced = if bodiless {
            Some(0)
        } else {
            self.announced(&headers)
        };
        let most = options.max_body_bytes;
        self.collecting = true;
        let collected = whole(&mut *self, announced, most, COPIES).await;
        // From here on the body says nothing about the host: a read that failed was recorded.
        self.collecting = false;
        let mut body = collected?;
        let origin = self.origin();
        self.release().await;
        if options.gunzip && !body.is_empty() && is_gzip(&headers) {
            body = gunzip(body, most)?;
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
}

impl Pieces for Exchange<'_> {
    type Error = CallError;

    const KEEPS_BUFFER: bool = false;

    /// While a body is read, its connection has a buffer.
    fn charged(length: usize, copies: usize) -> usize {
        let body = charged(length, copies);
        if body > 0 {
            body + length.min(CONNECTION_BUFFER)
        } else {
            0
        }
    }

    fn piece(&mut self) -> impl Future<Output = Result<Option<Bytes>, CallError>> + Send {
        self.read_body()
    }

    fn overflow(overflow: Overflow, most: u64) -> CallError {
        too_much(overflow, most)
    }
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
            all.push(&piece).map_err(|over| too_much(over, limit))?;
        }
    }
}

/// The size of the buffer that a connection reads bodies into.
const CONNECTION_BUFFER: usize = 64 * 1024;
/// The budget is charged twice for a body, because its decoded form exists at the same time.
const COPIES: usize = 2;

fn too_much(overflow: Overflow, limit: u64) -> CallError {
    match overflow {
        Overflow::TooLarge => CallError::too_large(limit),
        Overflow::Full => CallError::full(Full),
    }
}
