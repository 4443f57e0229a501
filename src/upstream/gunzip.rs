//! Decodes gzip piece by piece.

use std::io::Write;

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, HeaderMap};

use super::error::CallError;

/// The approximate size of output pieces, so that a chunk of input cannot expand without limit.
const PIECE: usize = 64 * 1024;

/// Whether a response with these headers is gzipped. Names of codings are case-insensitive (RFC 9110 §8.4.1).
pub(crate) fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// Decodes a gzip stream as its chunks arrive.
///
/// Add a chunk with [`Gunzip::push`], take pieces with [`Gunzip::next_piece`] until it returns `None`, and call
/// [`Gunzip::finish`] after the last chunk. Each piece is limited in size. The caller limits their number.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    input: Bytes,
    started: bool,
    /// Whether the decoder may hold output of the input so far.
    holds: bool,
}

impl Default for Gunzip {
    fn default() -> Gunzip {
        Gunzip {
            decoder: MultiGzDecoder::new(Vec::new()),
            input: Bytes::new(),
            started: false,
            holds: false,
        }
    }
}

impl Gunzip {
    /// Adds a chunk of input. [`Gunzip::next_piece`] must have returned `None` for the last one.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.started |= !chunk.is_empty();
        self.input = chunk;
    }

    /// The next piece of output, or `None` if more input is needed. All output of the input is given out: a stream may
    /// be silent after this chunk.
    ///
    /// # Errors
    /// The input is not gzip.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, CallError> {
        while !self.input.is_empty() && self.decoder.get_ref().len() < PIECE {
            let used = self.decoder.write(&self.input).map_err(invalid)?;
            if used == 0 && self.decoder.get_ref().is_empty() {
                return Err(CallError::framing("gzip: invalid header"));
            }
            self.input.advance(used);
            self.holds = true;
        }
        if self.input.is_empty() && std::mem::take(&mut self.holds) {
            self.decoder.flush().map_err(invalid)?;
        }
        Ok(self.take())
    }

    /// The output that remains after the last chunk. Empty input gives empty output, as after HEAD.
    ///
    /// # Errors
    /// The stream ended early, or its checksum is wrong.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, CallError> {
        if self.started {
            self.decoder.try_finish().map_err(invalid)?;
        }
        Ok(self.take())
    }

    fn take(&mut self) -> Option<Bytes> {
        let piece = std::mem::take(self.decoder.get_mut());
        (!piece.is_empty()).then(|| piece.into())
    }
}

fn invalid(error: std::io::Error) -> CallError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => CallError::truncated(),
        _ => CallError::framing("gzip: invalid data"),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(chunks: &[&[u8]]) -> Result<(Vec<u8>, usize), CallError> {
        let mut gunzip = Gunzip::default();
        let (mut all, mut largest) = (Vec::new(), 0);
        for chunk in chunks {
            gunzip.push(Bytes::copy_from_slice(chunk));
            while let Some(piece) = gunzip.next_piece()? {
                largest = largest.max(piece.len());
                all.extend_from_slice(&piece);
            }
        }
        if let Some(piece) = gunzip.finish()? {
            all.extend_from_slice(&piece);
        }
        Ok((all, largest))
    }

    #[test]
    fn a_gzip_bomb_is_decoded_in_limited_pieces() {
        let bomb = gzip(&vec![0; 20 << 20]);
        let (all, largest) = decode(&[&bomb]).unwrap();
        assert_eq!(all.len(), 20 << 20);
        assert!(largest <= 4 * PIECE, "{largest}");
    }

    #[test]
    fn a_piece_is_decoded_before_the_next_one_comes() {
        let large: String = (0..20_000).map(|n| n.to_string()).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut gunzip = Gunzip::default();
        for piece in ["data: one\n\n", "data: two\n\n", &large, "data: four\n\n"] {
            encoder.write_all(piece.as_bytes()).unwrap();
            encoder.flush().unwrap();
            gunzip.push(std::mem::take(encoder.get_mut()).into());
            let mut all = Vec::new();
            while let Some(piece) = gunzip.next_piece().unwrap() {
                all.extend_from_slice(&piece);
            }
            assert_eq!(String::from_utf8(all).unwrap(), piece);
        }
        gunzip.push(encoder.finish().unwrap().into());
        assert_eq!(gunzip.next_piece().unwrap(), None);
        assert_eq!(gunzip.finish().unwrap(), None);
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let whole = gzip(b"hello, hello, hello");
        assert!(decode(&[&whole[..whole.len() - 5]]).is_err());
        assert!(decode(&[&whole[..12]]).is_err());
        assert_eq!(decode(&[]).unwrap().0, b"");
    }

    /// A gzip body is a series of members (RFC 1952 §2.2). Anything else behind a member is an error, as in Go.
    #[test]
    fn gzip_members_are_joined_and_any_other_data_after_one_is_an_error() {
        let (one, two) = (gzip(b"hello, "), gzip(b"world"));
        let both = [&one[..], &two].concat();
        assert_eq!(decode(&[&both]).unwrap().0, b"hello, world");
        for cut in 0..both.len() {
            let pieces = decode(&[&both[..cut], &both[cut..]]);
            assert_eq!(pieces.unwrap().0, b"hello, world", "{cut}");
            let is_whole = cut == 0 || cut == one.len();
            assert_eq!(decode(&[&both[..cut]]).is_ok(), is_whole, "{cut}");
        }
        for surplus in [
            &b"\0"[..],
            &[0; 512],
            b"x",
            b"{}",
            b"\x1f",
            b"\x1f\x8b",
            b"\x1f\x8b\x07",
            b"garbage garbage",
        ] {
            let joined = [&one[..], surplus].concat();
            assert!(decode(&[&joined]).is_err(), "{surplus:?}");
            assert!(
                decode(&[&one, surplus]).is_err(),
                "{surplus:?} in a chunk of its own"
            );
        }
        for (at, name) in [(one.len() - 8, "checksum"), (one.len() - 4, "length")] {
            let mut wrong = both.clone();
            wrong[at] ^= 1;
            assert!(decode(&[&wrong]).is_err(), "wrong {name}");
        }
    }

    proptest! {
        #[test]
        fn compressed_data_is_restored(bytes: Vec<u8>, cut: prop::sample::Index) {
            let whole = gzip(&bytes);
            let (a, b) = whole.split_at(cut.index(whole.len()));
            prop_assert_eq!(decode(&[a, b]).unwrap().0, bytes);
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_rejected(bytes: Vec<u8>) {
            let _ = decode(&[&bytes]);
        }
    }
}
