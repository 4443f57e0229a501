//! Sends a request a second time, and draws conclusions about a host from the wait for its response.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::{Error, RetryType};

use super::response_head::is_unbuffered;
use super::stream::Exchange;
use crate::telemetry::observe::Wait;
use crate::upstream::error::CallError;
use crate::upstream::host::{Candidate, Peers};

/// How often a request is sent again because the peer reports that it did not process it.
const MAX_REJECTED: u8 = 3;
/// A stream that still sends data after this time has proved that its host is alive.
const STREAMS_FOR: Duration = Duration::from_secs(1);
/// A streamed body is kept until the response begins, so that it can be sent again. It is discarded with the first
/// piece that begins beyond this limit. The piece that crosses the limit is kept: it fills the window of a peer that
/// rejects the request without enlarging the window.
const MAX_KEPT: usize = 64 << 10;

/// The part of a body that an HTTP/2 connection received, kept in case the peer reports that it did not process the
/// request.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// The limit was exceeded, or the caller was told that the body could not be sent.
    incomplete: bool,
    /// The body is complete.
    ended: bool,
    /// The number of pieces written to the current connection.
    written: usize,
    /// A wait was cancelled while a piece was written, so it is unknown how much of it was sent.
    torn: bool,
}

impl Kept {
    /// `free`: the bytes are in memory anyway and do not count.
    fn add(&mut self, piece: &Bytes, free: bool) {
        if self.bytes > MAX_KEPT {
            self.incomplete = true;
            self.pieces.clear();
        }
        if !free {
            self.bytes = self.bytes.saturating_add(piece.len());
        }
        if !self.incomplete {
            self.pieces.push(piece.clone());
        }
    }
}

impl Exchange<'_> {
    /// Whether everything that was sent of the body can be sent again.
    pub(super) fn has_kept_body(&self) -> bool {
        !self.touched || self.own_body || (self.is_http2() && !self.kept.incomplete)
    }

    /// Whether an HTTP/2 connection received part of the body.
    pub(super) fn has_kept_pieces(&self) -> bool {
        !self.kept.pieces.is_empty() || self.kept.ended
    }

    pub(super) fn is_http2(&self) -> bool {
        match &self.session {
            Some(session) => session.is_http2(),
            // Between two connections: only HTTP/2 keeps pieces.
            None => self.has_kept_pieces(),
        }
    }

    /// Writes a piece of the body to an HTTP/2 connection. A broken connection is noticed when the response is read,
    /// and everything may be sent again then.
    pub(super) async fn write_kept(&mut self, chunk: Bytes, end: bool) -> Result<(), CallError> {
        let free = chunk.len() == self.head.body.len() && chunk.as_ptr() == self.head.body.as_ptr();
        self.kept.add(&chunk, free);
        self.kept.ended |= end;
        if self.kept.incomplete {
            return self.write_lost(chunk, end).await;
        }
        self.replay().await;
        Ok(())
    }

    /// Writes a piece of a body that is too long to be kept.
    async fn write_lost(&mut self, chunk: Bytes, end: bool) -> Result<(), CallError> {
        let written = self.put(chunk, end).await;
        written.map_err(|error| self.failed(CallError::header(&error)))?;
        if end {
            self.note_sent();
        }
        Ok(())
    }

    /// Ends the body on an HTTP/2 connection.
    pub(super) async fn end_kept(&mut self) -> Result<(), CallError> {
        self.kept.ended = true;
        if self.kept.incomplete {
            return self.write_lost(Bytes::new(), true).await;
        }
        self.replay().await;
        Ok(())
    }

    /// Writes the kept pieces that the current connection has not received. Errors show when the response is read.
    pub(super) async fn replay(&mut self) {
        while let Some(piece) = self.kept.pieces.get(self.kept.written).cloned() {
            self.kept.torn = true;
            let written = self.put(piece, false).await;
            self.kept.torn = false;
            self.kept.written += 1;
            if written.is_err() {
                self.kept.written = self.kept.pieces.len();
            }
        }
        if self.kept.ended && !self.request_done && self.session.is_some() {
            let _ = self.put_end().await;
            self.note_sent();
        }
    }

    /// Drops a connection on which a piece of the body was cut off.
    pub(super) fn drop_torn(&mut self) {
        if self.kept.torn {
            self.session = None;
        }
    }

    /// A new connection starts without any of the body.
    pub(super) fn rewind(&mut self) {
        self.kept.written = 0;
        self.kept.torn = false;
        self.upload = None;
    }

    /// Whether the request may be sent again after this error.
    pub(super) fn may_go_again(&mut self, error: &Error) -> bool {
        if self.response().is_some() {
            return false;
        }
        if is_unprocessed(error) && self.rejected < MAX_REJECTED && self.has_kept_body() {
            self.rejected += 1;
            return true;
        }
        if !self.repeatable() || !(nothing_came(error) || connection_lost(error)) {
            return false;
        }
        self.retried = true;
        true
    }

    /// Whether the last attempt was rejected unprocessed. The last attempt of all uses a new connection.
    pub(super) fn may_reuse(&self) -> bool {
        !self.retried && (1..MAX_REJECTED).contains(&self.rejected)
    }

    /// The response begins: the kept body is discarded.
    pub(super) fn is_answered(&mut self) {
        self.header_seen = true;
        if !self.kept.pieces.is_empty() {
            self.kept.pieces = Vec::new();
            self.kept.incomplete = true;
        }
    }

    /// Records the status of the response, where the file ejects hosts by it.
    pub(super) fn judge_status(&self) {
        let Some(resilience) = self.host().and_then(|host| host.resilience.as_ref()) else {
            return;
        };
        let (Some(health), Some((status, _))) = (&resilience.health, self.header()) else {
            return;
        };
        health.answered(status, || {
            let ejected = self.hosts.iter().filter(|host| host.is_ejected()).count();
            ejected < resilience.most_ejected(self.hosts.len())
        });
    }

    /// The response is complete, or was read for so long that the host is alive: it counts as healthy. A head alone
    /// does not clear failures: a host may hang after every head.
    pub(in crate::upstream) fn is_healthy(&mut self) {
        if std::mem::replace(&mut self.is_judged, true) {
            return;
        }
        self.peers.answered(self.peer, self.host());
    }

    /// Another piece of the response comes after the first. A stream may never end, so a piece long after the head
    /// proves health.
    pub(super) fn has_progressed(&mut self) {
        if !self.is_judged
            && self
                .asked
                .is_some_and(|asked| asked.elapsed() >= STREAMS_FOR)
        {
            self.is_healthy();
        }
    }

    /// The response broke off, or its upstream fell silent.
    pub fn has_broken_off(&mut self) {
        if !std::mem::replace(&mut self.is_judged, true) {
            self.is_unanswered();
        }
    }

    /// The wait for the head ended with this error. A full memory budget is not a failure of the host.
    pub(super) fn is_without_head(&mut self, error: &Error) {
        self.has_verdict = true;
        if !is_unbuffered(error) {
            self.is_unanswered();
        }
    }

    /// The request was sent and no response came, or no whole one.
    pub(super) fn is_unanswered(&self) {
        if let Some(place) = self.place() {
            self.peers.unanswered(self.peer, place, self.client);
        }
    }

    fn candidate(&self) -> Option<&Candidate> {
        let list: &Peers = &self.peers;
        list.list.get(self.peer)
    }
}

/// A cancelled wait says something about the host and the connection only if it was long, and the host had to read or to
/// respond.
impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place() {
            place.usage.end_call();
        }
        let Some(asked) = self.asked.filter(|_| !self.has_verdict) else {
            if !self.has_verdict {
                Wait::Send.note();
                // The client has sent the piece, so the host is the one that is awaited.
                let writing = self.writing.map(|since| since.elapsed());
                if writing.is_some_and(|time| time >= self.rules.long_wait()) {
                    self.is_unanswered();
                }
            }
            return;
        };
        if self.header_seen {
            if self.collecting {
                Wait::Body.note();
            }
            let is_late = || asked.elapsed() >= self.rules.long_wait();
            if self.broke || (self.collecting && is_late()) {
                self.has_broken_off();
            }
            return;
        }
        if let (Some(session), Some(candidate)) = (self.session.as_ref(), self.candidate()) {
            let has_heard = self.client.pool.abandon(session, &candidate.peer, asked);
            (if has_heard { Wait::Header } else { Wait::Http2 }).note();
        }
        if asked.elapsed() >= self.rules.long_wait() {
            self.is_unanswered();
        }
    }
}

/// Whether the peer reports that it did not process the request (RFC 9113 §8.7): a stream above the last one that its
/// GOAWAY names, or REFUSED_STREAM.
fn is_unprocessed(error: &Error) -> bool {
    of_http2(error).is_some_and(|error| {
        let rejected = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || rejected)
    })
}

/// Whether an HTTP/2 connection was lost, for example because it was closed while idle.
fn connection_lost(error: &Error) -> bool {
    of_http2(error).is_some_and(h2::Error::is_io)
}

fn of_http2(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref::<h2::Error>()
}

/// Whether a connection ended before the first byte of a response. Pingora reports this only in its error text.
fn nothing_came(error: &Error) -> bool {
    let at_start = || {
        let context = error.context.as_ref();
        context.is_some_and(|context| context.as_str().ends_with("already read: 0"))
    };
    match error.retry {
        RetryType::ReusedOnly => at_start(),
        // A TLS connection that ends without a close_notify gives a different error.
        RetryType::Decided(false) => ends_early(error) && at_start(),
        RetryType::Decided(true) => true,
    }
}

fn ends_early(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof)
}
