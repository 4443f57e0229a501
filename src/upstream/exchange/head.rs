//! Sending the head, and sending it again when a pooled connection turns out dead.

use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error, ErrorType};
use tokio::time::Instant;

use super::stream::{Exchange, RequestBody};
use crate::upstream::error::CallError;
use crate::upstream::wire::{Wire, request_header, unwritable};

impl Exchange<'_> {
    /// Writes the head, and the end of the request where there is no body. A dead pooled connection may show
    /// already here.
    pub(super) async fn send_head(&mut self) -> Result<(), CallError> {
        if let Err(error) = self.write_head().await? {
            // Over HTTP/2 this is a connection that is going away: nothing has been sent.
            if !self.repeatable() && !(self.reused && self.is_http2()) {
                return Err(self.failed(CallError::header(&error)));
            }
            self.retried = true;
            self.session = None;
            self.reconnect().await?;
        }
        Ok(())
    }

    /// Replaces a connection that was given up, or whose head a cancelled wait may have cut short.
    pub(super) async fn ensure_head(&mut self) -> Result<(), CallError> {
        self.drop_torn();
        if self.session.is_some() && self.head_sent {
            return Ok(());
        }
        if !self.has_kept_body() {
            return Err(self.failed(CallError::truncated()));
        }
        self.reconnect().await?;
        self.replay().await;
        Ok(())
    }

    /// The outer error is final, the inner one is the connection's.
    pub(super) async fn write_head(&mut self) -> Result<Result<(), Box<Error>>, CallError> {
        let (Some(place), Some(session)) = (
            self.hosts
                .get(self.host)
                .and_then(|host| host.place.as_ref().ok()),
            self.session.as_deref_mut(),
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
                ErrorType::InvalidHTTPHeader => Err(self.failed(unwritable())),
                _ => Ok(Err(error)),
            };
        }
        self.head_sent = self.body != RequestBody::Empty;
        if self.body == RequestBody::Empty {
            let ended = session.finish_request_body().await;
            // Over HTTP/2 the answer tells whether the head was processed.
            if let Err(error) = ended
                && wire.h1
            {
                return Ok(Err(error));
            }
            self.head_sent = true;
            self.request_is_sent();
        }
        Ok(Ok(()))
    }

    /// From now on the upstream is waited for.
    pub(super) fn request_is_sent(&mut self) {
        self.request_done = true;
        let now = Instant::now();
        self.asked = Some(now);
        let limit = self.set.client.settings.response_header_timeout;
        self.header_deadline = limit.map(|limit| now + limit);
    }

    /// Another connection to the same address, certainly not a pooled one: those may all be dead.
    pub(super) async fn reconnect(&mut self) -> Result<(), CallError> {
        let Some(candidate) = self.peers.list.get(self.peer) else {
            return Err(CallError::no_hosts());
        };
        let session = match self.set.client.pool.fresh(&candidate.peer, None).await {
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

    pub(super) fn repeatable(&self) -> bool {
        self.reused && !self.retried && !self.touched && self.head.method.is_idempotent()
    }
}
