//! What one verb makes of one value.

use super::printf::Flags;
use super::*;

pub(super) fn argument(value: &Value, verb: char, flags: Flags) -> Vec<u8> {
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
