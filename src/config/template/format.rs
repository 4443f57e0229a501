//! Formats values as Go's `fmt` does.

use super::value::{List, Map, Object, Value};

/// Lists and maps nested deeper print as `...`, because a map may contain itself.
const MAX_DEPTH: usize = 256;

/// The output of an action: `%v`, or `<no value>` for no value.
pub(super) fn printed(value: &Value) -> Vec<u8> {
    if value.is_nothing() {
        return b"<no value>".to_vec();
    }
    plain(value)
}

/// `fmt.Sprint` of one value, `%v`.
pub(super) fn plain(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_plain(&mut out, value, 0);
    out
}

fn write_plain(out: &mut Vec<u8>, value: &Value, depth: usize) {
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
const SHORTEST_LIMIT: i32 = 6;

/// The shortest digits that parse back to the value, with an exponent below -4 and from [`SHORTEST_LIMIT`] on.
pub(super) fn float(value: f64) -> String {
    general(value, None, false, SHORTEST_LIMIT)
}

/// `%g`. Digits are rounded to the precision; without one the shortest form is used.
fn general(value: f64, precision: Option<usize>, keep_zeros: bool, shortest_limit: i32) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let scientific = match precision {
        None => format!("{value:e}"),
        Some(precision) => format!("{value:.*e}", precision.max(1) - 1),
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
            let text = format!("{value:.places$}");
            if keep_zeros { text } else { trimmed(&text) }
        }
    }
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
fn is_printable(c: char) -> bool {
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

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The largest width or precision that Go accepts.
const MAX_WIDTH: i64 = 1_000_000;

/// `fmt.Sprintf`. Errors do not fail; they print `%!verb(…)`.
pub(super) fn sprintf(format: &[u8], values: &[Value]) -> Vec<u8> {
    let mut printer = Printer {
        format,
        at: 0,
        values,
        next: 0,
        reordered: false,
        out: Vec::new(),
    };
    printer.run();
    printer.out
}

struct Printer<'a> {
    format: &'a [u8],
    at: usize,
    values: &'a [Value],
    next: usize,
    reordered: bool,
    out: Vec<u8>,
}

impl Printer<'_> {
    fn run(&mut self) {
        while self.at < self.format.len() {
            let rest = &self.format[self.at..];
            let text = rest
                .iter()
                .position(|byte| *byte == b'%')
                .unwrap_or(rest.len());
            self.out.extend_from_slice(&rest[..text]);
            self.at += text;
            if self.at < self.format.len() {
                self.at += 1;
                self.directive();
            }
        }
        if !self.reordered && self.next < self.values.len() {
            self.extra();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn directive(&mut self) {
        let mut flags = Flags::default();
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = true,
                b'+' => flags.plus = true,
                b'-' => flags.minus = true,
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        let mut indexed = match self.index() {
            Ok(indexed) => indexed,
            Err(()) => return self.bad_index(),
        };
        if self.peek() == Some(b'*') {
            self.at += 1;
            match self.star() {
                Some(width) => {
                    flags.minus |= width < 0;
                    flags.width = Some(width.unsigned_abs() as usize);
                }
                None => self.out.extend_from_slice(b"%!(BADWIDTH)"),
            }
            indexed = false;
        } else if let Some(width) = self.number() {
            flags.width = Some(width);
            if indexed {
                return self.bad_index();
            }
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if indexed {
                return self.bad_index();
            }
            indexed = match self.index() {
                Ok(indexed) => indexed,
                Err(()) => return self.bad_index(),
            };
            if self.peek() == Some(b'*') {
                self.at += 1;
                match self.star() {
                    Some(precision) if precision >= 0 => flags.precision = Some(precision as usize),
                    Some(_) => {}
                    None => self.out.extend_from_slice(b"%!(BADPREC)"),
                }
                indexed = false;
            } else {
                flags.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !indexed && self.index().is_err() {
            return self.bad_index();
        }
        self.verb(flags);
    }

    fn verb(&mut self, flags: Flags) {
        let rest = String::from_utf8_lossy(&self.format[self.at..]).into_owned();
        let Some(verb) = rest.chars().next() else {
            return self.out.extend_from_slice(b"%!(NOVERB)");
        };
        self.at = (self.at + verb.len_utf8()).min(self.format.len());
        if verb == '%' {
            return self.out.push(b'%');
        }
        let Some(value) = self.values.get(self.next) else {
            return self
                .out
                .extend_from_slice(format!("%!{verb}(MISSING)").as_bytes());
        };
        self.next += 1;
        let text = argument(value, verb, flags);
        self.out.extend_from_slice(&text);
    }

    fn bad_index(&mut self) {
        let rest =
            String::from_utf8_lossy(&self.format[self.at.min(self.format.len())..]).into_owned();
        let verb = rest.chars().next().unwrap_or('!');
        self.at = (self.at + verb.len_utf8()).min(self.format.len());
        self.out
            .extend_from_slice(format!("%!{verb}(BADINDEX)").as_bytes());
    }

    fn number(&mut self) -> Option<usize> {
        let start = self.at;
        let mut value: usize = 0;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            value = (value * 10 + usize::from(byte - b'0')).min(MAX_WIDTH as usize);
            self.at += 1;
        }
        (self.at > start).then_some(value)
    }

    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next).cloned();
        self.next += 1;
        match value {
            Some(Value::Int(value) | Value::Int64(value)) if value.abs() <= MAX_WIDTH => {
                Some(value)
            }
            _ => None,
        }
    }

    /// `[2]` before a verb or a star.
    fn index(&mut self) -> Result<bool, ()> {
        if self.peek() != Some(b'[') {
            return Ok(false);
        }
        self.reordered = true;
        let Some(close) = self.format[self.at..].iter().position(|byte| *byte == b']') else {
            self.at += 1;
            return Err(());
        };
        let inner = &self.format[self.at + 1..self.at + close];
        self.at += close + 1;
        let number = std::str::from_utf8(inner)
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        match number {
            Some(number) if number >= 1 && number <= self.values.len() => {
                self.next = number - 1;
                Ok(true)
            }
            _ => Err(()),
        }
    }

    fn extra(&mut self) {
        self.out.extend_from_slice(b"%!(EXTRA ");
        for (index, value) in self.values[self.next..].iter().enumerate() {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            if value.is_nothing() {
                self.out.extend_from_slice(b"<nil>");
                continue;
            }
            self.out.extend_from_slice(value.type_name().as_bytes());
            self.out.push(b'=');
            write_plain(&mut self.out, value, 0);
        }
        self.out.push(b')');
    }
}

fn argument(value: &Value, verb: char, flags: Flags) -> Vec<u8> {
    match (verb, value) {
        ('T', _) => return padded(type_of(value).as_bytes().to_vec(), flags),
        ('v', _) if value.is_nothing() => return padded(b"<nil>".to_vec(), flags),
        ('v', _) if flags.sharp => return go_syntax(value).into_bytes(),
        (_, _) if value.is_nothing() => return format!("%!{verb}(<nil>)").into_bytes(),
        _ => {}
    }
    match value {
        Value::List(list) => {
            let mut out = vec![b'['];
            for (index, item) in list.items().iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                out.extend(argument(item, verb, flags));
            }
            out.push(b']');
            out
        }
        Value::Map(map) => {
            let mut out = b"map[".to_vec();
            for (index, (key, value)) in map.snapshot().iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                out.extend(argument(&Value::Text(key.clone()), verb, flags));
                out.push(b':');
                out.extend(argument(value, verb, flags));
            }
            out.push(b']');
            out
        }
        Value::Bool(value) if matches!(verb, 't' | 'v') => {
            padded(value.to_string().into_bytes(), flags)
        }
        Value::Int(number) | Value::Int64(number) => {
            integer(*number, verb, flags).unwrap_or_else(|| bad(value, verb))
        }
        Value::Float(number) => real(*number, verb, flags).unwrap_or_else(|| bad(value, verb)),
        Value::Text(text) => string(text, verb, flags).unwrap_or_else(|| bad(value, verb)),
        Value::Time(_) | Value::Object(_) if matches!(verb, 's' | 'v') => {
            padded(plain(value), flags)
        }
        _ => bad(value, verb),
    }
}

fn type_of(value: &Value) -> &'static str {
    if value.is_nothing() {
        "<nil>"
    } else {
        value.type_name()
    }
}

fn bad(value: &Value, verb: char) -> Vec<u8> {
    let mut out = format!("%!{verb}({}=", value.type_name()).into_bytes();
    write_plain(&mut out, value, 0);
    out.push(b')');
    out
}

fn integer(value: i64, verb: char, flags: Flags) -> Option<Vec<u8>> {
    let magnitude = value.unsigned_abs();
    let digits = match verb {
        'd' | 'v' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' | 'O' => format!("{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        'c' => return Some(padded(char_text(value).into_bytes(), flags)),
        'q' => {
            let c = u32::try_from(value)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or('\u{fffd}');
            let mut buffer = [0; 4];
            let text = c.encode_utf8(&mut buffer).as_bytes();
            return Some(padded(
                quoted_with(text, '\'', flags.plus).into_bytes(),
                flags,
            ));
        }
        'U' => {
            let mut text = format!("U+{magnitude:04X}");
            if flags.sharp
                && let Some(c) = u32::try_from(value).ok().and_then(char::from_u32)
            {
                text.push_str(&format!(" '{c}'"));
            }
            return Some(padded(text.into_bytes(), flags));
        }
        _ => return None,
    };
    let mut digits = digits;
    if let Some(precision) = flags.precision {
        if precision == 0 && value == 0 {
            return Some(padded(
                Vec::new(),
                Flags {
                    zero: false,
                    ..flags
                },
            ));
        }
        while digits.len() < precision {
            digits.insert(0, '0');
        }
    }
    let prefix = match verb {
        'x' if flags.sharp => "0x",
        'X' if flags.sharp => "0X",
        'b' if flags.sharp => "0b",
        'o' if flags.sharp && !digits.starts_with('0') => "0",
        'O' => "0o",
        _ => "",
    };
    let sign = sign_of(value < 0, flags);
    let zero = flags.zero && !flags.minus && flags.precision.is_none();
    Some(signed(sign, prefix, &digits, Flags { zero, ..flags }))
}

fn sign_of(negative: bool, flags: Flags) -> &'static str {
    if negative {
        "-"
    } else if flags.plus {
        "+"
    } else if flags.space {
        " "
    } else {
        ""
    }
}

fn signed(sign: &str, prefix: &str, digits: &str, flags: Flags) -> Vec<u8> {
    let mut body = String::new();
    if flags.zero
        && let Some(width) = flags.width
    {
        let length = sign.len() + prefix.len() + digits.len();
        body.extend(std::iter::repeat_n('0', width.saturating_sub(length)));
    }
    padded(
        format!("{sign}{prefix}{body}{digits}").into_bytes(),
        Flags {
            zero: false,
            ..flags
        },
    )
}

fn char_text(value: i64) -> String {
    u32::try_from(value)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or('\u{fffd}')
        .to_string()
}

fn real(value: f64, verb: char, flags: Flags) -> Option<Vec<u8>> {
    let magnitude = value.abs();
    let text = if !value.is_finite() {
        not_finite(magnitude).trim_start_matches('+').to_owned()
    } else {
        match verb {
            'v' | 'g' | 'G' => general(magnitude, flags.precision, flags.sharp, SHORTEST_LIMIT),
            'f' | 'F' => format!("{magnitude:.*}", flags.precision.unwrap_or(6)),
            'e' | 'E' => scientific(magnitude, flags.precision.unwrap_or(6)),
            _ => return None,
        }
    };
    let text = if matches!(verb, 'E' | 'G') {
        text.to_uppercase()
    } else {
        text
    };
    let sign = sign_of(value.is_sign_negative() && !value.is_nan(), flags);
    let zero = flags.zero && !flags.minus && value.is_finite();
    Some(signed(sign, "", &text, Flags { zero, ..flags }))
}

fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn string(text: &[u8], verb: char, flags: Flags) -> Option<Vec<u8>> {
    let cut = |bytes: &[u8]| match flags.precision {
        None => bytes.to_vec(),
        Some(precision) => {
            let lossy = String::from_utf8_lossy(bytes);
            match std::str::from_utf8(bytes) {
                Ok(text) => text
                    .chars()
                    .take(precision)
                    .collect::<String>()
                    .into_bytes(),
                Err(_) => lossy
                    .chars()
                    .take(precision)
                    .collect::<String>()
                    .into_bytes(),
            }
        }
    };
    let out = match verb {
        's' | 'v' => cut(text),
        'q' => {
            let text = cut(text);
            if flags.sharp && !text.contains(&b'`') {
                [b"`", &text[..], b"`"].concat()
            } else {
                quoted_with(&text, '"', flags.plus).into_bytes()
            }
        }
        'x' | 'X' => {
            let bytes = match flags.precision {
                Some(precision) => &text[..precision.min(text.len())],
                None => text,
            };
            let pieces: Vec<String> = bytes
                .iter()
                .map(|byte| {
                    if verb == 'x' {
                        format!("{byte:02x}")
                    } else {
                        format!("{byte:02X}")
                    }
                })
                .collect();
            let prefix = match (flags.sharp, verb) {
                (true, 'x') => "0x",
                (true, _) => "0X",
                _ => "",
            };
            let glue = if flags.space { " " } else { "" };
            let hex = if flags.space && flags.sharp {
                pieces
                    .iter()
                    .map(|piece| format!("{prefix}{piece}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            } else {
                format!(
                    "{}{}",
                    if pieces.is_empty() { "" } else { prefix },
                    pieces.join(glue)
                )
            };
            hex.into_bytes()
        }
        _ => return None,
    };
    Some(padded(out, flags))
}

fn padded(text: Vec<u8>, flags: Flags) -> Vec<u8> {
    let length = String::from_utf8_lossy(&text).chars().count();
    let missing = flags.width.unwrap_or(0).saturating_sub(length);
    if missing == 0 {
        return text;
    }
    if flags.minus {
        let mut text = text;
        text.extend(std::iter::repeat_n(b' ', missing));
        return text;
    }
    let fill = if flags.zero { b'0' } else { b' ' };
    let mut out = vec![fill; missing];
    out.extend(text);
    out
}

/// `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Missing | Value::Nil => "interface {}(nil)".to_owned(),
        Value::Text(text) => quoted(text),
        Value::Float(value) => general(*value, None, false, 21),
        Value::List(list) => {
            if list.items.is_none() {
                return format!("{}(nil)", value.type_name());
            }
            let items: Vec<String> = list.items().iter().map(go_syntax).collect();
            format!("{}{{{}}}", value.type_name(), items.join(", "))
        }
        Value::Map(map) => {
            let entries = map.snapshot();
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}:{}", quoted(key), go_syntax(value)))
                .collect();
            format!("{}{{{}}}", value.type_name(), entries.join(", "))
        }
        _ => String::from_utf8_lossy(&plain(value)).into_owned(),
    }
}
