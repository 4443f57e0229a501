//! Text: Sprig's functions over bytes.

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
        Ok(Value::Bool(find(&whole, &part, 0).is_some()))
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
    variadic("cat", &[Any], |_, arguments| {
        Ok(Value::text(blank_joined(&arguments, printed)))
    }),
    fixed("plural", &[Text, Text, Int], |_, arguments| {
        Ok(any(&arguments, usize::from(int(&arguments, 2) != 1)))
    }),
    variadic("quote", &[Any], |_, arguments| {
        Ok(Value::text(blank_joined(&arguments, |value| {
            quoted(&printed(value)).into_bytes()
        })))
    }),
    variadic("squote", &[Any], |_, arguments| {
        Ok(Value::text(blank_joined(&arguments, |value| {
            [b"'", &printed(value)[..], b"'"].concat()
        })))
    }),
    fixed("indent", &[Int, Text], |call, arguments| {
        indent(call, &arguments, "")
    }),
    fixed("nindent", &[Int, Text], |call, arguments| {
        indent(call, &arguments, "\n")
    }),
    fixed("wrap", &[Int, Text], |_, arguments| {
        Ok(wrap(
            &string(&arguments, 1),
            int(&arguments, 0),
            "\n",
            false,
        ))
    }),
    fixed("wrapWith", &[Int, Text, Text], |_, arguments| {
        Ok(wrap(
            &string(&arguments, 2),
            int(&arguments, 0),
            &string(&arguments, 1),
            true,
        ))
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
    fixed("toString", &[Any], |_, arguments| {
        Ok(Value::text(printed(&arguments[0])))
    }),
    fixed("toStrings", &[Any], |_, arguments| {
        Ok(Value::texts(texts_of(&arguments[0])))
    }),
    fixed("join", &[Text, Any], |_, arguments| {
        Ok(Value::text(
            texts_of(&arguments[1]).join(&text(&arguments, 0)[..]),
        ))
    }),
    fixed("splitList", &[Text, Text], |call, arguments| {
        let parts = split(&text(&arguments, 1), &text(&arguments, 0), usize::MAX);
        call.budget.make(parts.len())?;
        Ok(Value::texts(parts))
    }),
    fixed("split", &[Text, Text], |_, arguments| {
        Ok(numbered(split(
            &text(&arguments, 1),
            &text(&arguments, 0),
            usize::MAX,
        )))
    }),
    fixed("splitn", &[Text, Int, Text], |_, arguments| {
        let most = usize::try_from(int(&arguments, 1)).unwrap_or(usize::MAX);
        Ok(numbered(split(
            &text(&arguments, 2),
            &text(&arguments, 0),
            most,
        )))
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
    Ok(Value::text(whole.trim_matches(|c| set.contains(c))))
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
    let offset = left.min(length);
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
    call.budget.make(count.saturating_mul(whole.len()))?;
    Ok(Value::text(whole.repeat(count)))
}

pub(super) fn find(whole: &[u8], part: &[u8], from: usize) -> Option<usize> {
    if part.is_empty() {
        return Some(from);
    }
    let rest = whole.get(from..)?;
    rest.windows(part.len())
        .position(|window| window == part)
        .map(|at| at + from)
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
        parts.extend(split(&whole, b"", usize::MAX));
        parts.push(Vec::new());
        parts
    } else {
        split(&whole, &old, usize::MAX)
    };
    call.budget
        .make(parts.len().saturating_mul(new.len()) + whole.len())?;
    Ok(Value::text(parts.join(&new[..])))
}

/// Splits like Go's `strings.SplitN`: an empty separator splits into characters.
pub(super) fn split(whole: &[u8], separator: &[u8], most: usize) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    if most == 0 {
        return parts;
    }
    if separator.is_empty() {
        let mut rest = whole;
        while !rest.is_empty() && parts.len() + 1 < most {
            let letter = letter_length(rest);
            parts.push(rest[..letter].to_vec());
            rest = &rest[letter..];
        }
        if !rest.is_empty() {
            parts.push(rest.to_vec());
        }
        return parts;
    }
    let mut start = 0;
    while parts.len() + 1 < most {
        let Some(at) = find(whole, separator, start) else {
            break;
        };
        parts.push(whole[start..at].to_vec());
        start = at + separator.len();
    }
    parts.push(whole[start..].to_vec());
    parts
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

fn blank_joined(values: &[Value], print: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = values
        .iter()
        .filter(|value| !value.is_nothing())
        .map(print)
        .collect();
    parts.join(&b' ')
}

fn indent(call: &mut Call<'_>, arguments: &[Value], before: &str) -> Outcome {
    let whole = text(arguments, 1);
    let Ok(width) = usize::try_from(int(arguments, 0)) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    let lines = split(&whole, b"\n", usize::MAX);
    call.budget
        .make(lines.len().saturating_mul(width.saturating_add(1)) + whole.len())?;
    let pad = vec![b' '; width];
    let separator = [b"\n", &pad[..]].concat();
    Ok(Value::text(
        [before.as_bytes(), &pad, &lines.join(&separator[..])].concat(),
    ))
}

/// Breaks lines at spaces so that they fit `width`. With `cut_words`, longer words are cut.
fn wrap(whole: &str, width: i64, separator: &str, cut_words: bool) -> Value {
    let width = usize::try_from(width).unwrap_or(0).max(1);
    let separator = if separator.is_empty() {
        "\n"
    } else {
        separator
    };
    let letters: Vec<char> = whole.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while letters.len() - at > width {
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
        at = end + skip;
    }
    out.extend(&letters[at..]);
    Value::text(out)
}

/// The elements of a list as strings, without empty values. Any other value is a single element.
pub(super) fn texts_of(value: &Value) -> Vec<Vec<u8>> {
    match list_of(value) {
        Some(list) => list
            .items()
            .iter()
            .filter(|item| !item.is_nothing())
            .map(printed)
            .collect(),
        None if value.is_nothing() => Vec::new(),
        None => vec![printed(value)],
    }
}
