//! Sending the head, and sending it again when a pooled connection turns out dead.

use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error, ErrorType, RetryType};
use tokio::time::Instant;

use super::stream::{Exchange, RequestBody};
use crate::upstream::error::CallError;
use crate::upstream::host::Place;
use crate::upstream::wire::{Wire, request_header, unwritable};

impl Exchange<'_> {
    /// Writes the head, and the end of the request where there is no body. A dead pooled connection may show
    /// already here.
    pub(super) async fn send_head(&mut self) -> Result<(), CallError> {
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

    /// Replaces a connection that was given up, or whose head a cancelled wait may have cut short.
    pub(super) async fn ensure_head(&mut self) -> Result<(), CallError> {
        if self.session.is_some() && self.head_sent {
            return Ok(());
        }
        if self.touched {
            return Err(self.failed(CallError::truncated()));
        }
        self.reconnect().await
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
    pub(super) async fn reconnect(&mut self) -> Result<(), CallError> {
        let Some(candidate) = self.peers.list.get(self.peer) else {
            return Err(CallError::no_hosts());
        };
        let session = match self.set.client.pool.session(&candidate.peer.apart()).await {
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

    pub(super) fn repeatable(&self) -> bool {
        self.reused && !self.retried && !self.touched && self.head.method.is_idempotent()
    }

    pub(super) fn may_retry(&self, error: &Error) -> bool {
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
