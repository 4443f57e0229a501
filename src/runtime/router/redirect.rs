//! Redirects to the spelling of an endpoint's path: a slash at the end, repeated slashes, letter case.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::runtime::template::escape;
use crate::telemetry::sanitize::push_html;

/// A response that redirects the client to another path of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301 for GET, 307 for all other methods, as in KrakenD.
    pub status: StatusCode,
    /// Path and query. It begins with exactly one slash.
    pub location: HeaderValue,
    /// A small page for GET, with `text/html; charset=utf-8`. Empty for other methods.
    pub body: Bytes,
}

impl Redirect {
    /// The path of its location.
    pub fn path(&self) -> &str {
        let location = self.location.to_str().unwrap_or_default();
        location.split('?').next().unwrap_or_default()
    }

    /// The same redirect without this number of bytes at the beginning of its path. `None` if the rest is not a path.
    pub fn without(&self, bytes: usize) -> Option<Redirect> {
        let location = self.location.to_str().ok()?.get(bytes..)?;
        let location = relative(location.to_owned())?;
        Some(Redirect {
            status: self.status,
            body: if self.body.is_empty() {
                Bytes::new()
            } else {
                Bytes::from(moved_permanently(&location))
            },
            location: HeaderValue::from_str(&location).ok()?,
        })
    }

    pub(super) fn to(method: &Method, path: &str, query: Option<&str>) -> Redirect {
        let mut location = escape::visible(path);
        if let Some(query) = query {
            location.push('?');
            location.push_str(&escape::visible(query));
        }
        let get = *method == Method::GET;
        let body = if get {
            Bytes::from(moved_permanently(&location))
        } else {
            Bytes::new()
        };
        Redirect {
            status: if get {
                StatusCode::MOVED_PERMANENTLY
            } else {
                StatusCode::TEMPORARY_REDIRECT
            },
            // The text is visible ASCII at this point, so the value is always valid.
            location: HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/")),
            body,
        }
    }
}

/// The page of a redirect, as Go's `http.Redirect` writes it.
pub(crate) fn moved_permanently(location: &str) -> String {
    let mut page = String::from("<a href=\"");
    push_html(location, &mut page);
    page.push_str("\">Moved Permanently</a>.\n\n");
    page
}

/// Only a path that no browser takes for another host: `//h` and `/\h` would name one.
pub(super) fn relative(path: String) -> Option<String> {
    let second = path.as_bytes().get(1);
    (path.starts_with('/') && !matches!(second, Some(b'/' | b'\\'))).then_some(path)
}

/// Prepends `X-Forwarded-Prefix`, without characters that could make it more than a path.
pub(super) fn with_prefix(path: &str, prefix: Option<&str>) -> String {
    let Some(prefix) = prefix else {
        return path.to_owned();
    };
    let mut full = String::with_capacity(prefix.len() + path.len() + 1);
    full.push('/');
    let kept = prefix
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-'));
    for c in kept.chain(['/']) {
        if c != '/' || !full.ends_with('/') {
            full.push(c);
        }
    }
    full.push_str(path.trim_start_matches('/'));
    full
}

/// `//` becomes `/`. Dot segments are kept, so that a route cannot be reached in a way that its author did not write.
pub(super) fn collapse_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut clean = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !clean.ends_with('/') {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Whether no slash is repeated and there is no `;`. This is the common case, checked in one pass.
pub(super) fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let odd = matches!(byte, b';' | b'%') || byte == b'/' && before == b'/';
        before = byte;
        !odd
    })
}

/// The path without the part after a `;` in each of its segments, encoded or not.
pub(super) fn without_parameters(path: &str) -> String {
    let names: Vec<&str> = path.split('/').map(before_parameters).collect();
    names.join("/")
}

/// The part before the first `;`, encoded or not.
pub(super) fn before_parameters(text: &str) -> &str {
    let at = memchr::memchr2_iter(b';', b'%', text.as_bytes()).find(|at| {
        let rest = &text.as_bytes()[*at..];
        rest[0] == b';'
            || rest
                .get(..3)
                .is_some_and(|three| three.eq_ignore_ascii_case(b"%3b"))
    });
    at.map_or(text, |at| &text[..at])
}

/// Whether a segment has only parameters (`;x`) or blanks. Many backends see nothing there.
pub(super) fn has_nameless(path: &str) -> bool {
    path.split('/')
        .any(|part| !part.is_empty() && trimmed(before_parameters(part)).is_empty())
}

/// The path without such segments and empty ones: with the other segments as they are, and as [`read_again`] trims
/// them.
pub(super) fn without_nameless(path: &str) -> [String; 2] {
    let (mut raw, mut short) = (String::new(), String::new());
    for part in path.split('/') {
        let name = trimmed(before_parameters(part));
        if !name.is_empty() {
            raw.extend(["/", part]);
            short.extend(["/", name]);
        }
    }
    [raw, short]
}

/// Other readings of a path: decoded again and again, cut off where a decoded `?` or `#` begins a query or a fragment,
/// and without the blanks and dots at the end of segments, encoded or not, which some file systems ignore.
pub(super) fn read_again(path: &str) -> SmallVec<[String; 3]> {
    let mut readings = SmallVec::new();
    if !path.contains('%') && !path.contains("./") && !path.ends_with('.') {
        return readings;
    }
    let mut decoded = None;
    let mut next = decoded_once(path);
    // Each round makes the text shorter.
    while decoded.as_deref().unwrap_or(path) != next && escape::is_well_formed(&next) {
        let again = decoded_once(&next);
        decoded = Some(std::mem::replace(&mut next, again));
    }
    for text in [Some(path), decoded.as_deref()].into_iter().flatten() {
        let cut = before_query(text);
        if cut.len() < text.len() {
            readings.push(cut.to_owned());
        }
        let name = before_parameters(cut);
        if name.len() < cut.len() {
            readings.push(clean(name));
        }
        let segments = cut.split('/').map(before_parameters);
        let trimmed: Vec<&str> = segments.map(trimmed).collect();
        let trimmed = trimmed.join("/");
        if trimmed != cut {
            readings.push(clean(&trimmed));
        }
    }
    readings.extend(decoded);
    readings
}

/// The text with `%` and the characters that never need an encoding (RFC 3986 §2.3) decoded. All others keep theirs,
/// because they may separate parts.
fn decoded_once(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, coded) = rest.split_at(at);
        decoded.push_str(before);
        let plain = coded
            .get(1..3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let plain = plain
            .map(char::from)
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '%' | '-' | '.' | '_' | '~'));
        let length = if plain.is_some() { 3 } else { 1 };
        decoded.push(plain.unwrap_or('%'));
        rest = &coded[length..];
    }
    decoded.push_str(rest);
    decoded
}

/// A segment without the encoded blanks and the dots at its end, encoded or not. Dot segments keep their dots.
fn trimmed(segment: &str) -> &str {
    let without = |text: &'_ str, ends: &[&str]| {
        let rest = ends.iter().find_map(|end| text.strip_suffix(end));
        rest.map(str::len)
    };
    let mut rest = segment;
    loop {
        let shorter = match without(rest, &["%20", "%09"]) {
            Some(length) => length,
            None => match without(rest, DOTS) {
                Some(length) if length > 0 && !DOTS.contains(&&rest[..length]) => length,
                _ => return rest,
            },
        };
        rest = &rest[..shorter];
    }
}

/// The spellings of a dot.
const DOTS: &[&str] = &[".", "%2e", "%2E"];

/// The part before the first encoded `?` or `#`.
fn before_query(text: &str) -> &str {
    let at = memchr::memchr_iter(b'%', text.as_bytes()).find(|at| {
        let three = text.as_bytes().get(*at..at + 3).unwrap_or_default();
        three == b"%23" || three.eq_ignore_ascii_case(b"%3f")
    });
    at.map_or(text, |at| &text[..at])
}

/// The segments of a path after `//`, `.` and `..` are resolved. Encoded dots do not count as dots here.
pub(super) fn segments(path: &str) -> Vec<&str> {
    let mut kept = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(part),
        }
    }
    kept
}

/// The path without `//`, `.` and `..`. A trailing slash is kept.
pub(super) fn clean(path: &str) -> String {
    let kept = segments(path);
    let slash = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let mut clean = String::with_capacity(path.len());
    for part in kept {
        clean.push('/');
        clean.push_str(part);
    }
    if slash || clean.is_empty() {
        clean.push('/');
    }
    clean
}
