//! Reports an exchange to traces and series.

use std::time::Duration;

use pingora_core::protocols::Digest;
use pingora_http::RequestHeader;

use super::stream::{Exchange, RequestBody};
use crate::telemetry::observe::Trip;
use crate::upstream::error::CallError;
use crate::upstream::session::Session;
use crate::upstream::wire::content_length;

/// Writes the context of the trace into the head of a request, in place of what a client sent. `h1`: names are in title
/// case.
pub(crate) fn write_context(trip: &Trip, header: &mut RequestHeader, h1: bool) {
    for (name, titled, value) in trip.context() {
        // A value of ours can always be written.
        let _ = match value {
            Some(value) if h1 => header.insert_header(titled, value),
            Some(value) => header.insert_header(name, value),
            None => {
                header.remove_header(&name);
                Ok(())
            }
        };
    }
}

/// The duration of the TLS handshake of a connection, which is the layer above TCP.
pub(crate) fn handshake(digest: &Digest) -> Option<Duration> {
    let layer = digest.timing_digest.get(1)?.as_ref()?;
    layer.establishment_duration
}

impl Exchange<'_> {
    /// Records the connection.
    pub(super) fn observe_connection(&mut self) {
        let Some(mut trip) = self.trip.take() else {
            return;
        };
        self.use_pingora();
        let http2 = self.is_http2();
        let handshake = (!self.reused).then(|| self.handshake().unwrap_or_default());
        if let Some(host) = self.host() {
            trip.connected(&host.url, handshake, http2);
        }
        self.trip = Some(trip);
    }

    /// The duration of the TLS handshake on this connection.
    fn handshake(&self) -> Option<Duration> {
        match &self.session {
            Some(Session::Pingora(session)) => handshake(session.digest()?),
            _ => None,
        }
    }

    /// Adds the trace context to the head, in place of the client's.
    pub(super) fn observe_head(&mut self, header: &mut RequestHeader, h1: bool) {
        self.observe_length();
        let Some(trip) = &mut self.trip else {
            return;
        };
        trip.sends_headers(&header.headers);
        write_context(trip, header, h1);
    }

    /// Records the length of the body.
    pub(super) fn observe_length(&mut self) {
        if let (Some(trip), RequestBody::Length(length)) = (&mut self.trip, self.body) {
            trip.sends(length);
        }
    }

    /// Records the head of the response.
    pub(super) fn observe_response(&mut self) {
        let Some(mut trip) = self.trip.take() else {
            return;
        };
        if let Some((status, headers)) = self.header() {
            trip.answered(status.as_u16(), headers, content_length(headers));
        }
        self.trip = Some(trip);
    }

    /// Returns the result unchanged. An error is recorded as the reason why there is no response.
    pub(super) fn observe<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        if let (Err(error), Some(trip)) = (&result, &mut self.trip) {
            trip.failed(error.observed());
        }
        result
    }
}
