//! Base 64 and base 32.

use super::Kind::Text;
use super::{Function, fixed, text};
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("b64enc", &[Text], |_, arguments| {
        Ok(Value::text(encoded(&text(&arguments, 0), &BASE64)))
    }),
    fixed("b64dec", &[Text], |_, arguments| {
        Ok(decoded(&text(&arguments, 0), &BASE64))
    }),
    fixed("b32enc", &[Text], |_, arguments| {
        Ok(Value::text(encoded(&text(&arguments, 0), &BASE32)))
    }),
    fixed("b32dec", &[Text], |_, arguments| {
        Ok(decoded(&text(&arguments, 0), &BASE32))
    }),
];

/// RFC 4648 §4 or §6, with padding.
struct Base {
    name: &'static str,
    alphabet: &'static [u8],
    bits: u32,
    /// The number of characters in a complete group.
    group: usize,
}

const BASE64: Base = Base {
    name: "base64",
    alphabet: b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    bits: 6,
    group: 4,
};

const BASE32: Base = Base {
    name: "base32",
    alphabet: b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    bits: 5,
    group: 8,
};

fn encoded(bytes: &[u8], base: &Base) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    let (mut buffer, mut held) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        held += 8;
        while held >= base.bits {
            held -= base.bits;
            out.push(letter(buffer >> held, base));
        }
        buffer &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(letter(buffer << (base.bits - held), base));
    }
    while !out.len().is_multiple_of(base.group) {
        out.push('=');
    }
    out
}

fn letter(value: u32, base: &Base) -> char {
    let mask = (1 << base.bits) - 1;
    char::from(base.alphabet[(value & mask) as usize])
}

/// The decoded bytes, or the error message if the text is invalid, as in Sprig.
fn decoded(text: &[u8], base: &Base) -> Value {
    match decode(text, base) {
        Ok(bytes) => Value::text(bytes),
        Err(at) => Value::text(format!("illegal {} data at input byte {at}", base.name)),
    }
}

fn decode(text: &[u8], base: &Base) -> Result<Vec<u8>, usize> {
    // The index of each byte, and the byte.
    let letters = || {
        let all = text.iter().copied().enumerate();
        all.filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'))
    };
    let count = letters().count();
    let mut out = Vec::with_capacity(text.len());
    let (mut buffer, mut held) = (0_u32, 0);
    let padding = letters()
        .position(|(_, byte)| byte == b'=')
        .unwrap_or(count);
    for (at, byte) in letters().take(padding) {
        let Some(value) = base.alphabet.iter().position(|letter| *letter == byte) else {
            return Err(at);
        };
        buffer = (buffer << base.bits) | value as u32;
        held += base.bits;
        if held >= 8 {
            held -= 8;
            out.push((buffer >> held) as u8);
            buffer &= (1 << held) - 1;
        }
    }
    let rest = padding % base.group;
    let pads = count - padding;
    let wanted = if rest == 0 { 0 } else { base.group - rest };
    if let Some((at, _)) = letters().skip(padding).find(|(_, byte)| *byte != b'=') {
        return Err(at);
    }
    // The last group contains no whole byte, or is not padded.
    if pads != wanted || held >= base.bits {
        let start = padding - rest;
        return Err(letters().nth(start).map_or(text.len(), |(at, _)| at));
    }
    Ok(out)
}

pub(super) fn base64(bytes: &[u8]) -> String {
    encoded(bytes, &BASE64)
}

/// # Errors
/// The position of the first invalid character.
pub(super) fn from_base64(text: &[u8]) -> Result<Vec<u8>, usize> {
    decode(text, &BASE64)
}
