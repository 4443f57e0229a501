//! Regular expressions in Go's syntax.

use regex::bytes::{Captures, Regex};

use super::Kind::{Int, Text};
use super::text::{PIECE, within};
use super::{Call, Function, Outcome, fixed, int, string, text};
use crate::config::re2;
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("regexMatch", &[Text, Text], |_, arguments| {
        let pattern = string(&arguments, 0);
        // An invalid expression matches nothing, but one that takes too long is an error.
        Ok(Value::Bool(
            re2::translate(&pattern, re2::Use::Bytes).is_ok()
                && compiled(&arguments)?.is_match(&text(&arguments, 1)),
        ))
    }),
    fixed("mustRegexMatch", &[Text, Text], |_, arguments| {
        Ok(Value::Bool(
            compiled(&arguments)?.is_match(&text(&arguments, 1)),
        ))
    }),
    fixed("regexFind", &[Text, Text], find),
    fixed("mustRegexFind", &[Text, Text], find),
    fixed("regexFindAll", &[Text, Text, Int], find_all),
    fixed("mustRegexFindAll", &[Text, Text, Int], find_all),
    fixed("regexReplaceAll", &[Text, Text, Text], |call, arguments| {
        replace(call, &arguments, true)
    }),
    fixed(
        "mustRegexReplaceAll",
        &[Text, Text, Text],
        |call, arguments| replace(call, &arguments, true),
    ),
    fixed(
        "regexReplaceAllLiteral",
        &[Text, Text, Text],
        |call, arguments| replace(call, &arguments, false),
    ),
    fixed(
        "mustRegexReplaceAllLiteral",
        &[Text, Text, Text],
        |call, arguments| replace(call, &arguments, false),
    ),
    fixed("regexSplit", &[Text, Text, Int], split),
    fixed("mustRegexSplit", &[Text, Text, Int], split),
    fixed("regexQuoteMeta", &[Text], |_, arguments| {
        let mut out = Vec::new();
        for byte in text(&arguments, 0).iter() {
            if br"\.+*?()|[]{}^$".contains(byte) {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        Ok(Value::text(out))
    }),
];

/// The syntax tree of an expression takes a multiple of its bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Compiled sizes in bytes. The smallest one that suffices tells how many states an expression has.
const SIZES: [usize; 8] = [
    2 << 10,
    8 << 10,
    32 << 10,
    128 << 10,
    512 << 10,
    2 << 20,
    8 << 20,
    32 << 20,
];

/// The bytes of a state, at least.
const STATE: usize = 32;

/// The limit of steps of one search. In the worst case, each byte of the text visits each state, in a few nanoseconds.
const MAX_STEPS: usize = 500_000_000;

/// The compiled expression: the first argument of the call. The second one is the text.
///
/// # Errors
/// It is invalid, or a search might take many seconds, which nothing can interrupt.
fn compiled(arguments: &[Value]) -> Result<Regex, String> {
    let pattern = string(arguments, 0);
    if pattern.len() > MAX_PATTERN {
        return Err("the expression is too large (more than 1 MiB)".to_owned());
    }
    let length = text(arguments, 1).len();
    // An expression is rarely smaller than its text.
    let sizes = SIZES.into_iter().filter(|size| *size >= pattern.len());
    let mut too_large = "the regular expression is too large".to_owned();
    for size in sizes {
        match re2::sized(&pattern, size) {
            Err(error @ re2::PatternError::Large(_)) => too_large = error.to_string(),
            Err(error) => return Err(error.to_string()),
            Ok(_) if (size / STATE).saturating_mul(length) > MAX_STEPS => {
                return Err("the expression and the text are too large together".to_owned());
            }
            Ok(regex) => return Ok(regex),
        }
    }
    Err(too_large)
}

fn find(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let subject = text(&arguments, 1);
    let found = compiled(&arguments)?
        .find(&subject)
        .map(|found| found.as_bytes().to_vec());
    Ok(Value::text(found.unwrap_or_default()))
}

fn limit(arguments: &[Value]) -> usize {
    usize::try_from(int(arguments, 2)).unwrap_or(usize::MAX)
}

fn find_all(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let subject = text(&arguments, 1);
    let regex = compiled(&arguments)?;
    let found: Vec<&[u8]> = regex
        .find_iter(&subject)
        .take(limit(&arguments))
        .map(|found| {
            // After a match the search begins again, so that many searches may read the same bytes.
            call.budget.in_time()?;
            call.make(size_of::<Value>() + found.len())?;
            call.hold(PIECE)?;
            Ok(found.as_bytes())
        })
        .collect::<Result<_, String>>()?;
    Ok(if found.is_empty() {
        Value::nil_list()
    } else {
        Value::texts(found)
    })
}

fn replace(call: &mut Call<'_>, arguments: &[Value], expand: bool) -> Outcome {
    let (subject, replacement) = (text(arguments, 1), text(arguments, 2));
    let regex = compiled(arguments)?;
    let names = group_names(&string(arguments, 0));
    let mut out = Vec::with_capacity(subject.len());
    let mut from = 0;
    for found in regex.captures_iter(&subject) {
        call.budget.in_time()?;
        let Some(whole) = found.get(0) else { continue };
        out.extend_from_slice(&subject[from..whole.start()]);
        if expand {
            expanded(call, &mut out, &replacement, &found, &names)?;
        } else {
            out.extend_from_slice(&replacement);
        }
        call.make(replacement.len())?;
        call.lend(3 * out.len())?;
        from = whole.end();
    }
    out.extend_from_slice(&subject[from..]);
    call.make(out.len())?;
    Ok(Value::text(out))
}

/// Go's template: `$name` uses the longest name of letters, digits and underscores, `${name}` is exact, `$$` is `$`.
fn expanded(
    call: &mut Call<'_>,
    out: &mut Vec<u8>,
    template: &[u8],
    found: &Captures<'_>,
    names: &[Option<String>],
) -> Result<(), String> {
    let mut rest = template;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.first() == Some(&b'$') {
            out.push(b'$');
            rest = &rest[1..];
            continue;
        }
        let Some((name, used)) = group_name(rest) else {
            out.push(b'$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) => found.get(number),
            Err(_) => names
                .iter()
                .position(|known| known.as_deref() == Some(name))
                .and_then(|index| found.get(index + 1)),
        };
        out.extend_from_slice(group.map_or(&b""[..], |group| group.as_bytes()));
        within(call, out.len())?;
        call.lend(3 * out.len())?;
        rest = &rest[used..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The name of each group of a valid pattern, in order. The translation for the `regex` crate has only numbers.
fn group_names(pattern: &str) -> Vec<Option<String>> {
    let mut names = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '[', '(']) {
        let (found, behind) = rest[at..].split_at(1);
        rest = match found {
            "\\" => behind_escape(behind),
            "[" => behind_class(behind),
            _ => {
                if let Some(name) = behind.strip_prefix("?P<").or(behind.strip_prefix("?<")) {
                    names.push(name.split_once('>').map(|(name, _)| name.to_owned()));
                } else if !behind.starts_with('?') {
                    names.push(None);
                }
                behind
            }
        };
    }
    names
}

fn behind_escape(text: &str) -> &str {
    match text.strip_prefix('Q') {
        Some(quoted) => quoted.split_once("\\E").map_or("", |(_, rest)| rest),
        None => text
            .get(text.chars().next().map_or(0, char::len_utf8)..)
            .unwrap_or_default(),
    }
}

fn behind_class(text: &str) -> &str {
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    rest = rest.strip_prefix(']').unwrap_or(rest);
    while let Some(at) = rest.find(['\\', ']', '[']) {
        let (found, behind) = rest[at..].split_at(1);
        rest = match found {
            "\\" => behind_escape(behind),
            "[" if behind.starts_with(':') => {
                behind.split_once(":]").map_or(behind, |(_, rest)| rest)
            }
            "[" => behind,
            _ => return behind,
        };
    }
    ""
}

fn group_name(text: &[u8]) -> Option<(&str, usize)> {
    let (inner, braces) = match text.strip_prefix(b"{") {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let length = inner
        .iter()
        .position(|byte| !is_name(byte))
        .unwrap_or(inner.len());
    if length == 0 || (braces && inner.get(length) != Some(&b'}')) {
        return None;
    }
    let name = std::str::from_utf8(&inner[..length]).ok()?;
    Some((name, length + if braces { 2 } else { 0 }))
}

fn split(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let subject = text(&arguments, 1);
    let regex = compiled(&arguments)?;
    let most = limit(&arguments);
    if most == 0 {
        return Ok(Value::nil_list());
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    let (mut from, mut end) = (0, 0);
    for found in regex.find_iter(&subject) {
        call.budget.in_time()?;
        if parts.len() + 1 >= most {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            call.make(size_of::<Value>())?;
            call.hold(PIECE)?;
            parts.push(&subject[from..end]);
        }
        from = found.end();
    }
    if end != subject.len() || subject.is_empty() {
        parts.push(&subject[from..]);
    }
    call.make(parts.len() * size_of::<Value>() + subject.len())?;
    Ok(Value::texts(parts))
}
