//! Loads a file to a tree: templates, format, size, environment, secrets.

use std::io::Read;
use std::path::Path as FilePath;
use std::sync::{Arc, OnceLock};

use super::environment::Environment;
use super::report::{ConfigError, Finding, Report, Severity, SyntaxError};
use super::value::{Data, Position, Value};
use super::{environment, expand, flexible, json, php_arrays, toml, yaml};
use crate::named_file;

/// Larger files are rejected before they are read.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Toml,
}

impl Format {
    /// By the extension, as in KrakenD: `.yml` and `.yaml`, `.toml`, and JSON for everything else.
    pub fn of(path: &FilePath) -> Format {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("yml" | "yaml") => Format::Yaml,
            Some("toml") => Format::Toml,
            _ => Format::Json,
        }
    }

    /// The format of a text without a file name: JSON begins with a brace.
    fn of_text(text: &str) -> Format {
        let first = text.trim_start_matches('\u{feff}').trim_start();
        if first.is_empty() || first.starts_with(['{', '[']) {
            Format::Json
        } else {
            Format::Yaml
        }
    }
}

/// Loads the file at `path` to a tree, and applies environment variables and secrets. `None` if there is no tree, for
/// a reported reason.
pub(crate) fn load(path: &FilePath, environment: &Environment, report: &Report) -> Option<Value> {
    if flexible::is_on(environment) {
        let rendering = flexible::render(path, environment, report)?;
        report.is_rendered(Arc::clone(&rendering));
        return parse(&rendering.text, rendering.format, environment, report);
    }
    let text = match read(path) {
        Ok(text) => text,
        Err(reason) => {
            report.add(whole_file(ConfigError::Unreadable(reason)));
            return None;
        }
    };
    let format = if is_stdin(path) {
        Format::of_text(&text)
    } else {
        Format::of(path)
    };
    let root = parse_raw(&text, format, environment, report);
    flexible::without(&text, root.as_ref(), environment, report);
    root
}

/// A file that is not JSON because it is a template gets a hint.
fn parse_raw(
    text: &str,
    format: Format,
    environment: &Environment,
    report: &Report,
) -> Option<Value> {
    if !text.contains("{{") {
        return parse(text, format, environment, report);
    }
    match tree(text, format, report) {
        Ok(root) => finish(root, format, environment, report),
        Err(error) => {
            report.add(Finding {
                hint: Some(flexible::HINT.into()),
                ..error.into()
            });
            None
        }
    }
}

/// Parses the text of a configuration.
pub fn parse(
    text: &str,
    format: Format,
    environment: &Environment,
    report: &Report,
) -> Option<Value> {
    match tree(text, format, report) {
        Ok(root) => finish(root, format, environment, report),
        Err(error) => {
            report.add(error.into());
            None
        }
    }
}

fn tree(text: &str, format: Format, report: &Report) -> Result<Value, SyntaxError> {
    match format {
        Format::Json => json::parse(text, report),
        Format::Yaml => yaml::parse(text, report),
        Format::Toml => toml::parse(text),
    }
}

/// Applies environment variables and secrets to a parsed text.
fn finish(
    mut root: Value,
    format: Format,
    environment: &Environment,
    report: &Report,
) -> Option<Value> {
    if !matches!(root.data, Data::Object(_)) {
        report.add(Finding {
            at: root.at,
            hint: Some(OBJECT.into()),
            ..whole_file(no_object(&root, format))
        });
        return None;
    }
    if let Some(rendering) = report.rendering() {
        rendering.hide_secrets(&mut root);
    }
    environment::apply(&mut root, environment, report);
    expand::apply(&mut root, environment, report);
    php_arrays::apply(&mut root, report);
    Some(root)
}

/// What a configuration looks like.
const OBJECT: &str = "the file is one object with \"version\": 3 and \"endpoints\"";

/// For JSON the message is KrakenD's.
fn no_object(root: &Value, format: Format) -> ConfigError {
    let go = match root.data {
        Data::List(_) => "array",
        Data::Text(_) => "string",
        Data::Number(_) => "number",
        Data::Bool(_) => "bool",
        _ => "",
    };
    if format == Format::Json && !go.is_empty() {
        return ConfigError::Syntax(format!(
            "json: cannot unmarshal {go} into Go value of type map[string]interface {{}}"
        ));
    }
    ConfigError::WrongType {
        found: root.shown(),
        is: root.type_name(),
        expected: "an object",
    }
}

/// Reads a text file.
///
/// # Errors
/// Why it cannot be read, in KrakenD's words if it has any.
pub(super) fn read(path: &FilePath) -> Result<String, String> {
    if is_stdin(path) {
        return read_stdin();
    }
    // Its text is checked here for an error with a line.
    let bytes = named_file::read(path, MAX_FILE_BYTES).map_err(|error| reason(path, &error))?;
    whole_text(bytes)
}

/// Reads a text file that a folder contains. A pipe is not read: without a writer it would block for ever.
///
/// # Errors
/// As [`read`].
pub(super) fn read_listed(path: &FilePath) -> Result<String, String> {
    let bytes = named_file::read_only_file(path, MAX_FILE_BYTES);
    whole_text(bytes.map_err(|error| reason(path, &error))?)
}

/// Whether the path means standard input.
pub(crate) fn is_stdin(path: &FilePath) -> bool {
    path.as_os_str() == "-"
}

/// Standard input can be read only once, but a reload needs it again.
fn read_stdin() -> Result<String, String> {
    static TEXT: OnceLock<Result<String, String>> = OnceLock::new();
    let read = || {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("read standard input: {error}"))?;
        whole_text(bytes)
    };
    TEXT.get_or_init(read).clone()
}

fn whole_text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("the file is larger than 64 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..good];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("the file is not UTF-8: see line {line}, byte {good} of the file")
    })
}

/// Why a path cannot be read.
pub(super) fn reason(path: &FilePath, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
        ErrorKind::NotADirectory => format!("open {path}: not a directory"),
        ErrorKind::IsADirectory => format!("read {path}: is a directory"),
        _ => format!("read {path}: {error}"),
    }
}

fn whole_file(config_error: ConfigError) -> Finding {
    Finding {
        severity: Severity::ConfigError,
        pointer: String::new(),
        at: Position::UNKNOWN,
        config_error,
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_an_object_is_rejected_in_the_words_of_its_format() {
        for (text, format, want) in [
            (
                "[]",
                Format::Json,
                "json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            (
                "- a",
                Format::Yaml,
                "found a list of 1, but an object is expected",
            ),
        ] {
            let report = Report::new();
            assert!(parse(text, format, &Environment::default(), &report).is_none());
            let findings = report.into_findings();
            assert_eq!(findings[0].config_error.to_string(), want);
        }
    }

    #[test]
    fn a_file_of_64_mebibytes_is_accepted_and_a_larger_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.json");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        assert_eq!(read(&path).unwrap().len(), 64 << 20);
        file.set_len((64 << 20) + 1).unwrap();
        let reason = read(&path).unwrap_err();
        assert!(reason.ends_with("json: larger than 64 MiB"), "{reason}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let report = Report::new();
        assert!(
            load(
                FilePath::new("/nowhere.json"),
                &Environment::default(),
                &report
            )
            .is_none()
        );
        assert_eq!(
            report.into_findings()[0].config_error.to_string(),
            "open /nowhere.json: no such file or directory"
        );
    }
}
