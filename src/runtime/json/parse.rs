//! Parses a body to a value, to the requested depth.

use std::borrow::Cow;

use bytes::{Buf, Bytes};

use super::MAX_DEPTH;
use super::error::{Context, Error};
use super::index::Index;
use super::scan::{self, Next};
use super::value::{Object, Raw, Value};
use super::weight::Growth;
use crate::runtime::heavy::is_late;

/// How much of a body becomes a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Nothing: the data are only written. An object keeps the positions of its members, so that they can be sorted.
    Index,
    /// The top-level names. Their values stay slices of the body.
    TopLevel,
    /// Everything.
    Full,
}

/// Parses the first JSON value of `body`. As in KrakenD, the rest is ignored.
///
/// With [`Depth::TopLevel`], the members of an object, or any other value as a whole, are kept as slices of `body`:
/// they are checked but not parsed. A slice is parsed if its text would show a client something other than the tree
/// would (a name that occurs twice, half a surrogate pair). [`Depth::Index`] keeps an object as a whole, under the same
/// condition. Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// The body is empty, ends early, is not JSON, is nested deeper than `MAX_DEPTH`, or there is no memory for it.
pub fn parse(body: &Bytes, depth: Depth) -> Result<Value, Error> {
    parse_within(body, depth, &mut Growth::default())
}

/// Parses like `parse`. `growth` counts what is built beside the slices, and charges it as long as it lives. A full
/// tree is not counted: its weight is known before ([`super::charge`]).
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_within(
    body: &Bytes,
    depth: Depth,
    growth: &mut Growth,
) -> Result<Value, Error> {
    let mut body = repaired(body);
    let at = scan::blank(&body, 0);
    match (depth, body.get(at)) {
        (_, None) => Err(Error::Empty),
        (Depth::Index, Some(b'{')) => {
            body.advance(at);
            match Index::read(&body, growth)? {
                Some(index) => Ok(Value::Raw(Raw::indexed(index))),
                None => members(&body, 0, growth).map(Value::Object),
            }
        }
        (Depth::TopLevel, Some(b'{')) => members(&body, at, growth).map(Value::Object),
        (Depth::Index | Depth::TopLevel, Some(_)) => {
            kept(&body, at, 0, growth).map(|(value, _)| value)
        }
        (Depth::Full, Some(_)) => tree(&body, at, 0).map(|(value, _)| value),
    }
}

/// Parses a body that must be exactly one JSON value, one level deep.
///
/// # Errors
/// As [`parse`], with KrakenD's words for whole texts, and for any text after the value.
pub(crate) fn parse_whole(body: &Bytes) -> Result<Value, Error> {
    let body = repaired(body);
    let at = scan::blank(&body, 0);
    let whole = |error| match error {
        Error::Empty | Error::Truncated => Error::Ended,
        other => other,
    };
    let span = scan::value(&body, at, 0).map_err(whole)?;
    match body.get(scan::blank(&body, span.end)).copied() {
        Some(found) => Err(Error::Unexpected {
            found,
            context: Context::End,
        }),
        None => parse(&body, Depth::TopLevel).map_err(whole),
    }
}

/// Parses one level of a checked slice: members and elements stay slices.
pub(super) fn open(raw: &Bytes, growth: &mut Growth) -> Result<Value, Error> {
    match raw.first() {
        Some(b'{') => members(raw, 0, growth).map(Value::Object),
        Some(b'[') => elements(raw, growth).map(Value::Array),
        _ => tree(raw, 0, 0).map(|(value, _)| value),
    }
}

/// Parses a checked slice to a complete tree.
pub(super) fn expand(raw: &Bytes) -> Result<Value, Error> {
    tree(raw, 0, 0).map(|(value, _)| value)
}

/// The body as UTF-8. Each invalid byte becomes one U+FFFD, as in KrakenD.
fn repaired(body: &Bytes) -> Bytes {
    if std::str::from_utf8(body).is_ok() {
        return body.clone();
    }
    let mut text = Vec::with_capacity(body.len() + 64);
    for chunk in body.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            text.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    Bytes::from(text)
}

/// The object at `at`, with its members as slices. The last of several members with the same name wins.
fn members(body: &Bytes, at: usize, growth: &mut Growth) -> Result<Object, Error> {
    let mut object = Object::new();
    let mut at = scan::blank(body, at + 1);
    if body.get(at) == Some(&b'}') {
        return Ok(object);
    }
    loop {
        let (name, value) = scan::name(body, at)?;
        let key: Box<str> = text_of(body, at, name.end, name.escaped).into();
        growth.item(key.len())?;
        let (member, end) = kept(body, value, 1, growth)?;
        object.insert(key, member);
        match scan::next(body, end, b'}')? {
            Next::More(next) => at = next,
            Next::Close(_) => return Ok(object),
        }
    }
}

fn elements(body: &Bytes, growth: &mut Growth) -> Result<Vec<Value>, Error> {
    let mut array = Vec::new();
    let mut at = scan::blank(body, 1);
    if body.get(at) == Some(&b']') {
        return Ok(array);
    }
    loop {
        growth.item(0)?;
        let (element, end) = kept(body, at, 1, growth)?;
        array.push(element);
        match scan::next(body, end, b']')? {
            Next::More(next) => at = next,
            Next::Close(_) => return Ok(array),
        }
    }
}

/// The value at `at` as a slice, if its text shows the same value as a tree would.
fn kept(
    body: &Bytes,
    at: usize,
    depth: usize,
    growth: &mut Growth,
) -> Result<(Value, usize), Error> {
    let span = scan::value(body, at, depth)?;
    let value = match (body.get(at), span.faithful) {
        (Some(b'n'), _) => Value::Null,
        (Some(b't'), _) => Value::Bool(true),
        (Some(b'f'), _) => Value::Bool(false),
        (_, true) => Value::Raw(Raw::checked(body.slice(at..span.end))),
        (_, false) => {
            growth.tree(body.get(at..span.end).unwrap_or_default())?;
            tree(body, at, depth)?.0
        }
    };
    Ok((value, span.end))
}

/// The value at `at` as a tree, and where it ends.
fn tree(text: &[u8], at: usize, depth: usize) -> Result<(Value, usize), Error> {
    if is_late() {
        return Err(Error::Late);
    }
    match text.get(at) {
        Some(b'{' | b'[') if depth >= MAX_DEPTH => Err(Error::TooDeep),
        Some(b'{') => object_tree(text, at, depth),
        Some(b'[') => array_tree(text, at, depth),
        Some(b'"') => {
            let span = scan::string(text, at)?;
            let string = text_of(text, at, span.end, span.escaped);
            Ok((Value::String(string.into()), span.end))
        }
        first => {
            let end = scan::value(text, at, depth)?.end;
            let value = match first {
                Some(b'n') => Value::Null,
                Some(b't') => Value::Bool(true),
                Some(b'f') => Value::Bool(false),
                _ => Value::Number(lossless(text.get(at..end).unwrap_or_default()).into()),
            };
            Ok((value, end))
        }
    }
}

fn object_tree(text: &[u8], at: usize, depth: usize) -> Result<(Value, usize), Error> {
    let mut object = Object::new();
    let mut at = scan::blank(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Ok((Value::Object(object), at + 1));
    }
    loop {
        let (name, value) = scan::name(text, at)?;
        let key = text_of(text, at, name.end, name.escaped).into();
        let (member, end) = tree(text, value, depth + 1)?;
        object.insert(key, member);
        match scan::next(text, end, b'}')? {
            Next::More(next) => at = next,
            Next::Close(end) => return Ok((Value::Object(object), end)),
        }
    }
}

fn array_tree(text: &[u8], at: usize, depth: usize) -> Result<(Value, usize), Error> {
    let mut array = Vec::new();
    let mut at = scan::blank(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Ok((Value::Array(array), at + 1));
    }
    loop {
        let (element, end) = tree(text, at, depth + 1)?;
        array.push(element);
        match scan::next(text, end, b']')? {
            Next::More(next) => at = next,
            Next::Close(end) => return Ok((Value::Array(array), end)),
        }
    }
}

/// The text of the checked string from `at` to `end`, which include the quotation marks.
fn text_of(text: &[u8], at: usize, end: usize, escaped: bool) -> Cow<'_, str> {
    let inner = text.get(at + 1..end - 1).unwrap_or_default();
    if escaped {
        Cow::Owned(unescape(inner))
    } else {
        lossless(inner)
    }
}

/// The bytes as text. The conversion is lossless: the whole body is valid UTF-8 and is split only at ASCII bytes.
fn lossless(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Resolves the escapes of a checked string. Half a surrogate pair becomes U+FFFD.
fn unescape(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let stop = scan::plain_run(text, at);
        out.push_str(&lossless(text.get(at..stop).unwrap_or_default()));
        let (character, next) = match text.get(stop + 1) {
            Some(b'u') => unicode(text, stop),
            Some(b'b') => ('\u{8}', stop + 2),
            Some(b'f') => ('\u{c}', stop + 2),
            Some(b'n') => ('\n', stop + 2),
            Some(b'r') => ('\r', stop + 2),
            Some(b't') => ('\t', stop + 2),
            Some(other) => (char::from(*other), stop + 2),
            None => break,
        };
        out.push(character);
        at = next;
    }
    out
}

/// The character of the `\u` escape at `at`, including the second half of a pair, and the position after it.
fn unicode(text: &[u8], at: usize) -> (char, usize) {
    let unit = scan::hex(text, at + 2).unwrap_or(0xfffd);
    if (0xd800..0xdc00).contains(&unit)
        && text.get(at + 6..at + 8) == Some(b"\\u")
        && let Ok(low @ 0xdc00..=0xdfff) = scan::hex(text, at + 8)
    {
        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(code).unwrap_or('\u{fffd}'), at + 12);
    }
    (char::from_u32(unit).unwrap_or('\u{fffd}'), at + 6)
}
