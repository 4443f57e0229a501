//! Reads the base, the settings and the templates, and collects all their errors.

use std::path::{Path, PathBuf};

use super::{Watched, problem, variable};
use crate::config::environment::Environment;
use crate::config::load;
use crate::config::report::{Finding, Report, Severity};
use crate::config::template::{self, Source};
use crate::config::value::{Data, Position, Value};
use crate::config::{json, template as engine};

/// The input of a rendering.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The base, followed by the templates ordered by name.
    pub(super) sources: Vec<Source>,
    /// The path of each source, as given.
    pub(super) paths: Vec<String>,
    /// Each settings file: its name without `.json`, and its content.
    pub(super) data: Vec<(String, Value)>,
    /// The path of each settings file.
    pub(super) settings: Vec<String>,
    pub(super) watched: Vec<Watched>,
    pub(super) problems: Vec<Finding>,
}

impl Input {
    /// Reads everything. Unusable files are among the problems, settings first.
    pub(super) fn read(base: &Path, environment: &Environment) -> Input {
        let mut input = Input::default();
        if let Some(folder) = variable(environment, "FC_SETTINGS") {
            input.settings(folder);
        }
        input.base(base);
        if let Some(folder) = variable(environment, "FC_TEMPLATES") {
            input.templates(folder);
        }
        for error in template::parse_errors(&input.sources) {
            let finding = problem::of_error(&input, &error, &[]);
            input.problems.push(finding);
        }
        input
    }

    fn base(&mut self, path: &Path) {
        self.watched.push(Watched::File(path.to_owned()));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // It may be a pipe: `-c <(…)`.
        self.source(path, &name, load::read);
    }

    fn source(&mut self, path: &Path, name: &str, read: fn(&Path) -> Result<String, String>) {
        match read(path) {
            Ok(text) => {
                self.sources.push(Source {
                    name: name.to_owned(),
                    text,
                });
                self.paths.push(path.display().to_string());
            }
            Err(reason) => self.reject(path, Position::UNKNOWN, reason),
        }
    }

    fn templates(&mut self, folder: &str) {
        self.watched.push(Watched::Folder(folder.into(), ".tmpl"));
        for name in self.names(folder) {
            let path = Path::new(folder).join(&name);
            // A subfolder is never a template, whatever its name.
            if name.ends_with(".tmpl") && !path.is_dir() {
                self.source(&path, &name, load::read_listed);
            }
        }
    }

    fn settings(&mut self, folder: &str) {
        self.watched.push(Watched::Folder(folder.into(), ".json"));
        for name in self.names(folder) {
            let path = Path::new(folder).join(&name);
            match name.strip_suffix(".json") {
                Some(key) => self.setting(&path, &name, key),
                None => self.warn_about_ignored(&path, &name),
            }
        }
    }

    fn setting(&mut self, path: &Path, name: &str, key: &str) {
        let text = match load::read_listed(path) {
            Ok(text) => text,
            Err(reason) => return self.reject_setting(path, name, Position::UNKNOWN, &reason),
        };
        let report = Report::new();
        let value = match json::parse(&text, &report) {
            Ok(value) => value,
            Err(error) => return self.reject_setting(path, name, error.at, &error.text),
        };
        for finding in report.into_findings() {
            let text = finding.config_error.to_string();
            let warning = problem::plain(path, finding.at, text.clone(), text, Severity::Warning);
            self.problems.push(warning);
        }
        if let Some(reason) = no_map(&value) {
            return self.reject_setting(path, name, value.at, &reason);
        }
        if let Some((at, text)) = engine::infinite(&value) {
            return self.reject_setting(path, name, at, &engine::out_of_range(text));
        }
        self.data.push((key.to_owned(), value));
        self.settings.push(path.display().to_string());
    }

    /// Warns about a name that is similar to that of a settings file.
    fn warn_about_ignored(&mut self, path: &Path, name: &str) {
        let lower = name.to_ascii_lowercase();
        let near = [".json", ".yaml", ".yml", ".toml"];
        if near.iter().any(|end| lower.ends_with(end)) && path.is_file() {
            let text =
                "this file is ignored: settings are files whose names end in .json".to_owned();
            let warning = problem::plain(
                path,
                Position::UNKNOWN,
                text.clone(),
                text,
                Severity::Warning,
            );
            self.problems.push(warning);
        }
    }

    /// The names in a folder, sorted bytewise. Names that are not UTF-8 cannot be written in a template and are
    /// skipped.
    fn names(&mut self, folder: &str) -> Vec<String> {
        let listed = std::fs::read_dir(folder).and_then(|entries| {
            let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
            names.collect::<Result<Vec<_>, _>>()
        });
        match listed {
            Ok(names) => {
                let mut names: Vec<String> = names
                    .into_iter()
                    .filter_map(|name| name.into_string().ok())
                    .collect();
                names.sort_unstable();
                names
            }
            Err(error) => {
                let path = PathBuf::from(folder);
                let reason = load::reason(&path, &error);
                self.reject_setting(&path, folder, Position::UNKNOWN, &reason);
                Vec::new()
            }
        }
    }

    fn reject(&mut self, path: &Path, at: Position, reason: String) {
        self.problems.push(problem::plain(
            path,
            at,
            reason.clone(),
            reason,
            Severity::ConfigError,
        ));
    }

    /// The message is KrakenD's.
    fn reject_setting(&mut self, path: &Path, name: &str, at: Position, reason: &str) {
        let message = format!("loading flexible-config settings:\n\t- {name}: {reason}");
        let mut finding =
            problem::plain(path, at, message, reason.to_owned(), Severity::ConfigError);
        if path == Path::new(name) {
            finding.hint = Some("FC_SETTINGS names a folder".into());
        }
        self.problems.push(finding);
    }
}

/// Why a value is not a settings file, in KrakenD's words.
fn no_map(value: &Value) -> Option<String> {
    let go = match &value.data {
        Data::Object(_) | Data::Null => return None,
        Data::List(_) => "array",
        Data::Text(_) => "string",
        Data::Number(_) => "number",
        Data::Bool(_) => "bool",
    };
    Some(format!(
        "json: cannot unmarshal {go} into Go value of type map[string]interface {{}}"
    ))
}
