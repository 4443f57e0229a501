//! The scanner: finds where a value ends, and whether its text can be kept unchanged.
//!
//! The scanner builds nothing. It reads every byte of every composed response, so strings are skipped eight bytes at
//! a time, and nesting uses an explicit stack instead of recursion.

use super::MAX_DEPTH;
use super::error::{Context, Error};

/// The extent of a value in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The position after the last byte.
    pub(super) end: usize,
    /// Whether a client that reads this text sees exactly the value that we would build from it. This is false with
    /// lone surrogates, and with names that occur twice in an object.
    pub(super) faithful: bool,
}

/// Skips white space from `at`. Returns the position of the first other byte, or the length of the text.
pub(super) fn blank(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Checks the value that starts at `at` (not white space), `depth` levels below the top, and finds its end.
pub(super) fn value(text: &[u8], at: usize, depth: usize) -> Result<Span, Error> {
    match text.get(at) {
        None => Err(Error::Truncated),
        Some(b'{' | b'[') => Nest::new(text, depth).run(at),
        Some(_) => scalar(text, at),
    }
}

/// A value that is neither object nor array.
fn scalar(text: &[u8], at: usize) -> Result<Span, Error> {
    let plain = |end| Span {
        end,
        faithful: true,
    };
    match text.get(at).copied() {
        None => Err(Error::Truncated),
        Some(b'"') => string(text, at).map(|string| Span {
            end: string.end,
            faithful: string.faithful,
        }),
        Some(b'-' | b'0'..=b'9') => number(text, at).map(plain),
        Some(b't') => literal(text, at, "true").map(plain),
        Some(b'f') => literal(text, at, "false").map(plain),
        Some(b'n') => literal(text, at, "null").map(plain),
        Some(found) => Err(Error::Unexpected {
            found,
            context: Context::Value,
        }),
    }
}

/// The extent of a string, including its quotation marks.
#[derive(Debug, Clone, Copy)]
pub(super) struct StringSpan {
    pub(super) end: usize,
    /// Whether it contains a backslash.
    pub(super) escaped: bool,
    /// False if it contains a lone surrogate.
    pub(super) faithful: bool,
}

/// Checks the string whose opening quotation mark is at `at`.
pub(super) fn string(text: &[u8], at: usize) -> Result<StringSpan, Error> {
    let end = plain_run(text, at + 1);
    let span = StringSpan {
        end: end + 1,
        escaped: false,
        faithful: true,
    };
    match text.get(end) {
        Some(b'"') => Ok(span),
        _ => unusual_string(text, end, span),
    }
}

/// Checks the rest of a string from `at`, where it does not end.
#[inline(never)]
fn unusual_string(text: &[u8], mut at: usize, mut span: StringSpan) -> Result<StringSpan, Error> {
    loop {
        at = plain_run(text, at);
        match text.get(at).copied() {
            None => return Err(Error::Truncated),
            Some(b'"') => {
                span.end = at + 1;
                return Ok(span);
            }
            Some(b'\\') => {
                span.escaped = true;
                at = escape(text, at, &mut span.faithful)?;
            }
            Some(found) => {
                return Err(Error::Unexpected {
                    found,
                    context: Context::String,
                });
            }
        }
    }
}

/// The first position from `at` of a quotation mark, a backslash or a control character.
pub(super) fn plain_run(text: &[u8], mut at: usize) -> usize {
    let long = at.saturating_add(SHORT);
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
        if at == long {
            at = long_run(text, at);
        }
    }
    while let Some(byte) = text.get(at) {
        if *byte < 0x20 || matches!(byte, b'"' | b'\\') {
            break;
        }
        at += 1;
    }
    at
}

/// Longer strings are read in larger pieces. A multiple of eight.
const SHORT: usize = 24;

/// Skips whole pieces of a plain run. Not inlined, so that short strings do not pay for its registers.
#[inline(never)]
fn long_run(text: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk)
        && is_plain(chunk)
    {
        at += chunk.len();
    }
    at
}

/// Whether none of the bytes ends a plain run. It looks at all of them, many at a time.
fn is_plain(bytes: &[u8; 32]) -> bool {
    let special = bytes.iter().fold(0, |special, byte| {
        special | u8::from(*byte < 0x20) | u8::from(*byte == b'"') | u8::from(*byte == b'\\')
    });
    special == 0
}

/// The high bit of each byte that is `"`, `\` or below 0x20. Only the lowest set bit is reliable, because a match may
/// carry into the bytes above it.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64)) | control
}

/// Skips the escape whose backslash is at `at`, or the two that form a surrogate pair.
fn escape(text: &[u8], at: usize, faithful: &mut bool) -> Result<usize, Error> {
    match text.get(at + 1).copied() {
        None => Err(Error::Truncated),
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let unit = hex(text, at + 2)?;
            if !(0xd800..0xe000).contains(&unit) {
                return Ok(at + 6);
            }
            if unit < 0xdc00 && text.get(at + 6..at + 8) == Some(b"\\u") {
                let low = hex(text, at + 8)?;
                if (0xdc00..0xe000).contains(&low) {
                    return Ok(at + 12);
                }
            }
            *faithful = false;
            Ok(at + 6)
        }
        Some(found) => Err(Error::Unexpected {
            found,
            context: Context::Escape,
        }),
    }
}

/// The four hexadecimal digits at `at`.
pub(super) fn hex(text: &[u8], at: usize) -> Result<u32, Error> {
    let mut unit = 0;
    for offset in 0..4 {
        let found = *text.get(at + offset).ok_or(Error::Truncated)?;
        let digit = char::from(found).to_digit(16).ok_or(Error::Unexpected {
            found,
            context: Context::Hex,
        })?;
        unit = unit * 16 + digit;
    }
    Ok(unit)
}

/// The end of the number at `at`.
fn number(text: &[u8], mut at: usize) -> Result<usize, Error> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => digits(text, at, Context::Number)?,
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1, Context::Fraction)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits(text, at, Context::Exponent)?;
    }
    Ok(at)
}

/// One digit or more.
fn digits(text: &[u8], mut at: usize, context: Context) -> Result<usize, Error> {
    match text.get(at).copied() {
        None => return Err(Error::Truncated),
        Some(b'0'..=b'9') => {}
        Some(found) => return Err(Error::Unexpected { found, context }),
    }
    while let Some(b'0'..=b'9') = text.get(at) {
        at += 1;
    }
    Ok(at)
}

/// The end of `word`, whose first letter at `at` matches.
fn literal(text: &[u8], at: usize, word: &'static str) -> Result<usize, Error> {
    for (offset, expected) in word.bytes().enumerate() {
        let found = *text.get(at + offset).ok_or(Error::Truncated)?;
        if found != expected {
            return Err(Error::Unexpected {
                found,
                context: Context::Literal {
                    word,
                    expected: char::from(expected),
                },
            });
        }
    }
    Ok(at + word.len())
}

/// The name at `at` and the colon after it. Returns the extent of the string and the position of the member's value.
pub(super) fn name(text: &[u8], at: usize) -> Result<(StringSpan, usize), Error> {
    match text.get(at).copied() {
        None => return Err(Error::Truncated),
        Some(b'"') => {}
        Some(found) => {
            return Err(Error::Unexpected {
                found,
                context: Context::Key,
            });
        }
    }
    let span = string(text, at)?;
    let colon = blank(text, span.end);
    match text.get(colon).copied() {
        None => Err(Error::Truncated),
        Some(b':') => Ok((span, blank(text, colon + 1))),
        Some(found) => Err(Error::Unexpected {
            found,
            context: Context::AfterKey,
        }),
    }
}

/// What follows a member or an element.
pub(super) enum Next {
    /// A comma. The next member or element starts here.
    More(usize),
    /// The closing bracket. The container ends here.
    Close(usize),
}

/// Reads the text after the value that ended at `at`, inside an object (`close` = `}`) or an array (`]`).
pub(super) fn next(text: &[u8], at: usize, close: u8) -> Result<Next, Error> {
    let at = blank(text, at);
    match text.get(at).copied() {
        None => Err(Error::Truncated),
        Some(b',') => Ok(Next::More(blank(text, at + 1))),
        Some(found) if found == close => Ok(Next::Close(at + 1)),
        Some(found) => Err(Error::Unexpected {
            found,
            context: match close {
                b'}' => Context::AfterMember,
                _ => Context::AfterElement,
            },
        }),
    }
}

/// One container with its content.
struct Nest<'a> {
    text: &'a [u8],
    /// The depth of this container.
    base: usize,
    /// The open containers: whether each is an object, and where its names start in `names`.
    open: smallvec::SmallVec<[Level; 16]>,
    /// Hashes of the names of all open objects.
    names: smallvec::SmallVec<[u64; 32]>,
    faithful: bool,
}

#[derive(Clone, Copy)]
struct Level {
    object: bool,
    names_from: usize,
}

impl<'a> Nest<'a> {
    fn new(text: &'a [u8], base: usize) -> Nest<'a> {
        Nest {
            text,
            base,
            open: smallvec::SmallVec::new(),
            names: smallvec::SmallVec::new(),
            faithful: true,
        }
    }

    fn run(mut self, start: usize) -> Result<Span, Error> {
        let mut at = self.enter(start)?;
        loop {
            match at {
                Step::Value(from) => {
                    at = match self.text.get(from) {
                        Some(b'{' | b'[') => self.enter(from)?,
                        _ => {
                            let span = scalar(self.text, from)?;
                            self.faithful &= span.faithful;
                            self.after(span.end)?
                        }
                    };
                }
                Step::Closed(end) if self.open.is_empty() => {
                    return Ok(Span {
                        end,
                        faithful: self.faithful,
                    });
                }
                Step::Closed(end) => at = self.after(end)?,
            }
        }
    }

    /// Opens the container at `at`.
    fn enter(&mut self, at: usize) -> Result<Step, Error> {
        if self.base + self.open.len() >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let object = self.text.get(at) == Some(&b'{');
        let first = blank(self.text, at + 1);
        match self.text.get(first) {
            Some(b'}') if object => return Ok(Step::Closed(first + 1)),
            Some(b']') if !object => return Ok(Step::Closed(first + 1)),
            _ => {}
        }
        self.open.push(Level {
            object,
            names_from: self.names.len(),
        });
        if object {
            self.member(first)
        } else {
            Ok(Step::Value(first))
        }
    }

    /// Reads a member's name.
    fn member(&mut self, at: usize) -> Result<Step, Error> {
        let (span, value) = name(self.text, at)?;
        // An escaped name may equal one that is spelled differently, which hashes cannot detect.
        self.faithful &= !span.escaped;
        self.names.push(hash(
            self.text.get(at + 1..span.end - 1).unwrap_or_default(),
        ));
        Ok(Step::Value(value))
    }

    /// Continues after a value in the innermost container.
    fn after(&mut self, at: usize) -> Result<Step, Error> {
        let Some(level) = self.open.last().copied() else {
            return Ok(Step::Closed(at));
        };
        let close = if level.object { b'}' } else { b']' };
        match next(self.text, at, close)? {
            Next::More(at) if level.object => self.member(at),
            Next::More(at) => Ok(Step::Value(at)),
            Next::Close(end) => {
                self.open.pop();
                self.leave(level);
                Ok(Step::Closed(end))
            }
        }
    }

    /// Checks the names of a closed object for duplicates, and drops them.
    fn leave(&mut self, level: Level) {
        let names = self.names.get_mut(level.names_from..).unwrap_or_default();
        if self.faithful && twins(names) {
            self.faithful = false;
        }
        self.names.truncate(level.names_from);
    }
}

enum Step {
    /// A value starts here.
    Value(usize),
    /// A container has ended here.
    Closed(usize),
}

/// Whether two hashes are equal. Different names with equal hashes only cost the slower path.
fn twins(hashes: &mut [u64]) -> bool {
    if hashes.len() <= 8 {
        return hashes
            .iter()
            .enumerate()
            .any(|(at, hash)| hashes.iter().skip(at + 1).any(|other| other == hash));
    }
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair.first() == pair.last())
}

fn hash(name: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut hash = name.len() as u64;
    let mut chunks = name.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word));
        hash = mix(hash, word);
    }
    let mut rest = 0;
    for byte in chunks.remainder() {
        rest = rest << 8 | u64::from(*byte);
    }
    mix(hash, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_the_first_special_byte_wherever_it_is() {
        for length in 0..120 {
            assert_eq!(plain_run(&vec![b'x'; length], 0), length);
            for special in [b'"', b'\\', 0, 0x1f] {
                let mut text = vec![0xc3; 120];
                text[length] = special;
                assert_eq!(plain_run(&text, 0), length, "{special}");
                assert_eq!(plain_run(&text, length.min(5)), length, "{special}");
            }
        }
    }
}
