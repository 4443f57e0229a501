//! Untrusted texts in log lines: they must not end a line or move a cursor.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;

pub(crate) use crate::telemetry::mask::{masked, masked_text, push_query, without_password};

/// The most bytes of a message or an error that a log line shows. Escapes can make the line longer.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;
/// The most bytes of a value that a log line, an error or a span shows: a URL, a path, a query, a header, a claim.
pub(crate) const MAX_VALUE: usize = 8 * 1024;

/// `text` up to `most` bytes, and how much is missing.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(cut_arguments(format_args!("{text}"), most))
    }
}

/// The text of `arguments` up to `most` bytes, and how much is missing. The rest is never copied.
pub(crate) fn cut_arguments(arguments: fmt::Arguments<'_>, most: usize) -> String {
    let mut start = Start {
        text: String::new(),
        most,
        missing: 0,
    };
    // A text that fails to be written ends here.
    let _ = fmt::write(&mut start, arguments);
    if start.missing > 0 {
        let _ = fmt::Write::write_fmt(
            &mut start.text,
            format_args!("… ({} bytes more)", start.missing),
        );
    }
    start.text
}

/// The start of a text.
struct Start {
    text: String,
    most: usize,
    missing: usize,
}

impl fmt::Write for Start {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = match self.missing {
            0 => self.most.saturating_sub(self.text.len()),
            _ => 0,
        };
        let (shown, rest) = part.split_at(part.floor_char_boundary(room));
        self.text.push_str(shown);
        self.missing += rest.len();
        Ok(())
    }
}

/// Appends `text` with control characters written as `\n` or `\x1b`.
pub(crate) fn push_escaped(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        if is_printable(c) {
            push_char(c, out);
        } else {
            push_unprintable(c, out);
        }
    }
}

/// Appends an IP address. For IPv4 this costs a tenth of `write!`.
pub(crate) fn push_address(address: IpAddr, out: &mut impl Write) {
    // Writing to memory cannot fail.
    match address {
        IpAddr::V4(v4) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    let _ = out.write_all(b".");
                }
                let _ = out.write_all(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

/// Puts blanks before what was appended since `start`, so that it fills `width` columns.
pub(crate) fn align_right(start: usize, width: usize, columns: usize, out: &mut Vec<u8>) {
    let blanks = width.saturating_sub(columns);
    out.resize(out.len() + blanks, b' ');
    if let Some(field) = out.get_mut(start..) {
        field.rotate_right(blanks);
    }
}

/// A text without control characters, which could otherwise forge log lines.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
            .into()
    } else {
        Cow::Borrowed(text)
    }
}

/// Appends `text` as Go's `strconv.Quote` writes it.
pub(crate) fn push_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.iter().all(is_plain) {
        out.extend_from_slice(text);
        out.push(b'"');
        return;
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if is_printable(c) => push_char(c, out),
                c => push_unprintable(c, out),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends `text` for HTML or XML, in an element or an attribute, as Go's `html.EscapeString` writes it.
pub(crate) fn push_html(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn push_json(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if is_printable(c) => push_char(c, out),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}

/// Whether a terminal shows `c` in its place: it is not a control character, a line break or a change of the text
/// direction.
pub(in crate::telemetry) fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => false,
        '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{fff0}'..='\u{fffb}' => false,
        c => !c.is_control() && !c.is_whitespace(),
    }
}

fn push_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

pub(super) fn push_unprintable(c: char, out: &mut Vec<u8>) {
    let escaped = match c {
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        c if (c as u32) < 0x80 => format!("\\x{:02x}", c as u32),
        c if (c as u32) < 0x1_0000 => format!("\\u{:04x}", c as u32),
        c => format!("\\U{:08x}", c as u32),
    };
    out.extend_from_slice(escaped.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc… (1 bytes more)");
        assert_eq!(cut("aäb", 2), "a… (3 bytes more)");
        let (long, short) = ("x".repeat(9), "y");
        let text = cut_arguments(format_args!("{short}{long}{short}"), 4);
        assert_eq!(text, "yxxx… (7 bytes more)");
        assert_eq!(cut_arguments(format_args!("{short}{short}"), 2), "yy");
    }

    #[test]
    fn quotes_are_as_in_go() {
        let quoted = |bytes: &[u8]| text(|out| push_quoted(bytes, out));
        assert_eq!(quoted(b"/a b?c"), r#""/a b?c""#);
        assert_eq!(quoted(b"\"\\\n\x1b\x7f"), r#""\"\\\n\x1b\x7f""#);
        assert_eq!(quoted("é\u{85}\u{202e}".as_bytes()), r#""é\u0085\u202e""#);
        assert_eq!(quoted(b"\xff"), r#""\xff""#);
    }

    #[test]
    fn a_field_is_aligned() {
        let aligned = |field: &str, columns: usize| {
            text(|out| {
                out.push(b'|');
                out.extend_from_slice(field.as_bytes());
                align_right(1, 6, columns, out);
            })
        };
        assert_eq!(aligned("ab", 2), "|    ab");
        assert_eq!(aligned("1µs", 3), "|   1µs");
        assert_eq!(aligned("abcdefg", 7), "|abcdefg");
    }

    proptest! {
        #[test]
        fn addresses_are_as_in_the_standard_library(v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>()) {
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                prop_assert_eq!(text(|out| push_address(address, out)), address.to_string());
            }
        }

        #[test]
        fn no_text_ends_a_line_or_invalidates_json(input in any::<String>()) {
            let escaped = text(|out| push_escaped(&input, out));
            prop_assert!(!escaped.chars().any(char::is_control));
            let json = text(|out| push_json(&input, out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), input);
        }

        #[test]
        fn arbitrary_bytes_can_be_quoted(input in any::<Vec<u8>>()) {
            let quoted = text(|out| push_quoted(&input, out));
            prop_assert!(!quoted.chars().any(char::is_control));
        }
    }
}
