//! Converts the bytes of an XML document to text.

use std::borrow::Cow;

/// Why the bytes of a document cannot be converted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("invalid UTF-8")]
    Utf8,
    #[error("invalid UTF-16")]
    Utf16,
    #[error("unknown encoding \"{0}\"")]
    Unknown(String),
}

/// The text, decoded by byte order mark, by the declaration's `encoding`, or as UTF-8 (XML 1.0 appendix F).
pub(super) fn text(body: &[u8]) -> Result<Cow<'_, str>, Error> {
    match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => return utf8(rest),
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes),
        _ => {}
    }
    let Some(name) = declared(body) else {
        return utf8(body);
    };
    match name.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => utf8(body),
        "iso-8859-1" | "latin1" | "windows-1252" | "cp1252" => Ok(Cow::Owned(western(body))),
        _ => Err(Error::Unknown(name.to_owned())),
    }
}

/// The name in `<?xml … encoding="…"?>`, which must be at the very beginning.
fn declared(body: &[u8]) -> Option<&str> {
    let head = body.strip_prefix(b"<?xml")?;
    let end = head.windows(2).take(200).position(|pair| pair == b"?>")?;
    let head = std::str::from_utf8(head.get(..end)?).ok()?;
    let (_, value) = head.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value.get(1..)?.split(quote).next()
}

fn utf8(body: &[u8]) -> Result<Cow<'_, str>, Error> {
    let text = std::str::from_utf8(body).map_err(|_| Error::Utf8)?;
    Ok(Cow::Borrowed(text))
}

fn utf16(body: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, Error> {
    let (pairs, odd) = body.as_chunks::<2>();
    let text: Result<String, _> =
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match (text, odd) {
        (Ok(text), []) => Ok(Cow::Owned(text)),
        _ => Err(Error::Utf16),
    }
}

/// Windows-1252, which is also used for ISO 8859-1 (WHATWG Encoding).
fn western(body: &[u8]) -> String {
    body.iter().copied().map(western_char).collect()
}

/// The character of a byte in windows-1252.
pub(super) fn western_char(byte: u8) -> char {
    const UPPER: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => UPPER[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}
