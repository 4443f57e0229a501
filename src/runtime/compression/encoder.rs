//! The encoders.
//!
//! They push, so that each piece of a stream can be flushed as it comes. `async-compression` wraps the same crates but
//! pulls, and flushes only when its whole input is pending.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use super::{Coding, Setting};
use crate::runtime::heavy::aside_whole;

/// The window of the encoders, as a power of two: it bounds the memory that one response takes.
const WINDOW: u32 = 18;
/// The buffer between Brotli's encoder and its output.
const BUFFER: usize = 16 * 1024;

/// An encoder of one body.
pub(crate) enum Encoder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Encoder::Gzip(_) => "Gzip",
            Encoder::Brotli(_) => "Brotli",
            Encoder::Zstd(_) => "Zstd",
        })
    }
}

impl Encoder {
    /// # Errors
    /// Zstandard has no memory for its state.
    pub(crate) fn new(setting: Setting) -> io::Result<Encoder> {
        let level = setting.level;
        Ok(match setting.coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER, level, WINDOW);
                Encoder::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or_default();
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(WINDOW)?;
                Encoder::Zstd(Box::new(encoder))
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Gzip(writer) => &mut **writer,
            Encoder::Brotli(writer) => &mut **writer,
            Encoder::Zstd(writer) => &mut **writer,
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
        let out = match self {
            Encoder::Gzip(writer) => writer.get_mut(),
            Encoder::Brotli(writer) => writer.get_mut(),
            Encoder::Zstd(writer) => writer.get_mut(),
        };
        Ok(std::mem::take(out).into())
    }

    /// What remains, and the end.
    ///
    /// # Errors
    /// The encoder failed.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        let rest = match self {
            Encoder::Gzip(writer) => writer.finish()?,
            // `into_inner` writes the end of the stream.
            Encoder::Brotli(writer) => writer.into_inner(),
            Encoder::Zstd(writer) => writer.finish()?,
        };
        Ok(rest.into())
    }
}

/// A whole body, encoded.
///
/// # Errors
/// The encoder failed.
pub(crate) fn encode(setting: Setting, body: &[u8]) -> io::Result<Bytes> {
    aside_whole(body.len(), || {
        let mut encoder = Encoder::new(setting)?;
        encoder.writer().write_all(body)?;
        encoder.finish()
    })
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
            let mut encoder = Encoder::new(Setting { coding, level: 4 }).unwrap();
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn encoding_and_decoding_returns_the_same_value(
            pieces: Vec<Vec<u8>>, which in 0_usize..3, level in 1_u32..8
        ) {
            let setting = Setting { coding: ALL[which], level };
            let mut encoder = Encoder::new(setting).unwrap();
            let mut sent = Vec::new();
            for piece in &pieces {
                sent.extend_from_slice(&encoder.push(piece).unwrap());
            }
            sent.extend_from_slice(&encoder.finish().unwrap());
            let plain = pieces.concat();
            prop_assert_eq!(decoded(setting.coding, &sent), plain.clone());
            let whole = encode(setting, &plain).unwrap();
            prop_assert_eq!(decoded(setting.coding, &whole), plain);
        }
    }
}
