//! Percent-encoding by position.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

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

/// Appends `text` as one path segment.
pub(crate) fn path_segment(to: &mut String, text: &str) {
    to.extend(utf8_percent_encode(text, SEGMENT));
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
