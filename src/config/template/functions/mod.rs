//! The functions of templates: Go's own, Sprig's and KrakenD's.
//!
//! Each group has a table. An entry lists the parameters of a function, and the evaluator checks arguments against
//! them.

mod builtin;
mod case;
mod crypto;
pub(super) mod date;
mod encoding;
pub(super) mod json;
mod list;
mod map;
mod number;
pub(super) mod path;
mod random;
mod regexp;
pub(super) mod semver;
mod text;
mod types;
mod url;

use std::collections::HashMap;
use std::sync::Arc;

use once_cell::sync::Lazy;

use super::budget::Budget;
use super::value::{List, Map, Object, Text, Value};

/// The access that functions have to their environment.
pub trait Host {
    /// The value of an environment variable.
    fn environment(&self, name: &str) -> Option<String>;

    /// The content of a partial, or `None` if it cannot be read.
    ///
    /// # Errors
    /// The partial is too large or is not UTF-8.
    fn partial(&self, name: &str) -> Result<Option<Arc<str>>, String>;

    /// Whether the name leads out of the folder of partials.
    fn is_outside(&self, _name: &str) -> bool {
        false
    }

    /// The name of the time zone for output, such as `Europe/Berlin`.
    fn zone(&self) -> Option<String>;

    /// Called before a rendering holds up to this many bytes.
    ///
    /// # Errors
    /// There is no memory for them.
    fn hold(&self, _bytes: usize) -> Result<(), String> {
        Ok(())
    }

    /// Called now and then.
    ///
    /// # Errors
    /// The rendering must stop.
    fn look(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Texts of less than this need no memory that is worth counting.
pub(super) const SHORT: usize = 4 * 1024;
/// Functions whose result may be longer than their arguments because they escape characters. They print what is not a
/// text.
const ESCAPING: &[&str] = &[
    "fail",
    "html",
    "js",
    "marshal",
    "mustToJson",
    "mustToPrettyJson",
    "mustToRawJson",
    "print",
    "printf",
    "println",
    "quote",
    "regexQuoteMeta",
    "squote",
    "toJson",
    "toPrettyJson",
    "toRawJson",
    "urlJoin",
    "urlquery",
];

impl Function {
    /// What the function may hold while it runs, at most, if its arguments are large: a copy of each text, a buffer that
    /// grows, and the result.
    pub(super) fn needs(&self, arguments: &[Value]) -> usize {
        let texts = arguments.iter().map(|value| match value {
            Value::Text(text) => text.len(),
            Value::List(list) => list.items().len(),
            _ => 0,
        });
        let is_escaping = || ESCAPING.contains(&self.name);
        let texts: usize = texts.sum();
        if texts <= SHORT && !arguments.iter().any(Value::is_nested) {
            return 0;
        }
        if is_escaping() {
            let sizes = arguments.iter().map(super::format::escaped_size);
            return sizes.fold(0, usize::saturating_add).saturating_mul(3);
        }
        // Some functions work on a list of characters.
        texts.saturating_mul(6)
    }
}

/// The context of a function call.
pub(super) struct Call<'c> {
    pub(super) host: &'c dyn Host,
    pub(super) budget: &'c mut Budget,
    pub(super) warnings: Vec<String>,
}

impl Call<'_> {
    /// As [`Budget::make`], for which there must also be memory.
    pub(super) fn make(&mut self, count: usize) -> Result<(), String> {
        self.budget.make(count)?;
        self.hold(0)
    }

    /// Announces `bytes` that are held as long as what was made.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), String> {
        self.host.hold(self.budget.hold(bytes))
    }

    /// Announces `bytes` that a function holds for a moment.
    pub(super) fn lend(&mut self, bytes: usize) -> Result<(), String> {
        self.host.hold(self.budget.hold(0).saturating_add(bytes))
    }
}

/// The declared type of a parameter in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `interface {}`
    Any,
    /// `reflect.Value`, which also accepts no value.
    Reflect,
    Bool,
    Int,
    Float,
    Text,
    Map,
    Time,
}

impl Kind {
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Kind::Any => "interface {}",
            Kind::Reflect => "reflect.Value",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Float => "float64",
            Kind::Text => "string",
            Kind::Map => "map[string]interface {}",
            Kind::Time => "time.Time",
        }
    }

    /// The name of a literal of this kind in messages.
    pub(super) fn literal_name(self) -> &'static str {
        match self {
            Kind::Int => "integer",
            Kind::Float => "float",
            other => other.type_name(),
        }
    }
}

type Outcome = Result<Value, String>;

/// A function: its name, its parameters, its implementation.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) parameters: &'static [Kind],
    /// Whether the last parameter may be given any number of times.
    pub(super) variadic: bool,
    pub(super) run: fn(&mut Call<'_>, Vec<Value>) -> Outcome,
}

impl Function {
    /// The kind of the argument at `index`.
    pub(super) fn parameter(&self, index: usize) -> Kind {
        let last = self.parameters.len().saturating_sub(1);
        self.parameters
            .get(index.min(last))
            .copied()
            .unwrap_or(Kind::Any)
    }
}

const fn fixed(
    name: &'static str,
    parameters: &'static [Kind],
    run: fn(&mut Call<'_>, Vec<Value>) -> Outcome,
) -> Function {
    Function {
        name,
        parameters,
        variadic: false,
        run,
    }
}

const fn variadic(
    name: &'static str,
    parameters: &'static [Kind],
    run: fn(&mut Call<'_>, Vec<Value>) -> Outcome,
) -> Function {
    Function {
        name,
        parameters,
        variadic: true,
        run,
    }
}

static GROUPS: &[&[Function]] = &[
    builtin::TABLE,
    text::TABLE,
    case::TABLE,
    number::TABLE,
    list::TABLE,
    map::TABLE,
    json::TABLE,
    encoding::TABLE,
    crypto::TABLE,
    regexp::TABLE,
    url::TABLE,
    semver::TABLE,
    path::TABLE,
    types::TABLE,
    date::TABLE,
    random::TABLE,
];

static BY_NAME: Lazy<HashMap<&'static str, &'static Function, ahash::RandomState>> =
    Lazy::new(|| {
        let all = GROUPS.iter().flat_map(|group| group.iter());
        all.map(|function| (function.name, function)).collect()
    });

/// The function with this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    BY_NAME.get(name).copied()
}

/// The functions that a template may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Those of templates of a configuration.
    Files,
    /// Those of templates that are rendered for requests.
    Requests,
}

/// Functions that read something outside of the template, or that take long.
const NOT_FOR_REQUESTS: &[&str] = &[
    "bcrypt",
    "decryptAES",
    "derivePassword",
    "encryptAES",
    "env",
    "expandenv",
    "genPrivateKey",
    "getHostByName",
    "htpasswd",
    "include",
];
/// Prints a value as it is, where values are escaped.
const SAFE: &str = "safe";

impl Allowed {
    /// Whether there is such a function.
    pub(super) fn has(self, name: &str) -> bool {
        match self {
            Allowed::Files => is_known(name) && name != SAFE,
            Allowed::Requests => is_known(name) && !NOT_FOR_REQUESTS.contains(&name),
        }
    }
}

/// Whether there is a function with this name. The evaluator implements `and` and `or`.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, "and" | "or") || BY_NAME.contains_key(name)
}

/// The method of a value, such as `.Year` of a time.
pub(super) fn method(value: &Value, name: &str) -> Option<&'static Function> {
    let table = match value {
        Value::Time(_) => date::METHODS,
        Value::Object(object) => match **object {
            Object::Semver(_) => semver::METHODS,
            Object::Named(named) => date::methods_of_named(named),
        },
        _ => return None,
    };
    table.iter().find(|method| method.name == name)
}

/// Functions of Sprig that create certificates. They are not implemented: a certificate that changes with each
/// rendering is useless, and the crates for it are large.
const LEFT_OUT: &[&str] = &[
    "buildCustomCert",
    "genCA",
    "genCAWithKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
];

/// The replacement for a function that exists elsewhere.
pub(super) fn hint_for(name: &str) -> Option<String> {
    if LEFT_OUT.contains(&name) {
        let hint = "functions that make certificates are not part of this program: make the certificate beforehand";
        return Some(hint.to_owned());
    }
    // Other templates have it.
    if NOT_FOR_REQUESTS.contains(&name) {
        let hint = "templates that are rendered for requests have no functions that read the machine or need much time";
        return Some(hint.to_owned());
    }
    let instead = match name {
        "toYaml" => "`toJson`: JSON is also YAML",
        "fromYaml" | "fromToml" => "a settings file in JSON, or `fromJson`",
        "toToml" => "`toJson`",
        "required" => "`{{ if not .x }}{{ fail \"x is missing\" }}{{ end }}`",
        "tpl" | "lookup" => "`template` with a `define`",
        "trimLeft" | "trimRight" => "`trimPrefix`, `trimSuffix` or `trimAll`",
        "bool" => "`eq .x \"true\"`",
        "sha512sum" | "md5sum" => "`sha256sum`",
        "mustDig" => "`dig`",
        "mustToDuration" => "`duration`",
        _ => return nearest(name),
    };
    Some(format!(
        "this function belongs to another tool: here write {instead}"
    ))
}

fn nearest(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let mut known = BY_NAME.keys().filter(|known| **known != SAFE);
    let found = known.find(|known| known.to_lowercase() == lower)?;
    Some(format!("did you mean `{found}`?"))
}

/// The names of all functions, sorted.
pub fn names() -> Vec<&'static str> {
    let all = BY_NAME.keys().copied().chain(["and", "or"]);
    let mut names: Vec<&'static str> = all.filter(|name| Allowed::Files.has(name)).collect();
    names.sort_unstable();
    names
}

/// The argument at `index` as bytes. The evaluator has checked that it is a string.
fn text(arguments: &[Value], index: usize) -> Text {
    match arguments.get(index) {
        Some(Value::Text(text)) => text.clone(),
        _ => Text::from(&b""[..]),
    }
}

/// The argument as UTF-8, with replacement characters for invalid bytes.
fn string(arguments: &[Value], index: usize) -> String {
    String::from_utf8_lossy(&text(arguments, index)).into_owned()
}

fn int(arguments: &[Value], index: usize) -> i64 {
    match arguments.get(index) {
        Some(Value::Int(value) | Value::Int64(value)) => *value,
        _ => 0,
    }
}

fn boolean(arguments: &[Value], index: usize) -> bool {
    matches!(arguments.get(index), Some(Value::Bool(true)))
}

fn map_of(arguments: &[Value], index: usize) -> Map {
    match arguments.get(index) {
        Some(Value::Map(map)) => map.clone(),
        _ => Map::nil(),
    }
}

fn list_of(value: &Value) -> Option<&List> {
    match value {
        Value::List(list) => Some(list),
        _ => None,
    }
}

fn any(arguments: &[Value], index: usize) -> Value {
    arguments.get(index).cloned().unwrap_or(Value::Nil)
}

/// A value as Sprig's `strval` prints it. The bytes count as made.
fn printed(call: &mut Call<'_>, value: &Value) -> Result<Vec<u8>, String> {
    let size = super::format::size(value);
    call.lend(2 * size)?;
    let text = super::format::plain(value);
    call.make(text.len())?;
    Ok(text)
}
