//! Findings about templates and settings: the position, the line with a caret, the calls, and the location of a
//! setting.

use std::path::Path;

use super::input::Input;
use super::template_host::masked;
use crate::config::report::{ConfigError, Finding, Problem, Severity};
use crate::config::secret;
use crate::config::suggest;
use crate::config::template::{self, TemplateError, Warning};
use crate::config::value::{Data, Position, Value};

/// The maximum number of characters of a line that are shown.
const MAX_SHOWN: usize = 120;

/// The maximum number of calls that are shown.
const MAX_CALLS: usize = 8;

/// A finding without a line to show.
pub(super) fn plain(
    path: &Path,
    at: Position,
    message: String,
    text: String,
    severity: Severity,
) -> Finding {
    finding(
        severity,
        Problem {
            file: path.display().to_string(),
            at,
            message,
            text,
            notes: Vec::new(),
        },
    )
}

fn finding(severity: Severity, problem: Problem) -> Finding {
    Finding {
        severity,
        pointer: String::new(),
        at: Position::UNKNOWN,
        config_error: ConfigError::Template(Box::new(problem)),
        hint: None,
    }
}

/// An error of parsing or of execution.
pub(super) fn of_error(input: &Input, error: &TemplateError, secrets: &[String]) -> Finding {
    let mut notes = caret(input, &error.place);
    let calls = error.calls.iter().take(MAX_CALLS);
    notes.extend(calls.map(|call| format!("called from {}", shown(input, call))));
    if error.calls.len() > MAX_CALLS {
        notes.push(format!("and {} more calls", error.calls.len() - MAX_CALLS));
    }
    let setting = setting(input, &error.term);
    // An author who uses a setting knows the value of the dot, so that hint is dropped.
    let about_dot = |hint: &String| hint.starts_with("inside `range`");
    let hint = error
        .hint
        .clone()
        .filter(|hint| setting.is_none() || !about_dot(hint));
    notes.extend(setting);
    let text = masked(&error.text, secrets);
    let problem = Problem {
        file: path(input, error.place.file),
        at: Position::new(error.place.line, error.place.column),
        // File names and terms are kept: they are not values.
        message: match error.message.strip_suffix(&*error.text) {
            Some(place) => format!("{place}{text}"),
            None => text.clone(),
        },
        text,
        notes,
    };
    Finding {
        hint: hint.map(Into::into),
        ..finding(Severity::ConfigError, problem)
    }
}

/// Text that renders, but probably not as intended.
pub(super) fn of_warning(input: &Input, warning: &Warning, secrets: &[String]) -> Finding {
    let text = masked(&warning.text, secrets);
    let problem = Problem {
        file: path(input, warning.place.file),
        at: Position::new(warning.place.line, warning.place.column),
        message: text.clone(),
        text,
        notes: setting(input, &warning.term).into_iter().collect(),
    };
    finding(Severity::Warning, problem)
}

fn path(input: &Input, file: usize) -> String {
    input.paths.get(file).cloned().unwrap_or_default()
}

fn shown(input: &Input, place: &template::Place) -> String {
    format!(
        "{}:{}:{}",
        path(input, place.file),
        place.line,
        place.column
    )
}

/// The line, and a caret below the column.
fn caret(input: &Input, place: &template::Place) -> Vec<String> {
    let source = input.sources.get(place.file);
    let line = source.and_then(|source| {
        source
            .text
            .lines()
            .nth(place.line.saturating_sub(1) as usize)
    });
    let Some(line) = line else { return Vec::new() };
    let column = place.column.saturating_sub(1) as usize;
    let skipped = column.saturating_sub(MAX_SHOWN * 2 / 3);
    let piece: String = line
        .chars()
        .skip(skipped)
        .take(MAX_SHOWN)
        .map(|c| if c == '\t' { ' ' } else { c })
        .collect();
    let number = place.line.to_string();
    let blank = " ".repeat(number.len());
    let before = " ".repeat(column - skipped);
    vec![
        format!("{number} | {piece}"),
        format!("{blank} | {before}^"),
    ]
}

/// The location of the setting in a term such as `.svc.port.x`, or the name that was probably meant.
fn setting(input: &Input, term: &str) -> Option<String> {
    let names = path_of(term)?;
    let (first, rest) = names.split_first()?;
    let Some(index) = input.data.iter().position(|(name, _)| name == first) else {
        let known = input.data.iter().map(|(name, _)| name.as_str());
        let near = suggest::nearest(first, known)?;
        return Some(format!(
            "there is no settings file {first}.json: did you mean {near}.json?"
        ));
    };
    let file = &input.settings[index];
    let mut value = &input.data[index].1;
    let mut shown = format!(".{first}");
    let mut is_secret = false;
    for name in rest {
        match (&value.data, value.get(name)) {
            (_, Some(inner)) => value = inner,
            (Data::Object(_), None) => return Some(missing(file, &shown, value, name)),
            _ => break,
        }
        shown = format!("{shown}.{name}");
        is_secret |= secret::is_secret_name(name);
    }
    let described = match value.data {
        Data::Number(_) | Data::Text(_) if is_secret => secret::MASK.to_owned(),
        _ => described(value),
    };
    Some(format!("{shown} is {described}: {file}:{}", value.at))
}

fn described(value: &Value) -> String {
    match value.data {
        Data::Number(_) | Data::Text(_) | Data::Bool(_) => {
            format!(
                "{} {}",
                value.type_name().replacen('a', "the", 1),
                value.shown()
            )
        }
        Data::Null => "null".to_owned(),
        _ => value.shown(),
    }
}

fn missing(file: &str, shown: &str, value: &Value, name: &str) -> String {
    let known = value.members().iter().map(|member| &*member.name);
    let near = suggest::nearest(name, known)
        .map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
    format!("{shown} has no key {name:?}{near}: {file}:{}", value.at)
}

/// The names of `.a.b` or `$.a.b`.
fn path_of(term: &str) -> Option<Vec<&str>> {
    let path = term.strip_prefix('$').unwrap_or(term).strip_prefix('.')?;
    let names: Vec<&str> = path.split('.').collect();
    let is_name =
        |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    names.iter().all(is_name).then_some(names)
}
