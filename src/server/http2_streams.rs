//! The open streams of an HTTP/2 connection, counted from the headers of its frames (RFC 9113 §4.1), and the memory that
//! its client can fill.
//!
//! The library that speaks HTTP/2 does not say how many streams there are. A connection without any only keeps a place,
//! like a silent HTTP/1 connection between two requests. It also does not report how many bytes of frames, header
//! blocks and unread bodies it holds. All requests of many connections can be decoded before the first of them is
//! handled, so they are charged here, where their bytes arrive.

mod block;
mod errors;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::upstream::budget::{Budget, Charge, Full, SMALL};
use crate::upstream::http2_frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, HEAD_BYTES, HEADERS, PADDED, PRIORITY,
    RST_STREAM, SETTINGS,
};
use block::Block;

pub(super) use errors::ErrorFrames;

/// The bytes before the first frame of a client (RFC 9113 §3.4).
pub(super) const PREFACE_BYTES: usize = 24;
/// More streams than a client may open. Beyond this number they are not counted.
const MOST: usize = 1000;
/// The limits of the window of a connection: that of one stream (RFC 9113 §6.9.2), and that of several.
const MIN_WINDOW: usize = 65_535;
const MAX_WINDOW: usize = 1 << 20;
/// The share of the budget of memory for one connection.
const WINDOW_SHARE: u64 = 2048;
/// What a header block may take before its end: its frames, and as many decoded headers as a head may have.
const UNFINISHED: usize = 128 * 1024;
/// What a stream takes before its request is handled: its state, and a task.
const STREAM: usize = 24 * 1024;
/// What each of its headers takes: an entry in a map that may have doubled. Measured as 213 bytes.
const FIELD: usize = 208;

/// Which streams are open, and their memory: requested, and neither completed nor reset.
#[derive(Debug)]
pub(super) struct Streams {
    received: Frames,
    sent: Frames,
    open: HashMap<u32, usize>,
    /// The memory of all of them.
    taken: usize,
    /// The header block of a client that is being received, and its stream.
    block: Block,
    stream: u32,
    /// The highest number so far. Trailers of a completed stream do not open it again.
    last: u32,
    /// A header block is incomplete.
    unfinished: bool,
    /// The number of header blocks that are complete, as far as their frames are announced.
    heads: u32,
    /// The client has sent the header of a frame.
    began: bool,
    /// The bytes of bodies since there was no open stream. How many of them were read is unknown.
    bodies: usize,
    /// The maximum of `bodies`.
    window: usize,
    charge: Charge,
    /// For the errors that are sent.
    errors: Option<ErrorFrames>,
}

/// The bytes of bodies that a client may send on one connection before they are read. If the memory allows it, there is
/// room for several streams: behind a proxy they belong to different clients, and one that is not read must not stop
/// the others. The value is computed once per process.
pub(super) fn window() -> usize {
    static WINDOW: OnceLock<usize> = OnceLock::new();
    *WINDOW.get_or_init(|| {
        let share = Budget::process().limit() / WINDOW_SHARE;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        share.clamp(MIN_WINDOW, MAX_WINDOW)
    })
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            received: Frames::after(PREFACE_BYTES),
            sent: Frames::after(0),
            open: HashMap::new(),
            taken: 0,
            block: Block::default(),
            stream: 0,
            last: 0,
            unfinished: false,
            heads: 0,
            began: false,
            bodies: 0,
            window: window(),
            charge: Charge::default(),
            errors: None,
        }
    }
}

impl Streams {
    /// The streams of a new connection, whose errors go to `errors`.
    pub(super) fn new(errors: ErrorFrames) -> Streams {
        Streams {
            errors: Some(errors),
            ..Streams::default()
        }
    }

    /// Whether no request is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The number of the head that the client has not sent completely: that of a request, or the settings of the
    /// connection.
    pub(super) fn incomplete_head(&self) -> Option<u32> {
        let is_cut = self.received.lacks(&[HEADERS, CONTINUATION, SETTINGS]);
        (!self.began || self.unfinished || is_cut).then_some(self.heads)
    }

    /// The client took too long for a head.
    pub(super) fn slow_head(&mut self) {
        if let Some(errors) = &mut self.errors {
            errors.slow_head();
        }
    }

    /// Looks at bytes of the client, in the order in which they came.
    ///
    /// # Errors
    /// The budget of memory has no space for what the client has sent.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let (open, taken) = (&mut self.open, &mut self.taken);
        let (last, unfinished) = (&mut self.last, &mut self.unfinished);
        let (heads, began) = (&mut self.heads, &mut self.began);
        let (block, stream) = (&mut self.block, &mut self.stream);
        let bodies = &mut self.bodies;
        let window = self.window;
        self.received.scan(bytes, |part| {
            let frame = match part {
                Part::Frame(frame) => frame,
                Part::Payload(HEADERS | CONTINUATION, bytes) => {
                    let more = FIELD * block.count(bytes);
                    if let Some(memory) = open.get_mut(&*stream) {
                        *memory += more;
                        *taken += more;
                    }
                    return;
                }
                Part::Payload(..) => return,
            };
            *began = true;
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                *unfinished = frame.flags & END_HEADERS == 0;
                *heads = heads.wrapping_add(u32::from(!*unfinished));
            }
            match frame.kind {
                HEADERS => {
                    let padding = usize::from(frame.flags & PADDED != 0);
                    let priority = if frame.flags & PRIORITY == 0 { 0 } else { 5 };
                    *block = Block::after(padding + priority);
                    *stream = frame.stream;
                    if frame.stream > *last && open.len() < MOST {
                        *last = frame.stream;
                        open.insert(frame.stream, STREAM);
                        *taken += STREAM;
                    }
                }
                DATA => *bodies = bodies.saturating_add(frame.length).min(window),
                RST_STREAM => *taken -= open.remove(&frame.stream).unwrap_or_default(),
                _ => {}
            }
        });
        if self.open.is_empty() {
            self.bodies = 0;
        }
        self.charge.follow(self.held(), SMALL)
    }

    /// The most that the connection may hold of what its client has sent.
    fn held(&self) -> usize {
        let block = if self.unfinished { UNFINISHED } else { 0 };
        self.taken + block + self.bodies.max(self.received.part())
    }

    /// Looks at bytes for the client, in the order in which they are sent.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let (open, taken) = (&mut self.open, &mut self.taken);
        let before = open.len();
        let mut errors = self.errors.as_mut();
        self.sent.scan(bytes, |part| {
            let frame = match part {
                Part::Frame(frame) => frame,
                Part::Payload(_, bytes) => {
                    if let Some(errors) = &mut errors {
                        errors.payload(bytes);
                    }
                    return;
                }
            };
            if let Some(errors) = &mut errors {
                errors.begin(frame);
            }
            let is_end = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
            if is_end || frame.kind == RST_STREAM {
                *taken -= open.remove(&frame.stream).unwrap_or_default();
            }
        });
        if self.open.len() == before {
            return;
        }
        if self.open.is_empty() {
            self.bodies = 0;
        }
        // Less than before, so there is space for it.
        let _ = self.charge.follow(self.held(), SMALL);
    }
}

/// A part of the bytes of one direction.
enum Part<'a> {
    Frame(FrameHead),
    /// Of a frame of this kind.
    Payload(u8, &'a [u8]),
}

/// One direction of a connection.
#[derive(Debug)]
struct Frames {
    /// The bytes before the next header.
    skip: usize,
    /// The kind of the current frame, and the length of its payload.
    kind: u8,
    length: usize,
    /// The header, as far as it has come.
    head: [u8; HEAD_BYTES],
    have: usize,
}

impl Frames {
    fn after(skip: usize) -> Frames {
        Frames {
            skip,
            kind: DATA,
            length: 0,
            head: [0; HEAD_BYTES],
            have: 0,
        }
    }

    /// Whether the payload of a frame of one of these kinds is incomplete.
    fn lacks(&self, kinds: &[u8]) -> bool {
        self.skip > 0 && kinds.contains(&self.kind)
    }

    /// What has come of a frame that is not complete.
    fn part(&self) -> usize {
        match self.skip {
            0 => 0,
            missing => self.length.saturating_sub(missing),
        }
    }

    fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Part<'_>)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let (payload, rest) = bytes.split_at(skipped);
            if !payload.is_empty() {
                found(Part::Payload(self.kind, payload));
            }
            bytes = rest;
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
                let frame = FrameHead::read(self.head);
                self.have = 0;
                self.skip = frame.length;
                self.length = frame.length;
                self.kind = frame.kind;
                found(Part::Frame(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::http2_frame::frame;

    fn client(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frames.concat());
        bytes
    }

    #[test]
    fn a_stream_is_open_from_its_headers_to_the_end_of_its_response() {
        // A payload can look like a frame header.
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
            asked
                .chunks(size)
                .for_each(|part| streams.receive(part).unwrap());
            assert!(!streams.is_idle());
            answer.chunks(size).for_each(|part| streams.send(part));
            assert!(!streams.is_idle());
            let end = frame(DATA, END_STREAM, 1, b"");
            end.chunks(size).for_each(|part| streams.send(part));
            assert!(streams.is_idle());
            // Late trailers do not open a stream.
            streams.receive(&frame(HEADERS, 5, 1, b"")).unwrap();
            assert!(streams.is_idle());
        }
    }

    #[test]
    fn a_reset_from_either_side_ends_a_stream() {
        let mut streams = Streams::default();
        let both = [frame(HEADERS, 5, 1, b""), frame(HEADERS, 5, 3, b"")];
        streams.receive(&client(&both)).unwrap();
        streams.receive(&frame(RST_STREAM, 0, 1, &[0; 4])).unwrap();
        assert!(!streams.is_idle());
        streams.send(&frame(RST_STREAM, 0, 3, &[0; 4]));
        assert!(streams.is_idle());
    }

    #[test]
    fn what_a_client_can_make_the_connection_hold_is_known() {
        let mut streams = Streams {
            window: MIN_WINDOW,
            ..Streams::default()
        };
        let mut held = |bytes: &[u8]| {
            streams.receive(bytes).unwrap();
            streams.held()
        };
        assert_eq!(held(&client(&[])), 0);
        // A header block without its end, and its end.
        // Each header has an index: one byte.
        let mut fields = 100;
        let mut heads = |streams: usize, more: usize| {
            fields += more;
            streams * STREAM + fields * FIELD
        };
        let first = heads(1, 0);
        assert_eq!(
            held(&frame(HEADERS, 0, 1, &[0x82; 100])),
            UNFINISHED + first
        );
        let second = heads(1, 100);
        assert_eq!(
            held(&frame(CONTINUATION, 0, 1, &[0x82; 100])),
            UNFINISHED + second
        );
        let third = heads(1, 100);
        assert_eq!(
            held(&frame(CONTINUATION, END_HEADERS, 1, &[0x82; 100])),
            third
        );
        // A part of a frame.
        let large = frame(HEADERS, END_HEADERS, 3, &[0x82; 9000]);
        assert_eq!(held(&large[..8009]), heads(2, 8000) + 8000);
        let heads = heads(2, 1000);
        assert_eq!(held(&large[8009..]), heads);
        // Bodies, up to the window.
        assert_eq!(held(&frame(DATA, 0, 1, &[0; 10_000])), heads + 10_000);
        for _ in 0..10 {
            held(&frame(DATA, 0, 3, &[0; 10_000]));
        }
        assert_eq!(held(&[]), heads + MIN_WINDOW);
        let one = STREAM + 9000 * FIELD;
        assert_eq!(held(&frame(RST_STREAM, 0, 1, &[0; 4])), one + MIN_WINDOW);
        assert_eq!(held(&frame(RST_STREAM, 0, 3, &[0; 4])), 0);
    }
}
