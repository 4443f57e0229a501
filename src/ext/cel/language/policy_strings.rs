//! The functions of policies on texts: the extension `strings` of cel-go.

use super::eval::{Budget, Failed};
use super::tree::Policy as P;
use super::value::{Text, Value};

type Given<'a> = Result<Value<'a>, Failed>;

/// Functions of a text. As in cel-go, indexes count characters.
pub(super) fn of_text<'a>(
    function: P,
    whole: &Text<'a>,
    rest: &[Value<'a>],
    budget: &Budget,
) -> Given<'a> {
    let text = whole.as_str();
    let out_of_range = |index: i64| Failed::of(format!("index out of range: {index}"));
    match (function, rest) {
        (P::LowerAscii, []) => budget.text(text.len(), || text.to_ascii_lowercase()),
        (P::UpperAscii, []) => budget.text(text.len(), || text.to_ascii_uppercase()),
        (P::Trim, []) => part(whole, budget, str::trim),
        (P::Reverse, []) => {
            // A text that is built from characters doubles while it grows.
            budget.make(text.len())?;
            budget.text(text.len(), || text.chars().rev().collect::<String>())
        }
        (P::CharAt, [Value::Int(index)]) => {
            let count = text.chars().count();
            match usize::try_from(*index) {
                Ok(index) if index < count => Ok(Value::made(
                    text.chars().skip(index).take(1).collect::<String>(),
                )),
                Ok(index) if index == count => Ok(Value::made("")),
                _ => Err(out_of_range(*index)),
            }
        }
        (P::Substring, [Value::Int(from), more @ ..]) => {
            let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            let to = match more {
                [Value::Int(to)] => *to,
                _ => count,
            };
            if *from < 0 || *from > count {
                return Err(out_of_range(*from));
            }
            if to < *from || to > count {
                return Err(out_of_range(to));
            }
            let (from, to) = (usize::try_from(*from), usize::try_from(to));
            let (Ok(from), Ok(to)) = (from, to) else {
                return Err(Failed::NO_OVERLOAD);
            };
            let ends = byte_of(text, from).zip(byte_of(text, to));
            let (from, to) = ends.unwrap_or_default();
            part(whole, budget, |text| text.get(from..to).unwrap_or_default())
        }
        (P::IndexOf, [Value::String(part), more @ ..]) => {
            let from = match more {
                [Value::Int(from)] => *from,
                _ => 0,
            };
            let start = usize::try_from(from).map_err(|_| out_of_range(from))?;
            let Some(offset) = byte_of(text, start) else {
                return Err(out_of_range(from));
            };
            let (before, after) = text.split_at(offset);
            let found = after.find(part.as_str());
            Ok(place(before.len(), found, text))
        }
        (P::LastIndexOf, [Value::String(part)]) => Ok(place(0, text.rfind(part.as_str()), text)),
        (P::Replace, [Value::String(from), Value::String(to)]) => {
            let most = text.matches(from.as_str()).count();
            let length = text.len().saturating_add(most.saturating_mul(to.len()));
            budget.spend_bytes(length)?;
            // The text doubles while it grows.
            budget.make(length)?;
            budget.text(length, || text.replace(from.as_str(), to.as_str()))
        }
        (P::Split, [Value::String(by)]) => split(whole, by.as_str(), budget),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

/// A part of a text. Only a part of a text that was made is a copy.
fn part<'a>(
    whole: &Text<'a>,
    budget: &Budget,
    of: impl for<'t> Fn(&'t str) -> &'t str,
) -> Given<'a> {
    match whole {
        Text::Borrowed(text) => Ok(Value::text(of(text))),
        Text::Made(text) => {
            let part = of(text);
            budget.make_text(part.len())?;
            Ok(Value::made(part))
        }
    }
}

fn split<'a>(whole: &Text<'a>, by: &str, budget: &Budget) -> Given<'a> {
    let count = match by {
        "" => whole.as_str().chars().count(),
        by => whole.as_str().matches(by).count() + 1,
    };
    budget.spend(count as u64)?;
    match whole {
        Text::Borrowed(text) => budget.list(count, pieces(text, by).map(Value::text)),
        Text::Made(text) => {
            budget.make_texts(count, text.len())?;
            budget.list(count, pieces(text, by).map(Value::made))
        }
    }
}

/// The parts of a text between the separators, or its characters.
fn pieces<'t>(text: &'t str, by: &str) -> impl Iterator<Item = &'t str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        if by.is_empty() {
            let mut chars = text.chars();
            chars.next()?;
            rest = Some(chars.as_str());
            return text.get(..text.len() - chars.as_str().len());
        }
        match text.split_once(by) {
            Some((part, after)) => {
                rest = Some(after);
                Some(part)
            }
            None => rest.take(),
        }
    })
}

/// The byte at which the character with this index begins. The end of the text is one, too.
fn byte_of(text: &str, index: usize) -> Option<usize> {
    let ends = std::iter::once(text.len());
    text.char_indices()
        .map(|(byte, _)| byte)
        .chain(ends)
        .nth(index)
}

/// The index of the character at `found` bytes behind `before`, or -1.
fn place<'a>(before: usize, found: Option<usize>, text: &str) -> Value<'a> {
    let index = found
        .and_then(|found| text.get(..before + found))
        .and_then(|until| i64::try_from(until.chars().count()).ok());
    Value::Int(index.unwrap_or(-1))
}
