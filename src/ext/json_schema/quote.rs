//! Texts as Go quotes them in messages.

use std::fmt::Write as _;

/// Longer texts are truncated.
const MAX_CHARACTERS: usize = 256;

/// In apostrophes, as KrakenD's validator quotes texts.
pub(super) fn single(text: &str) -> String {
    enclosed(text, '\'')
}

/// In double quotes, as Go's `%q`.
pub(super) fn double(text: &str) -> String {
    enclosed(text, '"')
}

/// One character, as Go's `%q` quotes it.
pub(super) fn letter(letter: char) -> String {
    let mut out = String::from("'");
    push(&mut out, letter, '\'');
    out.push('\'');
    out
}

fn enclosed(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for (index, letter) in text.chars().enumerate() {
        if index >= MAX_CHARACTERS {
            out.push('…');
            break;
        }
        push(&mut out, letter, quote);
    }
    out.push(quote);
    out
}

fn push(out: &mut String, letter: char, quote: char) {
    let short = match letter {
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\u{b}' => 'v',
        '\\' => '\\',
        other if other == quote => other,
        other if is_printable(other) => return out.push(other),
        other => {
            let code = u32::from(other);
            // Writing to a string cannot fail.
            let _ = match code {
                0..=0x7f => write!(out, "\\x{code:02x}"),
                0x80..=0xffff => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push('\\');
    out.push(short);
}

/// Rust escapes unprintable characters, and also combining ones, but the latter only at the beginning.
fn is_printable(letter: char) -> bool {
    let mut buffer = [b'a'; 5];
    let length = letter
        .encode_utf8(buffer.get_mut(1..).unwrap_or_default())
        .len();
    let text = buffer.get(..=length).unwrap_or_default();
    let text = std::str::from_utf8(text).unwrap_or_default();
    matches!(letter, '\'' | '"') || text.escape_debug().nth(1) == Some(letter)
}

#[cfg(test)]
mod tests {
    use super::{double, letter, single};

    #[test]
    fn characters_are_quoted_as_in_go() {
        for (text, expected) in [
            ("it's \"so\"", "'it\\'s \"so\"'"),
            (
                "a\u{200b}\u{1}\u{7f}\n\t\\",
                "'a\\u200b\\x01\\x7f\\n\\t\\\\'",
            ),
            ("ü\u{301}\u{ad}\u{a0}", "'ü\u{301}\\u00ad\\u00a0'"),
            ("\u{feff}\u{e0001}\u{fffd}", "'\\ufeff\\U000e0001\u{fffd}'"),
        ] {
            assert_eq!(single(text), expected);
        }
        assert_eq!(double("it's \"so\""), "\"it's \\\"so\\\"\"");
        assert_eq!(letter('\''), "'\\''");
        assert_eq!(letter('"'), "'\"'");
        assert!(single(&"a".repeat(5000)).len() < 300);
    }
}
