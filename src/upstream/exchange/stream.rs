//! One request and one response on one connection, as a stream.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use pingora_core::protocols::http::client::HttpSession;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::long_head::LongHead;
use super::resend::Kept;
use super::upload::Upload;
use crate::per_worker::OwnArc;
use crate::telemetry::observe::{RoundTrip, Unseen};
use crate::upstream::budget::Charge;
use crate::upstream::client::Client;
use crate::upstream::error::{CallError, CallErrorKind};
use crate::upstream::host::{Host, Peers, Place};
use crate::upstream::host_rules::HostRules;
use crate::upstream::hosts::{HostList, HostSet};
use crate::upstream::message::Outgoing;
use crate::upstream::redirect::{self, Body, NextCall, Start};
use crate::upstream::resilience::Pick;
use crate::upstream::session::Session;

/// How the body of the request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody {
    /// No body. POST, PUT and PATCH send `Content-Length: 0`.
    Empty,
    /// A body of exactly this many bytes.
    Length(u64),
    /// A body of unknown length: `Transfer-Encoding: chunked`.
    Chunked,
}

/// A call in progress. Dropping it closes its connection; [`Exchange::release`] returns the connection to the pool.
///
/// Reads may be cancelled and repeated, so that a server can `select!` between the client's body and this response.
pub struct Exchange<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) rules: HostRules,
    pub(super) hosts: HostList<'a>,
    pub(super) host: usize,
    pub(in crate::upstream) head: Outgoing,
    pub(super) body: RequestBody,
    /// `None` only between a closed connection and its replacement.
    pub(in crate::upstream) session: Option<Session>,
    pub(super) reused: bool,
    pub(super) retried: bool,
    /// Whether a byte of the body was handed over. If so, nothing may be repeated unless `own_body` is set.
    pub(super) touched: bool,
    /// The body is the whole `head.body`, which can be sent again.
    pub(in crate::upstream) own_body: bool,
    /// Whether the head was sent completely. A cancelled wait may have cut it off.
    pub(super) head_sent: bool,
    pub(super) request_done: bool,
    pub(super) header_seen: bool,
    pub(super) body_done: bool,
    pub(super) header_deadline: Option<Instant>,
    /// When the request was complete.
    pub(super) asked: Option<Instant>,
    /// The upstream still reads the client's body.
    pub(in crate::upstream) uploading: bool,
    /// Before the redirects that led to this call.
    pub(in crate::upstream) start: Option<Arc<Start>>,
    pub(super) kept: Kept,
    /// The body on an HTTP/2 connection, once its first piece was written.
    pub(super) upload: Option<Box<Upload>>,
    /// Since when the host has not taken a piece of the body.
    pub(super) writing: Option<Instant>,
    /// How often the peer reported that it did not process the request.
    pub(super) rejected: u8,
    /// The wait for a response has ended with an error.
    pub(super) has_verdict: bool,
    /// The body is read whole: waiting for the rest of it is waiting for the response.
    pub(in crate::upstream) collecting: bool,
    /// What the response says about the host has been recorded.
    pub(super) is_judged: bool,
    /// A piece of the body has come.
    pub(super) has_piece: bool,
    /// The response broke off.
    pub(super) broke: bool,
    /// The headers of the response if they differ from Pingora's: too many for it, or several equal `Content-Length`.
    pub(super) fields: Option<Box<HeaderMap>>,
    /// A head with too many headers for Pingora, while it is read.
    pub(super) long: Option<Box<LongHead>>,
    /// The connection is closed after this exchange, because its data is ambiguous.
    pub(super) spoiled: bool,
    pub(super) peers: OwnArc<Peers>,
    pub(super) peer: usize,
    /// Present if the exchange is observed.
    pub(super) trip: Option<Box<RoundTrip>>,
    pub(super) unseen: Option<Unseen>,
    /// For the memory of a large head.
    pub(super) held: Charge,
    /// The permit of the limit of calls to the host, and the charge for the head and a window ([`Exchange::charge_window`]).
    pub(super) lasting: (Option<OwnedSemaphorePermit>, Charge),
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
    /// Connects to one of the hosts and sends the request line and headers of `head`. Its `body` is not sent.
    ///
    /// # Errors
    /// No host accepts a connection, or the head cannot be written as a request.
    pub fn open(
        &self,
        head: Outgoing,
        body: RequestBody,
    ) -> impl Future<Output = Result<Box<Exchange<'_>>, CallError>> + Send {
        let pick = Pick::of(&head);
        self.open_picked(head, body, pick)
    }

    /// Connects and sends the head for one of several attempts.
    pub(in crate::upstream) async fn open_picked(
        &self,
        head: Outgoing,
        body: RequestBody,
        pick: Pick<'_>,
    ) -> Result<Box<Exchange<'_>>, CallError> {
        let mut trip = RoundTrip::begin(&head.method, &head.target);
        let hosts = self.observed_list(&mut trip).await;
        self.open_on(&self.client, hosts, (head, body), (trip, pick))
            .await
    }

    /// Connects and sends the head to a set that does not live as long as the exchange; `client` is that of the set.
    pub(in crate::upstream) async fn open_apart<'a>(
        &self,
        client: &'a Arc<Client>,
        head: Outgoing,
        body: RequestBody,
        pick: Pick<'_>,
    ) -> Result<Box<Exchange<'a>>, CallError> {
        let mut trip = RoundTrip::begin(&head.method, &head.target);
        let hosts = HostList::Shared(self.observed_list(&mut trip).await.shared());
        self.open_on(client, hosts, (head, body), (trip, pick))
            .await
    }

    async fn open_on<'a>(
        &self,
        client: &'a Arc<Client>,
        hosts: HostList<'a>,
        (head, body): (Outgoing, RequestBody),
        (mut trip, pick): (Option<Box<RoundTrip>>, Pick<'_>),
    ) -> Result<Box<Exchange<'a>>, CallError> {
        let found = match head.charge() {
            Ok(charge) => {
                let call = (&head.method, &*head.target);
                let found = self.connect(&hosts, call, (pick, &mut trip)).await;
                found.map(|found| (found, charge))
            }
            Err(full) => Err(CallError::full(full)),
        };
        if let (Err(error), Some(trip)) = (&found, &mut trip) {
            trip.failed(error.observed());
        }
        let (found, charge) = found?;
        // Boxed, because it is passed on many times and has most of a kilobyte.
        let mut exchange = Box::new(Exchange {
            client,
            rules: self.rules,
            hosts,
            host: found.host,
            head,
            body,
            session: Some(found.connection.into()),
            reused: found.reused,
            retried: false,
            touched: false,
            own_body: false,
            head_sent: false,
            request_done: false,
            header_seen: false,
            body_done: false,
            header_deadline: None,
            asked: None,
            uploading: false,
            start: None,
            kept: Kept::default(),
            upload: None,
            writing: None,
            rejected: 0,
            has_verdict: false,
            collecting: false,
            is_judged: false,
            has_piece: false,
            broke: false,
            fields: None,
            long: None,
            spoiled: false,
            peers: found.peers,
            peer: found.peer,
            unseen: Unseen::begin(),
            trip,
            held: Charge::default(),
            lasting: (found.slot, charge),
        });
        if let Some(place) = exchange.place() {
            place.usage.begin_call();
        }
        exchange.observe_connection();
        let sent = exchange.send_head().await;
        exchange.observe(sent)?;
        Ok(exchange)
    }
}

impl Exchange<'_> {
    /// The host that was called first, as in the configuration: messages do not name the target of a redirect.
    pub fn origin(&self) -> Option<Arc<str>> {
        match &self.start {
            Some(start) => start.origin.clone(),
            None => self.host().map(|host| Arc::clone(&host.url)),
        }
    }

    /// Sends a piece of the request body. `end` marks the last one.
    ///
    /// An empty piece is not written, because as a chunk it would end the body (RFC 9112 §7.1).
    ///
    /// # Errors
    /// The connection broke. The upstream may have responded before: [`Exchange::read_header`] still returns that
    /// response.
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

    /// Sends the whole body of the call, and again if the connection turns out to be closed and the method allows it.
    ///
    /// # Errors
    /// As [`Exchange::write_body`].
    pub async fn write_own_body(&mut self) -> Result<(), CallError> {
        self.own_body = true;
        self.write_body(self.head.body.clone(), true).await
    }

    /// Ends the request body. Not needed if there is none.
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

    /// Waits for the status and headers of the response. Responses with status 1xx are skipped.
    ///
    /// A pooled connection that turns out to be closed is replaced once, if no byte of the response has arrived, the
    /// body is available or unsent, and the method is safe. Over HTTP/2 a request that the peer did not process is
    /// sent again with any method, and with its body as far as it was kept.
    ///
    /// # Errors
    /// The connection broke, or the framing of the response cannot be trusted.
    pub async fn read_header(&mut self) -> Result<(StatusCode, &HeaderMap), CallError> {
        while !self.header_seen {
            self.ensure_head().await?;
            match self.read_one_header().await {
                Ok(true) => {
                    let checked = self.check_header();
                    self.observe(checked)?;
                    self.is_answered();
                    self.judge_status();
                    self.observe_response();
                }
                Ok(false) => {}
                Err(error) if self.may_go_again(&error) => self.session = None,
                Err(error) => {
                    self.is_without_head(&error);
                    let error = Err(self.failed(self.head_error(&error)));
                    return self.observe(error);
                }
            }
        }
        self.header()
            .ok_or_else(|| self.failed(CallError::truncated()))
    }

    /// Status and headers, after they were read.
    pub fn header(&self) -> Option<(StatusCode, &HeaderMap)> {
        let (status, headers) = self.response().filter(|_| self.header_seen)?;
        Some((status, self.fields.as_deref().unwrap_or(headers)))
    }

    /// Whether the method of the call is HEAD. The response has no body then, whatever its headers say.
    pub fn asked_by_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// The next piece of the response body. `None` after the last one.
    ///
    /// # Errors
    /// The transfer ended early.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, CallError> {
        while !self.body_done {
            let read = if self.is_backed_up() {
                Box::pin(self.read_beside_upload()).await
            } else {
                match self.session.as_mut() {
                    Some(Session::FastPath(session)) => session.read_piece(self.collecting).await,
                    Some(Session::Pingora(session)) => session.read_response_body().await,
                    None => return Err(CallError::truncated()),
                }
            };
            match read {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => {
                    if let Some(trip) = &mut self.trip {
                        trip.read(chunk.len());
                    }
                    if self.has_piece {
                        self.has_progressed();
                    }
                    self.has_piece = true;
                    return Ok(Some(chunk));
                }
                Ok(None) => self.end_response(),
                Err(error) => {
                    if let Some(trip) = &mut self.trip {
                        trip.read_failed();
                    }
                    self.broke = true;
                    return Err(CallError::body(&error));
                }
            }
        }
        Ok(None)
    }

    /// Like [`Exchange::read_body`] without a copy, for HTTP/1 only; see [`Exchange::lends`]. Never returns an empty
    /// piece.
    ///
    /// # Errors
    /// As [`Exchange::read_body`].
    pub async fn read_slice(&mut self) -> Result<Option<&[u8]>, CallError> {
        if self.body_done {
            return Ok(None);
        }
        if self.has_piece {
            self.has_progressed();
        }
        let read = match self.session.as_mut() {
            Some(Session::FastPath(session)) => session.read_slice().await,
            Some(Session::Pingora(session)) => match &mut **session {
                HttpSession::H1(session) => session.read_body_ref().await,
                _ => return Err(CallError::truncated()),
            },
            None => return Err(CallError::truncated()),
        };
        self.has_piece |= matches!(&read, Ok(Some(_)));
        self.broke |= read.is_err();
        if let Some(trip) = &mut self.trip {
            match &read {
                Ok(piece) => trip.read(piece.map_or(0, <[u8]>::len)),
                Err(_) => trip.read_failed(),
            }
        }
        read.map_err(|error| CallError::body(&error))
    }

    /// Whether [`Exchange::read_slice`] may be used.
    pub fn lends(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| !session.is_http2())
    }

    /// Whether the response is complete, so that no further read is needed.
    pub fn is_done(&mut self) -> bool {
        self.body_done || self.header_seen && self.session.as_mut().is_some_and(Session::is_done)
    }

    /// The trailers after the body. HTTP/2 only: those of HTTP/1 are dropped.
    ///
    /// # Errors
    /// The stream was reset.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, CallError> {
        match self.session.as_mut().and_then(Session::http2_mut) {
            Some(session) => {
                let read = session.read_trailers().await;
                let trailers = read.map_err(|error| CallError::body(&error))?;
                if let (Some(trip), Some(trailers)) = (&self.trip, &trailers) {
                    trip.trailers(trailers);
                }
                Ok(trailers)
            }
            None => Ok(None),
        }
    }

    /// The call that follows if the response is a redirect, or `None` if it is not.
    ///
    /// `requests` is the number of requests in this chain, including this one.
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
        let rules = self.rules;
        let next = redirect::next(status, headers, from, &self.head.method, body, &rules)
            .map_err(|error| self.failed(error))?;
        let Some(next) = next else {
            return Ok(None);
        };
        if requests >= redirect::MAX_REQUESTS {
            let text = format!("stopped after {} redirects", redirect::MAX_REQUESTS);
            let error = CallError::new(CallErrorKind::Redirects, text);
            return Err(error.of(&next.method, ("", &next.target)));
        }
        let anonymous = self.client.anonymous();
        // Data that a backend sends only to clients with a certificate must not be sent in clear text.
        if anonymous.is_some() && next.leaves_tls(from) {
            return Ok(None);
        }
        let client = anonymous.filter(|_| !next.same_origin);
        let body = next.with_body.then(|| self.head.body.clone());
        let headers = redirect::headers(&self.head.headers, from, &next);
        Ok(Some(NextCall {
            hosts: HostSet::fixed(client.unwrap_or(self.client), &[&next.origin]).ruled(rules),
            elsewhere: !next.same_origin,
            out: Outgoing {
                method: next.method,
                target: next.target.into(),
                headers,
                body: body.unwrap_or_default(),
                subject: None,
                affinity: None,
            },
        }))
    }

    /// Prepends method and URL of this call to an error.
    pub(in crate::upstream) fn failed(&self, error: CallError) -> CallError {
        let host = self.host().map_or("", |host| &host.url);
        let error = error.of(&self.head.method, (host, &self.head.target));
        redirect::shown(self.start.as_deref(), error)
    }

    pub(super) fn host(&self) -> Option<&Host> {
        self.hosts.get(self.host)
    }

    pub(super) fn place(&self) -> Option<&Place> {
        self.host().and_then(|host| host.place.as_ref().ok())
    }

    pub(super) fn response(&self) -> Option<(StatusCode, &HeaderMap)> {
        self.session.as_ref().and_then(Session::response)
    }
}
