//! A client's body as it is read: counted, and decoded where the configuration says so.

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::request::Notes;
use crate::runtime::service::Payload;
use crate::server::body::too_large;
use crate::upstream::Gunzip;
use crate::upstream::Piece;
use crate::upstream::collect::{Collector, Overflow};

/// A decoded body up to this size may be larger than its coded form by any factor.
const FREE: u64 = 1 << 20;
/// The maximum ratio of decoded to coded size above that.
const RATIO: u64 = 100;

/// What is known of a body that is being streamed.
#[derive(Debug, Default)]
pub(super) struct StreamedBody {
    most: Option<u64>,
    /// Bytes that were handed on.
    read: u64,
    decoding: Option<Box<Decoding>>,
}

#[derive(Debug, Default)]
struct Decoding {
    gunzip: Gunzip,
    /// Coded bytes.
    came: u64,
    /// The last coded piece is here.
    last: bool,
    done: bool,
}

impl StreamedBody {
    /// `is_coded`: see [`decode`].
    pub(super) fn new(payload: &Payload, is_coded: bool) -> StreamedBody {
        StreamedBody {
            most: payload.most,
            read: 0,
            decoding: is_coded.then(Box::default),
        }
    }

    /// Whether the body is decoded.
    pub(super) fn is_coded(&self) -> bool {
        self.decoding.is_some()
    }

    /// Takes a piece from the wire and returns the data that may be passed on. `None` if more input is needed.
    ///
    /// # Errors
    /// The body is too large, or is not coded as it says.
    pub(super) fn take(&mut self, bytes: Bytes, last: bool) -> Result<Option<Piece>, Failure> {
        let Some(decoding) = &mut self.decoding else {
            self.count(bytes.len())?;
            return Ok(Some(Piece { bytes, last }));
        };
        if decoding.done {
            return Ok(Some(Piece { bytes, last }));
        }
        decoding.came += bytes.len() as u64;
        decoding.last = last;
        decoding.gunzip.push(bytes);
        self.left()
    }

    /// The remaining decoded data. `None` if more input is needed.
    ///
    /// # Errors
    /// As [`StreamedBody::take`].
    pub(super) fn left(&mut self) -> Result<Option<Piece>, Failure> {
        let Some(decoding) = &mut self.decoding else {
            return Ok(None);
        };
        if decoding.done {
            return Ok(None);
        }
        let piece = match decoding.gunzip.next_piece().map_err(malformed)? {
            Some(bytes) => Piece { bytes, last: false },
            None if decoding.last => {
                decoding.done = true;
                let rest = decoding.gunzip.finish().map_err(malformed)?;
                let bytes = rest.unwrap_or_default();
                Piece { bytes, last: true }
            }
            None => return Ok(None),
        };
        let came = decoding.came;
        self.count(piece.bytes.len())?;
        check_ratio(came, self.read)?;
        Ok(Some(piece))
    }

    fn count(&mut self, bytes: usize) -> Result<(), Failure> {
        self.read += bytes as u64;
        match self.most {
            Some(most) if self.read > most => Err(too_large()),
            _ => Ok(()),
        }
    }
}

/// Decodes a body that was read whole, to at most `most` bytes.
///
/// # Errors
/// As [`StreamedBody::take`], or there is no memory for it.
pub(super) fn decoded(body: &Bytes, most: u64) -> Result<Bytes, Failure> {
    let came = body.len() as u64;
    let mut gunzip = Gunzip::default();
    let mut whole = Collector::new(body.len() * 4, most, 1);
    let mut read = 0;
    let mut push = |piece: Bytes| {
        read += piece.len() as u64;
        check_ratio(came, read)?;
        whole.push(&piece).map_err(|overflow| match overflow {
            Overflow::TooLarge => too_large(),
            Overflow::Full => Failure::new(Kind::BodyUnbuffered, "too many bytes are buffered"),
        })
    };
    gunzip.push(body.clone());
    while let Some(piece) = gunzip.next_piece().map_err(malformed)? {
        push(piece)?;
    }
    if let Some(rest) = gunzip.finish().map_err(malformed)? {
        push(rest)?;
    }
    Ok(whole.done())
}

fn check_ratio(came: u64, read: u64) -> Result<(), Failure> {
    if read > FREE && read / RATIO > came {
        Err(too_large())
    } else {
        Ok(())
    }
}

fn malformed<E>(_: E) -> Failure {
    Failure::new(Kind::BodyMalformed, "the body is not gzip")
}

/// Prepares to decode a body whose outermost coding is gzip: its headers no longer say so.
pub(super) fn decode(headers: &HeaderMap, notes: &mut Notes) {
    if notes.is_decoded {
        return;
    }
    let Some(rest) = inner_codings(headers) else {
        return;
    };
    notes.is_decoded = true;
    notes.set_header(&CONTENT_ENCODING, rest.into_iter().collect());
}

/// The codings within gzip. `None` if gzip is not the outermost one, which is the last (RFC 9110 §8.4).
fn inner_codings(headers: &HeaderMap) -> Option<Option<HeaderValue>> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let names: SmallVec<[&str; 2]> = values
        .map(|value| value.to_str().unwrap_or_default())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let (last, rest) = names.split_last()?;
    if !last.eq_ignore_ascii_case("gzip") && !last.eq_ignore_ascii_case("x-gzip") {
        return None;
    }
    let rest = (!rest.is_empty()).then(|| HeaderValue::try_from(rest.join(", ")).ok());
    Some(rest.flatten())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn streamed(
        streamed_body: &mut StreamedBody,
        bytes: &[u8],
        size: usize,
    ) -> Result<Vec<u8>, Kind> {
        let mut out = Vec::new();
        let mut chunks = bytes.chunks(size).peekable();
        while let Some(chunk) = chunks.next() {
            let last = chunks.peek().is_none();
            let chunk = Bytes::copy_from_slice(chunk);
            let mut piece = streamed_body
                .take(chunk, last)
                .map_err(|failure| failure.kind)?;
            while let Some(given) = piece {
                out.extend_from_slice(&given.bytes);
                if given.last {
                    return Ok(out);
                }
                piece = streamed_body.left().map_err(|failure| failure.kind)?;
            }
        }
        Ok(out)
    }

    fn streamed_body(most: Option<u64>, is_coded: bool) -> StreamedBody {
        let payload = Payload {
            most,
            gunzip: is_coded,
        };
        StreamedBody::new(&payload, is_coded)
    }

    #[test]
    fn the_decoded_bytes_count() {
        let text: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let coded = gzip(&text);
        for size in [1, 100, 1 << 20] {
            assert_eq!(
                streamed(&mut streamed_body(None, true), &coded, size).unwrap(),
                text
            );
            let most = Some(text.len() as u64);
            assert_eq!(
                streamed(&mut streamed_body(most, true), &coded, size).unwrap(),
                text
            );
            let most = Some(text.len() as u64 - 1);
            let result = streamed(&mut streamed_body(most, true), &coded, size);
            assert_eq!(result, Err(Kind::BodyTooLarge));
        }
        assert_eq!(decoded(&coded.clone().into(), 300_000).unwrap(), text);
        let failure = decoded(&coded.into(), 299_999).unwrap_err();
        assert_eq!(failure.kind, Kind::BodyTooLarge);
    }

    #[test]
    fn a_plain_body_is_counted() {
        assert_eq!(
            streamed(&mut streamed_body(Some(5), false), b"12345", 2).unwrap(),
            b"12345"
        );
        let result = streamed(&mut streamed_body(Some(4), false), b"12345", 2);
        assert_eq!(result, Err(Kind::BodyTooLarge));
    }

    #[test]
    fn several_members_are_one_body_and_bombs_and_broken_ones_are_rejected() {
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(
            streamed(&mut streamed_body(None, true), &two, 3).unwrap(),
            b"one two"
        );
        assert_eq!(decoded(&two.into(), 100).unwrap(), &b"one two"[..]);
        let bomb = gzip(&vec![0; 8 << 20]);
        let result = streamed(&mut streamed_body(None, true), &bomb, 1024);
        assert_eq!(result, Err(Kind::BodyTooLarge));
        let failure = decoded(&bomb.into(), u64::MAX).unwrap_err();
        assert_eq!(failure.kind, Kind::BodyTooLarge);
        let whole = gzip(b"hello, hello");
        for broken in [&whole[..whole.len() - 3], &b"hello, no gzip"[..]] {
            let result = streamed(&mut streamed_body(None, true), broken, 4);
            assert_eq!(result, Err(Kind::BodyMalformed));
            let failure = decoded(&Bytes::copy_from_slice(broken), 100).unwrap_err();
            assert_eq!(failure.kind, Kind::BodyMalformed);
        }
        assert_eq!(decoded(&Bytes::new(), 100).unwrap(), Bytes::new());
    }

    #[test]
    fn the_outermost_coding_is_the_last() {
        for (values, inner) in [
            (&["gzip"][..], Some(None)),
            (&["X-GZip"], Some(None)),
            (&["br, gzip"], Some(Some("br"))),
            (&["br", "gzip"], Some(Some("br"))),
            (&["gzip, br"], None),
            (&["identity"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            let found = inner_codings(&headers);
            let found = found
                .as_ref()
                .map(|rest| rest.as_ref().map(|v| v.to_str().unwrap()));
            assert_eq!(found, inner, "{values:?}");
        }
    }
}
