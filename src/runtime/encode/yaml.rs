//! The YAML writer: block style, names sorted, numbers as numbers.

use bytes::Bytes;

use super::plain;
use crate::runtime::heavy::is_late;
use crate::runtime::json::{self, Object, Value};

/// The document. `{}` for no data.
pub(super) fn document(data: &Object) -> Bytes {
    let mut out = Vec::with_capacity(256);
    if data.is_empty() {
        out.extend_from_slice(b"{}\n")
    } else {
        object(&mut out, data, 0, true)
    }
    Bytes::from(out)
}

/// Writes members, one per line. The first one starts at the cursor unless `fresh` is set.
fn object(out: &mut Vec<u8>, members: &Object, indent: usize, fresh: bool) {
    for (at, (name, value)) in members.iter().enumerate() {
        if is_late() {
            return;
        }
        if fresh || at > 0 {
            blanks(out, indent);
        }
        string(out, name);
        out.push(b':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push(b'\n');
                object(out, inner, indent + 2, true);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.push(b'\n');
                array(out, inner, indent, true);
            }
            scalar => {
                out.push(b' ');
                self::scalar(out, scalar);
            }
        }
    }
}

fn array(out: &mut Vec<u8>, elements: &[Value], indent: usize, fresh: bool) {
    for (at, value) in elements.iter().enumerate() {
        if is_late() {
            return;
        }
        if fresh || at > 0 {
            blanks(out, indent);
        }
        out.extend_from_slice(b"- ");
        match value {
            Value::Object(inner) if !inner.is_empty() => object(out, inner, indent + 2, false),
            Value::Array(inner) if !inner.is_empty() => array(out, inner, indent + 2, false),
            scalar => self::scalar(out, scalar),
        }
    }
}

fn scalar(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        // Empty containers, numbers, booleans and null are written in the same way in JSON and YAML.
        other => json::write(out, other, json::Style::Canonical),
    }
    out.push(b'\n');
}

/// Plain if every parser of YAML 1.1 and 1.2 reads it as this text, otherwise in double quotes.
fn string(out: &mut Vec<u8>, text: &str) {
    if plain::is_plain(text) {
        out.extend_from_slice(text.as_bytes())
    } else {
        quoted(out, text)
    }
}

/// In double quotes (YAML 1.2 §7.3.1), with escapes for unprintable characters (§5.1).
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ if plain::is_printable(c) => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            // None of these needs more than four digits.
            _ => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
        }
    }
    out.push(b'"');
}

fn blanks(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b' ');
}
