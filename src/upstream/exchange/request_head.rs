//! Sends the request head, and sends it again if a pooled connection turns out to be closed.

use bytes::Bytes;
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;
use tokio::time::Instant;

use super::observed::context;
use super::stream::{Exchange, RequestBody};
use crate::upstream::error::CallError;
use crate::upstream::head_writer::{
    HeadOptions, framing, prepared_head, request_header, unwritable,
};
use crate::upstream::link::Link;
use crate::upstream::session::Session;

impl Exchange<'_> {
    /// Writes the head, and ends the request if there is no body. A closed pooled connection may show here already.
    pub(super) async fn send_head(&mut self) -> Result<(), CallError> {
        self.charge_window()?;
        if let Err(error) = self.write_head().await? {
            // Over HTTP/2 the connection is shutting down and nothing was sent.
            if !(self.repeatable() || self.reused && self.is_http2()) {
                return Err(self.failed(CallError::header(&error)));
            }
            self.retried = true;
            self.session = None;
            self.reconnect().await?;
        }
        Ok(())
    }

    /// Replaces a connection that was dropped, or on which a cancelled wait may have cut the head off.
    pub(super) async fn ensure_head(&mut self) -> Result<(), CallError> {
        self.drop_torn();
        if self.long.is_some() || (self.session.is_some() && self.head_sent) {
            return Ok(());
        }
        if !self.has_kept_body() {
            return Err(self.failed(CallError::truncated()));
        }
        self.reconnect().await?;
        self.replay().await;
        Ok(())
    }

    /// Writes a piece of the body to the connection that received the head.
    pub(super) async fn write_piece(&mut self, piece: Bytes, end: bool) -> Result<(), CallError> {
        let written = self.put(piece, end).await;
        written.map_err(|error| self.failed(CallError::header(&error)))
    }

    /// Ends the request once: a second end would be taken for the start of the next request.
    pub(super) async fn end_request(&mut self) -> Result<(), CallError> {
        if self.request_done {
            return Ok(());
        }
        let finished = self.put_end().await;
        finished.map_err(|error| self.failed(CallError::header(&error)))?;
        self.note_sent();
        Ok(())
    }

    /// The outer error is final. The inner one concerns only the connection.
    pub(super) async fn write_head(&mut self) -> Result<Result<(), Box<Error>>, CallError> {
        if let Some(sent) = self.write_usual_head().await {
            return Ok(sent);
        }
        self.use_pingora();
        let http1 = self.session.as_ref().and_then(Session::http1);
        let h1 = http1.is_some();
        let header = match self.prepared_head() {
            Some(header) => header,
            None => {
                let mut header = self.wire_head(h1)?;
                self.observe_head(&mut header, h1);
                header
            }
        };
        let Some(session) = self.session.as_mut().and_then(Session::pingora) else {
            return Err(CallError::no_hosts());
        };
        if let Err(error) = session.write_request_header(header).await {
            return match error.etype() {
                ErrorType::InvalidHTTPHeader => Err(self.failed(unwritable())),
                _ => Ok(Err(error)),
            };
        }
        self.head_sent = self.body != RequestBody::Empty;
        if self.body == RequestBody::Empty {
            let ended = session.finish_request_body().await;
            // Over HTTP/2 the response shows whether the head was processed.
            if let Err(error) = ended
                && h1
            {
                return Ok(Err(error));
            }
            self.head_sent = true;
            self.request_is_sent();
        }
        Ok(Ok(()))
    }

    /// Starts the wait for the response.
    pub(super) fn request_is_sent(&mut self) {
        self.request_done = true;
        let now = Instant::now();
        self.asked = Some(now);
        let limit = self.client.settings.response_header_timeout;
        self.header_deadline = limit.map(|limit| now + limit);
    }

    /// Starts the wait for the response if nothing of the body waits.
    pub(super) fn note_sent(&mut self) {
        if !self.is_backed_up() {
            self.request_is_sent();
        }
    }

    /// The head as it is written on the wire.
    pub(super) fn wire_head(&self, h1: bool) -> Result<Box<RequestHeader>, CallError> {
        let Some(place) = self.place() else {
            return Err(CallError::no_hosts());
        };
        request_header(&self.head, place, self.wire(h1)).map_err(|error| self.failed(error))
    }

    /// Gives the head to the [`Link`] of an HTTP/1 connection, and returns what Pingora has to know of it. `None` where
    /// Pingora writes the head, which a trace shows.
    fn prepared_head(&mut self) -> Option<Box<RequestHeader>> {
        let session = self.session.as_ref().and_then(Session::http1)?;
        let place = self.place()?;
        if self.trip.as_ref().is_some_and(|trip| trip.shows_headers()) {
            return None;
        }
        let context = context(&self.trip, &self.unseen);
        let header = framing(&self.head.method, self.body).ok()?;
        let is_prepared = Link::prepare(session.stream(), |out| {
            prepared_head(&self.head, place, self.wire(true), context.as_ref(), out).is_some()
        });
        if !is_prepared {
            return None;
        }
        self.observe_request();
        Some(header)
    }

    /// Writes the whole request if it is usual. `None` if Pingora has to write it. The inner error concerns only the
    /// connection.
    async fn write_usual_head(&mut self) -> Option<Result<(), Box<Error>>> {
        if self.body != RequestBody::Empty {
            return None;
        }
        let wire = self.wire(true);
        if self.trip.as_ref().is_some_and(|trip| trip.shows_headers()) {
            return None;
        }
        let context = context(&self.trip, &self.unseen);
        let place = self.hosts.get(self.host)?.place.as_ref().ok()?;
        let Some(Session::FastPath(usual)) = &mut self.session else {
            return None;
        };
        usual.prepare(|out| prepared_head(&self.head, place, wire, context.as_ref(), out))?;
        self.head_sent = false;
        self.observe_request();
        let Some(Session::FastPath(usual)) = &mut self.session else {
            return None;
        };
        if let Err(error) = usual.send().await {
            return Some(Err(error));
        }
        self.head_sent = true;
        self.request_is_sent();
        Some(Ok(()))
    }

    /// Makes the connection a session of Pingora, before anything was written.
    pub(super) fn use_pingora(&mut self) {
        let session = self.session.take().map(Session::into_pingora);
        self.session = session.map(Session::Pingora);
    }

    /// Lets Pingora read the response from its first byte, because it is not usual.
    pub(super) async fn hand_over(&mut self) -> Result<(), Box<Error>> {
        self.use_pingora();
        let Some(session) = self.session.as_mut().and_then(Session::pingora) else {
            return Err(Error::new(ErrorType::ConnectionClosed));
        };
        // The link discards it: the request was already sent.
        let head = framing(&self.head.method, RequestBody::Empty)?;
        session.write_request_header(head).await
    }

    fn wire(&self, h1: bool) -> HeadOptions {
        HeadOptions {
            body: self.body,
            close: self.client.settings.disable_keep_alives,
            h1,
        }
    }

    /// Continues on another connection to the same address: a new one, because all connections of the pool may be
    /// closed. A request that its peer rejected unprocessed first tries a pooled one: the peer is there, and should not
    /// get one more connection for each request that it rejects.
    pub(super) async fn reconnect(&mut self) -> Result<(), CallError> {
        if let Some(trip) = &mut self.trip {
            trip.retried();
        }
        let Some(candidate) = self.peers.list.get(self.peer) else {
            return Err(CallError::no_hosts());
        };
        let pool = &self.client.pool;
        let pooled = if self.may_reuse() {
            pool.reuse(&candidate.peer).await
        } else {
            None
        };
        self.reused = pooled.is_some();
        let connection = match pooled {
            Some(connection) => Ok(connection),
            None => pool.fresh(&candidate.peer, None).await,
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                let told = self.place().map(|place| place.dial_error(&error));
                return Err(self.failed(told.unwrap_or_else(CallError::truncated)));
            }
        };
        self.session = Some(connection.into());
        self.head_sent = false;
        self.request_done = false;
        self.asked = None;
        self.rewind();
        let sent = match self.write_head().await {
            Ok(Ok(())) => self.repeat_body().await,
            Ok(Err(error)) => Err(self.failed(CallError::header(&error))),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            self.session = None;
        }
        sent
    }

    /// Sends the body again if the previous connection had received some or all of it.
    async fn repeat_body(&mut self) -> Result<(), CallError> {
        if !(self.touched && self.own_body) || self.has_kept_pieces() {
            return Ok(());
        }
        // Stays false until the body is sent: a wait that is cancelled here leaves half a request, and the next call
        // drops that connection.
        self.head_sent = false;
        self.write_piece(self.head.body.clone(), true).await?;
        self.end_request().await?;
        self.head_sent = true;
        Ok(())
    }

    /// As in Go's transport, only safe methods are repeated: an upstream may have processed a request without
    /// responding.
    pub(super) fn repeatable(&self) -> bool {
        let at_hand = !self.touched || self.own_body;
        self.reused && !self.retried && at_hand && self.head.method.is_safe()
    }
}
