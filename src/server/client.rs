//! A client's session, as the pipeline sees it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Version};
use pingora_core::Error;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::runtime::compression::Encoder;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipeline::Downstream;
use crate::runtime::request::Head;
use crate::runtime::response::Fields;
use crate::runtime::response_edits::ResponseEdits;
use crate::server::gateway::{Common, head_of};
use crate::server::http1_fast_path::Wire;
use crate::server::streamed_body::{self, StreamedBody};
use crate::server::{body, respond, response_edits};
use crate::upstream::{PASSED_BYTES, Piece, Source};

/// The bytes of a piece whose compression takes as long as many small requests.
const LONG_TO_ENCODE: usize = 16 * 1024;

/// The session of one request.
pub(super) struct Client<'s> {
    pub(super) session: &'s mut Session,
    /// The connection, if the request is a usual one.
    pub(super) wire: Option<&'s Wire>,
    pub(super) address: Option<IpAddr>,
    pub(super) common: &'s Common,
    /// The maximum time between two pieces of a body over HTTP/2, before the response has begun.
    pub(super) silence: Option<Duration>,
    /// Whether the whole body was read. The session does not always know it: over HTTP/2, unread trailers may follow.
    pub(super) has_body: bool,
    /// Headers that steps set for any response to the client.
    pub(super) fields: &'s Fields,
    /// What is done to the response last.
    pub(super) response_edits: Option<&'s ResponseEdits>,
    /// Of the response's body, once its head is written.
    pub(super) encoder: Option<Encoder>,
    /// Of the request's body.
    pub(super) streamed_body: StreamedBody,
}

impl Client<'_> {
    /// What ends an encoded body.
    fn encoded_end(&mut self) -> Result<Option<Bytes>, Failure> {
        let encoder = self.encoder.take();
        let rest = encoder.map(Encoder::finish).transpose();
        rest.map_err(|error| response_edits::broken(&error))
    }

    async fn write_plain(&mut self, piece: Option<Bytes>, end: bool) -> Result<(), Failure> {
        let written = match self.wire {
            Some(wire) => wire.put(&piece.unwrap_or_default(), end).await,
            None => self.session.write_response_body(piece, end).await,
        };
        written.map_err(|error| gone(&error))
    }
}

/// The failure for a body of the client that cannot be read further.
pub(super) fn unread(error: &Error) -> Failure {
    if body::is_slow(error) {
        Failure::new(Kind::BodySlow, "the client stopped sending the body")
    } else if body::is_malformed(error) {
        Failure::new(Kind::BodyMalformed, "the body is malformed")
    } else {
        gone(error)
    }
}

fn gone(error: &Error) -> Failure {
    log::debug!("the client closed the connection: {error}");
    Failure::client_closed()
}

impl Source for Client<'_> {
    type Error = Failure;

    const WATCHED: bool = true;

    async fn begin(&mut self) -> Result<(), Failure> {
        let asked = body::ask_for_it(self.session).await;
        asked.map_err(|error| gone(&error))
    }

    async fn next(&mut self) -> Result<Piece, Failure> {
        loop {
            if let Some(piece) = self.streamed_body.left()? {
                return Ok(piece);
            }
            if let Some(wire) = self.wire {
                return Err(unread(&*wire.closed().await));
            }
            // Once the response has begun, both sides may pause, as gRPC does. `portcullis/stream` limits that.
            let silence = self.silence.filter(|_| !self.has_body && !self.has_head());
            let downstream = self.session.as_downstream_mut();
            let piece = match silence {
                None => downstream.read_body_or_idle(self.has_body).await,
                // Boxed, so that other requests do not carry its state.
                Some(silence) => {
                    let read = downstream.read_body_or_idle(false);
                    Box::pin(body::in_time(silence, read)).await
                }
            };
            let bytes = piece.map_err(|error| unread(&error))?;
            self.has_body = bytes.is_none() || downstream.is_body_done();
            let taken = self
                .streamed_body
                .take(bytes.unwrap_or_default(), self.has_body)?;
            if let Some(piece) = taken {
                return Ok(piece);
            }
        }
    }
}

impl Downstream for Client<'_> {
    fn head(&self) -> Option<Head<'_>> {
        head_of(self.session, self.address)
    }

    fn version(&self) -> Version {
        if self.session.is_http2() {
            Version::HTTP_2
        } else {
            self.session.req_header().version
        }
    }

    fn has_no_body(&mut self) -> bool {
        let is_empty = self.session.as_downstream_mut().is_body_empty();
        self.has_body |= is_empty;
        is_empty
    }

    async fn read_whole(&mut self, most: u64) -> Result<Bytes, Failure> {
        let body = body::read(self.session, most, self.silence).await?;
        self.has_body = true;
        if self.streamed_body.is_coded() {
            streamed_body::decoded(&body, most)
        } else {
            Ok(body)
        }
    }

    fn has_head(&self) -> bool {
        let written = self.session.response_written();
        written.is_some_and(|header| !header.status.is_informational())
    }

    async fn write_head(&mut self, head: Parts, alone: bool) -> Result<(), Failure> {
        let mut header = ResponseHeader::from(head);
        respond::replace(&mut header, self.fields).map_err(|_| {
            Failure::new(Kind::Broken, "the header of the response cannot be written")
        })?;
        if let Some(response_edits) = self.response_edits {
            let finished = response_edits::head(
                response_edits,
                self.session.req_header(),
                &mut header,
                alone,
            );
            self.encoder = finished.map_err(|_| {
                Failure::new(Kind::Broken, "the header of the response cannot be written")
            })?;
        }
        respond::keep_connection(self.session);
        respond::announce_end(self.session, self.common);
        let written = respond::write_header(self.session, header, alone).await;
        written.map_err(|error| gone(&error))
    }

    async fn write(&mut self, piece: Bytes, end: bool) -> Result<(), Failure> {
        let Some(encoder) = &mut self.encoder else {
            return self.write_plain(Some(piece), end).await;
        };
        let mut encoded = encoder
            .push(&piece)
            .map_err(|error| response_edits::broken(&error))?;
        if piece.len() >= LONG_TO_ENCODE {
            // The next piece may be there already, and other requests wait for this worker.
            tokio::task::yield_now().await;
        }
        if end && let Some(rest) = self.encoded_end()? {
            encoded = [encoded, rest].concat().into();
        }
        self.write_plain(Some(encoded), end).await
    }

    fn borrows(&self) -> bool {
        self.encoder.is_none()
    }

    fn copies(&self) -> bool {
        self.session.is_http2()
    }

    async fn write_slice(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let written = if let Some(wire) = self.wire {
            wire.write(piece).await
        } else if let ServerSession::H1(client) = self.session.as_downstream_mut() {
            let written = client.write_body(piece).await;
            written.map(|written| written.is_some())
        } else {
            // A client that does not read leaves a part here, and not a whole piece.
            for part in piece.chunks(PASSED_BYTES) {
                self.write(Bytes::copy_from_slice(part), false).await?;
            }
            return Ok(());
        };
        if written.map_err(|error| gone(&error))? {
            return Ok(());
        }
        let text = "the response ended early: more bytes than announced";
        Err(Failure::cut_off(text))
    }

    async fn end(&mut self) -> Result<(), Failure> {
        let rest = self.encoded_end()?;
        self.write_plain(rest, true).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<(), Failure> {
        if let Some(rest) = self.encoded_end()? {
            self.write_plain(Some(rest), false).await?;
        }
        let downstream = self.session.as_downstream_mut();
        let written = downstream.write_response_trailers(trailers).await;
        written.map_err(|error| gone(&error))
    }
}
