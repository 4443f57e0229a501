//! The YAML writer: block style, names sorted, numbers as numbers.

use bytes::Bytes;

use crate::runtime::json::{self, Object, Value};

/// The whole text; `{}` for no data.
pub(super) fn document(data: &Object) -> Bytes {
    let mut out = Vec::with_capacity(256);
    match data.is_empty() {
        true => out.extend_from_slice(b"{}\n"),
        false => object(&mut out, data, 0, true),
    }
    Bytes::from(out)
}

/// Members, one a line. The first one stands where the cursor is unless `fresh`.
fn object(out: &mut Vec<u8>, members: &Object, indent: usize, fresh: bool) {
    for (at, (name, value)) in members.iter().enumerate() {
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
        // Empty containers, numbers, booleans and null are written alike in JSON and YAML.
        other => json::write(out, other, json::Style::Canonical),
    }
    out.push(b'\n');
}

/// Plain if no reader can take it for something else, else as a JSON string, which YAML reads too.
fn string(out: &mut Vec<u8>, text: &str) {
    match is_plain(text) {
        true => out.extend_from_slice(text.as_bytes()),
        false => json::write_string(out, text),
    }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 11] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
    ];
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@');
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| letters(c) || c == ' ')
        && !text.ends_with(' ')
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn blanks(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b' ');
}
