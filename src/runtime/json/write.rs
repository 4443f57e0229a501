//! Serializes a value: compact, names sorted, escaped as in KrakenD.

use bytes::Bytes;

use super::out::Out;
use super::value::{Object, Value};

/// How slices of an upstream's body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the upstream wrote them. This keeps the value and is the cheapest.
    Verbatim,
    /// Like all other values: names sorted, no white space, `<`, `>` and `&` escaped.
    Canonical,
}

impl Style {
    /// The style for the `canonical` setting.
    pub fn canonical(on: bool) -> Style {
        if on {
            Style::Canonical
        } else {
            Style::Verbatim
        }
    }
}

/// The JSON text of `value`.
pub fn to_bytes(value: &Value, style: Style) -> Bytes {
    let mut out = Vec::with_capacity(size_hint(value));
    write(&mut out, value, style);
    Bytes::from(out)
}

/// Appends the JSON text of `value` to `out`.
pub(crate) fn write(out: &mut impl Out, value: &Value, style: Style) {
    match value {
        Value::Null => out.put(b"null"),
        Value::Bool(true) => out.put(b"true"),
        Value::Bool(false) => out.put(b"false"),
        Value::Number(text) => out.put(text.as_bytes()),
        Value::String(text) => write_string(out, text),
        Value::Raw(raw) if style == Style::Canonical && !raw.is_settled() => {
            write(out, &value.expanded(), style);
        }
        Value::Raw(raw) => raw.write(out),
        Value::Array(array) => {
            out.put(b"[");
            for (at, element) in array.iter().enumerate() {
                if at > 0 {
                    out.put(b",");
                }
                write(out, element, style);
            }
            out.put(b"]");
        }
        Value::Object(object) => write_object(out, object, style),
    }
}

/// Appends the JSON text of an object to `out`.
pub(crate) fn write_object(out: &mut impl Out, object: &Object, style: Style) {
    out.put(b"{");
    for (at, (name, member)) in object.iter().enumerate() {
        if at > 0 {
            out.put(b",");
        }
        write_string(out, name);
        out.put(b":");
        write(out, member, style);
    }
    out.put(b"}");
}

/// Appends `text` as a JSON string, with `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub(crate) fn write_string(out: &mut impl Out, text: &str) {
    write_text(out, text.as_bytes());
}

/// Whether a string with these bytes is written as it is.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| CLASS[usize::from(*byte)] == PLAIN)
}

/// Appends bytes that are UTF-8 like `write_string`.
pub(super) fn write_text(out: &mut impl Out, bytes: &[u8]) {
    out.put(b"\"");
    escape(out, bytes);
    out.put(b"\"");
}

/// Appends bytes like `write_string`, with U+FFFD in place of what is not UTF-8.
pub(crate) fn write_lossy(out: &mut impl Out, bytes: &[u8]) {
    out.put(b"\"");
    for chunk in bytes.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.put("\u{fffd}".as_bytes());
        }
    }
    out.put(b"\"");
}

/// Appends the inside of a string.
fn escape(out: &mut impl Out, bytes: &[u8]) {
    if is_plain(bytes) {
        out.put(bytes);
        return;
    }
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let class = CLASS.get(usize::from(*byte)).copied().unwrap_or(PLAIN);
        if class == PLAIN {
            continue;
        }
        if class == SEPARATOR && !is_separator(bytes, at) {
            continue;
        }
        out.put(bytes.get(from..at).unwrap_or_default());
        from = at + 1;
        match class {
            UNICODE => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.put(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            SEPARATOR => {
                out.put(b"\\u202");
                let last = bytes.get(at + 2).copied().unwrap_or_default();
                out.put(&[HEX[usize::from(last & 15)]]);
                from = at + 3;
            }
            short => out.put(&[b'\\', short]),
        }
    }
    out.put(bytes.get(from..).unwrap_or_default());
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const PLAIN: u8 = 0;
const UNICODE: u8 = 1;
const SEPARATOR: u8 = 2;

/// How each byte of a string is handled: unchanged, as `\u00XX`, with a check for U+2028 and U+2029, or as a
/// backslash and this letter.
const CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut at = 0;
    while at < 0x20 {
        class[at] = UNICODE;
        at += 1;
    }
    class[8] = b'b';
    class[9] = b't';
    class[10] = b'n';
    class[12] = b'f';
    class[13] = b'r';
    class[b'"' as usize] = b'"';
    class[b'\\' as usize] = b'\\';
    class[b'<' as usize] = UNICODE;
    class[b'>' as usize] = UNICODE;
    class[b'&' as usize] = UNICODE;
    class[0xe2] = SEPARATOR;
    class
};

/// Whether U+2028 or U+2029 starts at `at`.
fn is_separator(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8] | [0x80, 0xa9]))
}

/// The approximate length of the text: exact for slices, estimated for the rest.
pub(crate) fn size_hint(value: &Value) -> usize {
    match value {
        Value::Raw(raw) => raw.text().len(),
        Value::String(text) => text.len() + 2,
        Value::Number(text) => text.len(),
        Value::Object(object) => object
            .iter()
            .map(|(name, member)| name.len() + 4 + size_hint(member))
            .sum::<usize>()
            .saturating_add(2),
        Value::Array(array) => array
            .iter()
            .map(|element| 1 + size_hint(element))
            .sum::<usize>()
            .saturating_add(2),
        Value::Null | Value::Bool(_) => 5,
    }
}
