//! One request and one answer on one connection, as a stream.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error, RetryType};
use pingora_http::ResponseHeader;
use tokio::time::Instant;

use super::error::{CallError, CallErrorKind};
use super::host::{Host, Peers, Place};
use super::hosts::{Connected, HostList, HostSet};
use super::message::Outgoing;
use super::redirect::{self, Body, NextCall};
use super::wire::{Wire, request_header, unwritable};

/// How the request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody {
    /// No body. POST, PUT and PATCH say so with `Content-Length: 0`.
    Empty,
    /// Exactly so many bytes.
    Length(u64),
    /// As many as there will be: `Transfer-Encoding: chunked`.
    Chunked,
}

/// A call under way. Dropping it closes its connection; [`Exchange::release`] gives the connection back.
///
/// Reads may be cancelled and repeated, so that a server can `select!` between its client's body and this answer.
pub struct Exchange<'a> {
    set: &'a HostSet,
    hosts: HostList<'a>,
    host: usize,
    head: &'a Outgoing,
    body: RequestBody,
    /// `None` only between a stale connection and its replacement.
    session: Option<HttpSession>,
    reused: bool,
    retried: bool,
    /// Whether a byte of the body has been handed over: then nothing may be repeated.
    touched: bool,
    /// Whether the head has gone out whole: a cancelled wait may have cut its writing short.
    head_sent: bool,
    request_done: bool,
    header_seen: bool,
    body_done: bool,
    header_deadline: Option<Instant>,
    peers: Arc<Peers>,
    peer: usize,
}

impl std::fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.head.method)
            .field("target", &self.head.target)
            .finish_non_exhaustive()
    }
}

impl HostSet {
    /// Connects to one of the hosts and sends the head of `head`; its `body` is not looked at.
    ///
    /// # Errors
    /// No host would let us in, or the head cannot be written as a request.
    pub async fn open<'a>(
        &'a self,
        head: &'a Outgoing,
        body: RequestBody,
    ) -> Result<Exchange<'a>, CallError> {
        let hosts = self.list().await;
        let found = self.connect(&hosts, &head.method, &head.target).await?;
        let Connected {
            session,
            reused,
            host,
            peers,
            peer,
        } = found;
        let mut exchange = Exchange {
            set: self,
            hosts,
            host,
            head,
            body,
            session: Some(session),
            reused,
            retried: false,
            touched: false,
            head_sent: false,
            request_done: false,
            header_seen: false,
            body_done: false,
            header_deadline: None,
            peers,
            peer,
        };
        exchange.send_head().await?;
        Ok(exchange)
    }
}

impl Exchange<'_> {
    /// The host that was called, as the file has it.
    pub fn origin(&self) -> Option<Arc<str>> {
        self.hosts.get(self.host).map(|host| Arc::clone(&host.url))
    }

    /// Sends a piece of the request's body; `end` after the last one.
    ///
    /// # Errors
    /// The connection broke. The upstream may have answered before: [`Exchange::read_header`] still tells.
    pub async fn write_body(&mut self, chunk: Bytes, end: bool) -> Result<(), CallError> {
        self.touched = true;
        let written = match self.session.as_mut() {
            Some(session) => session.write_request_body(chunk, end).await,
            None => return Err(CallError::truncated()),
        };
        written.map_err(|error| self.failed(CallError::header(&error)))?;
        if end {
            self.finish_body().await?;
        }
        Ok(())
    }

    /// Says that the request's body is complete. Not needed when there is none.
    ///
    /// # Errors
    /// As [`Exchange::write_body`].
    pub async fn finish_body(&mut self) -> Result<(), CallError> {
        if self.request_done {
            return Ok(());
        }
        let finished = match self.session.as_mut() {
            Some(session) => session.finish_request_body().await,
            None => return Err(CallError::truncated()),
        };
        finished.map_err(|error| self.failed(CallError::header(&error)))?;
        self.request_done = true;
        let limit = self.set.client.settings.response_header_timeout;
        self.header_deadline = limit.map(|limit| Instant::now() + limit);
        Ok(())
    }

    /// Waits for the answer's status and headers; 1xx answers are skipped.
    ///
    /// A pooled connection that turns out dead is replaced once, if no byte of the answer has come, none of the body
    /// has gone, and the method may be repeated.
    ///
    /// # Errors
    /// The connection broke, or the answer is not one that can be trusted.
    pub async fn read_header(&mut self) -> Result<(StatusCode, &HeaderMap), CallError> {
        while !self.header_seen {
            if self.session.is_none() || !self.head_sent {
                self.reconnect().await?;
            }
            match self.read_one_header().await {
                Ok(true) => {
                    self.check_header()?;
                    self.header_seen = true;
                }
                Ok(false) => {}
                Err(error) if self.may_retry(&error) => {
                    self.retried = true;
                    self.session = None;
                }
                Err(error) => return Err(self.failed(CallError::header(&error))),
            }
        }
        self.header()
            .ok_or_else(|| self.failed(CallError::truncated()))
    }

    /// Status and headers, once they were read.
    pub fn header(&self) -> Option<(StatusCode, &HeaderMap)> {
        self.response()
            .filter(|_| self.header_seen)
            .map(|response| (response.status, &response.headers))
    }

    /// The next piece of the answer's body; `None` after the last one.
    ///
    /// # Errors
    /// The transfer ended before its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(session) = self.session.as_mut() else {
            return Err(CallError::truncated());
        };
        if self.body_done {
            return Ok(None);
        }
        loop {
            match session.read_response_body().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => {
                    self.body_done = true;
                    return Ok(None);
                }
                Err(error) => return Err(CallError::body(&error)),
            }
        }
    }

    /// Whether the answer is complete, so that no further read is needed.
    pub fn is_done(&mut self) -> bool {
        self.body_done
            || self.header_seen
                && self
                    .session
                    .as_mut()
                    .is_some_and(HttpSession::response_done)
    }

    /// The trailers that followed the body. HTTP/2 only: those of HTTP/1 are dropped.
    ///
    /// # Errors
    /// The stream was reset.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, CallError> {
        match self.session.as_mut() {
            Some(HttpSession::H2(session)) => session
                .read_trailers()
                .await
                .map_err(|error| CallError::body(&error)),
            _ => Ok(None),
        }
    }

    /// The call that the answer asks for, or `None` if it is an answer like any other.
    ///
    /// `requests` counts those of this chain, this one included.
    ///
    /// # Errors
    /// The tenth request was redirected again, or the `Location` cannot be called.
    pub fn redirect(&self, requests: u32, keep_body: bool) -> Result<Option<NextCall>, CallError> {
        let Some((status, headers)) = self.header().filter(|(status, _)| status.is_redirection())
        else {
            return Ok(None);
        };
        let body = match self.body {
            RequestBody::Empty => Body::None,
            _ if keep_body => Body::Kept,
            _ => Body::Gone,
        };
        let Some(place) = self.place() else {
            return Ok(None);
        };
        let target = format!("{}{}", place.base, self.head.target);
        let from = redirect::From {
            secure: place.secure,
            authority: place.authority.to_str().unwrap_or_default(),
            target: &target,
        };
        let next = redirect::next(status, headers, from, &self.head.method, body)
            .map_err(|error| self.failed(error))?;
        let Some(next) = next else {
            return Ok(None);
        };
        if requests >= redirect::MOST_REQUESTS {
            let text = format!("stopped after {} redirects", redirect::MOST_REQUESTS);
            let error = CallError::new(CallErrorKind::Redirects, text);
            return Err(error.of(&next.method, next.target));
        }
        let headers = redirect::headers(&self.head.headers, from, &next.origin, next.with_body);
        Ok(Some(NextCall {
            hosts: HostSet::fixed(&self.set.client, &[&next.origin]),
            out: Outgoing {
                method: next.method,
                target: next.target,
                headers,
                body: if next.with_body {
                    self.head.body.clone()
                } else {
                    Bytes::new()
                },
            },
        }))
    }

    /// Gives the connection back to the pool, if both sides have said all they had to say.
    pub async fn release(mut self) {
        let clean = self.request_done && !self.set.client.settings.disable_keep_alives;
        if let Some(session) = self.session.take()
            && clean
            && let Some(candidate) = self.peers.list.get(self.peer)
        {
            let client = &self.set.client;
            let idle = Some(client.settings.idle_connection_timeout);
            client
                .connector
                .release_http_session(session, &candidate.peer, idle)
                .await;
        }
    }

    /// Puts method and URL of this call in front of an error.
    pub(super) fn failed(&self, error: CallError) -> CallError {
        let url = self.host().map_or("", |host| &host.url);
        error.of(&self.head.method, format!("{url}{}", self.head.target))
    }

    fn host(&self) -> Option<&Host> {
        self.hosts.get(self.host)
    }

    fn place(&self) -> Option<&Place> {
        self.host().and_then(|host| host.place.as_ref().ok())
    }

    fn response(&self) -> Option<&ResponseHeader> {
        self.session.as_ref().and_then(HttpSession::response_header)
    }

    /// Writes the head, and the end of the request where there is no body. A dead pooled connection may show
    /// already here.
    async fn send_head(&mut self) -> Result<(), CallError> {
        if let Err(error) = self.write_head().await? {
            if !self.repeatable() {
                return Err(self.failed(CallError::header(&error)));
            }
            self.retried = true;
            self.session = None;
            self.reconnect().await?;
        }
        Ok(())
    }

    /// The outer error is final, the inner one is the connection's.
    async fn write_head(&mut self) -> Result<Result<(), Box<Error>>, CallError> {
        let (Some(place), Some(session)) = (
            self.hosts
                .get(self.host)
                .and_then(|host| host.place.as_ref().ok()),
            self.session.as_mut(),
        ) else {
            return Err(CallError::no_hosts());
        };
        let wire = Wire {
            body: self.body,
            close: self.set.client.settings.disable_keep_alives,
            h1: matches!(session, HttpSession::H1(_)),
        };
        let header = match request_header(self.head, place, wire) {
            Ok(header) => header,
            Err(error) => return Err(self.failed(error)),
        };
        if let Err(error) = session.write_request_header(header).await {
            return match error.etype() {
                pingora_core::ErrorType::InvalidHTTPHeader => Err(self.failed(unwritable())),
                _ => Ok(Err(error)),
            };
        }
        self.head_sent = self.body != RequestBody::Empty;
        if self.body == RequestBody::Empty {
            if let Err(error) = session.finish_request_body().await {
                return Ok(Err(error));
            }
            self.head_sent = true;
            self.request_done = true;
            let limit = self.set.client.settings.response_header_timeout;
            self.header_deadline = limit.map(|limit| Instant::now() + limit);
        }
        Ok(Ok(()))
    }

    /// Another connection to the same address, certainly not a pooled one: those may all be dead.
    async fn reconnect(&mut self) -> Result<(), CallError> {
        let Some(candidate) = self.peers.list.get(self.peer) else {
            return Err(CallError::no_hosts());
        };
        let mut fresh = candidate.peer.clone();
        fresh.group_key = !fresh.group_key;
        let connector = &self.set.client.connector;
        let session = match connector.get_http_session(&fresh).await {
            Ok((session, _)) => session,
            Err(error) => {
                let address = self.place().map(Place::address).unwrap_or_default();
                return Err(self.failed(CallError::connect(&error, &address)));
            }
        };
        self.session = Some(session);
        self.reused = false;
        self.head_sent = false;
        self.request_done = false;
        match self.write_head().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.session = None;
                Err(self.failed(CallError::header(&error)))
            }
            Err(error) => {
                self.session = None;
                Err(error)
            }
        }
    }

    /// Reads one header section. `false`: it was an interim one.
    async fn read_one_header(&mut self) -> Result<bool, Box<Error>> {
        let deadline = self.header_deadline;
        let Some(session) = self.session.as_mut() else {
            return Err(Error::new(pingora_core::ErrorType::ConnectionClosed));
        };
        match deadline {
            None => session.read_response_header().await?,
            Some(at) => tokio::time::timeout_at(at, session.read_response_header())
                .await
                .map_err(|_| Error::new(pingora_core::ErrorType::ReadTimedout))??,
        }
        let status = session.response_header().map(|header| header.status);
        Ok(status.is_none_or(|status| {
            !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
        }))
    }

    /// Framing that two readers could understand in two ways is refused (RFC 9112 §6.3), and so is a change of
    /// protocol that nobody asked for.
    fn check_header(&mut self) -> Result<(), CallError> {
        let Some(response) = self.response() else {
            return Err(CallError::truncated());
        };
        let doubt = if response.status == StatusCode::SWITCHING_PROTOCOLS {
            Some("net/http: unexpected 101 Switching Protocols response")
        } else if response.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
            Some("http: message cannot contain multiple Content-Length headers")
        } else if response.headers.contains_key(TRANSFER_ENCODING) && self.raw_length() {
            Some("http: message cannot contain both Content-Length and Transfer-Encoding")
        } else {
            None
        };
        match doubt {
            Some(text) => {
                let error = self.failed(CallError::framing(text));
                self.session = None;
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Whether the raw header has a `Content-Length`: Pingora removes it next to a `Transfer-Encoding`.
    fn raw_length(&self) -> bool {
        let Some(session) = self.session.as_ref().and_then(HttpSession::as_http1) else {
            return false;
        };
        let name = CONTENT_LENGTH.as_str().as_bytes();
        session
            .get_headers_raw_bytes()
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.get(..name.len()))
            .any(|start| start.eq_ignore_ascii_case(name))
    }

    fn repeatable(&self) -> bool {
        self.reused && !self.retried && !self.touched && self.head.method.is_idempotent()
    }

    fn may_retry(&self, error: &Error) -> bool {
        self.repeatable() && self.response().is_none() && nothing_came(error)
    }
}

/// Whether a connection ended before the first byte of an answer. Pingora tells only in its text.
fn nothing_came(error: &Error) -> bool {
    match error.retry {
        RetryType::ReusedOnly => error
            .context
            .as_ref()
            .is_some_and(|context| context.as_str().ends_with("already read: 0")),
        RetryType::Decided(retry) => retry,
    }
}
