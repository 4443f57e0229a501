//! The open streams of an HTTP/2 connection, counted from the headers of its frames (RFC 9113 §4.1).
//!
//! The library that speaks HTTP/2 does not say how many there are. A connection without any only keeps a place, like a
//! silent HTTP/1 connection between two requests.

use std::collections::HashSet;

/// The bytes before the first frame of a client (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// More streams than a client may open. Beyond this number they are not counted.
const MOST: usize = 1000;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Which streams are open: requested, and neither completed nor reset.
#[derive(Debug)]
pub(super) struct Streams {
    received: Frames,
    sent: Frames,
    open: HashSet<u32>,
    /// The highest number so far. Trailers of a completed stream do not open it again.
    last: u32,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            received: Frames::after(PREFACE_BYTES),
            sent: Frames::after(0),
            open: HashSet::new(),
            last: 0,
        }
    }
}

impl Streams {
    /// Whether no request is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Looks at bytes of the client, in the order in which they came.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let (open, last) = (&mut self.open, &mut self.last);
        self.received.scan(bytes, |frame| match frame.kind {
            HEADERS if frame.stream > *last && open.len() < MOST => {
                *last = frame.stream;
                open.insert(frame.stream);
            }
            RST_STREAM => {
                open.remove(&frame.stream);
            }
            _ => {}
        });
    }

    /// Looks at bytes for the client, in the order in which they are sent.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let open = &mut self.open;
        self.sent.scan(bytes, |frame| {
            let is_end = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
            if is_end || frame.kind == RST_STREAM {
                open.remove(&frame.stream);
            }
        });
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// One direction of a connection.
#[derive(Debug)]
struct Frames {
    /// The bytes before the next header.
    skip: usize,
    /// The header, as far as it has come.
    head: [u8; HEAD_BYTES],
    have: usize,
}

impl Frames {
    fn after(skip: usize) -> Frames {
        Frames {
            skip,
            head: [0; HEAD_BYTES],
            have: 0,
        }
    }

    fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let take = (HEAD_BYTES - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            if let Some(space) = self.head.get_mut(self.have..self.have + take) {
                space.copy_from_slice(head);
            }
            self.have += take;
            bytes = rest;
            if self.have == HEAD_BYTES {
                let [a, b, c, kind, flags, d, e, f, g] = self.head;
                self.have = 0;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
                found(Frame {
                    kind,
                    flags,
                    stream,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn client(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frames.concat());
        bytes
    }

    #[test]
    fn a_stream_is_open_from_its_headers_to_the_end_of_its_response() {
        // A payload that looks like a header is none.
        let settings = frame(4, 0, 0, &frame(HEADERS, 0, 9, &[]));
        let asked = client(&[
            settings,
            frame(HEADERS, 4, 1, b"abc"),
            frame(DATA, 1, 1, b"xyz"),
        ]);
        let answer = [frame(HEADERS, 4, 1, b"ab"), frame(DATA, 0, 1, b"x")].concat();
        // However the bytes are split.
        for size in [1, 2, 7, 100] {
            let mut streams = Streams::default();
            assert!(streams.is_idle());
            asked.chunks(size).for_each(|part| streams.receive(part));
            assert!(!streams.is_idle());
            answer.chunks(size).for_each(|part| streams.send(part));
            assert!(!streams.is_idle());
            let end = frame(DATA, END_STREAM, 1, b"");
            end.chunks(size).for_each(|part| streams.send(part));
            assert!(streams.is_idle());
            // Trailers that come late open nothing.
            streams.receive(&frame(HEADERS, 5, 1, b""));
            assert!(streams.is_idle());
        }
    }

    #[test]
    fn a_reset_from_either_side_ends_a_stream() {
        let mut streams = Streams::default();
        streams.receive(&client(&[
            frame(HEADERS, 5, 1, b""),
            frame(HEADERS, 5, 3, b""),
        ]));
        streams.receive(&frame(RST_STREAM, 0, 1, &[0; 4]));
        assert!(!streams.is_idle());
        streams.send(&frame(RST_STREAM, 0, 3, &[0; 4]));
        assert!(streams.is_idle());
    }
}
