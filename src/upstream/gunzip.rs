//! gzip decoded piece by piece.

use std::io::Write;

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, HeaderMap};

use super::error::CallError;

/// Output is handed over in pieces of about this size, so that no chunk of input can expand without bound.
const PIECE: usize = 64 * 1024;

/// Whether an answer with these fields is gzipped; the name of a coding has no letter case (RFC 9110 §8.4.1).
pub fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// Decodes a gzip stream as its chunks arrive.
///
/// Put a chunk in with [`Gunzip::push`], take pieces out with [`Gunzip::next_piece`] until there is none, and call
/// [`Gunzip::finish`] after the last chunk. Each piece is bounded; how many there may be is the caller's decision.
#[derive(Debug)]
pub struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    input: Bytes,
    started: bool,
}

impl Default for Gunzip {
    fn default() -> Gunzip {
        Gunzip {
            decoder: MultiGzDecoder::new(Vec::new()),
            input: Bytes::new(),
            started: false,
        }
    }
}

impl Gunzip {
    /// Adds a chunk of input. The last one must have been used up, which [`Gunzip::next_piece`] tells by `None`.
    pub fn push(&mut self, chunk: Bytes) {
        self.started |= !chunk.is_empty();
        self.input = chunk;
    }

    /// The next piece of output, or `None` when more input is needed.
    ///
    /// # Errors
    /// Input that is not gzip.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, CallError> {
        while !self.input.is_empty() && self.decoder.get_ref().len() < PIECE {
            let used = self.decoder.write(&self.input).map_err(invalid)?;
            if used == 0 && self.decoder.get_ref().is_empty() {
                return Err(CallError::framing("gzip: invalid header"));
            }
            self.input.advance(used);
        }
        Ok(self.take())
    }

    /// What is left after the last chunk. An empty input is an empty output, as after HEAD.
    ///
    /// # Errors
    /// A stream that ended before its end, or whose check sum is wrong.
    pub fn finish(&mut self) -> Result<Option<Bytes>, CallError> {
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
    fn a_bomb_comes_out_in_bounded_pieces() {
        let bomb = gzip(&vec![0; 20 << 20]);
        let (all, largest) = decode(&[&bomb]).unwrap();
        assert_eq!(all.len(), 20 << 20);
        assert!(largest <= 4 * PIECE, "{largest}");
    }

    #[test]
    fn a_stream_cut_short_is_an_error() {
        let whole = gzip(b"hello, hello, hello");
        assert!(decode(&[&whole[..whole.len() - 5]]).is_err());
        assert!(decode(&[&whole[..12]]).is_err());
        assert_eq!(decode(&[]).unwrap().0, b"");
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(bytes: Vec<u8>, cut: prop::sample::Index) {
            let whole = gzip(&bytes);
            let (a, b) = whole.split_at(cut.index(whole.len()));
            prop_assert_eq!(decode(&[a, b]).unwrap().0, bytes);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = decode(&[&bytes]);
        }
    }
}
