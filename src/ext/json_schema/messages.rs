//! Error messages in the words of KrakenD's validator: one line for each failure.
//!
//! The parts of a failure (`anyOf`, `oneOf`, `propertyNames`) are indented below it. Values of the body are
//! truncated.

use std::fmt::Write as _;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::failure_tree::Failure;
use super::patterns::Patterns;
use super::quote::single as quoted;
use super::unique::same;
use super::{format, number};

/// The maximum number of names in a message.
const MAX_NAMES: usize = 64;

/// The lines, at most `most`.
pub(super) fn lines(failures: &[Failure], most: usize) -> String {
    let mut out = String::new();
    let mut left = most;
    write(&mut out, &mut left, failures, 0);
    out
}

fn write(out: &mut String, left: &mut usize, failures: &[Failure], level: usize) {
    for Failure {
        at, text, causes, ..
    } in failures
    {
        if *left == 0 {
            return;
        }
        *left -= 1;
        if !out.is_empty() {
            out.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{:indent$}- at {}: {text}",
            "",
            quoted(at),
            indent = 2 * level
        );
        write(out, left, causes, level + 1);
    }
}

pub(super) fn required(because: Option<&str>, names: &[&str]) -> String {
    match (because, names) {
        (Some(because), names) => format!(
            "properties {} required, if {} exists",
            list(names.iter().copied()),
            quoted(because)
        ),
        (None, [one]) => format!("missing property {}", quoted(one)),
        (None, several) => format!("missing properties {}", list(several.iter().copied())),
    }
}

/// The member of `object` that requires `name`, if the keyword is `dependentRequired` or `dependencies`.
pub(super) fn because<'s>(
    keyword: Option<&'s Value>,
    object: &Value,
    name: &str,
) -> Option<&'s str> {
    let demands = keyword?.as_object()?;
    demands
        .iter()
        .find(|(because, names)| {
            let demanded = names
                .as_array()
                .is_some_and(|names| names.iter().any(|n| n == name));
            demanded && object.get(because.as_str()).is_some()
        })
        .map(|(because, _)| because.as_str())
}

/// The message of one keyword about `value`, if it is a single line.
pub(super) fn said(error: &ValidationError<'_>, value: &Value, patterns: &Patterns) -> String {
    match error.kind() {
        Kind::Type { kind } => format!("got {}, want {}", type_of(value), wanted(kind)),
        Kind::Enum { options } => one_of(options),
        Kind::Constant { expected_value } => {
            if is_plain(expected_value) {
                format!("value must be {}", shown(expected_value))
            } else {
                "'const' failed".to_owned()
            }
        }
        Kind::Minimum { limit } => bound("minimum", value, limit),
        Kind::Maximum { limit } => bound("maximum", value, limit),
        Kind::ExclusiveMinimum { limit } => bound("exclusiveMinimum", value, limit),
        Kind::ExclusiveMaximum { limit } => bound("exclusiveMaximum", value, limit),
        Kind::MultipleOf { multiple_of } => {
            format!(
                "multipleOf: got {}, want {}",
                amount(value),
                number::english(*multiple_of)
            )
        }
        Kind::MinLength { limit } => counted("minLength", value, *limit),
        Kind::MaxLength { limit } => counted("maxLength", value, *limit),
        Kind::MinItems { limit } => counted("minItems", value, *limit),
        Kind::MaxItems { limit } => counted("maxItems", value, *limit),
        Kind::MinProperties { limit } => counted("minProperties", value, *limit),
        Kind::MaxProperties { limit } => counted("maxProperties", value, *limit),
        Kind::Pattern { pattern } => {
            format!(
                "{} does not match pattern {}",
                shown(value),
                quoted(&patterns.written(pattern))
            )
        }
        Kind::Format { format } => {
            format!(
                "{} is not valid {format}: {}",
                shown(value),
                format::why(format, value.as_str().unwrap_or_default())
            )
        }
        Kind::AdditionalProperties { unexpected } => {
            additional(unexpected.iter().map(String::as_str))
        }
        Kind::AdditionalItems { limit } => {
            let more = count(value).saturating_sub(*limit);
            let more = number::count(more as u64);
            format!("last {more} additionalItem(s) not allowed")
        }
        Kind::UniqueItems => match twins(value) {
            Some((a, b)) => format!("items at {a} and {b} are equal"),
            None => "items are equal".to_owned(),
        },
        Kind::FalseSchema => "false schema".to_owned(),
        Kind::Not { .. } => "'not' failed".to_owned(),
        Kind::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Kind::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Kind::OneOfMultipleValid { context } => several_matched(context),
        _ => "validation failed".to_owned(),
    }
}

fn bound(keyword: &str, value: &Value, limit: &Value) -> String {
    format!("{keyword}: got {}, want {}", amount(value), amount(limit))
}

fn counted(keyword: &str, value: &Value, limit: u64) -> String {
    format!(
        "{keyword}: got {}, want {}",
        number::count(count(value) as u64),
        number::count(limit)
    )
}

fn amount(value: &Value) -> String {
    number::english(value.as_f64().unwrap_or_default())
}

/// The number of characters, items or members.
fn count(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

fn one_of(options: &Value) -> String {
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    if !options.iter().all(is_plain) {
        return "'enum' failed".to_owned();
    }
    let shown: Vec<String> = options.iter().map(shown).collect();
    match shown.as_slice() {
        [one] => format!("value must be {one}"),
        several => format!("value must be one of {}", several.join(", ")),
    }
}

/// The message of `contains` and related keywords. `matched` are the indexes of the matching items, if known.
pub(super) fn contained(keyword: &str, limit: Option<&Value>, matched: Option<&[usize]>) -> String {
    let (least, limit) = match (keyword, limit.and_then(Value::as_f64)) {
        ("minContains", Some(limit)) => ("min", limit),
        ("maxContains", Some(limit)) => ("max", limit),
        _ => return "no items match contains schema".to_owned(),
    };
    let limit = number::count(limit as u64);
    let found = match matched {
        None => String::new(),
        Some([]) => ", but none matched".to_owned(),
        Some(places) => {
            let all: Vec<String> = places.iter().map(usize::to_string).collect();
            let count = number::count(places.len() as u64);
            format!(", but matched {count} items at {}", all.join(" "))
        }
    };
    format!("{least} {limit} items required to match contains schema{found}")
}

/// A member whose name is invalid.
pub(super) fn bad_name(name: &str) -> String {
    format!("invalid propertyName {}", quoted(name))
}

/// Members that are not allowed.
pub(super) fn additional<'n>(names: impl Iterator<Item = &'n str>) -> String {
    format!("additional properties {} not allowed", list(names))
}

/// The indexes of the items with these `texts`. Of several equal items, the last one that is not used yet.
pub(super) fn places(value: &Value, texts: &[String]) -> Vec<usize> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut left: Vec<&String> = texts.iter().take(MAX_NAMES).collect();
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate().rev() {
        if left.is_empty() {
            break;
        }
        let shown = item.to_string();
        if let Some(at) = left.iter().rposition(|text| **text == shown) {
            left.remove(at);
            found.push(index);
        }
    }
    found.reverse();
    found
}

fn several_matched(context: &[Vec<ValidationError<'_>>]) -> String {
    let matched: Vec<String> = context
        .iter()
        .enumerate()
        .filter(|(_, failures)| failures.is_empty())
        .map(|(index, _)| index.to_string())
        .take(2)
        .collect();
    if matched.is_empty() {
        "'oneOf' failed".to_owned()
    } else {
        format!("'oneOf' failed, subschemas {} matched", matched.join(", "))
    }
}

/// The first two equal items.
fn twins(value: &Value) -> Option<(usize, usize)> {
    // Only lists that can be shown are searched, because the search is quadratic.
    let items = value.as_array().filter(|items| items.len() <= 256)?;
    items.iter().enumerate().find_map(|(later, item)| {
        let earlier = items.iter().take(later).position(|other| same(other, item));
        earlier.map(|earlier| (earlier, later))
    })
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wanted(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(several) => {
            let all = [
                JsonType::Null,
                JsonType::Boolean,
                JsonType::Number,
                JsonType::Integer,
                JsonType::String,
                JsonType::Array,
                JsonType::Object,
            ];
            let names = all.iter().filter(|one| several.contains(**one));
            names
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" or ")
        }
    }
}

fn is_plain(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// A value as shown in messages.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => "value".to_owned(),
        Value::Number(number) => number::plain(number),
        other => other.to_string(),
    }
}

fn list<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let all: Vec<String> = texts.take(MAX_NAMES).map(quoted).collect();
    all.join(", ")
}
