//! A compiled schema. This is the only module that uses the validator crate.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::{Draft, PatternOptions, Retrieve, ValidationError, ValidationOptions};
use serde_json::{Number, Value, json};

use super::costs::Costs;
use super::failure_tree::FailureGrouper;
use super::files::Files;
use super::meter::{Budget, Metered, Seen, Stopped, metered};
use super::patterns::{BadPattern, Patterns, make_plain};
use super::subschemas::Parts;
use super::{format, messages};
use crate::runtime::heavy::{Cut, Heavy};

/// The maximum compiled size of a pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// For longer bodies only the first failure is reported, because each failure costs memory.
const TOLD_WHOLE: usize = 64 * 1024;

/// The maximum number of reported failures.
const MAX_LINES: usize = 64;

/// The number of steps of a validation: a fixed number, and additional ones for each byte of the body. A schema
/// without recursion needs far fewer.
const STEPS: u64 = 1_000_000;
const STEPS_PER_BYTE: u64 = 256;

/// The number of steps for reporting failures, and the number of bytes that all failures of a body may occupy.
const TELLING_STEPS: u64 = 200_000;
const TELLING_BYTES: usize = 32 << 20;

/// The maximum time for reporting failures, including the wait for a lane. The result is already known.
const TELLING_TIME: Duration = Duration::from_millis(200);

/// The report if details would take too long.
const NOT_TOLD: &str = "- at '': validation failed";

pub(super) type Validator = jsonschema::Validator<Metered>;

/// Can validate any number of bodies.
pub(in crate::ext) struct Schema {
    validator: Validator,
    /// The schema as written, except for regular expressions.
    text: Value,
    parts: Parts,
    patterns: Patterns,
    costs: Costs,
    /// In draft 4 `1.0` is not an integer, but KrakenD accepts it in every draft.
    whole_numbers: bool,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// Why a schema is not usable.
#[derive(Debug, thiserror::Error)]
pub(in crate::ext) enum SchemaError {
    #[error("{0}")]
    Json(serde_json::Error),
    #[error("a JSON Schema is an object, true or false")]
    NoObject,
    #[error("\"$schema\" names no draft that is known: {0}")]
    Draft(String),
    #[error("not a JSON Schema: {place}{text}")]
    Invalid { place: String, text: String },
    #[error("not a JSON Schema: {0}")]
    Pattern(#[from] BadPattern),
    #[error("not a JSON Schema: the validator gave up")]
    GaveUp,
}

impl SchemaError {
    pub(in crate::ext) fn hint(&self) -> Option<&'static str> {
        match self {
            SchemaError::Draft(_) => Some(
                "http://json-schema.org/draft-07/schema#, https://json-schema.org/draft/2020-12/schema, or nothing",
            ),
            SchemaError::Pattern(_) => Some("RE2 syntax: no look-around, no back-references"),
            SchemaError::Invalid { text, .. } if text.contains("regex") => {
                Some("RE2 syntax: no look-around, no back-references")
            }
            SchemaError::Invalid { text, .. } if text.contains("never the network") => {
                Some("save the schema in a file and refer to that")
            }
            _ => None,
        }
    }
}

/// Why a body is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ext) enum Rejection {
    /// It does not match. One line for each failure.
    Unfit(String),
    /// The validator failed, which says nothing about the body.
    GaveUp,
    /// The validation needs more steps than allowed.
    Costly,
    /// The deadline has passed.
    Cut(Cut),
}

impl Schema {
    /// Compiles a schema. `beside` is the folder of the file that contains it.
    ///
    /// # Errors
    /// It is not a schema, or refers to something that cannot be read.
    pub(in crate::ext) fn compile(text: &str, beside: &Path) -> Result<Schema, SchemaError> {
        let mut schema: Value = serde_json::from_str(text).map_err(SchemaError::Json)?;
        if !schema.is_object() && !schema.is_boolean() {
            return Err(SchemaError::NoObject);
        }
        let draft = draft(&schema)?;
        let patterns = Patterns::default();
        let mut plain = schema.clone();
        patterns.translate(&mut schema)?;
        make_plain(&mut plain)?;
        let files = Files::new(beside, patterns.clone()).with_root(&schema);
        let build = || {
            // The crate asks the meta-schema about the schema that it builds, and about nothing that is referred to.
            options(draft, &files).build(&plain)?;
            let root = files.root();
            let validator = options(draft, &files).build(&json!({ "$ref": root }))?;
            let part = |part: &Value| options(draft, &files).build(part).ok();
            let parts = Parts::compile(&schema, &root, part);
            Ok::<_, ValidationError<'static>>((validator, parts))
        };
        match catch_unwind(AssertUnwindSafe(build)) {
            Ok(Ok((validator, parts))) => Ok(Schema {
                validator,
                parts,
                costs: patterns.costs(),
                patterns,
                text: schema,
                whole_numbers: draft == Draft::Draft4,
            }),
            Ok(Err(error)) => Err(SchemaError::Invalid {
                place: match error.instance_path().as_str() {
                    "" => String::new(),
                    path => format!("{path}: "),
                },
                text: error.to_string(),
            }),
            Err(_) => Err(SchemaError::GaveUp),
        }
    }

    /// Validates a body of `length` bytes.
    ///
    /// # Errors
    /// The body does not match, or the validation was stopped.
    pub(in crate::ext) fn check(
        &self,
        mut body: Value,
        length: usize,
        heavy: Heavy,
    ) -> Result<(), Rejection> {
        if self.whole_numbers {
            make_whole(&mut body);
        }
        let mut heavy = Some(heavy);
        let budget = Budget {
            steps: STEPS + STEPS_PER_BYTE * length as u64,
            bytes: TELLING_BYTES,
            failure: 0,
        };
        let verdict = metered(budget, &mut heavy, || self.validator.is_valid(Seen(&body)));
        match verdict {
            Ok(true) => Ok(()),
            Ok(false) => Err(Rejection::Unfit(self.told(&body, length, heavy))),
            Err(Stopped::Spent) => Err(Rejection::Costly),
            Err(Stopped::Cut(cut)) => Err(Rejection::Cut(cut)),
            Err(Stopped::Broken) => Err(Rejection::GaveUp),
        }
    }

    /// The failures of a body that does not match, as far as they can be reported in a limited number of steps.
    fn told(&self, body: &Value, length: usize, mut heavy: Option<Heavy>) -> String {
        if let Some(heavy) = &mut heavy {
            heavy.shorten(TELLING_TIME);
        }
        let budget = Budget {
            steps: TELLING_STEPS,
            bytes: TELLING_BYTES,
            failure: self.costs.failure(body),
        };
        let all = if length > TOLD_WHOLE { 1 } else { MAX_LINES };
        for most in [all, 1] {
            match metered(budget, &mut heavy, || self.lines(body, most)) {
                Ok(lines) => return lines,
                Err(Stopped::Cut(_)) => break,
                Err(Stopped::Spent | Stopped::Broken) => {}
            }
        }
        NOT_TOLD.to_owned()
    }

    fn lines(&self, body: &Value, most: usize) -> String {
        let errors: Vec<_> = match most {
            1 => self
                .validator
                .validate(Seen(body))
                .err()
                .into_iter()
                .collect(),
            most => self.validator.iter_errors(Seen(body)).take(most).collect(),
        };
        let told = FailureGrouper::new(body, &self.text, &self.parts, &self.patterns).all(&errors);
        messages::lines(&told, most)
    }
}

/// Writes numbers without a fraction as integers. Those that no integer type can represent are unchanged.
fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0);
            if let Some(float) = whole.filter(|float| float.abs() < 9.2e18)
                && number.is_f64()
            {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(members) => members.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The options of the validator: `format` has the same meaning in every draft that asserts it.
fn options(draft: Draft, files: &Files) -> ValidationOptions<'static, Arc<dyn Retrieve>, Metered> {
    let options = jsonschema::options_for::<Metered>()
        .with_draft(draft)
        .with_base_uri(files.base())
        .with_retriever(files.clone())
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN))
        // Draft 7 leaves open whether these are checked. KrakenD does not check them.
        .without_content_encoding_support("base64")
        .without_content_media_type_support("application/json");
    format::ALL.iter().fold(options, |options, (name, check)| {
        options.with_format(*name, |text| check(text).is_ok())
    })
}

/// The draft of a schema. The default is 2020-12.
fn draft(schema: &Value) -> Result<Draft, SchemaError> {
    let Some(named) = schema.get("$schema") else {
        return Ok(Draft::Draft202012);
    };
    let name = named.as_str().unwrap_or_default();
    let rest = name
        .strip_prefix("http://")
        .or_else(|| name.strip_prefix("https://"))
        .unwrap_or(name);
    match rest.trim_end_matches('#') {
        "json-schema.org/schema" => Ok(Draft::Draft202012),
        "json-schema.org/draft-04/schema" => Ok(Draft::Draft4),
        "json-schema.org/draft-06/schema" => Ok(Draft::Draft6),
        "json-schema.org/draft-07/schema" => Ok(Draft::Draft7),
        "json-schema.org/draft/2019-09/schema" => Ok(Draft::Draft201909),
        "json-schema.org/draft/2020-12/schema" => Ok(Draft::Draft202012),
        _ => Err(SchemaError::Draft(named.to_string())),
    }
}
