//! The buffers into which heads are read.
//!
//! A connection that waits for data holds no buffer. Each thread has one block of memory. What is read is split off the
//! block without a copy, and its room is used again as soon as nothing refers to it.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The size of a block. A request that takes long keeps one, so it must not be large.
const BLOCK: usize = 8 * 1024;
/// The minimum space for one read. Most heads fit, with a short body.
const LEAST: usize = 4 * 1024;
/// The space for one read of a side that sends much.
const LARGE: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// Reads once, and appends to `to`. Returns the number of bytes, which is 0 at the end of the stream.
///
/// May be cancelled: what was read is in `to`.
fn poll_read<R>(io: &mut R, cx: &mut Context<'_>, to: &mut BytesMut) -> Poll<io::Result<usize>>
where
    R: AsyncRead + Unpin,
{
    if to.is_empty() {
        // An empty rest would keep its block while its connection is idle.
        *to = BytesMut::new();
    }
    let mut buffer = BUFFER.take();
    if buffer.capacity() < LEAST {
        buffer.reserve(BLOCK);
    }
    let read = pin!(io.read_buf(&mut buffer)).poll(cx);
    let piece = buffer.split();
    BUFFER.set(buffer);
    let count = ready!(read)?;
    if to.is_empty() {
        *to = piece;
    } else {
        to.unsplit(piece);
    }
    Poll::Ready(Ok(count))
}

/// [`poll_read`] as a future.
pub(crate) async fn read<R>(io: &mut R, to: &mut BytesMut) -> io::Result<usize>
where
    R: AsyncRead + Unpin,
{
    poll_fn(|cx| poll_read(io, cx, to)).await
}

/// Reads the next piece of a stream, which is empty at its end. A side that sends much is read in larger pieces until it
/// pauses. Whether it does is kept in `flows`, which is false at first.
pub(crate) fn poll_piece<R>(
    io: &mut R,
    cx: &mut Context<'_>,
    flows: &mut bool,
) -> Poll<io::Result<Bytes>>
where
    R: AsyncRead + Unpin,
{
    let mut piece = BytesMut::new();
    let read = if *flows {
        piece.reserve(LARGE);
        pin!(io.read_buf(&mut piece)).poll(cx)
    } else {
        poll_read(io, cx, &mut piece)
    };
    *flows = piece.len() >= LEAST;
    read.map_ok(|_| piece.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    async fn read_all(bytes: &[u8]) -> BytesMut {
        let mut io = Cursor::new(bytes.to_vec());
        let mut all = BytesMut::new();
        while read(&mut io, &mut all).await.unwrap() > 0 {}
        all
    }

    #[tokio::test]
    async fn pieces_are_appended() {
        let bytes: Vec<u8> = (0..50_000_u32).map(|byte| byte as u8).collect();
        assert_eq!(read_all(&bytes).await, bytes);
    }

    #[tokio::test]
    async fn what_is_held_does_not_change() {
        let held: Vec<BytesMut> = {
            let mut held = Vec::new();
            for byte in 0..100 {
                held.push(read_all(&[byte; 500]).await);
            }
            held
        };
        for (byte, held) in held.iter().enumerate() {
            assert_eq!(held[..], [byte as u8; 500]);
        }
    }

    #[tokio::test]
    async fn a_connection_that_waits_keeps_no_block() {
        let (mut near, _far) = tokio::io::duplex(64);
        let mut head = read_all(b"head").await;
        bytes::Buf::advance(&mut head, 4);
        let waiting = read(&mut near, &mut head);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), waiting);
        assert!(waiting.await.is_err());
        assert_eq!(head.capacity(), 0);
        // Unique again: otherwise a larger head would not fit into the block.
        let mut buffer = BUFFER.take();
        assert!(buffer.try_reclaim(BLOCK));
    }

    #[tokio::test]
    async fn a_stream_that_flows_is_read_in_large_pieces() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|byte| byte as u8).collect();
        let mut io = Cursor::new(bytes.clone());
        let (mut flows, mut all, mut pieces) = (false, Vec::new(), Vec::new());
        loop {
            let piece = poll_fn(|cx| poll_piece(&mut io, cx, &mut flows));
            let piece = piece.await.unwrap();
            if piece.is_empty() {
                break;
            }
            pieces.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, bytes);
        assert!(pieces[0] <= BLOCK && pieces[1] >= LARGE, "{pieces:?}");
        assert!(!flows);
    }

    #[tokio::test]
    async fn unreferenced_space_is_used_again() {
        let mut places = Vec::new();
        for _ in 0..100 {
            let mut head = BytesMut::new();
            read(&mut [1; 500].as_slice(), &mut head).await.unwrap();
            places.push(head.as_ptr() as usize);
        }
        let (first, last) = (places.iter().min().unwrap(), places.iter().max().unwrap());
        assert!(last - first < BLOCK);
    }
}
