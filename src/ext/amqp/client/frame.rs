//! Frames of AMQP 0-9-1 (section 4.2.3), and the methods in them.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncRead;
use tokio::time::timeout;

use crate::ext::broker::Input;

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;
/// The bytes around the payload of a frame: its type, channel and size, and its end.
pub(super) const AROUND: usize = 8;
const HEAD: usize = 7;
/// How much is read at once at least.
const READ: usize = 8 << 10;

/// The class and the number of a method.
pub(super) type Method = (u16, u16);

pub(super) mod methods {
    use super::Method;

    pub(in super::super) const START: Method = (10, 10);
    pub(in super::super) const START_OK: Method = (10, 11);
    pub(in super::super) const SECURE: Method = (10, 20);
    pub(in super::super) const TUNE: Method = (10, 30);
    pub(in super::super) const TUNE_OK: Method = (10, 31);
    pub(in super::super) const OPEN: Method = (10, 40);
    pub(in super::super) const OPEN_OK: Method = (10, 41);
    pub(in super::super) const CLOSE: Method = (10, 50);
    pub(in super::super) const CLOSE_OK: Method = (10, 51);
    pub(in super::super) const BLOCKED: Method = (10, 60);
    pub(in super::super) const UNBLOCKED: Method = (10, 61);
    pub(in super::super) const CHANNEL_OPEN: Method = (20, 10);
    pub(in super::super) const CHANNEL_OPEN_OK: Method = (20, 11);
    pub(in super::super) const FLOW: Method = (20, 20);
    pub(in super::super) const FLOW_OK: Method = (20, 21);
    pub(in super::super) const CHANNEL_CLOSE: Method = (20, 40);
    pub(in super::super) const CHANNEL_CLOSE_OK: Method = (20, 41);
    pub(in super::super) const EXCHANGE_DECLARE: Method = (40, 10);
    pub(in super::super) const EXCHANGE_DECLARE_OK: Method = (40, 11);
    pub(in super::super) const QUEUE_DECLARE: Method = (50, 10);
    pub(in super::super) const QUEUE_DECLARE_OK: Method = (50, 11);
    pub(in super::super) const QUEUE_BIND: Method = (50, 20);
    pub(in super::super) const QUEUE_BIND_OK: Method = (50, 21);
    pub(in super::super) const QOS: Method = (60, 10);
    pub(in super::super) const QOS_OK: Method = (60, 11);
    pub(in super::super) const CONSUME: Method = (60, 20);
    pub(in super::super) const CONSUME_OK: Method = (60, 21);
    pub(in super::super) const CANCEL: Method = (60, 30);
    pub(in super::super) const CANCEL_OK: Method = (60, 31);
    pub(in super::super) const PUBLISH: Method = (60, 40);
    pub(in super::super) const RETURN: Method = (60, 50);
    pub(in super::super) const DELIVER: Method = (60, 60);
    pub(in super::super) const ACK: Method = (60, 80);
    pub(in super::super) const NACK: Method = (60, 120);
    pub(in super::super) const CONFIRM_SELECT: Method = (85, 10);
    pub(in super::super) const CONFIRM_SELECT_OK: Method = (85, 11);
}

/// A frame that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) channel: u16,
    /// A part of the buffer of the connection. What is kept of it must be copied.
    pub(super) payload: Bytes,
}

/// Reads frames from a stream.
pub(super) struct Reader<S> {
    input: Input<S>,
    /// The most bytes of a frame, with those around its payload.
    pub(super) most: usize,
    /// How long the broker may send nothing.
    pub(super) read_timeout: Duration,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S, most: usize, read_timeout: Duration) -> Reader<S> {
        Reader {
            input: Input::new(stream),
            most,
            read_timeout,
        }
    }

    /// The stream, for writing.
    pub(super) fn stream(&mut self) -> &mut S {
        self.input.stream()
    }

    /// Divides the stream into a half that is read and one that is written.
    pub(super) fn split<R, W>(self, divide: impl FnOnce(S) -> (R, W)) -> (Reader<R>, W) {
        let (input, write) = self.input.split(divide);
        let reader = Reader {
            input,
            most: self.most,
            read_timeout: self.read_timeout,
        };
        (reader, write)
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection is closed or silent, or the broker does not speak the protocol.
    pub(super) async fn next(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(frame);
            }
            let read = timeout(self.read_timeout, self.input.read(READ, "the broker"));
            read.await
                .map_err(|_| "the broker does not answer".to_owned())??;
        }
    }

    /// A frame that is in the buffer as a whole.
    fn frame(&mut self) -> Result<Option<Frame>, String> {
        let buffer = &mut self.input.buffer;
        let Some(([kind, a, b, sizes @ ..], _)) = buffer.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let (kind, channel) = (*kind, u16::from_be_bytes([*a, *b]));
        let size = usize::try_from(u32::from_be_bytes(*sizes)).unwrap_or(usize::MAX);
        if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
            return Err("the broker does not speak AMQP 0-9-1".to_owned());
        }
        if size > self.most.saturating_sub(AROUND) {
            return Err(format!(
                "the broker has sent a frame of {size} bytes, more than agreed"
            ));
        }
        if buffer.len() < size + AROUND {
            return Ok(None);
        }
        buffer.advance(HEAD);
        let payload = buffer.split_to(size).freeze();
        if buffer.first() != Some(&END) {
            return Err("the broker has sent a frame without its end".to_owned());
        }
        buffer.advance(1);
        Ok(Some(Frame {
            kind,
            channel,
            payload,
        }))
    }
}

/// A frame with what `fill` writes.
pub(super) fn frame(kind: u8, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = Vec::with_capacity(64);
    fill(&mut payload);
    let mut out = Vec::with_capacity(payload.len() + AROUND);
    out.extend(head(kind, channel, payload.len()));
    out.extend_from_slice(&payload);
    out.push(END);
    out
}

/// A frame with a method and the arguments that `fill` writes.
pub(super) fn method(
    channel: u16,
    (class, number): Method,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    frame(METHOD, channel, |out| {
        out.extend(class.to_be_bytes());
        out.extend(number.to_be_bytes());
        fill(out);
    })
}

/// What is before a payload. What is after it is [`TAIL`].
pub(super) fn head(kind: u8, channel: u16, payload: usize) -> [u8; HEAD] {
    let [a, b] = channel.to_be_bytes();
    let [w, x, y, z] = u32::try_from(payload).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, w, x, y, z]
}

pub(super) const TAIL: [u8; 1] = [END];

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// The frames of these bytes, which arrive in pieces of `step`.
    async fn frames(bytes: &[u8], step: usize) -> (Vec<Frame>, String) {
        let (mut far, near) = tokio::io::duplex(step);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            let _ = far.write_all(&bytes).await;
        });
        let mut reader = Reader::new(near, 4096, Duration::from_secs(60));
        let mut frames = Vec::new();
        loop {
            match reader.next().await {
                Ok(frame) => frames.push(frame),
                Err(why) => return (frames, why),
            }
        }
    }

    #[tokio::test]
    async fn frames_are_read_in_pieces_of_any_size() {
        let mut bytes = method(7, (20, 10), |out| out.push(0));
        bytes.extend(frame(HEARTBEAT, 0, |_| {}));
        bytes.extend(frame(BODY, 7, |out| out.extend([b'x'; 4088])));
        for step in [1, 9, 10_000] {
            let (read, why) = frames(&bytes, step).await;
            assert_eq!(why, "the broker closed the connection");
            let seen: Vec<_> = read
                .iter()
                .map(|frame| (frame.kind, frame.channel, frame.payload.len()))
                .collect();
            assert_eq!(seen, [(METHOD, 7, 5), (HEARTBEAT, 0, 0), (BODY, 7, 4088)]);
            assert_eq!(&read[0].payload[..], b"\x00\x14\x00\x0a\x00");
        }
    }

    #[tokio::test]
    async fn what_is_no_protocol_ends_the_connection() {
        for (bytes, words) in [
            (&b"AMQP\x00\x00\x08\x00"[..], "does not speak"),
            (b"HTTP/1.1 400", "does not speak"),
            (b"\x01\x00\x00\xff\xff\xff\xff", "more than agreed"),
            (b"\x03\x00\x00\x00\x00\x0f\xf9", "more than agreed"),
            (b"\x01\x00\x00\x00\x00\x00\x01xy", "without its end"),
            (
                b"\x01\x00\x00\x00\x00\x00\x01x",
                "the broker closed the connection",
            ),
        ] {
            let (read, why) = frames(bytes, 1000).await;
            assert!(read.is_empty() && why.contains(words), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_broker_is_noticed() {
        let (_far, near) = tokio::io::duplex(10);
        let mut reader = Reader::new(near, 4096, Duration::from_secs(60));
        let why = reader.next().await.unwrap_err();
        assert_eq!(why, "the broker does not answer");
    }
}
