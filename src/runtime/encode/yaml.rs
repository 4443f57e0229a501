//! The YAML writer: block style, names sorted, numbers as numbers.

use super::plain;
use crate::runtime::heavy::is_late;
use crate::runtime::json::{self, Object, Out, Value};

/// Writes the document. `{}` for no data.
pub(super) fn write(out: &mut impl Out, data: &Object) {
    if data.is_empty() {
        out.put(b"{}\n");
    } else {
        object(out, data, 0, true);
    }
}

/// Writes members, one per line. The first one starts at the cursor unless `fresh` is set.
fn object(out: &mut impl Out, members: &Object, indent: usize, fresh: bool) {
    for (at, (name, value)) in members.iter().enumerate() {
        if is_late() {
            return;
        }
        if fresh || at > 0 {
            blanks(out, indent);
        }
        string(out, name);
        out.put(b":");
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.put(b"\n");
                object(out, inner, indent + 2, true);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.put(b"\n");
                array(out, inner, indent, true);
            }
            scalar => {
                out.put(b" ");
                self::scalar(out, scalar);
            }
        }
    }
}

fn array(out: &mut impl Out, elements: &[Value], indent: usize, fresh: bool) {
    for (at, value) in elements.iter().enumerate() {
        if is_late() {
            return;
        }
        if fresh || at > 0 {
            blanks(out, indent);
        }
        out.put(b"- ");
        match value {
            Value::Object(inner) if !inner.is_empty() => object(out, inner, indent + 2, false),
            Value::Array(inner) if !inner.is_empty() => array(out, inner, indent + 2, false),
            scalar => self::scalar(out, scalar),
        }
    }
}

fn scalar(out: &mut impl Out, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        // Empty containers, numbers, booleans and null are written in the same way in JSON and YAML.
        other => json::write(out, other, json::Style::Canonical),
    }
    out.put(b"\n");
}

/// Plain if every parser of YAML 1.1 and 1.2 reads it as this text, otherwise in double quotes.
fn string(out: &mut impl Out, text: &str) {
    if plain::is_plain(text) {
        out.put(text.as_bytes())
    } else {
        quoted(out, text)
    }
}

/// In double quotes (YAML 1.2 §7.3.1), with escapes for unprintable characters (§5.1).
fn quoted(out: &mut impl Out, text: &str) {
    out.put(b"\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.put(&[b'\\', c as u8]),
            '\n' => out.put(b"\\n"),
            '\r' => out.put(b"\\r"),
            '\t' => out.put(b"\\t"),
            _ if plain::is_printable(c) => {
                out.put(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            // None of these needs more than four digits.
            _ => out.put(format!("\\u{:04x}", u32::from(c)).as_bytes()),
        }
    }
    out.put(b"\"");
}

fn blanks(out: &mut impl Out, count: usize) {
    const BLANKS: [u8; 32] = [b' '; 32];
    let mut left = count;
    while left > 0 {
        let step = left.min(BLANKS.len());
        out.put(&BLANKS[..step]);
        left -= step;
    }
}
