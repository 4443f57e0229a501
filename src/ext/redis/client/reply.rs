//! Replies in RESP2, and the parser: incremental, without recursion, and bounded.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::error::{Complaint, ConnectionError};
use crate::telemetry::mask::KnownSecrets;

/// The most levels of arrays in a reply. `CLUSTER SLOTS` has four.
pub(super) const MAX_DEPTH: usize = 8;

/// The most bytes of one reply.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// The fewest bytes of an element of an array: `+\r\n`.
const MIN_ELEMENT: usize = 3;

/// The maximum capacity that is reserved for elements before they arrive.
const FIRST_ROOM: usize = 64;

/// A reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A simple string or a bulk string.
    Text(Vec<u8>),
    Error(Complaint),
    Integer(i64),
    /// A null string or a null array.
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    /// The text, if it is one and UTF-8. An integer is a text too.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Reply::Text(text) => String::from_utf8(text).ok(),
            Reply::Integer(number) => Some(number.to_string()),
            Reply::Error(_) | Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// The number, which Redis may write as a text.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            Reply::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            Reply::Error(_) | Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// The elements, if it is an array.
    pub(crate) fn into_elements(self) -> Option<Vec<Reply>> {
        match self {
            Reply::Array(elements) => Some(elements),
            _ => None,
        }
    }
}

/// An array whose elements are not complete.
#[derive(Debug)]
struct Open {
    elements: Vec<Reply>,
    missing: usize,
}

/// One piece of a reply.
enum Item {
    Whole(Reply),
    /// The head of an array with this number of elements, at least one.
    Array(usize),
}

/// Splits what arrives into replies.
#[derive(Default)]
pub(super) struct Replies {
    buffer: BytesMut,
    /// How many bytes of the buffer have no line feed.
    searched: usize,
    /// The length of the bulk string that is expected.
    bulk: Option<usize>,
    open: Vec<Open>,
    /// The bytes of the current reply that were taken from the buffer.
    taken: usize,
    /// What errors must not show.
    secrets: Arc<KnownSecrets>,
}

impl Replies {
    /// The replies of a server that gets these secrets.
    pub(super) fn new(secrets: Arc<KnownSecrets>) -> Replies {
        Replies {
            secrets,
            ..Replies::default()
        }
    }

    /// Where the next bytes are to be appended.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete reply. `None` if more bytes are necessary.
    ///
    /// # Errors
    /// The bytes are no reply, or one that is too deep or too large. Nothing after them can be used.
    pub(super) fn next(&mut self) -> Result<Option<Reply>, ConnectionError> {
        while let Some(item) = self.item()? {
            let whole = match item {
                Item::Whole(reply) => self.placed(reply),
                Item::Array(_) if self.open.len() >= MAX_DEPTH => {
                    return Err(ConnectionError::TooDeep);
                }
                Item::Array(missing) => {
                    let elements = Vec::with_capacity(missing.min(FIRST_ROOM));
                    self.open.push(Open { elements, missing });
                    None
                }
            };
            if whole.is_some() {
                self.taken = 0;
                return Ok(whole);
            }
        }
        Ok(None)
    }

    /// Adds a reply to the innermost open array. Returns it if there is none, or the outermost array if it is complete.
    fn placed(&mut self, mut reply: Reply) -> Option<Reply> {
        while let Some(mut array) = self.open.pop() {
            array.elements.push(reply);
            array.missing -= 1;
            if array.missing > 0 {
                self.open.push(array);
                return None;
            }
            reply = Reply::Array(array.elements);
        }
        Some(reply)
    }

    fn item(&mut self) -> Result<Option<Item>, ConnectionError> {
        if let Some(length) = self.bulk {
            return self.bulk_of(length);
        }
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        let Some((kind, rest)) = line.split_first() else {
            return Err(ConnectionError::Malformed);
        };
        let whole = |reply| Ok(Some(Item::Whole(reply)));
        match kind {
            b'+' => whole(Reply::Text(rest.to_vec())),
            b'-' => whole(Reply::Error(Complaint::new(rest, &self.secrets))),
            b':' => whole(Reply::Integer(number(rest)?)),
            b'$' | b'*' if number(rest)? == -1 => whole(Reply::Nil),
            b'$' => {
                let length = self.fitting(number(rest)?, 1)?;
                self.bulk = Some(length);
                self.bulk_of(length)
            }
            b'*' => match self.fitting(number(rest)?, MIN_ELEMENT)? {
                0 => whole(Reply::Array(Vec::new())),
                count => Ok(Some(Item::Array(count))),
            },
            _ => Err(ConnectionError::Malformed),
        }
    }

    /// A count of things of at least `bytes` each, if that many can be in the rest of the reply.
    fn fitting(&self, count: i64, bytes: usize) -> Result<usize, ConnectionError> {
        let count = usize::try_from(count).map_err(|_| ConnectionError::Malformed)?;
        if count > MAX_BYTES.saturating_sub(self.taken) / bytes {
            return Err(ConnectionError::TooLarge);
        }
        Ok(count)
    }

    /// The bulk string of this length, if it has arrived.
    fn bulk_of(&mut self, length: usize) -> Result<Option<Item>, ConnectionError> {
        let Some(bytes) = self.buffer.get(..length + 2) else {
            return Ok(None);
        };
        let Some(text) = bytes.strip_suffix(b"\r\n") else {
            return Err(ConnectionError::Malformed);
        };
        let text = Reply::Text(text.to_vec());
        self.bulk = None;
        self.take(length + 2)?;
        Ok(Some(Item::Whole(text)))
    }

    /// The next line without its end, if it has arrived.
    fn line(&mut self) -> Result<Option<BytesMut>, ConnectionError> {
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            self.searched = self.buffer.len();
            if self.taken + self.buffer.len() > MAX_BYTES {
                return Err(ConnectionError::TooLarge);
            }
            return Ok(None);
        };
        let end = self.searched + at;
        let mut line = self.buffer.split_to(end);
        self.taken += end;
        self.take(1)?;
        if line.last() != Some(&b'\r') {
            return Err(ConnectionError::Malformed);
        }
        line.truncate(end - 1);
        Ok(Some(line))
    }

    fn take(&mut self, bytes: usize) -> Result<(), ConnectionError> {
        self.buffer.advance(bytes);
        self.searched = 0;
        self.taken += bytes;
        if self.taken > MAX_BYTES {
            return Err(ConnectionError::TooLarge);
        }
        Ok(())
    }
}

/// A decimal number as Redis writes it.
fn number(digits: &[u8]) -> Result<i64, ConnectionError> {
    let text = std::str::from_utf8(digits).map_err(|_| ConnectionError::Malformed)?;
    text.parse().map_err(|_| ConnectionError::Malformed)
}

/// For fuzzing: parses the same bytes at once and byte by byte. Both results must be equal.
pub fn parse_anything(bytes: &[u8]) {
    let parsed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut replies, mut found) = (Replies::default(), Vec::new());
        for piece in pieces {
            replies.buffer().extend_from_slice(piece);
            loop {
                match replies.next() {
                    Ok(Some(reply)) => found.push(Ok(reply)),
                    Ok(None) => break,
                    Err(error) => {
                        found.push(Err(error));
                        return found;
                    }
                }
            }
        }
        found
    };
    let whole = parsed(&mut std::iter::once(bytes));
    assert_eq!(whole, parsed(&mut bytes.chunks(1)));
}
