//! `${NAME}`, `${file:/path}` and `${credential:name}` in strings, if `"portcullis/secrets": {"expand": true}` is
//! set.
//!
//! Disabled by default, because a literal `${` in an existing configuration must not change.

use std::path::PathBuf;

use super::environment::Environment;
use super::node::{Node, Typing};
use super::path::Path;
use super::report::{ConfigError, Finding, Report, Severity};
use super::value::{Data, Position, Value};
use crate::named_file;

/// A larger secret file is an error.
const MAX_SECRET_BYTES: u64 = 1024 * 1024;

pub(super) fn apply(root: &mut Value, environment: &Environment, report: &Report) {
    if wanted(root, report) {
        walk(root, &Path::root(), environment, report);
    }
}

fn wanted(root: &Value, report: &Report) -> bool {
    let Some(block) = root
        .get("extra_config")
        .and_then(|extra| extra.get("portcullis/secrets"))
    else {
        return false;
    };
    // Wrong types are reported when the block itself is read.
    let quiet = Report::new();
    let _ = report;
    Node::root(block, &quiet)
        .get("expand")
        .and_then(|node| node.bool(Typing::Strict))
        .unwrap_or(false)
}

fn walk(value: &mut Value, path: &Path, environment: &Environment, report: &Report) {
    match &mut value.data {
        Data::Text(text) if text.contains("${") => match expanded(text, environment, report) {
            Ok(full) => {
                *text = full.into();
                value.masked = true;
            }
            Err(reason) => report.add(finding(path, value.at, reason)),
        },
        Data::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &path.index(index), environment, report);
            }
        }
        Data::Object(members) => {
            for member in members {
                walk(
                    &mut member.value,
                    &path.key(&member.name),
                    environment,
                    report,
                );
            }
        }
        _ => {}
    }
}

/// The text with every `${…}` replaced. `$${` becomes a literal `${`.
fn expanded(text: &str, environment: &Environment, report: &Report) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let before = &rest[..start];
        let inside = &rest[start + 2..];
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = inside;
            continue;
        }
        out.push_str(before);
        let Some((name, after)) = inside.split_once('}') else {
            return Err("\"${\" without its \"}\"".to_owned());
        };
        out.push_str(&look_up(name, environment, report)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(name: &str, environment: &Environment, report: &Report) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        return secret_file(PathBuf::from(path), report);
    }
    if let Some(credential) = name.strip_prefix("credential:") {
        // systemd provides credentials in a separate folder (systemd.exec, LoadCredential=).
        let folder = environment
            .get("CREDENTIALS_DIRECTORY")
            .ok_or("CREDENTIALS_DIRECTORY is not set")?;
        if credential.contains('/') || credential.starts_with('.') {
            return Err(format!("{credential:?} is not the name of a credential"));
        }
        return secret_file(PathBuf::from(folder).join(credential), report);
    }
    environment
        .get(name)
        .map(str::to_owned)
        .ok_or_else(|| format!("the environment variable {name:?} is not set"))
}

/// The content of a file without its last line end.
fn secret_file(path: PathBuf, report: &Report) -> Result<String, String> {
    let text = named_file::read_text(&path, MAX_SECRET_BYTES)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    report.has_secret_of(path);
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    Ok(trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned())
}

fn finding(path: &Path, at: Position, reason: String) -> Finding {
    Finding {
        severity: Severity::ConfigError,
        pointer: path.pointer(),
        at,
        config_error: ConfigError::invalid(reason),
        hint: Some(
            "provide the value before the start; a literal \"${\" is written \"$${\"".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Format, parse};
    use super::*;

    const ON: &str = r#""extra_config": {"portcullis/secrets": {"expand": true}}"#;

    #[test]
    fn names_are_replaced_and_values_are_not_shown() {
        let report = Report::new();
        let environment = Environment::of([("SECRET", "s3cret")]);
        let text = format!(r#"{{"name": "a-${{SECRET}}-$${{b}}", {ON}}}"#);
        let root = parse(&text, Format::Json, &environment, &report).unwrap();
        let name = root.get("name").unwrap();
        assert_eq!(name.data, Data::Text("a-s3cret-${b}".into()));
        assert_eq!(name.shown(), "[redacted]");
        assert!(!format!("{root:?}").contains("s3cret"));
    }

    #[test]
    fn nothing_changes_if_it_is_disabled() {
        let report = Report::new();
        let root = parse(
            r#"{"name": "${X}"}"#,
            Format::Json,
            &Environment::default(),
            &report,
        );
        assert_eq!(root.unwrap().to_json(), r#"{"name":"${X}"}"#);
        assert!(report.into_findings().is_empty());
    }

    #[test]
    fn the_last_line_end_of_files_is_removed_and_missing_names_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), "top\n").unwrap();
        let report = Report::new();
        let directory = folder.path().to_str().unwrap();
        let environment = Environment::of([("CREDENTIALS_DIRECTORY", directory)]);
        let text = format!(
            r#"{{"name": "${{file:{directory}/x}}${{credential:x}}", "listen_ip": "${{NOPE}}", {ON}}}"#
        );
        let root = parse(&text, Format::Json, &environment, &report).unwrap();
        assert_eq!(root.get("name").unwrap().data, Data::Text("toptop".into()));
        let findings = report.into_findings();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].pointer, "/listen_ip");
    }
}
