//! Percent-encoding by position.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

/// What a path segment cannot hold as it is. The reference leaves `$&+,/:;=@` alone in a path, and so do backends that
/// compare text; a slash inside a value, though, would be another segment.
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

/// The same of several segments: slashes stay.
const SEGMENTS: &AsciiSet = &SEGMENT.remove(b'/');

/// What the file's own path cannot hold as it is: slashes and escapes stay.
const PATH: &AsciiSet = &SEGMENTS.remove(b'%');

/// What the file's own query cannot hold as it is. The reference sends it verbatim, blanks and all, which breaks the
/// request line; only what would do that is encoded.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'#');

/// What a value in the query cannot hold: everything that separates pairs or changes under decoding.
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

/// What a `Location` cannot show as it is; escapes that are there stay.
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

/// What a path that was decoded cannot show as it is.
pub(crate) const DECODED: &AsciiSet = &INVISIBLE.add(b'%').add(b'?');

/// Appends `text` as one path segment.
pub(crate) fn path_segment(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, SEGMENT));
}

/// The file's own path, ready for the wire.
pub(crate) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Appends `text` to a path with its slashes and its escapes, if all of these are escapes.
pub(crate) fn raw_path(to: &mut String, text: &str) {
    match is_well_formed(text) {
        true => to.extend(utf8_percent_encode(text, PATH)),
        false => to.extend(utf8_percent_encode(text, SEGMENTS)),
    }
}

/// Appends `text` to a query with all that separates pairs.
pub(crate) fn raw_query(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, QUERY));
}

/// The file's own query, ready for the wire.
pub(crate) fn query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Appends `text` as a value inside a query.
pub(crate) fn query_value(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, QUERY_VALUE));
}

/// Appends bytes as HTML forms do: a blank becomes `+`.
pub(crate) fn form(to: &mut String, bytes: &[u8]) {
    for (at, words) in bytes.split(|b| *b == b' ').enumerate() {
        if at > 0 {
            to.push('+');
        }
        to.extend(percent_encode(words, STRICT));
    }
}

/// Appends `text` with everything encoded that has a meaning in some URL: claims, query values.
pub(crate) fn strict(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, STRICT));
}

/// `text` in visible ASCII, with its own escapes kept.
pub(crate) fn visible(text: &str) -> String {
    utf8_percent_encode(text, INVISIBLE).to_string()
}

/// Whether two hex digits follow every `%`.
pub(crate) fn is_well_formed(text: &str) -> bool {
    malformed(text).is_none()
}

/// The first escape that is none, at most three characters of it.
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
