//! The functions of policies on texts: the extension `strings` of cel-go.

use super::eval::{Budget, Failed};
use super::tree::Policy as P;
use super::value::{List, Value};

type Given<'a> = Result<Value<'a>, Failed>;

/// Functions of a text. As in cel-go, indexes count characters.
pub(super) fn of_text<'a>(
    function: P,
    text: &str,
    rest: &[Value<'a>],
    budget: &Budget,
) -> Given<'a> {
    let out_of_range = |index: i64| Failed::of(format!("index out of range: {index}"));
    match (function, rest) {
        (P::LowerAscii, []) => Ok(Value::made(text.to_ascii_lowercase())),
        (P::UpperAscii, []) => Ok(Value::made(text.to_ascii_uppercase())),
        (P::Trim, []) => Ok(Value::made(text.trim())),
        (P::Reverse, []) => Ok(Value::made(text.chars().rev().collect::<String>())),
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
            Ok(Value::made(
                text.chars().skip(from).take(to - from).collect::<String>(),
            ))
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
            budget.spend_bytes(text.len().saturating_add(most.saturating_mul(to.len())))?;
            Ok(Value::made(text.replace(from.as_str(), to.as_str())))
        }
        (P::Split, [Value::String(by)]) => {
            let parts: Vec<Value<'a>> = match by.as_str() {
                "" => text.chars().map(|c| Value::made(c.to_string())).collect(),
                by => text.split(by).map(Value::made).collect(),
            };
            budget.spend(parts.len() as u64)?;
            Ok(Value::List(List::Made(parts.into())))
        }
        _ => Err(Failed::NO_OVERLOAD),
    }
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
