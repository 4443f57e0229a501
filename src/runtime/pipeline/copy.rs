//! Copies the body of a streamed response to the client while it arrives, and the rest of the client's body to the
//! upstream.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::downstream::{Downstream, watched};
use super::response_cache::Filling;
use super::time_limit::TimeLimit;
use super::trailers::Announced;
use super::transport::OpenResponse;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::service::Options;
use crate::upstream::{Gunzip, Piece, within};

/// How long equal calls wait for a client that does not take a piece of the response that they would share.
const WRITE_WAIT: Duration = Duration::from_millis(100);

/// How long the two ends of a stream may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence<'a> {
    idle: Duration,
    /// The stream also ends at the timeout of the endpoint (`"portcullis/stream": {"total_timeout"}`).
    total: Option<&'a TimeLimit>,
}

impl<'a> Silence<'a> {
    pub(super) fn new(options: &Options, limit: &'a TimeLimit) -> Silence<'a> {
        Silence {
            idle: options.stream_idle_timeout,
            total: options.stream_total_timeout.then_some(limit),
        }
    }

    /// How long a response may be silent from `now` on.
    fn first(&self, now: Instant) -> Duration {
        match self.total {
            Some(limit) => self.idle.min(limit.end().saturating_duration_since(now)),
            None => self.idle,
        }
    }

    /// How long a response may still be silent if the last data arrived at `alive`.
    fn left(&self, alive: Instant) -> Duration {
        let idle = self.idle.saturating_sub(alive.elapsed());
        match self.total {
            Some(limit) => idle.min(limit.remaining()),
            None => idle,
        }
    }
}

/// A response whose head has been written.
pub(super) struct Copy<'c, D, A> {
    pub(super) client: &'c mut D,
    pub(super) response: A,
    /// Stores the response once it is complete.
    pub(super) filling: Option<Box<Filling<'c>>>,
    pub(super) silence: Silence<'c>,
    pub(super) over_http2: bool,
    pub(super) announced: Announced,
}

fn silent() -> Failure {
    let text = "the response ended early: the upstream was silent";
    Failure::new(Kind::Silent, text)
}

fn ended_early<E>(_: E) -> Failure {
    Failure::cut_off("the response ended early: unexpected EOF")
}

impl<D: Downstream, A: OpenResponse> Copy<'_, D, A> {
    /// Copies the body. `decode`: it is gzip that the client did not ask for. `bodiless`: the client receives no body.
    pub(super) async fn run(mut self, decode: bool, bodiless: bool) -> Result<(), Failure> {
        let lends = self.response.lends() && self.client.borrows() && self.filling.is_none();
        // A client that needs copies gets pieces, unless these are copies, too.
        let is_cheaper = !self.client.copies() || self.response.copies();
        if !decode && !bodiless && lends && is_cheaper {
            self.lend().await?;
        } else {
            let decoder = (decode && !bodiless).then(Gunzip::default);
            self.pieces(decoder, bodiless).await?;
        }
        if let Some(filling) = self.filling.take() {
            filling.complete();
        }
        self.response.release().await;
        Ok(())
    }

    /// Copies a body from an HTTP/1 connection, directly from the buffer that it was read into.
    async fn lend(&mut self) -> Result<(), Failure> {
        let mut alive = Instant::now();
        let mut wait = self.silence.first(alive);
        loop {
            let mut has_piece = false;
            tokio::select! {
                biased;
                piece = within(wait, self.response.read_slice()) => {
                    let Some(piece) = piece else {
                        self.response.has_stalled();
                        return Err(silent());
                    };
                    if let Some(bytes) = piece.map_err(ended_early)?
                        && !bytes.is_empty()
                    {
                        self.client.write_slice(bytes).await?;
                        has_piece = true;
                    }
                    if self.response.is_done() {
                        self.client.end().await?;
                        // Bytes after the end make the connection unusable, not the response.
                        let _ = self.response.read().await;
                        return Ok(());
                    }
                }
                piece = self.client.next() => self.upload(piece, &mut alive).await?,
            }
            // A response that is complete needs no look at the clock.
            if has_piece {
                alive = Instant::now();
            }
            wait = self.silence.left(alive);
        }
    }

    async fn pieces(&mut self, mut decoder: Option<Gunzip>, bodiless: bool) -> Result<(), Failure> {
        let mut alive = Instant::now();
        loop {
            let wait = self.silence.left(alive);
            tokio::select! {
                biased;
                piece = within(wait, self.response.read()) => {
                    let Some(piece) = piece else {
                        self.response.has_stalled();
                        return Err(silent());
                    };
                    let Some(bytes) = piece.map_err(ended_early)? else {
                        return self.finish(decoder, bodiless).await;
                    };
                    // Over HTTP/2, trailers may follow the last piece.
                    let end = decoder.is_none() && !self.over_http2 && self.response.is_done();
                    self.write(decoder.as_mut(), bytes, end).await?;
                    alive = Instant::now();
                    if end {
                        return Ok(());
                    }
                }
                piece = self.client.next(), if !self.response.is_backed_up() => {
                    self.upload(piece, &mut alive).await?;
                }
            }
        }
    }

    /// Forwards what the client sends while its response is in progress.
    async fn upload(
        &mut self,
        piece: Result<Piece, Failure>,
        alive: &mut Instant,
    ) -> Result<(), Failure> {
        // An upstream that reads on only after its response was read would wait forever.
        within(self.silence.idle, self.response.forward(piece?))
            .await
            .ok_or_else(|| {
                Failure::cut_off("the response ended early: the upstream does not read")
            })?;
        // A body that is not forwarded does not count as activity.
        if self.response.is_uploading() {
            *alive = Instant::now();
        }
        Ok(())
    }

    async fn write(
        &mut self,
        decoder: Option<&mut Gunzip>,
        bytes: Bytes,
        end: bool,
    ) -> Result<(), Failure> {
        let Some(decoder) = decoder else {
            return self.put(bytes, end).await;
        };
        decoder.push(bytes);
        let invalid = |_| Failure::cut_off("the response ended early: gzip: invalid data");
        while let Some(piece) = decoder.next_piece().map_err(invalid)? {
            self.put(piece, false).await?;
        }
        Ok(())
    }

    /// Writes a piece, and adds it to what is stored.
    async fn put(&mut self, piece: Bytes, end: bool) -> Result<(), Failure> {
        let Some(filling) = &mut self.filling else {
            return self.client.write(piece, end).await;
        };
        filling.push(&piece);
        let mut writing = pin!(self.client.write(piece, end));
        if let Some(written) = within(WRITE_WAIT, writing.as_mut()).await {
            return written;
        }
        filling.let_others_go();
        writing.await
    }

    /// Ends the response: writes the rest from the decoder, the announced trailers on HTTP/2, and the end.
    async fn finish(&mut self, decoder: Option<Gunzip>, bodiless: bool) -> Result<(), Failure> {
        let truncated = |_| Failure::cut_off("the response ended early: gzip: unexpected EOF");
        if let Some(mut decoder) = decoder
            && let Some(rest) = decoder.finish().map_err(truncated)?
        {
            self.put(rest, false).await?;
        }
        if bodiless {
            return Ok(());
        }
        if self.over_http2
            && let Some(trailers) = self.trailers().await?
        {
            return self.client.write_trailers(trailers).await;
        }
        self.client.end().await
    }

    /// The trailers that may be forwarded. They are part of the response: an upstream that never sends them counts as
    /// silent.
    async fn trailers(&mut self) -> Result<Option<HeaderMap>, Failure> {
        let idle = self.silence.idle;
        let response = &mut self.response;
        let waiting = pin!(async {
            let trailers = within(idle, response.trailers()).await;
            trailers.ok_or_else(silent)?.map_err(ended_early)
        });
        // This also sends what was written before.
        let trailers = watched(self.client, waiting).await?;
        Ok(trailers.and_then(|trailers| self.announced.pass(trailers)))
    }
}
