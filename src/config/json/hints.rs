//! Hints for common errors in JSON.

const COMMENT: &str =
    "JSON has no comments: a key that begins with @ or # is one, such as \"@comment\": \"…\"";

pub(super) fn comment(found: Option<u8>) -> Option<&'static str> {
    matches!(found, Some(b'/' | b'#')).then_some(COMMENT)
}

/// A hint about a character that some editors and chat programs put in place of a quote.
pub(super) fn typographic(found: Option<char>) -> Option<&'static str> {
    matches!(found?, '“' | '”' | '„' | '‘' | '’' | '«' | '»').then_some(
        "this is a typographic quotation mark: write \"straight quotes\" in the whole file",
    )
}

/// A hint about a byte that is found where a value is expected.
pub(super) fn in_place_of_value(found: Option<u8>) -> Option<&'static str> {
    match found? {
        b'/' | b'#' => Some(COMMENT),
        b'\'' => Some("strings have double quotes"),
        b',' => Some("there is one comma too many"),
        b'}' | b']' => Some("remove the comma before it, or add the value"),
        b'.' | b'+' => Some("a number begins with a digit: 0.5"),
        b'T' | b'F' | b'N' => Some("write true, false or null in small letters"),
        b'a'..=b'z' | b'A'..=b'Z' => Some("a string has double quotes"),
        _ => None,
    }
}

/// A hint about a byte that is found where a key is expected.
pub(super) fn in_place_of_key(found: Option<u8>) -> Option<&'static str> {
    match found? {
        b'/' | b'#' => Some(COMMENT),
        b',' => Some("there is one comma too many"),
        b'\'' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9' => Some("keys have double quotes"),
        _ => None,
    }
}

/// A hint about a byte that is found where a comma is expected.
pub(super) fn in_place_of_comma(found: Option<u8>) -> Option<&'static str> {
    match found? {
        b'"' | b'{' | b'[' => Some("a comma is missing before it"),
        other => comment(Some(other)),
    }
}

pub(super) fn trailing_comma(found: Option<u8>, closing: u8) -> Option<&'static str> {
    (found == Some(closing)).then_some("remove the comma before it")
}

/// Where the bracket is that a text which ends too early leaves open.
pub(super) fn unclosed(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("the file is empty".to_owned());
    }
    let (mut open, mut line) = (Vec::new(), 1_usize);
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            '\n' => line += 1,
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => open.push((c, line)),
            '}' | ']' if !quoted => {
                open.pop();
            }
            _ => {}
        }
    }
    if quoted {
        return Some("the last string has no closing quote".to_owned());
    }
    let (bracket, line) = open.pop()?;
    Some(format!("the {bracket} of line {line} is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::json::parse;
    use crate::config::report::Report;

    #[test]
    fn the_innermost_open_bracket_is_named() {
        for (text, hint) in [
            ("", Some("the file is empty")),
            (" \n", Some("the file is empty")),
            (
                "{\n  \"a\": [\n    \"}\"",
                Some("the [ of line 2 is not closed"),
            ),
            ("{\n  \"a\": []\n", Some("the { of line 1 is not closed")),
            (
                "{ \"a\": \"\\\"",
                Some("the last string has no closing quote"),
            ),
            ("tru", None),
        ] {
            assert_eq!(unclosed(text).as_deref(), hint, "{text:?}");
        }
    }

    #[test]
    fn an_error_of_one_character_has_a_hint() {
        for (text, hint) in [
            ("{\n\"a\": [1\n}", "the [ of line 2 is not closed"),
            ("{\"a\":\n{\"b\": 1]", "the { of line 2 is not closed"),
            ("{\"a\": {}]", "the { of line 1 is not closed"),
            ("{\"a\": [1}", "the [ of line 1 is not closed"),
            ("{“a”: 1}", "typographic"),
            ("{\"a\": «b»}", "typographic"),
            ("{\"a”: 1}", "the last string has no closing quote"),
            ("{\"a\": 1 \"b\": 2}", "a comma is missing before it"),
        ] {
            let found = parse(text, &Report::new()).unwrap_err();
            let shown = found.hint.unwrap_or_default();
            assert!(shown.contains(hint), "{text:?}: {shown}");
        }
    }
}
