//! The regular expressions of a schema: RE2, as everywhere in the configuration. The validator crate uses ECMAScript
//! syntax, so expressions are translated beforehand to a form with the same meaning in both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::costs::Costs;
use crate::config::path::token;
use crate::config::re2::{Rejected, Use, translate};

/// Keywords whose members are schemas with arbitrary names.
const MAPS: [&str; 6] = [
    "properties",
    "patternProperties",
    "definitions",
    "$defs",
    "dependentSchemas",
    "dependencies",
];

/// Keywords whose values are data.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// The original expressions by their translations.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    written: HashMap<String, String>,
    /// All files of a schema pass through here.
    costs: Costs,
}

/// An expression that RE2 rejects, and its location.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {rejected}")]
pub(in crate::ext) struct BadPattern {
    place: String,
    rejected: Rejected,
}

impl Patterns {
    /// Translates all expressions of a schema.
    ///
    /// # Errors
    /// RE2 rejects one of them.
    pub(super) fn translate(&self, schema: &mut Value) -> Result<(), BadPattern> {
        self.known().costs.add(schema);
        each(schema, "", &mut |pattern, at| self.one(pattern, at))
    }

    /// What a failure costs in memory, over all files.
    pub(super) fn costs(&self) -> Costs {
        self.known().costs
    }

    /// The original expression of `translated`.
    pub(super) fn written(&self, translated: &str) -> String {
        let known = self.known();
        let written = known.written.get(translated);
        written.map_or_else(|| translated.to_owned(), String::clone)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, pattern: &str, at: &str) -> Result<String, BadPattern> {
        let translated = translate(pattern, Use::Text).map_err(|rejected| BadPattern {
            place: at.to_owned(),
            rejected,
        })?;
        self.known()
            .written
            .entry(translated.clone())
            .or_insert_with(|| pattern.to_owned());
        Ok(translated)
    }
}

/// Replaces all expressions that a meta-schema may reject. Those up to draft 7 demand the syntax of ECMAScript
/// (`"format": "regex"`), and neither RE2's nor our translation is that.
pub(super) fn make_plain(schema: &mut Value) -> Result<(), BadPattern> {
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric();
    each(schema, "", &mut |pattern, _| {
        Ok(pattern.chars().filter(is_plain).collect())
    })
}

/// The replacement of an expression, given its place.
type Change<'c> = dyn FnMut(&str, &str) -> Result<String, BadPattern> + 'c;

fn each(value: &mut Value, at: &str, change: &mut Change<'_>) -> Result<(), BadPattern> {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                keyword(key, value, &format!("{at}/{}", token(key)), change)?;
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, item)| each(item, &format!("{at}/{index}"), change)),
        _ => Ok(()),
    }
}

fn keyword(
    key: &str,
    value: &mut Value,
    at: &str,
    change: &mut Change<'_>,
) -> Result<(), BadPattern> {
    match value {
        Value::String(pattern) if key == "pattern" => {
            *pattern = change(pattern, at)?;
            Ok(())
        }
        Value::Object(members) if MAPS.contains(&key) => {
            for (name, value) in members.iter_mut() {
                each(value, &format!("{at}/{}", token(name)), change)?;
            }
            match key {
                "patternProperties" => names(members, at, change),
                _ => Ok(()),
            }
        }
        _ if DATA.contains(&key) => Ok(()),
        value => each(value, at, change),
    }
}

/// Two expressions may become the same: an empty group tells them apart.
fn names(
    members: &mut Map<String, Value>,
    at: &str,
    change: &mut Change<'_>,
) -> Result<(), BadPattern> {
    for (name, value) in std::mem::take(members) {
        let mut changed = change(&name, &format!("{at}/{}", token(&name)))?;
        while members.contains_key(&changed) {
            changed.push_str("(?:)");
        }
        members.insert(changed, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_expressions_are_translated() {
        let patterns = Patterns::default();
        let mut schema = json!({
            "pattern": r"^\d$",
            "properties": {"pattern": {"pattern": "a{,2}"}, "enum": {"pattern": "x{"}},
            "enum": [{"pattern": r"\d"}], "const": {"pattern": "("}, "default": {"pattern": "("},
            "items": [{"not": {"pattern": "[a&&b]"}}],
            "patternProperties": {r"\d": {"pattern": "b"}, "[0-9]": false},
        });
        patterns.translate(&mut schema).unwrap();
        assert_eq!(schema["enum"][0]["pattern"], r"\d");
        assert_eq!(schema["const"]["pattern"], "(");
        let translated = schema["pattern"].as_str().unwrap();
        assert_eq!(patterns.written(translated), r"^\d$");
        assert_ne!(schema["properties"]["pattern"]["pattern"], "a{,2}");
        assert_ne!(schema["properties"]["enum"]["pattern"], "x{");
        assert_ne!(schema["items"][0]["not"]["pattern"], "[a&&b]");
        assert_eq!(schema["patternProperties"].as_object().unwrap().len(), 2);
        let mut bad = json!({"properties": {"a": {"pattern": "(?=a)"}}});
        let error = patterns.translate(&mut bad).unwrap_err().to_string();
        assert!(
            error.starts_with("/properties/a/pattern: error parsing"),
            "{error}"
        );
    }
}
