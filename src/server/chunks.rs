//! Checks the syntax of a chunked body while its bytes pass (RFC 9112 §7.1).
//!
//! Pingora's parser accepts some invalid forms (such as an empty size) that two parsers may interpret differently.
//! Here everything except exactly `size [;extension] CRLF data CRLF … 0 CRLF [trailers] CRLF` ends the connection.

use super::head::is_token;

/// The maximum number of digits of a size: enough for 64 bits, including leading zeros.
const MAX_DIGITS: u8 = 16;
/// The maximum size of one chunk extension, and of all trailers together.
const MAX_EXTENSION: u16 = 256;
const MAX_TRAILERS: u16 = 8 * 1024;

/// An invalid chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body")]
pub struct BadChunk;

/// The position in the body. By default before the first chunk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// The remaining size of the current chunk.
    size: u64,
    digits: u8,
    /// The size of the extension or of the trailers so far.
    extra: u16,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    LastLf,
}

impl Chunks {
    /// Checks the next bytes. `Some(count)` means that the body ended after this many of them.
    ///
    /// # Errors
    /// The bytes are not a chunked body.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadChunk> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.state == State::Data {
                let here = bytes.len() - at;
                let step = usize::try_from(self.size).unwrap_or(usize::MAX).min(here);
                self.size -= step as u64;
                at += step;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            at += 1;
            if self.byte(*byte)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Checks one byte outside of data. `true` after the last byte of the body.
    fn byte(&mut self, byte: u8) -> Result<bool, BadChunk> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, b'\t' | b' '..=b'~' | 128..) => {
                self.count(MAX_EXTENSION, State::Extension)?
            }
            (State::SizeEnd, b'\n') => self.data(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                *self = Chunks::default();
                State::Size
            }
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => {
                self.count(MAX_TRAILERS, State::TrailerName)?
            }
            (State::TrailerName, b':') => self.count(MAX_TRAILERS, State::Trailer)?,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, b'\t' | b' '..=b'~' | 128..) => {
                self.count(MAX_TRAILERS, State::Trailer)?
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => return Ok(true),
            _ => return Err(BadChunk),
        };
        Ok(false)
    }

    fn digit(&mut self, byte: u8) -> Result<State, BadChunk> {
        let value = char::from(byte).to_digit(16).ok_or(BadChunk)?;
        self.digits += 1;
        if self.digits > MAX_DIGITS {
            return Err(BadChunk);
        }
        self.size = self.size << 4 | u64::from(value);
        Ok(State::Size)
    }

    fn data(&mut self) -> State {
        self.extra = 0;
        if self.size == 0 {
            State::TrailerStart
        } else {
            State::Data
        }
    }

    fn count(&mut self, most: u16, state: State) -> Result<State, BadChunk> {
        self.extra += 1;
        if self.extra > most {
            Err(BadChunk)
        } else {
            Ok(state)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(body: &[u8]) -> Result<Option<usize>, BadChunk> {
        Chunks::default().scan(body)
    }

    #[test]
    fn a_body_ends_after_its_last_empty_line() {
        assert_eq!(whole(b"3\r\nabc\r\n0\r\n\r\nGET /"), Ok(Some(13)));
        assert_eq!(
            whole(b"A;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n"),
            Ok(Some(30))
        );
        assert_eq!(whole(b"3\r\nab"), Ok(None));
    }

    #[test]
    fn every_other_form_is_rejected() {
        let bad: [&[u8]; 20] = [
            b"\r\n{}\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n",
            b"+3\r\nabc\r\n",
            b"-3\r\nabc\r\n",
            b" 3\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\nabc\n",
            b"3\r\nabcd\r\n",
            b"3\rabc\r\n",
            b"g\r\n",
            b"00000000000000001\r\n",
            b"3;\x00\r\nabc\r\n",
            b"0\r\nT: v\n\r\n",
            b"0\r\n\n",
            b"0\r\nT\r\n\r\n",
            b"0\r\nT v: w\r\n\r\n",
            b"0\r\nT : v\r\n\r\n",
            b"0\r\n: v\r\n\r\n",
            b"0\r\nT: v\r\n w\r\n\r\n",
        ];
        for body in bad {
            assert_eq!(
                whole(body),
                Err(BadChunk),
                "{:?}",
                String::from_utf8_lossy(body)
            );
        }
        assert_eq!(
            whole(format!("1;{}\r\n", "x".repeat(300)).as_bytes()),
            Err(BadChunk)
        );
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_result_as_the_whole(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), any::<u8>()], 0..60),
            cut in 0_usize..60,
        ) {
            let all = whole(&bytes);
            let mut chunks = Chunks::default();
            let cut = cut.min(bytes.len());
            let first = chunks.scan(&bytes[..cut]);
            let both = match first {
                Ok(None) => chunks.scan(&bytes[cut..]).map(|end| end.map(|end| end + cut)),
                decided => decided,
            };
            prop_assert_eq!(both, all);
        }
    }
}
