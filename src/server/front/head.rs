//! Waits for the next request head, and checks it.

use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use pingora_core::server::ShutdownWatch;
use tokio::time::{Instant, Sleep};

use super::http2::H2_PREFACE;
use super::reject::farewell;
use super::{FAREWELL, FIRST_REQUEST, Front};
use crate::runtime::listen::Limits;
use crate::server::conn::Conn;
use crate::server::connection_limit::ConnectionSlot;
use crate::server::head::{BadHead, HeadFacts, HeadReader};
use crate::upstream::budget::{Charge, SMALL};

/// The result of waiting for a head.
pub(super) enum Wait {
    Head(HeadFacts),
    Http2,
    /// Nothing arrived, the client closed the connection, or the process is stopping.
    Over,
    Rejected(BadHead),
    /// The head did not arrive in time.
    Slow,
    /// The budget of memory has no space for the rest of the head.
    Full,
}

impl Front {
    /// Waits for the next head: first for its first byte and then, with one deadline, for the rest.
    pub(super) async fn next_head(&self, conn: &mut Conn, pause: &mut Pause<'_>) -> Wait {
        if conn.ahead().is_empty() && !pause.first_byte(conn).await {
            return Wait::Over;
        }
        while conn.ahead().starts_with(b"\r\n") {
            let _ = conn.ahead().split_to(2); // RFC 9112 §2.2: an empty line before the request line is ignored
        }
        let mut reader = HeadReader::new(self.limits.max_header_bytes, self.limits.max_fields);
        let wait = match self.judge(&mut reader, conn) {
            Some(wait) => wait,
            // Boxed: few heads come in pieces.
            None => Box::pin(self.late_head(&mut reader, conn, pause.place)).await,
        };
        pause.place.sent_head();
        wait
    }

    /// Waits for the rest of a head, also while the process is stopping. A client that stops within its head can be replaced
    /// like a silent one.
    async fn late_head(
        &self,
        reader: &mut HeadReader,
        conn: &mut Conn,
        place: &ConnectionSlot,
    ) -> Wait {
        place.waits_for_client();
        let arriving = &self.shared.arriving;
        conn.arrival.get_or_insert_with(|| arriving.one());
        let rest = pingora_timeout::timeout(self.limits.head, self.rest_of_head(reader, conn));
        tokio::select! {
            biased;
            wait = rest => wait.unwrap_or(Wait::Slow),
            () = place.is_needed() => Wait::Over,
        }
    }

    /// Many clients that stop within a long head must not fill the memory, so what exceeds a small head is charged
    /// to the budget of bodies while the rest is awaited.
    async fn rest_of_head(&self, reader: &mut HeadReader, conn: &mut Conn) -> Wait {
        let mut charge = Charge::default();
        loop {
            match conn.fill().await {
                Ok(0) | Err(_) => return Wait::Over,
                Ok(_) => {
                    if let Some(wait) = self.judge(reader, conn) {
                        return wait;
                    }
                    let held = conn.ahead();
                    if held.len() > SMALL && charge.cover(held.capacity()).is_err() {
                        // Released before the response: the client may take its time to read it.
                        *held = BytesMut::new();
                        return Wait::Full;
                    }
                }
            }
        }
    }

    /// Whether a client of a listener for both versions uses neither: a client of HTTP/2 would not understand a
    /// response in HTTP/1 (RFC 9113 §3.4 closes the connection).
    pub(super) fn is_no_http(&self, conn: &mut Conn) -> bool {
        let ahead: &[u8] = conn.ahead();
        let line = ahead.split(|byte| *byte == b'\n').next();
        self.limits.h2c && line.is_none_or(|line| memchr::memmem::find(line, b"HTTP/").is_none())
    }

    fn judge(&self, reader: &mut HeadReader, conn: &mut Conn) -> Option<Wait> {
        let bytes = conn.ahead();
        if self.limits.h2c && self.certificates.is_none() {
            let count = bytes.len().min(H2_PREFACE.len());
            if bytes.get(..count) == H2_PREFACE.get(..count) && count >= 4 {
                return (count == H2_PREFACE.len()).then_some(Wait::Http2);
            }
        }
        match reader.advance(bytes) {
            Ok(Some(facts)) => Some(Wait::Head(facts)),
            Ok(None) => None,
            Err(bad) => Some(Wait::Rejected(bad)),
        }
    }
}

/// The wait before each request on a connection. One timer and one watch on the stop are created once and serve all
/// of its requests.
pub(super) struct Pause<'a> {
    pub(super) place: &'a ConnectionSlot,
    /// The timeout for the next request: a client that has sent nothing yet gets no longer than a head may take.
    pub(super) timeout: Duration,
    pub(super) idle: Duration,
    timer: Pin<Box<Sleep>>,
    end: BoxFuture<'static, ()>,
    /// A client that has sent no request yet got more time after a stop.
    is_extended: bool,
}

impl Pause<'_> {
    pub(super) fn new<'a>(
        limits: &Limits,
        place: &'a ConnectionSlot,
        stopping: ShutdownWatch,
    ) -> Pause<'a> {
        let is_needed = place.is_needed();
        Pause {
            place,
            timeout: limits.head,
            idle: limits.idle,
            timer: Box::pin(tokio::time::sleep(limits.head.min(limits.idle))),
            end: Box::pin(async move {
                tokio::select! {
                    biased;
                    () = farewell(stopping) => {}
                    () = is_needed => {}
                }
            }),
            is_extended: false,
        }
    }

    /// Waits for the first byte of a request. `false` if the client has closed its connection or was silent for too
    /// long, the process is stopping, or another client needs the place.
    async fn first_byte(&mut self, conn: &mut Conn) -> bool {
        let began = Instant::now();
        let timeout = std::mem::replace(&mut self.timeout, self.idle);
        self.place.waits_for_client();
        loop {
            tokio::select! {
                biased;
                read = conn.fill() => {
                    self.place.is_active();
                    return matches!(read, Ok(count) if count > 0);
                }
                () = self.timer.as_mut() => {
                    // The timer was set for an earlier request, so its deadline is not valid.
                    if began.elapsed() >= timeout {
                        return false;
                    }
                    self.timer.as_mut().reset(began + timeout);
                }
                () = &mut self.end => {
                    let is_first = conn.arrival.is_some() && !self.is_extended;
                    if !is_first || self.place.must_close() {
                        return false;
                    }
                    self.is_extended = true;
                    let is_needed = self.place.is_needed();
                    self.end = Box::pin(async move {
                        let _ = tokio::time::timeout(FIRST_REQUEST - FAREWELL, is_needed).await;
                    });
                }
            }
        }
    }
}
