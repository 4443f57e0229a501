//! Literals in Go's syntax: strings, characters, numbers.

use super::lexer::Kind;
use super::tree::Number;

/// The bytes of a quoted or raw string literal, or `None` if an escape is invalid in Go.
pub(super) fn text(literal: &str) -> Option<Vec<u8>> {
    let quote = literal.chars().next()?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.bytes().filter(|byte| *byte != b'\r').collect());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(next) = chars.next() {
        if next != '\\' {
            let mut buffer = [0; 4];
            out.extend_from_slice(next.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match escape(&mut chars, quote)? {
            Escape::Byte(byte) => out.push(byte),
            Escape::Char(c) => {
                let mut buffer = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    Some(out)
}

enum Escape {
    Byte(u8),
    Char(char),
}

fn escape(chars: &mut std::str::Chars<'_>, quote: char) -> Option<Escape> {
    let byte = match chars.next()? {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        c @ ('"' | '\'') if c == quote => c as u8,
        'x' => u8::try_from(digits(chars, 2, 16)?).ok()?,
        'u' => return char::from_u32(digits(chars, 4, 16)?).map(Escape::Char),
        'U' => return char::from_u32(digits(chars, 8, 16)?).map(Escape::Char),
        c @ '0'..='7' => {
            let rest = digits(chars, 2, 8)?;
            u8::try_from(c.to_digit(8)? * 64 + rest).ok()?
        }
        _ => return None,
    };
    Some(Escape::Byte(byte))
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    let mut value = 0;
    for _ in 0..count {
        value = value * radix + chars.next()?.to_digit(radix)?;
    }
    Some(value)
}

/// Parses a number as Go does in a template.
pub(super) fn number(text: &str, kind: Kind) -> Result<Number, String> {
    if kind == Kind::CharConstant {
        let inner = self::text(text).and_then(|bytes| char_of(text, &bytes));
        return match inner {
            Some(value) => Ok(whole(text, value)),
            None => Err(format!("malformed character constant: {text}")),
        };
    }
    let shown = || super::format::quoted(text.as_bytes());
    if kind == Kind::Complex || (text.ends_with('i') && !text.starts_with("0x")) {
        return Err(format!("imaginary numbers are not supported: {}", shown()));
    }
    if let Some(value) = int(text) {
        return Ok(whole(text, value));
    }
    let unsigned = i128::from(i64::MAX) + 1..=i128::from(u64::MAX);
    if wide(text).is_some_and(|value| unsigned.contains(&value)) {
        return Ok(Number {
            text: text.to_owned(),
            int: None,
            float: None,
            is_float: false,
        });
    }
    match float(text) {
        None => Err(format!("illegal number syntax: {}", shown())),
        Some(_) if !text.contains(['.', 'e', 'E', 'p', 'P']) => {
            Err(format!("integer overflow: {}", shown()))
        }
        Some(value) => Ok(real(text, value)),
    }
}

fn whole(text: &str, value: i64) -> Number {
    Number {
        text: text.to_owned(),
        int: Some(value),
        float: Some(value as f64),
        is_float: false,
    }
}

fn real(text: &str, value: f64) -> Number {
    let is_whole = (value as i64) as f64 == value && value.abs() < 9.3e18;
    Number {
        text: text.to_owned(),
        int: is_whole.then_some(value as i64),
        float: Some(value),
        is_float: true,
    }
}

fn char_of(text: &str, bytes: &[u8]) -> Option<i64> {
    let decoded = std::str::from_utf8(bytes).ok();
    let mut chars = match decoded {
        Some(decoded) => decoded.chars(),
        // `'\xff'` is the number 255.
        None if bytes.len() == 1 && text.len() > 3 => return Some(i64::from(bytes[0])),
        None => return None,
    };
    let only = chars.next()?;
    chars.next().is_none().then_some(i64::from(u32::from(only)))
}

/// An integer in Go's syntax with base 0: `12`, `0x1F`, `0b1`, `0o17`, `017`, `1_000`.
pub(super) fn int(text: &str) -> Option<i64> {
    wide(text).and_then(|value| i64::try_from(value).ok())
}

fn wide(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body, prefixed) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..], true),
        Some("0b") => (2, &lower[2..], true),
        Some("0o") => (8, &lower[2..], true),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..], true),
        _ => (10, &lower[..], false),
    };
    if !underscores_fit(body, prefixed) {
        return None;
    }
    let mut value: i128 = 0;
    let mut seen = false;
    for c in body.chars().filter(|c| *c != '_') {
        value = value
            .checked_mul(radix)?
            .checked_add(i128::from(c.to_digit(radix as u32)?))?;
        seen = true;
    }
    seen.then_some(if negative { -value } else { value })
}

/// Underscores are allowed between digits, or between a prefix and a digit.
fn underscores_fit(body: &str, prefixed: bool) -> bool {
    !body.ends_with('_') && !body.contains("__") && (prefixed || !body.starts_with('_'))
}

/// A number, parsed as Go's `ParseFloat` does for templates and settings. One that is too large is no number.
pub(super) fn float(text: &str) -> Option<f64> {
    let starts = text.strip_prefix(['+', '-']).unwrap_or(text);
    let hexadecimal = starts
        .strip_prefix("0x")
        .or_else(|| starts.strip_prefix("0X"));
    if !underscores_separate(hexadecimal.unwrap_or(starts), hexadecimal.is_some()) {
        return None;
    }
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(digits) = hexadecimal {
        let digits: String = digits.chars().filter(|c| *c != '_').collect();
        let value = hexadecimal_float(&digits.to_ascii_lowercase())?;
        return Some(if text.starts_with('-') { -value } else { value });
    }
    let named = matches!(
        starts.to_ascii_lowercase().as_str(),
        "inf" | "infinity" | "nan"
    );
    if !named && !starts.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = clean.parse().ok()?;
    (named || value.is_finite()).then_some(value)
}

/// `1.8p-2`, without the prefix. The exponent is required; digits beyond the precision of a float are cut off.
fn hexadecimal_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let mut exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for (index, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let is_whole = index < whole.len();
        if value >> 56 == 0 {
            value = value * 16 + digit;
            exponent = exponent.saturating_sub(if is_whole { 0 } else { 4 });
        } else if is_whole {
            exponent = exponent.saturating_add(4);
        }
    }
    let power = i32::try_from(exponent.clamp(-4000, 4000)).ok()?;
    // In two steps, so that the power itself stays in range.
    let value = value as f64 * 2_f64.powi(power / 2) * 2_f64.powi(power - power / 2);
    value.is_finite().then_some(value)
}

/// Underscores are allowed between digits, and after a prefix.
fn underscores_separate(digits: &str, prefixed: bool) -> bool {
    let bytes = digits.as_bytes();
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_hexdigit);
    let fits = |at: usize| {
        let before = at
            .checked_sub(1)
            .map_or(prefixed, |at| is_digit(bytes.get(at)));
        bytes[at] != b'_' || (before && is_digit(bytes.get(at + 1)))
    };
    (0..bytes.len()).all(fits)
}
