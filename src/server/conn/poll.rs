//! Reading and writing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::protocols::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{Conn, LINGER, MAX_AHEAD_BYTES, MAX_DISCARDED_BYTES, Wire};
use crate::server::connection_limit::StallWatch;
use crate::upstream::budget::Full;

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.send_before_waiting(cx);
        if this.budget == 0 {
            // Between requests the session only waits for the client to close the connection. Early bytes of the next
            // request are kept here.
            loop {
                if this.ahead.len() >= MAX_AHEAD_BYTES {
                    return Poll::Pending;
                }
                if ready!(this.poll_fill(cx, usize::MAX))? == 0 {
                    return if this.ahead.is_empty() {
                        Poll::Ready(Ok(()))
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
        let before = buf.filled().len();
        let read = match this.empty_frames.take() {
            Some(mut filter) => {
                let read = filter.poll_read(buf, |buf| this.poll_body(cx, buf));
                this.empty_frames = Some(filter);
                read
            }
            None => this.poll_body(cx, buf),
        };
        if let (Some(streams), Poll::Ready(Ok(()))) = (&mut this.streams, &read) {
            let new = buf.filled().get(before..).unwrap_or_default();
            if let Err(Full) = streams.receive(new) {
                let error = io::Error::new(io::ErrorKind::OutOfMemory, Full);
                return Poll::Ready(Err(error));
            }
        }
        this.reads = read.is_pending();
        if this.reads && this.streams.is_some() && this.poll_slow_head(cx).is_ready() {
            if let Some(streams) = &mut this.streams {
                streams.slow_head();
            }
            let error = io::Error::new(io::ErrorKind::TimedOut, "a head is too slow");
            return Poll::Ready(Err(error));
        }
        this.watched(cx, read)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed = true;
        let written = match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        };
        if let (Some(streams), Poll::Ready(Ok(count))) = (&mut this.streams, &written) {
            streams.send(buf.get(..*count).unwrap_or_default());
        }
        this.watched(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.poll_send(cx);
        this.watched(cx, sent)
    }

    /// A socket that is closed with unread data of a body resets the connection, which discards a response that the
    /// client may not have read yet. So data that the client still sends is read for a moment and discarded.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.farewell.is_none() {
            let shut = match &mut this.wire {
                Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            };
            // A client that does not read would keep its place until the data in the buffers is sent.
            if shut.is_pending() && this.watch.as_ref().is_some_and(StallWatch::must_close) {
                return Poll::Ready(Ok(()));
            }
            ready!(shut)?;
            if this.budget == 0 || this.is_h2() {
                return Poll::Ready(Ok(()));
            }
            this.farewell = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        while this.discarded < MAX_DISCARDED_BYTES {
            this.ahead.clear();
            match this.poll_fill(cx, 2048) {
                Poll::Ready(Ok(count)) if count > 0 => this.discarded += count,
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        // A client that sends more than that waits. It has the rest of the time to read the response.
        let over = this.farewell.as_mut().map(|time| time.as_mut().poll(cx));
        over.unwrap_or(Poll::Ready(())).map(Ok)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed = true;
        let written = match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        };
        if let (Some(streams), Poll::Ready(Ok(count))) = (&mut this.streams, &written) {
            let mut left = *count;
            for part in bufs {
                let sent = left.min(part.len());
                streams.send(part.get(..sent).unwrap_or_default());
                left -= sent;
            }
        }
        this.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        match &mut self.wire {
            Wire::Plain(stream) => Shutdown::shutdown(stream.as_mut()).await,
            Wire::Tls(stream) => {
                // The peer may have closed the connection already, so an error is ignored.
                let _ = AsyncWriteExt::shutdown(stream.as_mut()).await;
            }
        }
    }
}
