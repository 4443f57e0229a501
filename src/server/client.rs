//! A client's session, as the pipeline sees it.

use std::net::IpAddr;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Version};
use pingora_core::Error;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipeline::Downstream;
use crate::runtime::request::Head;
use crate::runtime::response::Fields;
use crate::server::gateway::{Active, head_of};
use crate::server::{body, respond};
use crate::upstream::{Piece, Source};

/// One request's session.
pub(super) struct Client<'s> {
    pub(super) session: &'s mut Session,
    pub(super) address: Option<IpAddr>,
    pub(super) active: &'s Active,
    /// Whether the whole body was read. A session does not always know: over HTTP/2 trailers may follow that are not
    /// read.
    pub(super) has_body: bool,
    /// Fields that steps left for whatever answer the client gets.
    pub(super) fields: &'s Fields,
}

/// Why the client's body cannot be read on.
pub(super) fn unread(error: &Error) -> Failure {
    if body::is_slow(error) {
        Failure::new(Kind::BodySlow, "the body stops")
    } else if body::is_malformed(error) {
        Failure::new(Kind::BodyMalformed, "the body is malformed")
    } else {
        gone(error)
    }
}

fn gone(error: &Error) -> Failure {
    log::debug!("the client left: {error}");
    Failure::client_gone()
}

impl Source for Client<'_> {
    type Error = Failure;

    const WATCHED: bool = true;

    async fn begin(&mut self) -> Result<(), Failure> {
        let asked = body::ask_for_it(self.session).await;
        asked.map_err(|error| gone(&error))
    }

    async fn next(&mut self) -> Result<Piece, Failure> {
        let downstream = self.session.as_downstream_mut();
        let piece = downstream.read_body_or_idle(self.has_body).await;
        let bytes = piece.map_err(|error| unread(&error))?;
        self.has_body = bytes.is_none() || downstream.is_body_done();
        Ok(Piece {
            last: self.has_body,
            bytes: bytes.unwrap_or_default(),
        })
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
        self.session.as_downstream_mut().is_body_empty()
    }

    async fn read_whole(&mut self, most: u64) -> Result<Bytes, Failure> {
        let body = body::read(self.session, most).await?;
        self.has_body = true;
        Ok(body)
    }

    fn has_head(&self) -> bool {
        let written = self.session.response_written();
        written.is_some_and(|header| !header.status.is_informational())
    }

    async fn write_head(&mut self, head: Parts, alone: bool) -> Result<(), Failure> {
        let mut header = ResponseHeader::from(head);
        respond::replace(&mut header, self.fields)
            .map_err(|_| Failure::new(Kind::Broken, "the answer's header cannot be written"))?;
        respond::keep_connection(self.session);
        respond::announce_end(self.session, self.active);
        let written = respond::write_header(self.session, header, alone).await;
        written.map_err(|error| gone(&error))
    }

    async fn write(&mut self, piece: Bytes, end: bool) -> Result<(), Failure> {
        let written = self.session.write_response_body(Some(piece), end).await;
        written.map_err(|error| gone(&error))
    }

    fn borrows(&self) -> bool {
        !self.session.is_http2()
    }

    async fn write_slice(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let ServerSession::H1(client) = self.session.as_downstream_mut() else {
            return self.write(Bytes::copy_from_slice(piece), false).await;
        };
        let written = client
            .write_body(piece)
            .await
            .map_err(|error| gone(&error))?;
        let too_long = || Failure::cut_off("the answer broke off: more bytes than announced");
        written.ok_or_else(too_long).map(|_| ())
    }

    async fn end(&mut self) -> Result<(), Failure> {
        let ended = self.session.write_response_body(None, true).await;
        ended.map_err(|error| gone(&error))
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<(), Failure> {
        let downstream = self.session.as_downstream_mut();
        let written = downstream.write_response_trailers(trailers).await;
        written.map_err(|error| gone(&error))
    }
}
