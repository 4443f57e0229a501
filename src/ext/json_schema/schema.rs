//! A schema, compiled. The only place that names the crate which validates.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::{Draft, PatternOptions, Retrieve, ValidationError, ValidationOptions};
use serde_json::{Number, Value};

use super::files::Files;
use super::meter::{Metered, Seen, Stopped, metered};
use super::parts::Parts;
use super::patterns::{BadPattern, Patterns};
use super::tree::Teller;
use super::{format, wording};
use crate::runtime::heavy::{Cut, Heavy};

/// A pattern's compiled size, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Of longer bodies only the first failure is told: to look for all of them costs memory for each.
const TOLD_WHOLE: usize = 64 * 1024;

/// More failures than this are not told.
const MOST_LINES: usize = 64;

/// Steps of a verdict: so many for any body, and so many more for each of its bytes. A schema without recursion needs
/// far fewer.
const STEPS: u64 = 1_000_000;
const STEPS_PER_BYTE: u64 = 256;

/// Steps of telling what is wrong. Each may leave a failure of some hundred bytes.
const TELLING_STEPS: u64 = 200_000;

/// How long telling may take, lanes included: the verdict is known.
const TELLING_TIME: Duration = Duration::from_millis(200);

/// What is told of a body of which more would take too long.
const NOT_TOLD: &str = "- at '': validation failed";

pub(super) type Validator = jsonschema::Validator<Metered>;

/// Ready to judge any number of bodies.
pub(super) struct Schema {
    validator: Validator,
    /// As it is written, but for regular expressions.
    text: Value,
    parts: Parts,
    patterns: Patterns,
    /// Draft 4 says that `1.0` is no integer, and KrakenD that it is one in every draft.
    whole_numbers: bool,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
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
    pub(super) fn hint(&self) -> Option<&'static str> {
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

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not fit; a line for each failure.
    Unfit(String),
    /// The validator failed, and says nothing about the body.
    GaveUp,
    /// To judge it takes more steps than are allowed.
    Costly,
    /// The time was over.
    Cut(Cut),
}

impl Schema {
    /// Compiles a schema; `beside` is the folder of the file that it stands in.
    ///
    /// # Errors
    /// It is none, or refers to something that cannot be read.
    pub(super) fn compile(text: &str, beside: &Path) -> Result<Schema, SchemaError> {
        let mut schema: Value = serde_json::from_str(text).map_err(SchemaError::Json)?;
        if !schema.is_object() && !schema.is_boolean() {
            return Err(SchemaError::NoObject);
        }
        let draft = draft(&schema)?;
        let patterns = Patterns::default();
        patterns.translate(&mut schema)?;
        let files = Files::new(beside, patterns.clone());
        let build = || {
            let validator = options(draft, &files).build(&schema)?;
            let files = files.with_root(&schema);
            let part = |part: &Value| options(draft, &files).build(part).ok();
            let parts = Parts::compile(&schema, &files.root(), part);
            Ok::<_, ValidationError<'static>>((validator, parts))
        };
        match catch_unwind(AssertUnwindSafe(build)) {
            Ok(Ok((validator, parts))) => Ok(Schema {
                validator,
                parts,
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

    /// Judges a body of `length` bytes.
    ///
    /// # Errors
    /// It does not fit, or that could not be found out.
    pub(super) fn check(
        &self,
        mut body: Value,
        length: usize,
        heavy: Heavy,
    ) -> Result<(), Refusal> {
        if self.whole_numbers {
            make_whole(&mut body);
        }
        let mut heavy = Some(heavy);
        let steps = STEPS + STEPS_PER_BYTE * length as u64;
        let verdict = metered(steps, &mut heavy, || self.validator.is_valid(Seen(&body)));
        match verdict {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Unfit(self.told(&body, length, heavy))),
            Err(Stopped::Spent) => Err(Refusal::Costly),
            Err(Stopped::Cut(cut)) => Err(Refusal::Cut(cut)),
            Err(Stopped::Broken) => Err(Refusal::GaveUp),
        }
    }

    /// What is wrong with a body that does not fit: as much of it as can be told in a bounded number of steps.
    fn told(&self, body: &Value, length: usize, mut heavy: Option<Heavy>) -> String {
        if let Some(heavy) = &mut heavy {
            heavy.shorten(TELLING_TIME);
        }
        let all = if length > TOLD_WHOLE { 1 } else { MOST_LINES };
        for most in [all, 1] {
            match metered(TELLING_STEPS, &mut heavy, || self.lines(body, most)) {
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
        let told = Teller::new(body, &self.text, &self.parts, &self.patterns).all(&errors);
        wording::lines(&told, most)
    }
}

/// Writes numbers without a fraction as integers. Those that no integer type holds stay as they are.
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

/// How schemas are read: `format` means the same in every draft that asserts it.
fn options(draft: Draft, files: &Files) -> ValidationOptions<'static, Arc<dyn Retrieve>, Metered> {
    let options = jsonschema::options_for::<Metered>()
        .with_draft(draft)
        .with_base_uri(files.base())
        .with_retriever(files.clone())
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN))
        // Draft 7 leaves it open whether they are looked at; KrakenD does not.
        .without_content_encoding_support("base64")
        .without_content_media_type_support("application/json");
    format::ALL.iter().fold(options, |options, (name, check)| {
        options.with_format(*name, |text| check(text).is_ok())
    })
}

/// The draft that a schema is written in: 2020-12 unless it says so.
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
