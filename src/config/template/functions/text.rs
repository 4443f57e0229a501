//! Text: Sprig's functions over bytes.

use std::collections::HashSet;

use memchr::memmem;

use super::Kind::{Any, Bool, Int, Text};
use super::{
    Call, Function, Outcome, any, boolean, fixed, int, list_of, printed, string, text, variadic,
};
use crate::config::template::format::quoted;
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("include", &[Any], include),
    fixed("env", &[Text], |call, arguments| {
        Ok(Value::text(
            call.host
                .environment(&string(&arguments, 0))
                .unwrap_or_default(),
        ))
    }),
    fixed("expandenv", &[Text], expand),
    fixed("hello", &[], |_, _| Ok(Value::text("Hello!"))),
    variadic("fail", &[Text], |_, arguments| Err(string(&arguments, 0))),
    variadic("default", &[Any, Any], default),
    fixed("empty", &[Any], |_, arguments| {
        Ok(Value::Bool(!arguments[0].is_true()))
    }),
    variadic("coalesce", &[Any], |_, arguments| {
        Ok(arguments
            .into_iter()
            .find(Value::is_true)
            .unwrap_or(Value::Nil))
    }),
    variadic("all", &[Any], |_, arguments| {
        Ok(Value::Bool(arguments.iter().all(Value::is_true)))
    }),
    variadic("any", &[Any], |_, arguments| {
        Ok(Value::Bool(arguments.iter().any(Value::is_true)))
    }),
    fixed("ternary", &[Any, Any, Bool], |_, arguments| {
        Ok(any(&arguments, usize::from(!boolean(&arguments, 2))))
    }),
    fixed("trim", &[Text], |_, arguments| {
        Ok(Value::text(string(&arguments, 0).trim()))
    }),
    fixed("trimAll", &[Text, Text], trim_all),
    fixed("trimall", &[Text, Text], trim_all),
    fixed("trimSuffix", &[Text, Text], |_, arguments| {
        let (suffix, whole) = (text(&arguments, 0), text(&arguments, 1));
        Ok(Value::text(whole.strip_suffix(&*suffix).unwrap_or(&whole)))
    }),
    fixed("trimPrefix", &[Text, Text], |_, arguments| {
        let (prefix, whole) = (text(&arguments, 0), text(&arguments, 1));
        Ok(Value::text(whole.strip_prefix(&*prefix).unwrap_or(&whole)))
    }),
    fixed("nospace", &[Text], |_, arguments| {
        Ok(Value::text(
            string(&arguments, 0).split_whitespace().collect::<String>(),
        ))
    }),
    fixed("substr", &[Int, Int, Text], substr),
    fixed("trunc", &[Int, Text], trunc),
    fixed("abbrev", &[Int, Text], |_, arguments| {
        Ok(abbreviate(0, int(&arguments, 0), &text(&arguments, 1)))
    }),
    fixed("abbrevboth", &[Int, Int, Text], |_, arguments| {
        Ok(abbreviate(
            int(&arguments, 0),
            int(&arguments, 1),
            &text(&arguments, 2),
        ))
    }),
    fixed("repeat", &[Int, Text], repeat),
    fixed("contains", &[Text, Text], |_, arguments| {
        let (part, whole) = (text(&arguments, 0), text(&arguments, 1));
        Ok(Value::Bool(memmem::find(&whole, &part).is_some()))
    }),
    fixed("hasPrefix", &[Text, Text], |_, arguments| {
        Ok(Value::Bool(
            text(&arguments, 1).starts_with(&text(&arguments, 0)),
        ))
    }),
    fixed("hasSuffix", &[Text, Text], |_, arguments| {
        Ok(Value::Bool(
            text(&arguments, 1).ends_with(&text(&arguments, 0)),
        ))
    }),
    fixed("replace", &[Text, Text, Text], replace),
    fixed("safe", &[Any], |_, arguments| Ok(any(&arguments, 0))),
    variadic("cat", &[Any], |call, arguments| {
        blank_joined(call, &arguments, |text| text)
    }),
    fixed("plural", &[Text, Text, Int], |_, arguments| {
        Ok(any(&arguments, usize::from(int(&arguments, 2) != 1)))
    }),
    variadic("quote", &[Any], |call, arguments| {
        blank_joined(call, &arguments, |text| quoted(&text).into_bytes())
    }),
    variadic("squote", &[Any], |call, arguments| {
        blank_joined(call, &arguments, |text| [b"'", &text[..], b"'"].concat())
    }),
    fixed("indent", &[Int, Text], |call, arguments| {
        indent(call, &arguments, "")
    }),
    fixed("nindent", &[Int, Text], |call, arguments| {
        indent(call, &arguments, "\n")
    }),
    fixed("wrap", &[Int, Text], |call, arguments| {
        let width = int(&arguments, 0);
        wrap(call, &string(&arguments, 1), width, "\n", false)
    }),
    fixed("wrapWith", &[Int, Text, Text], |call, arguments| {
        let (width, separator) = (int(&arguments, 0), string(&arguments, 1));
        wrap(call, &string(&arguments, 2), width, &separator, true)
    }),
    fixed("initials", &[Text], |_, arguments| {
        let whole = string(&arguments, 0);
        Ok(Value::text(
            whole
                .split_whitespace()
                .filter_map(|word| word.chars().next())
                .collect::<String>(),
        ))
    }),
    fixed("toString", &[Any], |call, arguments| {
        printed(call, &arguments[0]).map(Value::text)
    }),
    fixed("toStrings", &[Any], |call, arguments| {
        texts_of(call, &arguments[0]).map(Value::texts)
    }),
    fixed("join", &[Text, Any], join),
    fixed("splitList", &[Text, Text], |call, arguments| {
        let (separator, whole) = (text(&arguments, 0), text(&arguments, 1));
        split(call, &whole, &separator, usize::MAX).map(Value::texts)
    }),
    fixed("split", &[Text, Text], |call, arguments| {
        let (separator, whole) = (text(&arguments, 0), text(&arguments, 1));
        split(call, &whole, &separator, usize::MAX).map(numbered)
    }),
    fixed("splitn", &[Text, Int, Text], |call, arguments| {
        let most = usize::try_from(int(&arguments, 1)).unwrap_or(usize::MAX);
        split(call, &text(&arguments, 2), &text(&arguments, 0), most).map(numbered)
    }),
];

fn include(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let Value::Text(name) = &arguments[0] else {
        let kind = if arguments[0].is_nothing() {
            "nil"
        } else {
            arguments[0].type_name()
        };
        return Err(format!(
            "interface conversion: interface {{}} is {kind}, not string"
        ));
    };
    let name = String::from_utf8_lossy(name);
    if call.host.is_outside(&name) {
        call.warnings.push(format!(
            "the partial {} lies outside the folder of the partials",
            quoted(name.as_bytes())
        ));
    }
    match call.host.partial(&name)? {
        Some(content) => Ok(Value::text(&*content)),
        None => {
            call.warnings.push(format!(
                "the partial {} cannot be read: its place stays empty",
                quoted(name.as_bytes())
            ));
            Ok(Value::text(""))
        }
    }
}

/// Replaces `$NAME` and `${NAME}`, as Go's `os.Expand`.
fn expand(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let whole = string(&arguments, 0);
    let mut out = String::with_capacity(whole.len());
    let mut rest = whole.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (name, used) = shell_name(behind);
        match name {
            Some(name) => out.push_str(&call.host.environment(name).unwrap_or_default()),
            None if used == 0 => out.push('$'),
            None => {}
        }
        within(call, out.len())?;
        rest = &behind[used..];
    }
    out.push_str(rest);
    Ok(Value::text(out))
}

/// The name after a `$` and the number of bytes that it takes.
fn shell_name(text: &str) -> (Option<&str>, usize) {
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.find('}') {
            Some(0) => (None, 2),
            Some(end) => (Some(&inner[..end]), end + 2),
            None => (None, 1),
        };
    }
    if text.starts_with(|c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9'))
    {
        return (Some(&text[..1]), 1);
    }
    let end = text
        .find(|c: char| !(c == '_' || c.is_ascii_alphanumeric()))
        .unwrap_or(text.len());
    ((end > 0).then_some(&text[..end]), end)
}

/// Stops a function that has written more than the rendering may still make.
///
/// # Errors
/// As [`Budget::make`](crate::config::template::budget::Budget::make).
pub(super) fn within(call: &mut Call<'_>, written: usize) -> Result<(), String> {
    if written > call.budget.left() {
        return call.make(written);
    }
    Ok(())
}

fn join(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let separator = text(&arguments, 0);
    let texts = texts_of(call, &arguments[1])?;
    call.make(texts.len().saturating_mul(separator.len()))?;
    let sizes = texts.iter().map(|text| text.len() + separator.len());
    call.lend(2 * sizes.sum::<usize>())?;
    Ok(Value::text(texts.join(&separator[..])))
}

fn default(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let given = any(&arguments, 1);
    Ok(if given.is_true() {
        given
    } else {
        any(&arguments, 0)
    })
}

fn trim_all(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (set, whole) = (string(&arguments, 0), string(&arguments, 1));
    // A set, because both texts may be long.
    let set: HashSet<char> = set.chars().collect();
    Ok(Value::text(whole.trim_matches(|c| set.contains(&c))))
}

fn substr(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (start, end, whole) = (int(&arguments, 0), int(&arguments, 1), text(&arguments, 2));
    let length = whole.len() as i64;
    let (from, to) = if start < 0 {
        (0, end)
    } else if end < 0 || end > length {
        (start, length)
    } else {
        (start, end)
    };
    if from > to || to > length || to < 0 {
        return Err(format!(
            "runtime error: slice bounds out of range [{from}:{to}]"
        ));
    }
    Ok(Value::text(&whole[from as usize..to as usize]))
}

fn trunc(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (count, whole) = (int(&arguments, 0), text(&arguments, 1));
    let size = count.unsigned_abs() as usize;
    if size >= whole.len() {
        return Ok(Value::Text(whole));
    }
    let part = if count < 0 {
        &whole[whole.len() - size..]
    } else {
        &whole[..size]
    };
    Ok(Value::text(part))
}

/// Truncates `whole` to `width` bytes, with dots in place of the removed text.
fn abbreviate(left: i64, width: i64, whole: &[u8]) -> Value {
    let length = whole.len() as i64;
    if width < 4 || (left > 0 && width < 7) || length <= width {
        return Value::text(whole);
    }
    let offset = left.clamp(0, length);
    let offset = if length - offset < width - 3 {
        length - (width - 3)
    } else {
        offset
    };
    if offset <= 4 {
        return Value::text([&whole[..(width - 3) as usize], b"..."].concat());
    }
    if offset + width - 3 < length {
        let middle = &whole[offset as usize..];
        let room = (width - 6) as usize;
        return Value::text([b"...", &middle[..room.min(middle.len())], b"..."].concat());
    }
    Value::text([b"...", &whole[(length - (width - 3)) as usize..]].concat())
}

fn repeat(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (count, whole) = (int(&arguments, 0), text(&arguments, 1));
    let Ok(count) = usize::try_from(count) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    let size = count.saturating_mul(whole.len());
    call.make(size)?;
    call.lend(size)?;
    Ok(Value::text(whole.repeat(count)))
}

fn replace(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (old, new, whole) = (
        text(&arguments, 0),
        text(&arguments, 1),
        text(&arguments, 2),
    );
    let parts = if old.is_empty() {
        // Between all characters, and at both ends.
        let mut parts = vec![Vec::new()];
        parts.extend(split(call, &whole, b"", usize::MAX)?);
        parts.push(Vec::new());
        parts
    } else {
        split(call, &whole, &old, usize::MAX)?
    };
    let size = parts.len().saturating_mul(new.len()) + whole.len();
    call.make(size)?;
    call.lend(size)?;
    Ok(Value::text(parts.join(&new[..])))
}

/// The memory of a part besides its text and its value: in a list that grows, as bytes of its own, and as a shared text.
pub(super) const PIECE: usize = 128;

/// Splits like Go's `strings.SplitN`: an empty separator splits into characters. The parts count as made.
pub(super) fn split(
    call: &mut Call<'_>,
    whole: &[u8],
    separator: &[u8],
    most: usize,
) -> Result<Vec<Vec<u8>>, String> {
    let mut parts = Vec::new();
    if most == 0 {
        return Ok(parts);
    }
    if separator.is_empty() {
        let mut rest = whole;
        while !rest.is_empty() && parts.len() + 1 < most {
            let letter = letter_length(rest);
            call.make(size_of::<Value>() + letter)?;
            call.hold(PIECE + letter)?;
            parts.push(rest[..letter].to_vec());
            rest = &rest[letter..];
        }
        if !rest.is_empty() {
            parts.push(rest.to_vec());
        }
        return Ok(parts);
    }
    let mut start = 0;
    // Its time is linear, whatever the separator.
    let found = memmem::find_iter(whole, separator);
    for at in found.take(most - 1) {
        call.make(size_of::<Value>())?;
        call.hold(PIECE + 2 * (at - start))?;
        parts.push(whole[start..at].to_vec());
        start = at + separator.len();
    }
    parts.push(whole[start..].to_vec());
    Ok(parts)
}

fn letter_length(bytes: &[u8]) -> usize {
    let most = bytes.len().min(4);
    (1..=most)
        .find(|length| std::str::from_utf8(&bytes[..*length]).is_ok())
        .unwrap_or(1)
}

fn numbered(parts: Vec<Vec<u8>>) -> Value {
    let entries = parts.into_iter().enumerate();
    Value::text_map(
        entries
            .map(|(index, part)| (format!("_{index}").into_bytes().into(), Value::text(part)))
            .collect(),
    )
}

fn blank_joined(
    call: &mut Call<'_>,
    values: &[Value],
    dressed: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Outcome {
    let mut parts = Vec::new();
    for value in values.iter().filter(|value| !value.is_nothing()) {
        parts.push(dressed(printed(call, value)?));
    }
    Ok(Value::text(parts.join(&b' ')))
}

fn indent(call: &mut Call<'_>, arguments: &[Value], before: &str) -> Outcome {
    let whole = text(arguments, 1);
    let Ok(width) = usize::try_from(int(arguments, 0)) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    let lines = split(call, &whole, b"\n", usize::MAX)?;
    let size = lines.len().saturating_mul(width.saturating_add(1)) + whole.len();
    call.make(size)?;
    call.lend(2 * size)?;
    let pad = vec![b' '; width];
    let separator = [b"\n", &pad[..]].concat();
    Ok(Value::text(
        [before.as_bytes(), &pad, &lines.join(&separator[..])].concat(),
    ))
}

/// Breaks lines at spaces so that they fit `width`. With `cut_words`, longer words are cut.
fn wrap(call: &mut Call<'_>, whole: &str, width: i64, separator: &str, cut_words: bool) -> Outcome {
    let width = usize::try_from(width).unwrap_or(0).max(1);
    let separator = if separator.is_empty() {
        "\n"
    } else {
        separator
    };
    let letters: Vec<char> = whole.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while letters.len().saturating_sub(at) > width {
        if letters[at] == ' ' {
            at += 1;
            continue;
        }
        let window = &letters[at..=at + width];
        let (end, skip) = match window.iter().rposition(|c| *c == ' ') {
            Some(blank) => (at + blank, 1),
            None if cut_words => (at + width, 0),
            None => match letters[at + width..].iter().position(|c| *c == ' ') {
                Some(blank) => (at + width + blank, 1),
                None => break,
            },
        };
        out.extend(&letters[at..end]);
        out.push_str(separator);
        within(call, out.len())?;
        call.lend(4 * letters.len() + 3 * out.len())?;
        at = end + skip;
    }
    out.extend(&letters[at..]);
    Ok(Value::text(out))
}

/// The elements of a list as strings, without empty values. Any other value is a single element.
pub(super) fn texts_of(call: &mut Call<'_>, value: &Value) -> Result<Vec<Vec<u8>>, String> {
    let items = match list_of(value) {
        Some(list) => list.items(),
        None => std::slice::from_ref(value),
    };
    let items = items.iter().filter(|item| !item.is_nothing());
    items
        .map(|item| {
            let text = printed(call, item)?;
            call.hold(PIECE + text.len())?;
            Ok(text)
        })
        .collect()
}
