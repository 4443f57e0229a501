//! Removes empty DATA frames from HTTP/2 connections.
//!
//! Senders write them to flush, or to announce an end that follows later, which RFC 9113 §6.1 allows. The library that
//! speaks HTTP/2 counts them over the life of a connection and ends it, with all of its streams, at the 101st. A
//! connection of a content delivery network or to a busy backend would not live long. So most of them are dropped
//! before the library sees them, unless they come in a flood: then the library ends the connection.

use std::io;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;

use super::http2_frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, HEAD_BYTES, HEADERS, PADDED,
};

/// The first frames that the library sees: it also checks whether their streams are open.
const SEEN: u32 = 50;
/// The maximum number within [`PERIOD`], in addition to those that other frames make up for.
const MOST: u32 = 1000;
const PERIOD: Duration = Duration::from_secs(1);
/// How many empty frames a frame with data or headers makes up for.
const WON_BACK: u32 = 4;

/// The filter for what one side of a connection sends.
#[derive(Debug)]
pub(crate) struct EmptyFrames {
    /// For the log: who sends the frames.
    sender: &'static str,
    /// The number of bytes before the next frame.
    skip: usize,
    /// The header of a frame that has not come completely, and is held back.
    head: [u8; HEAD_BYTES],
    have: usize,
    /// The part of `head` that is not a dropped frame and not delivered yet.
    deliver: std::ops::Range<usize>,
    /// Within a header block, which nothing may interrupt.
    in_block: bool,
    seen: u32,
    /// The empty frames since `since`, without those that were made up for.
    recent: u32,
    since: Instant,
    /// There were too many. No more frames are dropped.
    flooded: bool,
}

impl EmptyFrames {
    /// A filter for a connection on which this many bytes precede the first frame.
    pub(crate) fn after(skip: usize, sender: &'static str) -> EmptyFrames {
        EmptyFrames {
            sender,
            skip,
            head: [0; HEAD_BYTES],
            have: 0,
            deliver: 0..0,
            in_block: false,
            seen: 0,
            recent: 0,
            since: Instant::now(),
            flooded: false,
        }
    }

    /// Reads with `read` and drops what the library does not need to see. Nothing new in `buf` means the end.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn poll_read(
        &mut self,
        buf: &mut ReadBuf<'_>,
        mut read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.deliver.is_empty() {
                let count = self.deliver.len().min(buf.remaining());
                let held = self.head.get(self.deliver.clone()).unwrap_or_default();
                buf.put_slice(held.get(..count).unwrap_or_default());
                self.deliver.start += count;
                return Poll::Ready(Ok(()));
            }
            if self.have > 0 {
                ready!(self.complete(&mut read))?;
                continue;
            }
            let before = buf.filled().len();
            ready!(read(buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let kept = self.filter(buf.filled_mut().get_mut(before..).unwrap_or_default());
            buf.set_filled(before + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads the rest of a header that is held back, and decides about its frame.
    fn complete(
        &mut self,
        read: &mut impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let mut rest = ReadBuf::new(self.head.get_mut(self.have..).unwrap_or_default());
        ready!(read(&mut rest))?;
        let count = rest.filled().len();
        self.have += count;
        if count == 0 {
            // The connection ends within a header.
            self.deliver = 0..self.have;
            self.have = 0;
        } else if self.have == HEAD_BYTES {
            self.have = 0;
            if !self.drops(self.head) {
                self.deliver = 0..HEAD_BYTES;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Removes the frames to drop from `bytes`, and a header at their end that is not complete. Returns how many bytes
    /// are left, at the beginning.
    fn filter(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let payload = self.skip.min(bytes.len() - at);
            self.skip -= payload;
            kept = moved(bytes, at, kept, payload);
            at += payload;
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(head) = rest.first_chunk::<HEAD_BYTES>() else {
                if let Some(part) = self.head.get_mut(..rest.len()) {
                    part.copy_from_slice(rest);
                    self.have = rest.len();
                }
                break;
            };
            if !self.drops(*head) {
                kept = moved(bytes, at, kept, HEAD_BYTES);
            }
            at += HEAD_BYTES;
        }
        kept
    }

    /// Whether to drop the frame with this header. Its payload follows.
    fn drops(&mut self, head: [u8; HEAD_BYTES]) -> bool {
        let FrameHead {
            kind,
            flags,
            stream,
            length,
        } = FrameHead::read(head);
        self.skip = length;
        let was_in_block = self.in_block;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_block = flags & END_HEADERS == 0;
        }
        let is_empty = kind == DATA && length == 0 && flags & (END_STREAM | PADDED) == 0;
        if !is_empty || was_in_block || stream == 0 {
            if matches!(kind, DATA | HEADERS) {
                self.recent = self.recent.saturating_sub(WON_BACK);
            }
            return false;
        }
        if self.seen < SEEN {
            self.seen += 1;
            return false;
        }
        !self.is_flooded()
    }

    /// Counts an empty frame, and tells whether there are too many.
    fn is_flooded(&mut self) -> bool {
        if self.flooded {
            return true;
        }
        if self.since.elapsed() >= PERIOD {
            self.since = Instant::now();
            self.recent = 0;
        }
        self.recent += 1;
        self.flooded = self.recent > MOST;
        if self.flooded {
            log::warn!(
                "{} sends a flood of empty DATA frames: its HTTP/2 connection will be closed",
                self.sender
            );
        }
        self.flooded
    }
}

/// Moves `count` bytes from `from` down to `to`, and returns their end.
fn moved(bytes: &mut [u8], from: usize, to: usize, count: usize) -> usize {
    if from != to {
        bytes.copy_within(from..from + count, to);
    }
    to + count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::http2_frame::frame;

    fn empty(stream: u32) -> Vec<u8> {
        frame(DATA, 0, stream, b"")
    }

    /// What comes through, if `piece` bytes arrive at a time and there is room for `room`.
    fn through(filter: &mut EmptyFrames, bytes: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let mut left = bytes;
        let mut out = Vec::new();
        loop {
            let mut space = vec![0; room];
            let mut buf = ReadBuf::new(&mut space);
            let polled = filter.poll_read(&mut buf, |buf| {
                let count = piece.min(left.len()).min(buf.remaining());
                buf.put_slice(&left[..count]);
                left = &left[count..];
                Poll::Ready(Ok(()))
            });
            assert!(matches!(polled, Poll::Ready(Ok(()))));
            if buf.filled().is_empty() {
                return out;
            }
            out.extend_from_slice(buf.filled());
        }
    }

    /// A filter that has shown the library as many empty frames as it shows.
    fn used(skip: usize) -> EmptyFrames {
        EmptyFrames {
            seen: SEEN,
            ..EmptyFrames::after(skip, "a test")
        }
    }

    #[test]
    fn only_empty_frames_are_dropped_however_the_bytes_are_split() {
        let kept = [
            b"preface".to_vec(),
            frame(4, 0, 0, &empty(1)),
            frame(HEADERS, END_HEADERS, 1, b"ab"),
            frame(DATA, 0, 1, &[0; 20]),
            frame(DATA, PADDED, 1, &[0]),
            frame(DATA, 0, 0, b""),
            frame(DATA, END_STREAM, 1, b""),
            // Within a header block it is an error that the library must see.
            frame(HEADERS, 0, 3, b"a"),
            empty(3),
            frame(CONTINUATION, END_HEADERS, 3, b""),
            b"\0\0".to_vec(),
        ];
        let mut sent = kept[0].clone();
        for (at, part) in kept.iter().enumerate().skip(1) {
            if !matches!(at, 8 | 9) {
                sent.extend(empty(1).repeat(2));
            }
            sent.extend(part);
        }
        for piece in [1, 2, 7, 9, 10, 25, 1000] {
            for room in [1, 3, 9, 64, 1000] {
                let out = through(&mut used(7), &sent, piece, room);
                assert_eq!(out, kept.concat(), "{piece} {room}");
            }
        }
    }

    #[test]
    fn the_first_frames_pass() {
        let mut filter = EmptyFrames::after(0, "a test");
        let out = through(&mut filter, &empty(1).repeat(70), 1000, 1000);
        assert_eq!(out, empty(1).repeat(50));
    }

    #[test]
    fn data_makes_up_for_empty_frames_and_a_flood_reaches_the_library() {
        let exchange = [empty(1).repeat(4), frame(DATA, 0, 1, b"x")].concat();
        let mut filter = used(0);
        let out = through(&mut filter, &exchange.repeat(5000), 4000, 4000);
        assert_eq!(out, frame(DATA, 0, 1, b"x").repeat(5000));
        let out = through(&mut filter, &empty(1).repeat(5000), 4000, 4000);
        assert!(filter.flooded);
        assert!(out.len() >= 3000 * HEAD_BYTES, "{}", out.len());
    }
}
