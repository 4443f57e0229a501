//! Gathers small writes, so that the head and the body of a small response are sent in one packet, and those of a larger one
//! with one call to the system.
//!
//! Unlike tokio's `BufWriter` it holds no memory while nothing waits to be sent: most connections are idle.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum number of gathered bytes.
const MOST: usize = 1460;
/// How many parts are sent at once: what is held, earlier pieces, and the parts of a chunk.
const PARTS: usize = 5;

thread_local! {
    /// The buffer of the last connection that has sent everything.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream that gathers small writes until it is flushed.
#[derive(Debug)]
pub(super) struct WriteBuffer<T> {
    inner: T,
    held: Vec<u8>,
    /// The number of bytes of `held` that were sent.
    sent: usize,
}

impl<T: AsyncWrite + Unpin> WriteBuffer<T> {
    pub(super) fn new(inner: T) -> WriteBuffer<T> {
        WriteBuffer {
            inner,
            held: Vec::new(),
            sent: 0,
        }
    }

    /// Sends what is held.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.empty();
        Poll::Ready(Ok(()))
    }

    /// Holds these bytes, or sends them together with what is held. Returns how many of them.
    fn poll_add(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let count = bufs.iter().map(|buf| buf.len()).sum();
        if self.held.len().saturating_add(count) > MOST {
            return self.poll_send_with(cx, bufs);
        }
        if self.held.capacity() == 0 {
            self.held = SPARE.take();
            self.held.reserve_exact(MOST);
        }
        for buf in bufs {
            self.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(count))
    }

    /// Sends what is held and these bytes, if possible with one call to the system.
    fn poll_send_with(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while let Some(rest) = self.held.get(self.sent..)
            && !rest.is_empty()
        {
            let mut parts = [IoSlice::new(&[]); PARTS];
            let all = [IoSlice::new(rest)].into_iter().chain(bufs.iter().copied());
            for (part, buf) in parts.iter_mut().zip(all) {
                *part = buf;
            }
            let count = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &parts))?;
            let of_held = count.min(rest.len());
            self.sent += of_held;
            match count - of_held {
                0 if count == 0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                0 => {}
                more => {
                    self.empty();
                    return Poll::Ready(Ok(more));
                }
            }
        }
        self.empty();
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    /// All of what was held is sent.
    fn empty(&mut self) {
        if self.sent > 0 {
            let mut spare = std::mem::take(&mut self.held);
            self.sent = 0;
            spare.clear();
            // While the thread ends, the thread-local buffer no longer exists.
            let _ = SPARE.try_with(|place| place.set(spare));
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteBuffer<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteBuffer<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_add(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_add(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn small_writes_are_sent_together_and_keep_no_memory() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut near = WriteBuffer::new(near);
        near.write_all(b"head ").await.unwrap();
        near.write_all(b"body").await.unwrap();
        let parts = [IoSlice::new(b", "), IoSlice::new(b"end")];
        assert_eq!(near.write_vectored(&parts).await.unwrap(), 5);
        let mut got = [0; 64];
        let waiting =
            tokio::time::timeout(std::time::Duration::from_millis(20), far.read(&mut got));
        assert!(waiting.await.is_err(), "nothing is sent yet");
        near.flush().await.unwrap();
        assert_eq!(far.read(&mut got).await.unwrap(), 14);
        assert_eq!(&got[..14], b"head body, end");
        assert_eq!(near.held.capacity(), 0);
    }

    /// Counts the calls that write.
    struct Calls(Vec<Vec<u8>>);

    impl AsyncWrite for Calls {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(buf.to_vec());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            let count = all.len();
            self.0.push(all);
            Poll::Ready(Ok(count))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_head_and_a_body_of_any_size_are_one_call() {
        for size in [10, 900, 1450, 1461, 3000, 100_000] {
            let mut near = WriteBuffer::new(Calls(Vec::new()));
            near.write_all(b"head: 1\r\n\r\n").await.unwrap();
            near.write_all(&vec![b'x'; size]).await.unwrap();
            near.flush().await.unwrap();
            let calls: Vec<usize> = near.inner.0.iter().map(Vec::len).collect();
            assert_eq!(calls, [11 + size]);
            assert_eq!(near.held.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn the_order_does_not_depend_on_the_sizes() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = WriteBuffer::new(near);
        let sizes = [1, 700, 800, 1459, 1460, 1461, 3, 20_000, 0, 5, 1455, 1456];
        let all: Vec<u8> = (0..sizes.iter().sum::<usize>())
            .map(|at| at as u8)
            .collect();
        let expected = all.clone();
        let writing = async move {
            let mut rest = &all[..];
            for (index, size) in sizes.into_iter().enumerate() {
                let (piece, next) = rest.split_at(size);
                rest = next;
                if index % 2 == 0 {
                    near.write_all(piece).await.unwrap();
                } else {
                    let (one, two) = piece.split_at(size / 3);
                    let mut both = bytes::Buf::chain(one, two);
                    near.write_all_buf(&mut both).await.unwrap();
                }
            }
            near.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(writing, far.read_to_end(&mut got));
        read.unwrap();
        assert!(got == expected);
    }

    #[tokio::test]
    async fn a_connection_that_accepts_no_data_is_an_error() {
        let (near, far) = tokio::io::duplex(16);
        let mut near = WriteBuffer::new(near);
        near.write_all(b"lost").await.unwrap();
        drop(far);
        assert!(near.flush().await.is_err());
    }
}
