//! The encoders.
//!
//! They push, so that each piece of a stream can be flushed as it comes. `async-compression` wraps the same crates but
//! pulls, and flushes only when its whole input is pending.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use super::{Coding, Setting};
use crate::runtime::heavy::aside_whole;
use crate::upstream::budget::{Charge, charged};
use crate::upstream::large_buffer::{LARGE, LargeBuffer};

/// The window of the encoders, as a power of two: it bounds the memory that one response takes.
const WINDOW: u32 = 18;
/// The buffer between Brotli's encoder and its output.
const BUFFER: usize = 16 * 1024;

/// An encoder of one body.
#[derive(Debug)]
pub(crate) struct Encoder {
    kind: Kind,
    /// For the memory of its state.
    _held: Charge,
}

enum Kind {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Gzip(_) => "Gzip",
            Kind::Brotli(_) => "Brotli",
            Kind::Zstd(_) => "Zstd",
        })
    }
}

impl Encoder {
    /// # Errors
    /// Zstandard has no memory for its state.
    pub(crate) fn new(setting: Setting, held: Charge) -> io::Result<Encoder> {
        let kind = Encoder::kind(setting)?;
        Ok(Encoder { kind, _held: held })
    }

    /// The charge for the state of an encoder, which lasts as long as a response streams. `None`: requests need the
    /// memory, so the response is not compressed.
    pub(crate) fn charge(setting: Setting) -> Option<Charge> {
        let mut charge = Charge::default();
        charge.reserve(state_bytes(setting)).then_some(charge)
    }

    fn kind(setting: Setting) -> io::Result<Kind> {
        let level = setting.level;
        Ok(match setting.coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Kind::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER, level, WINDOW);
                Kind::Brotli(Box::new(writer))
            }
            Coding::Zstd => Kind::Zstd(Box::new(zstd_writer(Vec::new(), level)?)),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.kind {
            Kind::Gzip(writer) => &mut **writer,
            Kind::Brotli(writer) => &mut **writer,
            Kind::Zstd(writer) => &mut **writer,
        }
    }

    /// Encodes a piece, and gives all of it out: the client can decode it at once.
    ///
    /// # Errors
    /// The encoder failed.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        aside_whole(piece.len(), || {
            let writer = self.writer();
            writer.write_all(piece)?;
            writer.flush()
        })?;
        let out = match &mut self.kind {
            Kind::Gzip(writer) => writer.get_mut(),
            Kind::Brotli(writer) => writer.get_mut(),
            Kind::Zstd(writer) => writer.get_mut(),
        };
        Ok(std::mem::take(out).into())
    }

    /// What remains, and the end.
    ///
    /// # Errors
    /// The encoder failed.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        let rest = match self.kind {
            Kind::Gzip(writer) => writer.finish()?,
            // `into_inner` writes the end of the stream.
            Kind::Brotli(writer) => writer.into_inner(),
            Kind::Zstd(writer) => writer.finish()?,
        };
        Ok(rest.into())
    }
}

/// The memory of an encoder's state in bytes, measured with text.
fn state_bytes(setting: Setting) -> usize {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    match (setting.coding, setting.level) {
        (Coding::Gzip, _) => 768 * KIB,
        (Coding::Brotli, ..=4) => 3 * MIB,
        (Coding::Brotli, 5) => 5 * MIB,
        (Coding::Brotli, 6) => 7 * MIB,
        (Coding::Brotli, 7) => 13 * MIB,
        (Coding::Brotli, 8) => 20 * MIB,
        (Coding::Brotli, 9) => 36 * MIB,
        (Coding::Brotli, _) => 8 * MIB,
        (Coding::Zstd, ..=3) => 2 * MIB,
        (Coding::Zstd, ..=9) => 12 * MIB,
        (Coding::Zstd, ..=15) => 32 * MIB,
        (Coding::Zstd, _) => 96 * MIB,
    }
}

/// A whole body, encoded. `None`: it would not be smaller, or requests need the memory.
///
/// # Errors
/// The encoder failed.
pub(crate) fn encode(setting: Setting, body: &[u8]) -> io::Result<Option<Bytes>> {
    let mut held = Charge::default();
    if !held.try_more(state_bytes(setting) + body.len()) {
        return Ok(None);
    }
    if body.len() < LARGE {
        let text = Shorter::than(body.len(), Vec::new());
        let text = encode_to(text, setting, body)?;
        return Ok(text.map(|text| charged(Bytes::from(text))));
    }
    let text = Shorter::than(body.len(), LargeBuffer::new(body.len()));
    let text = aside_whole(body.len(), || encode_to(text, setting, body))?;
    Ok(text.map(|text| held.settle_large(text)))
}

fn encode_to<W: Write>(out: Shorter<W>, setting: Setting, body: &[u8]) -> io::Result<Option<W>> {
    let written = match setting.coding {
        Coding::Gzip => {
            let mut writer = GzEncoder::new(out, flate2::Compression::new(setting.level));
            writer.write_all(body).and_then(|()| writer.try_finish())?;
            writer.finish()?
        }
        Coding::Brotli => {
            let mut writer = brotli::CompressorWriter::new(out, BUFFER, setting.level, WINDOW);
            writer.write_all(body)?;
            // This writes the end of the stream.
            writer.into_inner()
        }
        Coding::Zstd => {
            let mut writer = zstd_writer(out, setting.level)?;
            writer.write_all(body)?;
            writer.finish()?
        }
    };
    Ok((written.left > 0).then_some(written.out))
}

fn zstd_writer<W: Write>(
    out: W,
    level: u32,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let level = i32::try_from(level).unwrap_or_default();
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.window_log(WINDOW)?;
    Ok(encoder)
}

/// Takes fewer bytes than the plain body has, and discards the rest: such a text is not used.
struct Shorter<W> {
    out: W,
    /// 0 if the text became too long.
    left: usize,
}

impl<W> Shorter<W> {
    fn than(length: usize, out: W) -> Shorter<W> {
        Shorter { out, left: length }
    }
}

impl<W: Write> Write for Shorter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.saturating_sub(bytes.len());
        if self.left > 0 {
            self.out.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    /// What can be decoded of an unfinished stream.
    fn begun(coding: Coding, bytes: &[u8], length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_exact(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_exact(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_exact(&mut out),
        }
        .unwrap();
        out
    }

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    #[test]
    fn a_piece_can_be_decoded_before_the_next_one_comes() {
        for coding in ALL {
            let mut encoder =
                Encoder::new(Setting { coding, level: 4 }, Charge::default()).unwrap();
            let mut sent = Vec::new();
            let mut plain = Vec::new();
            for piece in ["one", "two, a little longer", "three"] {
                sent.extend_from_slice(&encoder.push(piece.as_bytes()).unwrap());
                plain.extend_from_slice(piece.as_bytes());
                assert_eq!(begun(coding, &sent, plain.len()), plain, "{coding:?}");
            }
            sent.extend_from_slice(&encoder.finish().unwrap());
            assert_eq!(decoded(coding, &sent), plain, "{coding:?}");
        }
    }

    #[test]
    fn a_whole_body_is_encoded_if_that_makes_it_shorter() {
        let text: String = (0..60_000).map(|n| n.to_string()).collect();
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .take(300_000)
        .collect();
        for coding in ALL {
            let setting = Setting { coding, level: 4 };
            for body in [&text.as_bytes()[..3000], text.as_bytes()] {
                let whole = encode(setting, body).unwrap().unwrap();
                assert_eq!(decoded(coding, &whole), body, "{coding:?}");
            }
            for body in [&noise[..], &noise[..100], b"x", b""] {
                let whole = encode(setting, body).unwrap();
                assert!(whole.is_none(), "{coding:?} {}", body.len());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn encoding_and_decoding_returns_the_same_value(
            pieces: Vec<Vec<u8>>, which in 0_usize..3, level in 1_u32..8
        ) {
            let setting = Setting { coding: ALL[which], level };
            let mut encoder = Encoder::new(setting, Charge::default()).unwrap();
            let mut sent = Vec::new();
            for piece in &pieces {
                sent.extend_from_slice(&encoder.push(piece).unwrap());
            }
            sent.extend_from_slice(&encoder.finish().unwrap());
            let plain = pieces.concat();
            prop_assert_eq!(decoded(setting.coding, &sent), plain.clone());
            if let Some(whole) = encode(setting, &plain).unwrap() {
                prop_assert!(whole.len() < plain.len());
                prop_assert_eq!(decoded(setting.coding, &whole), plain);
            }
        }
    }
}
