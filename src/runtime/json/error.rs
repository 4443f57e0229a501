//! Errors in a JSON body, in KrakenD's words.

use std::fmt;

use super::MAX_DEPTH;
use crate::upstream::budget::Full;

/// Why a body is not the expected JSON. The texts are KrakenD's, because operators search for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body contains only white space.
    #[error("EOF")]
    Empty,
    /// The body ends inside a value.
    #[error("unexpected EOF")]
    Truncated,
    /// The same two errors when a whole text is parsed at once.
    #[error("unexpected end of JSON input")]
    Ended,
    /// A byte that is not allowed at its position.
    #[error("invalid character {} {context}", Quoted(*.found))]
    Unexpected { found: u8, context: Context },
    /// The nesting is deeper than [`MAX_DEPTH`].
    #[error("exceeded max depth of {MAX_DEPTH}")]
    TooDeep,
    /// The deadline of the request has passed.
    #[error("context deadline exceeded")]
    Late,
    /// There is no memory for what the text would become.
    #[error(transparent)]
    Full(#[from] Full),
    /// Valid JSON of a type that the encoding does not accept.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    WrongType {
        found: &'static str,
        wanted: &'static str,
    },
}

/// The place in the grammar where an unexpected byte was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    Value,
    Key,
    AfterKey,
    AfterMember,
    AfterElement,
    String,
    Escape,
    Hex,
    Number,
    Fraction,
    Exponent,
    End,
    Literal { word: &'static str, expected: char },
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Context::Value => "looking for beginning of value",
            Context::Key => "looking for beginning of object key string",
            Context::AfterKey => "after object key",
            Context::AfterMember => "after object key:value pair",
            Context::AfterElement => "after array element",
            Context::String => "in string literal",
            Context::Escape => "in string escape code",
            Context::Hex => "in \\u hexadecimal character escape",
            Context::Number => "in numeric literal",
            Context::Fraction => "after decimal point in numeric literal",
            Context::Exponent => "in exponent of numeric literal",
            Context::End => "after top-level value",
            Context::Literal { word, expected } => {
                return write!(f, "in literal {word} (expecting '{expected}')");
            }
        };
        f.write_str(text)
    }
}

/// A byte between apostrophes, escaped as by Go's `strconv.Quote`.
struct Quoted(u8);

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\'' => f.write_str(r"'\''"),
            b'\\' => f.write_str(r"'\\'"),
            b'\n' => f.write_str(r"'\n'"),
            b'\r' => f.write_str(r"'\r'"),
            b'\t' => f.write_str(r"'\t'"),
            0x07 => f.write_str(r"'\a'"),
            0x08 => f.write_str(r"'\b'"),
            0x0b => f.write_str(r"'\v'"),
            0x0c => f.write_str(r"'\f'"),
            byte @ (0..=0x1f | 0x7f) => write!(f, r"'\x{byte:02x}'"),
            byte @ 0x80..=0xa0 | byte @ 0xad => write!(f, r"'\u{byte:04x}'"),
            byte => write!(f, "'{}'", char::from(byte)),
        }
    }
}
