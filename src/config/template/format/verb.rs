//! Formats one value with one verb.

use super::printf::Flags;
use super::*;

/// Appends a value as the verb prints it. `depth` counts the lists and maps around it.
pub(super) fn argument(out: &mut Vec<u8>, value: &Value, verb: char, flags: Flags, depth: usize) {
    if is_full(out) {
        return;
    }
    if depth > MAX_DEPTH {
        return out.extend_from_slice(b"...");
    }
    match (verb, value) {
        ('T', _) => {}
        ('v', _) if flags.sharp && !value.is_nothing() => return go_syntax(out, value, depth),
        // An element without a value has no type that a verb could fit.
        (_, value) if depth > 0 && value.is_nothing() => return out.extend_from_slice(b"<nil>"),
        (_, Value::List(list)) => return list_argument(out, list, verb, flags, depth),
        (_, Value::Map(map)) => return map_argument(out, map, verb, flags, depth),
        _ => {}
    }
    out.extend(scalar(value, verb, flags));
}

fn list_argument(out: &mut Vec<u8>, list: &List, verb: char, flags: Flags, depth: usize) {
    out.push(b'[');
    for (index, item) in list.items().iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        argument(out, item, verb, flags, depth + 1);
    }
    out.push(b']');
}

fn map_argument(out: &mut Vec<u8>, map: &Map, verb: char, flags: Flags, depth: usize) {
    out.extend_from_slice(b"map[");
    for (index, (key, value)) in map.snapshot().iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        argument(out, &Value::Text(key.clone()), verb, flags, depth + 1);
        out.push(b':');
        argument(out, value, verb, flags, depth + 1);
    }
    out.push(b']');
}

fn scalar(value: &Value, verb: char, flags: Flags) -> Vec<u8> {
    match (verb, value) {
        ('T', _) => return padded(type_of(value).as_bytes().to_vec(), flags),
        ('v', _) if value.is_nothing() => return padded(b"<nil>".to_vec(), flags),
        (_, _) if value.is_nothing() => return format!("%!{verb}(<nil>)").into_bytes(),
        _ => {}
    }
    if let Some(named) = value.named() {
        return match verb {
            's' | 'v' | 'q' | 'x' | 'X' => string(named.text().as_bytes(), verb, flags),
            _ => integer(named.number(), verb, flags),
        }
        .unwrap_or_else(|| bad(value, verb));
    }
    match value {
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
    let mut digits = match verb {
        'd' | 'v' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' | 'O' => format!("{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        _ => return code_point(value, verb, flags),
    };
    if flags.precision == Some(0) && value == 0 {
        let zero = false;
        return Some(padded(Vec::new(), Flags { zero, ..flags }));
    }
    let missing = flags.precision.unwrap_or(0).saturating_sub(digits.len());
    digits.insert_str(0, &"0".repeat(missing));
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

/// `%c`, `%q` and `%U` of a number.
fn code_point(value: i64, verb: char, flags: Flags) -> Option<Vec<u8>> {
    let c = u32::try_from(value).ok().and_then(char::from_u32);
    let text = match verb {
        'c' => char_text(value),
        'q' => {
            let mut buffer = [0; 4];
            let text = c.unwrap_or('\u{fffd}').encode_utf8(&mut buffer).as_bytes();
            quoted_with(text, '\'', flags.plus)
        }
        'U' => {
            let shown = c.filter(|_| flags.sharp).map(|c| format!(" '{c}'"));
            format!(
                "U+{:04X}{}",
                value.unsigned_abs(),
                shown.unwrap_or_default()
            )
        }
        _ => return None,
    };
    Some(padded(text.into_bytes(), flags))
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
            'v' | 'g' | 'G' => general(magnitude, flags.precision, flags.sharp, MIN_LIMIT),
            'f' | 'F' => fixed(magnitude, flags.precision.unwrap_or(6)),
            'e' | 'E' => scientific(magnitude, flags.precision.unwrap_or(6)),
            'x' | 'X' => hexadecimal_float(magnitude, flags.precision),
            _ => return None,
        }
    };
    let text = if matches!(verb, 'E' | 'G' | 'X') {
        text.to_uppercase()
    } else {
        text
    };
    let sign = sign_of(value.is_sign_negative() && !value.is_nan(), flags);
    let zero = flags.zero && !flags.minus && value.is_finite();
    Some(signed(sign, "", &text, Flags { zero, ..flags }))
}

fn scientific(value: f64, precision: usize) -> String {
    let text = exponential(value, precision);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `0x1.8p+00`: the 52 bits after the point as digits, without zeros at their end or rounded half to even.
fn hexadecimal_float(value: f64, precision: Option<usize>) -> String {
    let bits = value.to_bits();
    let mut fraction = bits & ((1 << 52) - 1);
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut whole = u64::from(value != 0.0);
    match exponent {
        -1023 if fraction == 0 => exponent = 0,
        -1023 => {
            // A number below 2^-1022 has no leading one.
            let shift = fraction.leading_zeros() - 11;
            fraction = (fraction << shift) & ((1 << 52) - 1);
            exponent = -1022 - shift as i32;
        }
        _ => {}
    }
    let places = precision.unwrap_or(13);
    if places < 13 {
        let dropped = 4 * (13 - places as u32);
        let all = (whole << 52) | fraction;
        let (kept, rest, half) = (
            all >> dropped,
            all & ((1 << dropped) - 1),
            1 << (dropped - 1),
        );
        let up = rest > half || (rest == half && kept & 1 == 1);
        let rounded = (kept + u64::from(up)) << dropped;
        (whole, fraction) = (rounded >> 52, rounded & ((1 << 52) - 1));
        if whole == 2 {
            (whole, exponent) = (1, exponent + 1);
        }
    }
    let mut digits = format!("{fraction:013x}");
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(places) if places < 13 => digits.truncate(places),
        Some(places) => digits.extend(std::iter::repeat_n('0', places - 13)),
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("0x{whole}{point}{digits}p{sign}{:02}", exponent.abs())
}

fn string(text: &[u8], verb: char, flags: Flags) -> Option<Vec<u8>> {
    let out = match verb {
        's' | 'v' => cut(text, flags),
        'q' => {
            let text = cut(text, flags);
            if flags.sharp && !text.contains(&b'`') {
                [b"`", &text[..], b"`"].concat()
            } else {
                quoted_with(&text, '"', flags.plus).into_bytes()
            }
        }
        'x' | 'X' => hexadecimal(text, verb, flags).into_bytes(),
        _ => return None,
    };
    Some(padded(out, flags))
}

/// At most as many characters as the precision.
fn cut(bytes: &[u8], flags: Flags) -> Vec<u8> {
    let Some(precision) = flags.precision else {
        return bytes.to_vec();
    };
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .take(precision)
        .collect::<String>()
        .into_bytes()
}

/// Two digits for each byte, for at most as many bytes as the precision.
fn hexadecimal(text: &[u8], verb: char, flags: Flags) -> String {
    let bytes = &text[..flags.precision.unwrap_or(text.len()).min(text.len())];
    let digits = |byte: &u8| match verb {
        'x' => format!("{byte:02x}"),
        _ => format!("{byte:02X}"),
    };
    let prefix = match (flags.sharp, verb) {
        (true, 'x') => "0x",
        (true, _) => "0X",
        _ => "",
    };
    if flags.space {
        let pieces = bytes.iter().map(|byte| format!("{prefix}{}", digits(byte)));
        pieces.collect::<Vec<_>>().join(" ")
    } else {
        let prefix = if bytes.is_empty() { "" } else { prefix };
        format!("{prefix}{}", bytes.iter().map(digits).collect::<String>())
    }
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
fn go_syntax(out: &mut Vec<u8>, value: &Value, depth: usize) {
    if is_full(out) {
        return;
    }
    if depth > MAX_DEPTH {
        return out.extend_from_slice(b"...");
    }
    match value {
        Value::Missing | Value::Nil => out.extend_from_slice(b"interface {}(nil)"),
        Value::Text(text) => out.extend_from_slice(quoted(text).as_bytes()),
        Value::Float(value) => {
            out.extend_from_slice(general(*value, None, false, MIN_LIMIT).as_bytes());
        }
        Value::List(list) if list.items.is_none() => {
            out.extend_from_slice(format!("{}(nil)", value.type_name()).as_bytes());
        }
        Value::List(list) => {
            out.extend_from_slice(value.type_name().as_bytes());
            out.push(b'{');
            for (index, item) in list.items().iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                go_syntax(out, item, depth + 1);
            }
            out.push(b'}');
        }
        Value::Map(map) => {
            out.extend_from_slice(value.type_name().as_bytes());
            out.push(b'{');
            for (index, (key, value)) in map.snapshot().iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(format!("{}:", quoted(key)).as_bytes());
                go_syntax(out, value, depth + 1);
            }
            out.push(b'}');
        }
        _ => match value.named() {
            Some(named) => out.extend_from_slice(named.number().to_string().as_bytes()),
            None => write_plain(out, value, depth),
        },
    }
}
