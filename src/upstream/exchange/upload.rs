//! The body of a request over HTTP/2, which never prevents the response from being read.
//!
//! A server may respond before it has read the request, and leave the window of the stream closed (RFC 9113 §8.1).
//! So a wait for the window is also a wait for the head of the response. What could not be sent until then is sent
//! while the body of the response is read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_core::{Error, ErrorType};
use tokio::time::Instant;

use super::stream::Exchange;
use crate::upstream::session::Session;

/// The sending half of a stream.
pub(super) struct Upload {
    writer: SendStream<Bytes>,
    waiting: VecDeque<Bytes>,
    /// The body ends behind the pieces that wait.
    is_last: bool,
    /// The end was sent.
    ended: bool,
    /// The server has rejected the request: the rest is not sent.
    refused: bool,
    /// Why no response came.
    failure: Option<h2::Error>,
}

impl Exchange<'_> {
    /// Writes a piece of the body. Over HTTP/2 this returns as soon as the response begins, and the rest of the piece
    /// waits.
    pub(super) async fn put(&mut self, piece: Bytes, end: bool) -> Result<(), Box<Error>> {
        self.writing = Some(Instant::now());
        let put = self.put_piece(piece, end).await;
        self.writing = None;
        put
    }

    async fn put_piece(&mut self, piece: Bytes, end: bool) -> Result<(), Box<Error>> {
        match self.session.as_mut().and_then(Session::pingora) {
            Some(HttpSession::H2(session)) => {
                let upload = Upload::of(&mut self.upload, session)?;
                upload.add(piece, end);
                upload.send(session).await
            }
            Some(session) => session.write_request_body(piece, end).await,
            None => Err(Error::new(ErrorType::ConnectionClosed)),
        }
    }

    /// Ends the body.
    pub(super) async fn put_end(&mut self) -> Result<(), Box<Error>> {
        match self.session.as_mut().and_then(Session::pingora) {
            Some(HttpSession::H1(session)) => session.finish_body().await.map(|_| ()),
            Some(_) => self.put(Bytes::new(), true).await,
            None => Err(Error::new(ErrorType::ConnectionClosed)),
        }
    }

    /// Whether pieces of the body wait for the window. The next piece must wait too.
    pub fn is_backed_up(&self) -> bool {
        let upload = self.upload.as_deref();
        upload.is_some_and(|upload| !upload.waiting.is_empty())
    }

    /// The next piece of the response, while pieces of the request still wait.
    pub(super) async fn read_beside_upload(&mut self) -> Result<Option<Bytes>, Box<Error>> {
        let session = self.session.as_mut().and_then(Session::http2_mut);
        let (Some(session), Some(upload)) = (session, self.upload.as_deref_mut()) else {
            return Err(Error::new(ErrorType::ConnectionClosed));
        };
        let read = poll_fn(|cx| {
            if let Poll::Ready(Err(_)) = upload.poll_flush(cx) {
                upload.refuse();
            }
            session.poll_read_response_body(cx)
        });
        let text = "while reading an HTTP/2 response";
        let read = read.await.transpose();
        let read = read.map_err(|error| Error::because(ErrorType::ReadError, text, error))?;
        if !self.is_backed_up() && !self.request_done {
            self.request_is_sent();
        }
        Ok(read)
    }

    /// The result of the wait for the head of the response, if it ended while the body was written.
    pub(super) fn early_head(&mut self) -> Option<Result<(), Box<Error>>> {
        let failure = self.upload.as_deref_mut()?.failure.take();
        if let Some(failure) = failure {
            let text = "while reading an HTTP/2 response head";
            return Some(Err(Error::because(ErrorType::H2Error, text, failure)));
        }
        self.response().map(|_| Ok(()))
    }
}

impl Upload {
    fn of<'u>(
        place: &'u mut Option<Box<Upload>>,
        session: &mut Http2Session,
    ) -> Result<&'u mut Upload, Box<Error>> {
        if place.is_none() {
            let writer = session.take_request_body_writer();
            let writer = writer.ok_or_else(|| Error::new(ErrorType::WriteError))?;
            *place = Some(Box::new(Upload {
                writer,
                waiting: VecDeque::new(),
                is_last: false,
                ended: false,
                refused: false,
                failure: None,
            }));
        }
        place
            .as_deref_mut()
            .ok_or_else(|| Error::new(ErrorType::WriteError))
    }

    fn add(&mut self, piece: Bytes, end: bool) {
        if !piece.is_empty() && !self.refused {
            self.waiting.push_back(piece);
        }
        self.is_last |= end;
    }

    fn refuse(&mut self) {
        self.refused = true;
        self.waiting.clear();
    }

    /// Sends what waits, until the response begins.
    async fn send(&mut self, session: &mut Http2Session) -> Result<(), Box<Error>> {
        let sent = poll_fn(|cx| self.poll_send(session, cx)).await;
        let text = "while writing an HTTP/2 request body";
        sent.map_err(|error| Error::because(ErrorType::WriteError, text, error))
    }

    fn poll_send(
        &mut self,
        session: &mut Http2Session,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        if self.refused {
            return Poll::Ready(Err(Reason::CANCEL.into()));
        }
        if let Poll::Ready(flushed) = self.poll_flush(cx) {
            return Poll::Ready(flushed);
        }
        if session.response_header().is_none() && self.failure.is_none() {
            // After an error the session must not be asked again.
            self.failure = ready!(session.poll_read_response_header(cx)).err();
        }
        // As over HTTP/1, a redirect or an error that arrives before the end of the request rejects its body.
        let status = session.response_header().map(|header| header.status);
        if status.is_some_and(|status| status.as_u16() < 300) {
            return Poll::Ready(Ok(()));
        }
        self.refuse();
        Poll::Ready(Err(Reason::CANCEL.into()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while let Some(mut piece) = self.waiting.pop_front() {
            let Poll::Ready(room) = self.poll_room(piece.len(), cx) else {
                self.waiting.push_front(piece);
                return Poll::Pending;
            };
            let part = piece.split_to(room?.min(piece.len()));
            if !piece.is_empty() {
                self.waiting.push_front(piece);
            }
            let end = self.is_last && self.waiting.is_empty();
            self.writer.send_data(part, end)?;
            self.ended = end;
        }
        if self.is_last && !self.ended && !self.refused {
            self.ended = true;
            self.writer.send_data(Bytes::new(), true)?;
        }
        Poll::Ready(Ok(()))
    }

    /// How many of `wanted` bytes may be sent now: at least one.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, h2::Error>> {
        self.writer.reserve_capacity(wanted);
        loop {
            match self.writer.capacity() {
                0 => match ready!(self.writer.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
                },
                room => return Poll::Ready(Ok(room)),
            }
        }
    }
}
