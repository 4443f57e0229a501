//! Masks the members of JSON and similar texts whose names are those of credentials.
//!
//! Such a text may be quoted in another one, may be cut, and need not be valid. So this does not parse: it looks at what
//! stands before and after each separator.

use std::borrow::Cow;

use super::{MASK, is_secret};

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A sentence of ours, which may quote JSON. `"key": no value` is not a member.
    Gateway,
    /// Another server. What looks like a name and a value is masked, also without quotes and in XML.
    Server,
}

/// `text` with the values of secret members replaced.
pub(super) fn members_masked(text: &str, origin: Origin) -> Cow<'_, str> {
    let separators: &[char] = match origin {
        Origin::Gateway => &[':'],
        Origin::Server => &[':', '=', '>'],
    };
    let mut out = String::new();
    // Up to here the text is copied.
    let mut done = 0;
    for (at, separator) in text.match_indices(separators) {
        if at < done {
            continue;
        }
        let (before, after) = (&text[done..at], &text[at + separator.len()..]);
        let Some((name, is_quoted)) = name_before(before, separator, origin) else {
            continue;
        };
        if !is_secret(&name) {
            continue;
        }
        let spaces = after.len() - after.trim_start().len();
        let value = &after[spaces..];
        let Some((start, end)) = secret_in(value, &name, separator, is_quoted, origin) else {
            continue;
        };
        let from = at + separator.len() + spaces;
        out.push_str(&text[done..from + start]);
        out.push_str(MASK);
        done = from + end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The name that ends before a separator, and whether it has quotes.
fn name_before<'t>(
    before: &'t str,
    separator: &str,
    origin: Origin,
) -> Option<(Cow<'t, str>, bool)> {
    let before = before.trim_end();
    if separator != ">"
        && let Some(quote) = before.chars().next_back().filter(|c| is_quote(*c))
    {
        let inner = &before[..before.len() - quote.len_utf8()];
        let start = inner.rfind(quote).map_or(0, |at| at + quote.len_utf8());
        return Some((unescaped(&inner[start..]), true));
    }
    if origin == Origin::Gateway {
        return None;
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.%[]".contains(c);
    let start = before.trim_end_matches(is_part).len();
    let is_tag = before[..start].ends_with(['<', ':']);
    let name = &before[start..];
    (!name.is_empty() && (separator != ">" || is_tag)).then_some((Cow::Borrowed(name), false))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

/// A name without the escapes of letters: `client\u005fsecret`. What is no letter or digit does not matter.
fn unescaped(name: &str) -> Cow<'_, str> {
    if !name.contains("\\u") {
        return Cow::Borrowed(name);
    }
    let mut parts = name.split("\\u");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..4)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match code.and_then(char::from_u32) {
            Some(letter) => {
                out.push(letter);
                out.push_str(&part[4..]);
            }
            None => out.push_str(part),
        }
    }
    Cow::Owned(out)
}

/// The part of `value` to mask: the first and the last offset. `None` if there is nothing secret.
fn secret_in(
    value: &str,
    name: &str,
    separator: &str,
    is_quoted: bool,
    origin: Origin,
) -> Option<(usize, usize)> {
    if separator != ">"
        && let Some(open) = quote_at(value)
    {
        let end = open.end + string_end(&value[open.end..], open);
        return (end > open.end).then_some((open.end, end));
    }
    let first = value.chars().next()?;
    if matches!(first, '{' | '[') {
        return Some((0, container_end(value)));
    }
    if origin == Origin::Gateway && (!is_quoted || !(first.is_ascii_digit() || first == '-')) {
        return None;
    }
    let is_end = |c: char| match separator {
        ">" => c == '<',
        // A scheme, a space, and the credential.
        _ if name.to_ascii_lowercase().ends_with("authorization") => "\r\n\"'<\\".contains(c),
        _ => c.is_whitespace() || ",;&}])<\"'\\".contains(c),
    };
    let end = value.find(is_end).unwrap_or(value.len());
    let word = value[..end].trim_end();
    let is_harmless = matches!(word, "" | "null" | "true" | "false" | MASK);
    // A status: an authorization code (RFC 6749 §4.1.2) is longer.
    let is_status =
        name.eq_ignore_ascii_case("code") && word.len() == 3 && word.parse::<u16>().is_ok();
    (!is_harmless && !is_status).then_some((0, word.len()))
}

/// A quote, which has backslashes before it if its text is quoted in another one.
#[derive(Clone, Copy)]
struct Quote {
    sign: char,
    backslashes: usize,
    end: usize,
}

/// The quote with which `text` starts.
fn quote_at(text: &str) -> Option<Quote> {
    let rest = text.trim_start_matches('\\');
    let backslashes = text.len() - rest.len();
    let sign = rest.chars().next().filter(|c| is_quote(*c))?;
    Some(Quote {
        sign,
        backslashes,
        end: backslashes + 1,
    })
}

/// The offset at which a string ends that was opened by `open`: before the closing quote, or at the end of a cut text.
fn string_end(text: &str, open: Quote) -> usize {
    for (at, _) in text.match_indices(open.sign) {
        let before = &text[..at];
        let run = at - before.trim_end_matches('\\').len();
        // A text that is quoted n times has 2ⁿ - 1 backslashes before its quotes, and 2ⁿ for each of its own.
        let Some(own) = run.checked_sub(open.backslashes) else {
            // The text around it ends.
            return at - run;
        };
        if (own / (open.backslashes + 1)).is_multiple_of(2) {
            return at - open.backslashes;
        }
    }
    text.len()
}

/// The offset after an object or an array, or the end of a cut text.
fn container_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(c) = rest.chars().next() else { break };
        if let Some(open) = quote_at(rest).filter(|open| open.sign == '"') {
            let end = at + open.end + string_end(&rest[open.end..], open);
            at = (end + open.end).min(text.len());
            continue;
        }
        at += c.len_utf8();
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}
