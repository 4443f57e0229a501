//! One request and one answer on one connection, as a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use pingora_core::protocols::http::client::HttpSession;
use pingora_http::ResponseHeader;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::again::Kept;
use super::long::LongHead;
use crate::upstream::error::{CallError, CallErrorKind};
use crate::upstream::host::{Host, Peers, Place};
use crate::upstream::hosts::{Connected, HostList, HostSet};
use crate::upstream::message::Outgoing;
use crate::upstream::redirect::{self, Body, NextCall};

/// A body that nobody wants is read up to here to keep its connection.
const MOST_SETTLED: usize = 2048;
/// And no longer than this.
const LONGEST_SETTLING: Duration = Duration::from_millis(100);

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
    pub(super) set: &'a HostSet,
    pub(super) hosts: HostList<'a>,
    pub(super) host: usize,
    pub(super) head: &'a Outgoing,
    pub(super) body: RequestBody,
    /// `None` only between a stale connection and its replacement.
    pub(super) session: Option<Box<HttpSession>>,
    pub(super) reused: bool,
    pub(super) retried: bool,
    /// Whether a byte of the body has been handed over: then nothing may be repeated, unless `own_body` says so.
    pub(super) touched: bool,
    /// The body is `head.body`, whole: it can be sent once more.
    pub(super) own_body: bool,
    /// Whether the head has gone out whole: a cancelled wait may have cut its writing short.
    pub(super) head_sent: bool,
    pub(super) request_done: bool,
    pub(super) header_seen: bool,
    pub(super) body_done: bool,
    pub(super) header_deadline: Option<Instant>,
    /// When the request was complete.
    pub(super) asked: Option<Instant>,
    pub(super) kept: Kept,
    /// How often the peer said that it did not process the request.
    pub(super) refused: u8,
    /// The wait for an answer has ended by an error.
    pub(super) has_verdict: bool,
    /// The answer's fields where Pingora's own are not them: too many of them, or several equal `Content-Length`.
    pub(super) fields: Option<Box<HeaderMap>>,
    /// A head with too many fields for Pingora, while it is read.
    pub(super) long: Option<Box<LongHead>>,
    /// What came on this connection may be read in two ways: it ends with this exchange.
    pub(super) spoiled: bool,
    pub(super) peers: Arc<Peers>,
    pub(super) peer: usize,
    /// Held as long as the exchange lasts.
    pub(super) _slot: Option<OwnedSemaphorePermit>,
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
            slot,
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
            own_body: false,
            head_sent: false,
            request_done: false,
            header_seen: false,
            body_done: false,
            header_deadline: None,
            asked: None,
            kept: Kept::default(),
            refused: 0,
            has_verdict: false,
            fields: None,
            long: None,
            spoiled: false,
            peers,
            peer,
            _slot: slot,
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
    /// An empty piece is not written: as a chunk it would be the end of the body (RFC 9112 §7.1).
    ///
    /// # Errors
    /// The connection broke. The upstream may have answered before: [`Exchange::read_header`] still tells.
    pub async fn write_body(&mut self, piece: Bytes, end: bool) -> Result<(), CallError> {
        self.ensure_head().await?;
        if !piece.is_empty() {
            self.touched = true;
            if self.is_http2() && !self.header_seen {
                return self.write_kept(piece, end).await;
            }
            self.write_piece(piece, end).await?;
        }
        if end {
            self.finish_body().await
        } else {
            Ok(())
        }
    }

    /// Sends the body of the call, whole. A connection that turns out dead gets it again, where the method allows it.
    ///
    /// # Errors
    /// As [`Exchange::write_body`].
    pub async fn write_own_body(&mut self) -> Result<(), CallError> {
        self.own_body = true;
        self.write_body(self.head.body.clone(), true).await
    }

    /// Says that the request's body is complete. Not needed when there is none.
    ///
    /// # Errors
    /// As [`Exchange::write_body`].
    pub async fn finish_body(&mut self) -> Result<(), CallError> {
        if self.request_done {
            return Ok(());
        }
        self.ensure_head().await?;
        if self.is_http2() && !self.header_seen {
            return self.end_kept().await;
        }
        self.end_request().await
    }

    /// Waits for the answer's status and headers; 1xx answers are skipped.
    ///
    /// A pooled connection that turns out dead is replaced once, if no byte of the answer has come, the body is at hand
    /// or none of it has gone, and the method is safe. Over HTTP/2, what the peer says it did not process goes out again
    /// whatever the method, with its body, as far as that was kept.
    ///
    /// # Errors
    /// The connection broke, or the answer is not one that can be trusted.
    pub async fn read_header(&mut self) -> Result<(StatusCode, &HeaderMap), CallError> {
        while !self.header_seen {
            self.ensure_head().await?;
            match self.read_one_header().await {
                Ok(true) => {
                    self.check_header()?;
                    self.is_answered();
                }
                Ok(false) => {}
                Err(error) if self.may_go_again(&error) => self.session = None,
                Err(error) => {
                    self.has_verdict = true;
                    self.is_unanswered();
                    return Err(self.failed(self.head_error(&error)));
                }
            }
        }
        self.header()
            .ok_or_else(|| self.failed(CallError::truncated()))
    }

    /// Status and headers, once they were read.
    pub fn header(&self) -> Option<(StatusCode, &HeaderMap)> {
        let response = self.response().filter(|_| self.header_seen)?;
        let fields = self.fields.as_deref();
        Some((response.status, fields.unwrap_or(&response.headers)))
    }

    /// Whether the call's method is HEAD, whose answer has no body whatever its fields say.
    pub fn asked_by_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// Whether the exchange runs on a connection that an earlier one has used.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// `scheme://authority` of the host that was chosen, for logs.
    pub fn host_url(&self) -> &str {
        self.host().map_or("", |host| &host.url)
    }

    /// The next piece of the answer's body; `None` after the last one.
    ///
    /// # Errors
    /// The transfer ended before its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, CallError> {
        while !self.body_done {
            let Some(session) = self.session.as_mut() else {
                return Err(CallError::truncated());
            };
            match session.read_response_body().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => self.end_answer(),
                Err(error) => return Err(CallError::body(&error)),
            }
        }
        Ok(None)
    }

    /// The same without a copy, where the upstream speaks HTTP/1; see [`Exchange::lends`]. An empty piece is none.
    ///
    /// # Errors
    /// As [`Exchange::read_body`].
    pub async fn read_slice(&mut self) -> Result<Option<&[u8]>, CallError> {
        if self.body_done {
            return Ok(None);
        }
        let Some(HttpSession::H1(session)) = self.session.as_deref_mut() else {
            return Err(CallError::truncated());
        };
        let read = session.read_body_ref().await;
        read.map_err(|error| CallError::body(&error))
    }

    /// Whether [`Exchange::read_slice`] can be used.
    pub fn lends(&self) -> bool {
        matches!(self.session.as_deref(), Some(HttpSession::H1(_)))
    }

    /// Whether the answer is complete, so that no further read is needed.
    pub fn is_done(&mut self) -> bool {
        self.body_done
            || self.header_seen
                && self
                    .session
                    .as_deref_mut()
                    .is_some_and(HttpSession::response_done)
    }

    /// The trailers that followed the body. HTTP/2 only: those of HTTP/1 are dropped.
    ///
    /// # Errors
    /// The stream was reset.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, CallError> {
        match self.session.as_deref_mut() {
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
        let target = place.target(&self.head.target);
        let from = redirect::From {
            secure: place.secure,
            authority: place.authority.to_str().unwrap_or_default(),
            target: &target,
        };
        let rules = self.set.rules;
        let next = redirect::next(status, headers, from, &self.head.method, body, &rules)
            .map_err(|error| self.failed(error))?;
        let Some(next) = next else {
            return Ok(None);
        };
        if requests >= redirect::MOST_REQUESTS {
            let text = format!("stopped after {} redirects", redirect::MOST_REQUESTS);
            let error = CallError::new(CallErrorKind::Redirects, text);
            return Err(error.of(&next.method, next.target));
        }
        let headers = redirect::headers(&self.head.headers, from, &next);
        Ok(Some(NextCall {
            hosts: HostSet::fixed(&self.set.client, &[&next.origin]).ruled(rules),
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

    /// Ends an answer that is not passed on, so that its connection can be used again: a short body is read to its end,
    /// as the reference's runtime does.
    pub async fn settle(&mut self) {
        let is_short = async {
            let mut read = 0;
            while let Ok(Some(chunk)) = self.read_body().await {
                read += chunk.len();
                if read > MOST_SETTLED {
                    return;
                }
            }
        };
        // A new connection costs less than a longer wait.
        let _ = tokio::time::timeout(LONGEST_SETTLING, is_short).await;
        if self.body_done {
            self.release().await;
        }
    }

    /// Gives the connection back to the pool, if both sides have said all they had to say.
    pub async fn release(&mut self) {
        let client = &self.set.client;
        let clean = self.request_done && !self.spoiled && !client.settings.disable_keep_alives;
        if let Some(session) = self.session.take()
            && clean
            && let Some(candidate) = self.peers.list.get(self.peer)
        {
            let idle = client.settings.idle_connection_timeout;
            client.pool.release(session, &candidate.peer, idle).await;
        }
    }

    /// Puts method and URL of this call in front of an error.
    pub(in crate::upstream) fn failed(&self, error: CallError) -> CallError {
        let url = self.host().map_or("", |host| &host.url);
        error.of(&self.head.method, format!("{url}{}", self.head.target))
    }

    pub(super) fn host(&self) -> Option<&Host> {
        self.hosts.get(self.host)
    }

    pub(super) fn place(&self) -> Option<&Place> {
        self.host().and_then(|host| host.place.as_ref().ok())
    }

    pub(super) fn response(&self) -> Option<&ResponseHeader> {
        self.session
            .as_deref()
            .and_then(HttpSession::response_header)
    }
}
