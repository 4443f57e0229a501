//! The header of an HTTP/2 frame (RFC 9113 §4.1), for code that watches a connection of the HTTP/2 library.

pub(crate) const HEAD_BYTES: usize = 9;

// The kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

// Their flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITY: u8 = 0x20;

/// What the header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHead {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    /// The length of the payload.
    pub(crate) length: usize,
}

impl FrameHead {
    pub(crate) fn read(head: [u8; HEAD_BYTES]) -> FrameHead {
        let [a, b, c, kind, flags, d, e, f, g] = head;
        FrameHead {
            kind,
            flags,
            // The highest bit is reserved.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
            length: u32::from_be_bytes([0, a, b, c]) as usize,
        }
    }
}

/// The bytes of a frame.
#[cfg(test)]
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
