//! Formats values as Go's `fmt` does.

mod printf;
mod verb;

pub(super) use printf::sprintf;

use super::budget::MADE;
use super::value::{List, Map, Object, Value};

/// Lists and maps nested deeper print as `...`, because a map may contain itself.
const MAX_DEPTH: usize = 256;

/// Whether a text is larger than what functions may make. Lists and maps may be shared, so a small value may print
/// without end. What is written so far is then rejected by the budget.
fn is_full(out: &[u8]) -> bool {
    out.len() > MADE
}

/// The output of an action: `%v`, or `<no value>` for no value.
pub(super) fn printed(value: &Value) -> Vec<u8> {
    if value.is_nothing() {
        return b"<no value>".to_vec();
    }
    plain(value)
}

/// About the length of the text of a value, at most.
pub(super) fn size(value: &Value) -> usize {
    measured(value, 0, &mut 0, |text| text.len())
}

/// The same if it is escaped: six bytes for a character at most, also for the four bytes of one that is not printable.
pub(super) fn escaped_size(value: &Value) -> usize {
    measured(value, 0, &mut 0, |text| {
        let plain = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.' | b',' | b':')
        };
        text.len() + 5 * (text.len() - text.iter().filter(plain).count())
    })
}

/// A small value may print without end, as in `write_plain`, so this stops at what functions may make.
fn measured(value: &Value, depth: usize, sum: &mut usize, of: fn(&[u8]) -> usize) -> usize {
    if *sum > MADE || depth > MAX_DEPTH {
        return *sum;
    }
    *sum = sum.saturating_add(match value {
        Value::Text(text) => of(text) + 2,
        Value::Missing | Value::Nil | Value::Bool(_) | Value::List(_) | Value::Map(_) => 6,
        Value::Int(_) | Value::Int64(_) => 20,
        Value::Float(_) => 24,
        Value::Time(_) | Value::Object(_) => 64,
    });
    match value {
        Value::List(list) => {
            for item in list.items() {
                // A space, or a new line with its indentation.
                *sum += 2 + 2 * depth;
                measured(item, depth + 1, sum, of);
            }
        }
        Value::Map(map) => {
            for (key, item) in map.entries.borrow().iter() {
                *sum = sum.saturating_add(of(key) + 6 + 2 * depth);
                measured(item, depth + 1, sum, of);
            }
        }
        _ => {}
    }
    *sum
}

/// `fmt.Sprint` of one value, `%v`.
pub(super) fn plain(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_plain(&mut out, value, 0);
    out
}

fn write_plain(out: &mut Vec<u8>, value: &Value, depth: usize) {
    if is_full(out) {
        return;
    }
    if depth > MAX_DEPTH {
        return out.extend_from_slice(b"...");
    }
    match value {
        Value::Missing | Value::Nil => out.extend_from_slice(b"<nil>"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Int(value) | Value::Int64(value) => {
            out.extend_from_slice(value.to_string().as_bytes())
        }
        Value::Float(value) => out.extend_from_slice(float(*value).as_bytes()),
        Value::Text(text) => out.extend_from_slice(text),
        Value::List(list) => write_list(out, list, depth),
        Value::Map(map) => write_map(out, map, depth),
        Value::Time(time) => out.extend_from_slice(super::functions::date::shown(time).as_bytes()),
        Value::Object(object) => match &**object {
            Object::Semver(version) => out.extend_from_slice(version.to_string().as_bytes()),
            Object::Named(named) => out.extend_from_slice(named.text().as_bytes()),
        },
    }
}

fn write_list(out: &mut Vec<u8>, list: &List, depth: usize) {
    out.push(b'[');
    for (index, item) in list.items().iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        write_plain(out, item, depth + 1);
    }
    out.push(b']');
}

fn write_map(out: &mut Vec<u8>, map: &Map, depth: usize) {
    out.extend_from_slice(b"map[");
    for (index, (key, value)) in map.snapshot().iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(key);
        out.push(b':');
        write_plain(out, value, depth + 1);
    }
    out.push(b']');
}

/// From this decimal exponent on, the shortest form of a float uses an exponent.
const MIN_LIMIT: i32 = 6;

/// The shortest digits that parse back to the value, with an exponent below -4 and from [`MIN_LIMIT`] on.
pub(super) fn float(value: f64) -> String {
    general(value, None, false, MIN_LIMIT)
}

/// `%g`. Digits are rounded to the precision; without one the shortest form is used.
fn general(value: f64, precision: Option<usize>, keep_zeros: bool, shortest_limit: i32) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let scientific = match precision {
        None => format!("{value:e}"),
        Some(precision) => exponential(value, precision.max(1) - 1),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = match precision {
        None => shortest_limit,
        Some(precision) => {
            let precision = precision.max(1) as i32;
            let significant = if keep_zeros {
                precision
            } else {
                trimmed(mantissa)
                    .chars()
                    .filter(char::is_ascii_digit)
                    .count() as i32
            };
            if precision > significant && significant > exponent {
                significant
            } else {
                precision
            }
        }
    };
    if exponent < -4 || exponent >= limit {
        let mantissa = if keep_zeros {
            mantissa.to_owned()
        } else {
            trimmed(mantissa)
        };
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    match precision {
        None => format!("{value}"),
        Some(precision) => {
            let places = (precision.max(1) as i32 - 1 - exponent).max(0) as usize;
            let text = fixed(value, places);
            if keep_zeros { text } else { trimmed(&text) }
        }
    }
}

/// From here on, all digits of a float64 are zeros: its smallest positive value is 2^-1074.
const MAX_PLACES: usize = 1100;

/// `value` with `places` decimal places. `format!` alone panics above 65,535 places.
fn fixed(value: f64, places: usize) -> String {
    let exact = places.min(MAX_PLACES);
    let mut text = format!("{value:.exact$}");
    text.extend(std::iter::repeat_n('0', places - exact));
    text
}

/// `value` with `places` decimal places and an exponent, as `1.50e2`.
fn exponential(value: f64, places: usize) -> String {
    let exact = places.min(MAX_PLACES);
    let text = format!("{value:.exact$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{mantissa}{}e{exponent}", "0".repeat(places - exact))
}

fn not_finite(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value > 0.0 {
        "+Inf".to_owned()
    } else {
        "-Inf".to_owned()
    }
}

fn trimmed(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

/// A string as Go writes it: `%q`, `strconv.Quote`.
pub(super) fn quoted(bytes: &[u8]) -> String {
    quoted_with(bytes, '"', false)
}

fn quoted_with(bytes: &[u8], quote: char, ascii: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push(quote);
    // The usual text is printed as it is.
    let is_plain =
        |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\'' | b'`' | b'\\');
    if bytes.iter().all(is_plain) {
        out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
        out.push(quote);
        return out;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(text) => (text, &rest[rest.len()..]),
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), bad)
            }
        };
        for c in valid.chars() {
            push_quoted(&mut out, c, quote, ascii);
        }
        rest = bad;
        if let Some((first, behind)) = bad.split_first() {
            out.push_str(&format!("\\x{first:02x}"));
            rest = behind;
        }
    }
    out.push(quote);
    out
}

fn push_quoted(out: &mut String, c: char, quote: char, ascii: bool) {
    match c {
        '\\' => out.push_str("\\\\"),
        _ if c == quote => {
            out.push('\\');
            out.push(c);
        }
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        _ if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        _ if !ascii && is_printable(c) => out.push(c),
        _ if c.is_ascii() => out.push(c),
        _ if u32::from(c) > 0xFFFF => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        _ => out.push_str(&format!("\\u{:04x}", u32::from(c))),
    }
}

/// Go's `strconv.IsPrint`, as far as spaces, controls, format characters and private use are concerned.
pub(super) fn is_printable(c: char) -> bool {
    let code = u32::from(c);
    let format = matches!(code,
        0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E
        | 0x2060..=0x206F | 0xFEFF | 0xFFF0..=0xFFFB | 0xE0000..=0xE0FFF);
    let private = matches!(code, 0xE000..=0xF8FF | 0xF0000..=0x10FFFF) || code & 0xFFFE == 0xFFFE;
    !(c.is_control() || format || private || (c.is_whitespace() && c != ' '))
}

/// `fmt.Sprint`: a space between two operands if neither is a string.
pub(super) fn sprint(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut after_text = true;
    for (index, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if index > 0 && !is_text && !after_text {
            out.push(b' ');
        }
        write_plain(&mut out, value, 0);
        after_text = is_text;
    }
    out
}

/// `fmt.Sprintln`.
pub(super) fn sprintln(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        write_plain(&mut out, value, 0);
    }
    out.push(b'\n');
    out
}
