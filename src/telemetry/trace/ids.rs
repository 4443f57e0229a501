//! The ids of traces and spans.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// The id of a trace: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// A new id.
    pub fn random() -> TraceId {
        let mut bytes = [0; 16];
        let (high, low) = bytes.split_at_mut(8);
        high.copy_from_slice(&next().to_be_bytes());
        low.copy_from_slice(&next().to_be_bytes());
        TraceId(bytes)
    }

    /// Parses lower-case hexadecimal digits. `None` for zero.
    pub fn parse(text: &[u8]) -> Option<TraceId> {
        let id = TraceId(unhex(text)?);
        (id.0 != [0; 16]).then_some(id)
    }

    /// The part that samplers use: the last 8 bytes, shifted right by 1.
    pub fn chance(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1
    }
}

impl SpanId {
    /// A new id.
    pub fn random() -> SpanId {
        SpanId(next().to_be_bytes())
    }

    /// Parses lower-case hexadecimal digits. `None` for zero.
    pub fn parse(text: &[u8]) -> Option<SpanId> {
        let id = SpanId(unhex(text)?);
        (id.0 != [0; 8]).then_some(id)
    }
}

/// Exactly `N` bytes in lower-case hexadecimal digits. The crate `hex` would also accept capitals, which W3C Trace Context
/// forbids.
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

thread_local! {
    /// The state of the generator, seeded with the system's random keys.
    static STATE: Cell<[u64; 2]> = Cell::new([seed(), seed()]);
}

fn seed() -> u64 {
    RandomState::new().hash_one("trace") | 1
}

/// xoroshiro128+: ids must be distinct, but need not be unpredictable. Never zero.
fn next() -> u64 {
    STATE.with(|state| {
        let [a, b] = state.get();
        let sum = a.wrapping_add(b);
        let mixed = a ^ b;
        state.set([
            a.rotate_left(24) ^ mixed ^ (mixed << 16),
            mixed.rotate_left(37),
        ]);
        sum.max(1)
    })
}

/// The two hexadecimal digits of each byte.
const DIGITS: [[u8; 2]; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        digits[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    digits
};

/// Writes the digits of `bytes` into `out`, which has twice the length. The crate `hex` looks each digit up alone; each
/// request with telemetry writes 24 bytes.
pub(super) fn push_hex(bytes: &[u8], out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair.copy_from_slice(&DIGITS[usize::from(*byte)]);
    }
}

/// Writes the digits at once: each request with telemetry does it several times.
fn write_hex<const DIGITS: usize>(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut digits = [0; DIGITS];
    push_hex(bytes, &mut digits);
    f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex::<32>(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex::<16>(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_distinct_and_parse_back() {
        let made: HashSet<SpanId> = (0..10_000).map(|_| SpanId::random()).collect();
        assert_eq!(made.len(), 10_000);
        let id = TraceId::random();
        assert_eq!(TraceId::parse(id.to_string().as_bytes()), Some(id));
    }

    #[test]
    fn invalid_ids_are_rejected() {
        for text in [
            "",
            "0",
            "0000000000000000",
            "00f067aa0ba902B7",
            "00f067aa0ba902b7 ",
        ] {
            assert_eq!(SpanId::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
