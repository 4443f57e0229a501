//! What is wrong with a body, in the words of KrakenD's validator: one line for each failure.
//!
//! What a failure consists of (`anyOf`, `oneOf`, `propertyNames`) stands below it, indented. Values of the body are cut
//! short.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::format;
use super::quote::single as quoted;

/// More names are not told.
const MOST_CHARACTERS: usize = 64;

/// How deep failures within failures are told.
const MOST_LEVELS: usize = 4;

/// The lines, `most` at most. `schema` is the one that was not met.
pub(super) fn lines<'e>(
    errors: impl IntoIterator<Item = ValidationError<'e>>,
    most: usize,
    schema: &Value,
) -> String {
    let mut told = Lines {
        text: String::new(),
        left: most,
        schema,
    };
    let errors: Vec<ValidationError<'e>> = errors.into_iter().take(most).collect();
    told.all(&errors, 0);
    told.text
}

struct Lines<'s> {
    text: String,
    left: usize,
    schema: &'s Value,
}

impl Lines<'_> {
    fn line(&mut self, level: usize, at: &str, text: &str) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = write!(
            self.text,
            "{:indent$}- at {}: {text}",
            "",
            quoted(at),
            indent = 2 * level
        );
    }

    /// Missing members of one object are told together, where the first of them is.
    fn all(&mut self, errors: &[ValidationError<'_>], level: usize) {
        let missing = self.missing(errors);
        for (index, error) in errors.iter().enumerate() {
            let Some((place, _)) = self.place(error) else {
                self.one(error, level);
                continue;
            };
            if let Some((first, names)) = missing.get(&place)
                && *first == index
            {
                self.line(level, place.at, &required(place.because, names));
            }
        }
    }

    fn one(&mut self, error: &ValidationError<'_>, level: usize) {
        let at = error.instance_path().as_str();
        match error.kind() {
            Kind::UnevaluatedProperties { unexpected } => {
                for name in unexpected {
                    self.line(level, &format!("{at}/{}", pointed(name)), "false schema");
                }
            }
            kind => self.line(level, at, &said(error, kind)),
        }
        if level >= MOST_LEVELS {
            return;
        }
        match error.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                for branch in context {
                    self.all(branch, level + 1);
                }
            }
            Kind::PropertyNames { error } => self.one(error, level + 1),
            _ => {}
        }
    }
}

/// Members that are missing together: of one object, demanded by one keyword, because of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'e> {
    at: &'e str,
    keyword: &'e str,
    because: Option<&'e str>,
}

impl<'s> Lines<'s> {
    fn place<'e>(&self, error: &'e ValidationError<'_>) -> Option<(Place<'e>, &'e str)>
    where
        's: 'e,
    {
        let Kind::Required { property } = error.kind() else {
            return None;
        };
        let name = property.as_str().unwrap_or_default();
        let keyword = error.schema_path().as_str();
        let place = Place {
            at: error.instance_path().as_str(),
            keyword,
            because: because(self.schema.pointer(keyword), error.instance(), name),
        };
        Some((place, name))
    }

    /// The missing members by place, and the first error that tells of each place.
    fn missing<'e>(
        &self,
        errors: &'e [ValidationError<'_>],
    ) -> BTreeMap<Place<'e>, (usize, Vec<&'e str>)>
    where
        's: 'e,
    {
        let mut all: BTreeMap<Place<'e>, (usize, Vec<&'e str>)> = BTreeMap::new();
        for (index, error) in errors.iter().enumerate() {
            if let Some((place, name)) = self.place(error) {
                all.entry(place).or_insert((index, Vec::new())).1.push(name);
            }
        }
        all
    }
}

fn required(because: Option<&str>, names: &[&str]) -> String {
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

/// The member of `object` that demands `name`, where the keyword is `dependentRequired` or `dependencies`.
fn because<'s>(keyword: Option<&'s Value>, object: &Value, name: &str) -> Option<&'s str> {
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

fn said(error: &ValidationError<'_>, kind: &Kind) -> String {
    let value = error.instance().as_ref();
    match kind {
        Kind::Type { kind } => format!("got {}, want {}", type_of(value), wanted(kind)),
        Kind::Enum { options } => one_of(options),
        Kind::Constant { expected_value } => match is_plain(expected_value) {
            true => format!("value must be {}", shown(expected_value)),
            false => "const failed".to_owned(),
        },
        Kind::Minimum { limit } => bound("minimum", value, limit),
        Kind::Maximum { limit } => bound("maximum", value, limit),
        Kind::ExclusiveMinimum { limit } => bound("exclusiveMinimum", value, limit),
        Kind::ExclusiveMaximum { limit } => bound("exclusiveMaximum", value, limit),
        Kind::MultipleOf { multiple_of } => {
            format!("multipleOf: got {}, want {multiple_of}", shown(value))
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
                quoted(pattern)
            )
        }
        Kind::Format { format } => {
            format!(
                "{} is not valid {format}: {}",
                shown(value),
                format::why(format, value.as_str().unwrap_or_default())
            )
        }
        Kind::AdditionalProperties { unexpected } => format!(
            "additional properties {} not allowed",
            list(unexpected.iter().map(String::as_str))
        ),
        Kind::AdditionalItems { limit } => {
            let more = count(value).saturating_sub(*limit);
            format!("last {more} additionalItem(s) not allowed")
        }
        Kind::UnevaluatedItems { .. } => "unevaluated items not allowed".to_owned(),
        Kind::UniqueItems => match twins(value) {
            Some((a, b)) => format!("items at {a} and {b} are equal"),
            None => "items are equal".to_owned(),
        },
        Kind::Contains => contained(error),
        Kind::PropertyNames { error } => {
            format!("invalid propertyName {}", shown(error.instance()))
        }
        Kind::FalseSchema => "false schema".to_owned(),
        Kind::Not { .. } => "'not' failed".to_owned(),
        Kind::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Kind::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Kind::OneOfMultipleValid { context } => several_matched(context),
        Kind::ContentEncoding { content_encoding } => {
            format!("value is not {} encoded", quoted(content_encoding))
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("value is not of mediatype {}", quoted(content_media_type))
        }
        _ => "validation failed".to_owned(),
    }
}

fn bound(keyword: &str, value: &Value, limit: &Value) -> String {
    format!("{keyword}: got {}, want {}", shown(value), shown(limit))
}

fn counted(keyword: &str, value: &Value, limit: u64) -> String {
    format!("{keyword}: got {}, want {limit}", count(value))
}

/// Characters, items or members.
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
        return "enum failed".to_owned();
    }
    let shown: Vec<String> = options.iter().map(shown).collect();
    match shown.as_slice() {
        [one] => format!("value must be {one}"),
        several => format!("value must be one of {}", several.join(", ")),
    }
}

/// `contains`, `minContains` and `maxContains` are told apart by where the schema says so.
fn contained(error: &ValidationError<'_>) -> String {
    match error.schema_path().as_str().rsplit('/').next() {
        Some("minContains") => "too few items match contains schema".to_owned(),
        Some("maxContains") => "too many items match contains schema".to_owned(),
        _ => "no items match contains schema".to_owned(),
    }
}

fn several_matched(context: &[Vec<ValidationError<'_>>]) -> String {
    let matched: Vec<String> = context
        .iter()
        .enumerate()
        .filter(|(_, failures)| failures.is_empty())
        .map(|(index, _)| index.to_string())
        .take(2)
        .collect();
    match matched.is_empty() {
        true => "'oneOf' failed".to_owned(),
        false => format!("'oneOf' failed, subschemas {} matched", matched.join(", ")),
    }
}

/// The first two items that are the same.
fn twins(value: &Value) -> Option<(usize, usize)> {
    // Only lists that can be shown anyway are searched: the search takes the square of their length.
    let items = value.as_array().filter(|items| items.len() <= 256)?;
    items.iter().enumerate().find_map(|(later, item)| {
        let earlier = items.iter().take(later).position(|other| same(other, item));
        earlier.map(|earlier| (earlier, later))
    })
}

/// Numbers are the same when their values are: `1` and `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
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
            let names: Vec<String> = several
                .iter()
                .map(|one: JsonType| one.to_string())
                .collect();
            names.join(" or ")
        }
    }
}

fn is_plain(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// A value as messages show it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => "value".to_owned(),
        other => other.to_string(),
    }
}

fn list<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let all: Vec<String> = texts.take(MOST_CHARACTERS).map(quoted).collect();
    all.join(", ")
}

/// A name in a JSON pointer.
fn pointed(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
