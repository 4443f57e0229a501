//! Sends the request head, and sends it again if a pooled connection turns out to be closed.

use bytes::Bytes;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::stream::{Exchange, RequestBody};
use crate::upstream::error::CallError;
use crate::upstream::link::Link;
use crate::upstream::wire::{Wire, prepared_head, request_header, unwritable};

impl Exchange<'_> {
    /// Writes the head, and ends the request if there is no body. A closed pooled connection may show here already.
    pub(super) async fn send_head(&mut self) -> Result<(), CallError> {
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
        let h1 = matches!(self.session.as_deref(), Some(HttpSession::H1(_)));
        let header = match self.prepared_head() {
            Some(header) => header,
            None => {
                let mut header = self.wire_head(h1)?;
                self.observe_head(&mut header, h1);
                header
            }
        };
        let Some(session) = self.session.as_deref_mut() else {
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

    /// The same if nothing of the body waits.
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
        let Some(HttpSession::H1(session)) = self.session.as_deref() else {
            return None;
        };
        let place = self.place()?;
        let context = match &self.trip {
            Some(trip) if trip.shows_headers() => return None,
            Some(trip) => trip.context(),
            None => SmallVec::new(),
        };
        let mut header = None;
        Link::prepare(session.stream(), |out| {
            header = prepared_head(&self.head, place, self.wire(true), &context, out);
            header.is_some()
        });
        if header.is_some() {
            self.observe_length();
        }
        header
    }

    fn wire(&self, h1: bool) -> Wire {
        Wire {
            body: self.body,
            close: self.client.settings.disable_keep_alives,
            h1,
        }
    }

    /// Opens a new connection to the same address. It does not come from the pool, whose connections may all be
    /// closed.
    pub(super) async fn reconnect(&mut self) -> Result<(), CallError> {
        if let Some(trip) = &mut self.trip {
            trip.retried();
        }
        let Some(candidate) = self.peers.list.get(self.peer) else {
            return Err(CallError::no_hosts());
        };
        let session = match self.client.pool.fresh(&candidate.peer, None).await {
            Ok(session) => session,
            Err(error) => {
                let told = self.place().map(|place| place.dial_error(&error));
                return Err(self.failed(told.unwrap_or_else(CallError::truncated)));
            }
        };
        self.session = Some(session);
        self.reused = false;
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
