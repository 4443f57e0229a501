//! Percent-encoding by position in a URL.

use std::borrow::Cow;

use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};

/// Characters that are encoded in a path segment. KrakenD leaves `$&+,/:;=@` unchanged in a path, and some backends
/// compare the text. But a slash inside a value would create another segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@')
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');

/// Characters that are encoded in several segments: slashes are kept.
const SEGMENTS: &AsciiSet = &SEGMENT.remove(b'/');

/// Characters that are encoded in the configured path. Slashes and escapes are kept.
const PATH: &AsciiSet = &SEGMENTS.remove(b'%');

/// Characters that are encoded in the configured query. KrakenD sends it unchanged, including spaces, which breaks
/// the request line. Only the characters that would do so are encoded.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'#');

/// Characters that are encoded in a value of the query: everything that separates pairs or changes under decoding.
const QUERY_VALUE: &AsciiSet = &SEGMENT
    .remove(b'/')
    .remove(b'?')
    .remove(b'[')
    .remove(b']')
    .add(b'&')
    .add(b'=')
    .add(b'+')
    .add(b';');

/// Everything outside the unreserved characters of RFC 3986 §2.3.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Characters that are encoded in a `Location`. Existing escapes are kept.
const INVISIBLE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'#')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Characters that are encoded in a decoded path.
#[cfg_attr(
    not(any(feature = "lua", feature = "json-schema")),
    expect(dead_code, reason = "only scripts and schemas need it")
)]
pub(crate) const DECODED: &AsciiSet = &INVISIBLE.add(b'%').add(b'?');

/// A byte of a parameter that is not UTF-8 is represented in its text by the character with this number plus the
/// byte. The range is for private use. If a client sends such characters itself, they are kept byte by byte in the
/// same way.
const RAW: u32 = 0x10_FE00;

/// Every character of the range begins with this byte in UTF-8, and few others do.
const RAW_LEAD: u8 = 0xF4;

/// A part of a path with its escapes decoded. Bytes that are not UTF-8 are kept, and [`path_segment`] and
/// [`query_value`] restore them.
///
/// `None` for an overlong form of UTF-8: some backends decode `%C0%AE` as a dot (RFC 3629 §10).
pub(crate) fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr2(b'%', RAW_LEAD, raw.as_bytes()).is_none() {
        return Some(Cow::Borrowed(raw));
    }
    let bytes: Vec<u8> = percent_decode_str(raw).collect();
    let text = match String::from_utf8(bytes) {
        Ok(text) if memchr::memchr(RAW_LEAD, text.as_bytes()).is_none() => text,
        Ok(text) => with_raw(text.as_bytes()),
        Err(error) if is_overlong(error.as_bytes()) => return None,
        Err(error) => with_raw(error.as_bytes()),
    };
    Some(Cow::Owned(text))
}

fn is_overlong(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| {
        matches!(
            pair,
            [0xC0 | 0xC1, 0x80..=0xBF] | [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F]
        )
    })
}

fn with_raw(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(4 * bytes.len());
    let raw = |byte: &u8| char::from_u32(RAW + u32::from(*byte));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match raw_byte(c) {
                None => text.push(c),
                Some(_) => {
                    text.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().filter_map(raw))
                }
            }
        }
        text.extend(chunk.invalid().iter().filter_map(raw));
    }
    text
}

fn raw_byte(c: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(c).checked_sub(RAW)?).ok()?;
    (byte >= 0x80).then_some(byte)
}

/// The bytes of a parameter, as the client sent them.
pub(crate) fn bytes(text: &str) -> Cow<'_, [u8]> {
    if memchr::memchr(RAW_LEAD, text.as_bytes()).is_none() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match raw_byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// A parameter for consumers that need UTF-8: other bytes become U+FFFD.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    match bytes(text) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// A parameter with these bytes, which [`bytes()`] returns again. Overlong forms of UTF-8 are not kept, as in
/// [`decoded`].
#[cfg_attr(
    not(any(feature = "lua", test)),
    expect(dead_code, reason = "only scripts and tests make parameters")
)]
pub(crate) fn kept(bytes: &[u8]) -> String {
    if is_overlong(bytes) {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        with_raw(bytes)
    }
}

/// Appends `text` with the characters of `set` encoded, and with its raw bytes restored.
fn encode(to: &mut String, text: &str, set: &'static AsciiSet) {
    if memchr::memchr(RAW_LEAD, text.as_bytes()).is_none() {
        return to.extend(utf8_percent_encode(text, set));
    }
    for c in text.chars() {
        match raw_byte(c) {
            Some(byte) => to.extend(percent_encode(&[byte], set)),
            None => to.extend(utf8_percent_encode(c.encode_utf8(&mut [0; 4]), set)),
        }
    }
}

/// Whether a segment is `.` or `..`, also with parameters after it: `..;x` (RFC 3986 §3.3).
pub(crate) fn is_dot_segment(text: &str) -> bool {
    let name = text.split(';').next().unwrap_or_default();
    name == "." || name == ".."
}

/// Appends `text` as one path segment.
pub(crate) fn path_segment(to: &mut String, text: &str) {
    encode(to, text, SEGMENT);
}

/// The configured path, ready for the wire.
pub(crate) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Appends `text` to a path with its slashes and, if all of them are valid, its escapes.
pub(crate) fn raw_path(to: &mut String, text: &str) {
    if is_well_formed(text) {
        to.extend(utf8_percent_encode(text, PATH))
    } else {
        to.extend(utf8_percent_encode(text, SEGMENTS))
    }
}

/// Appends `text` to a query, including the characters that separate pairs.
pub(crate) fn raw_query(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, QUERY));
}

/// The configured query, ready for the wire.
pub(crate) fn query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Appends `text` as a value inside a query.
pub(crate) fn query_value(to: &mut String, text: &str) {
    encode(to, text, QUERY_VALUE);
}

/// Appends bytes as HTML forms do: a space becomes `+`.
pub(crate) fn form(to: &mut String, bytes: &[u8]) {
    for (at, words) in bytes.split(|b| *b == b' ').enumerate() {
        if at > 0 {
            to.push('+');
        }
        to.extend(percent_encode(words, STRICT));
    }
}

/// Appends `text` with all reserved characters encoded, for claims and query values.
pub(crate) fn strict(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, STRICT));
}

/// `text` in visible ASCII. Existing escapes are kept.
pub(crate) fn visible(text: &str) -> String {
    utf8_percent_encode(text, INVISIBLE).to_string()
}

/// `text` without its escapes, all of which must be valid.
///
/// # Errors
/// An escape is not one. The reason contains no part of the text, which may be a password.
pub(crate) fn strictly_decoded(text: &str) -> Result<String, &'static str> {
    if !is_well_formed(text) {
        return Err("a % is not followed by two hexadecimal digits");
    }
    let text = percent_decode_str(text).decode_utf8();
    text.map(|text| text.into_owned())
        .map_err(|_| "an escaped part is not UTF-8")
}

/// Whether every `%` is followed by two hex digits.
pub(crate) fn is_well_formed(text: &str) -> bool {
    malformed(text).is_none()
}

/// The first invalid escape, with at most three characters of it.
pub(crate) fn malformed(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes)
        .find(|at| {
            let digits = bytes.get(at + 1..at + 3);
            !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
        .and_then(|at| text.get(at..))
        .map(|rest| rest.chars().take(3).collect())
}
