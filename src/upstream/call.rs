//! One call: opened, sent, redirected, and answered by a head and a body, which is streamed or collected up to a limit.
//!
//! There is no deadline in here: whoever waits drops the future, which closes the connection.

use std::future::{Future, pending};
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use super::budget::Full;
use super::client::Client;
use super::collect::{Collector, Overflow, Pieces, whole};
use super::error::CallError;
use super::exchange::{Exchange, RequestBody};
use super::gunzip::{Gunzip, is_gzip};
use super::hosts::HostSet;
use super::message::{Incoming, Outgoing};
use super::redirect::NextCall;
use super::wire::content_length;

/// What a call may do.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// Largest body of a response that is collected, as sent and as decoded.
    pub max_body_bytes: u64,
    /// Send the body again on 307 and 308, where it is at hand.
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
    /// Where it goes instead of the backend's own hosts.
    pub elsewhere: Option<Arc<HostSet>>,
    pub body: CallBody,
}

/// Where the body of a call comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallBody {
    /// It is [`Outgoing::body`], which may be empty.
    #[default]
    Whole,
    /// The client's, piece by piece; as long as it says, where it says so.
    Streamed(Option<u64>),
}

impl Call {
    /// A call whose body is at hand.
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

/// The other end while a call waits for its response: it sends the body, and its leaving ends the call.
pub trait Source: Send {
    type Error: From<CallError> + Send;

    /// Whether there is anything to wait for at all.
    const WATCHED: bool;

    /// Called once before a body is streamed: a client may wait to be told to go on.
    fn begin(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The next piece. After the last one this only ends by an error, when the other end has closed its connection.
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

/// Nobody to watch while a call waits.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched<E>(PhantomData<fn() -> E>);

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
    /// Makes a call and waits for the head of its response. Redirects are followed as far as the set's rules allow.
    ///
    /// # Errors
    /// See [`super::CallErrorKind`], or what `source` says. Any answer is a success here, whatever its status.
    pub async fn send<'a, S: Source>(
        &'a self,
        call: Call,
        options: &CallOptions,
        source: &mut S,
    ) -> Result<Exchange<'a>, S::Error> {
        let framing = call.framing();
        let own = call.is_repeatable();
        let mut exchange = match call.elsewhere {
            None => self.open(call.out, framing).await?,
            Some(set) => Box::pin(set.open_apart(&self.client, call.out, framing)).await?,
        };
        exchange.ask(own, source).await?;
        if options.follows
            && exchange
                .status()
                .is_some_and(|status| status.is_redirection())
        {
            // Boxed, so that calls without a redirect do not carry this second, equal state around.
            return Box::pin(follow(exchange, &self.client, options, source)).await;
        }
        Ok(exchange)
    }

    /// Sends `out` and waits for the whole response.
    ///
    /// # Errors
    /// See [`super::CallErrorKind`]. Any answer that arrives whole is a success here, whatever its status.
    pub async fn call(&self, out: Outgoing, options: &CallOptions) -> Result<Incoming, CallError> {
        let mut nobody = Unwatched::<CallError>::default();
        let exchange = self.send(Call::whole(out), options, &mut nobody).await?;
        exchange.collect(options).await
    }
}

/// Goes where the response says, up to ten requests in all.
async fn follow<'a, S: Source>(
    mut exchange: Exchange<'a>,
    mut client: &'a Arc<Client>,
    options: &CallOptions,
    source: &mut S,
) -> Result<Exchange<'a>, S::Error> {
    let mut requests = 1;
    loop {
        let keep_body = options.send_body_on_redirect && exchange.own_body;
        let Some(next) = exchange.redirect(requests, keep_body)? else {
            return Ok(exchange);
        };
        let first = exchange.origin();
        exchange.settle().await;
        // Its room at the host is free for the next call.
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
        exchange = hosts.open_apart(client, out, framing).await?;
        exchange.first = first;
        exchange.ask(true, source).await?;
    }
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

impl Exchange<'_> {
    fn status(&self) -> Option<StatusCode> {
        self.header().map(|(status, _)| status)
    }

    /// Sends the body and waits for the head of the response. `own`: the body is that of the call.
    async fn ask<S: Source>(&mut self, own: bool, source: &mut S) -> Result<(), S::Error> {
        if !own {
            self.uploading = true;
            source.begin().await?;
        } else if !self.head.body.is_empty()
            && let Err(broken) = self.write_own_body().await
            && self.read_header().await.is_err()
        {
            // An upstream may answer and close without reading a body that it does not want; this one did not answer.
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

    /// Sends a piece of the client's body on. An upstream that no longer reads may still have answered; what comes then
    /// is thrown away, as are pieces of a body that another one has replaced.
    pub async fn forward(&mut self, piece: Piece) {
        if self.uploading {
            let read = self.write_body(piece.bytes, piece.last).await.is_ok();
            self.uploading = read && !piece.last;
        }
    }

    /// Whether the client's body is still sent on.
    pub fn is_uploading(&self) -> bool {
        self.uploading
    }

    /// Reads the response to its end and gives the connection back.
    ///
    /// # Errors
    /// It is too large, there is no room for it, or it broke off.
    pub async fn collect(mut self, options: &CallOptions) -> Result<Incoming, CallError> {
        let Some((status, headers)) = self.header() else {
            return Err(CallError::truncated());
        };
        let (status, mut headers) = (status, headers.clone());
        // A HEAD's length is that of the body it does not have.
        let bodiless = self.head.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let announced = if bodiless {
            Some(0)
        } else {
            content_length(&headers)
        };
        let most = options.max_body_bytes;
        let mut body = whole(&mut self, announced, most, COPIES).await?;
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

/// The budget is charged twice for a body: what is made of it will be there beside it.
const COPIES: usize = 2;

fn too_much(overflow: Overflow, limit: u64) -> CallError {
    match overflow {
        Overflow::TooLarge => CallError::too_large(limit),
        Overflow::Full => CallError::full(Full),
    }
}
