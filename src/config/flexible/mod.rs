//! KrakenD's flexible configuration: with `FC_ENABLE` and related variables, a template is rendered to the
//! configuration.
//!
//! | module | content |
//! |---|---|
//! | `input` | reads the base, the settings and the templates, and collects their errors |
//! | `template_host` | what a running template may access: partials, environment variables |
//! | `problem` | findings with the line, a caret, the calls, and the location of a setting |
//! | `origin` | maps a position in the rendered text to the template |
//! | `fc_out` | `FC_OUT` |
//!
//! If a template cannot be rendered, the gateway does not start: neither the raw text nor an older result is used.

mod fc_out;
mod input;
mod origin;
mod problem;
mod template_host;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::load::Format;
use super::report::{ConfigError, Finding, Report, Severity};
use super::template;
use super::value::{Data, Member, Position, Value};

use input::Input;
use origin::Origins;
pub(crate) use origin::Place;
use template_host::TemplateHost;

/// A file or folder that a rendering depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// It may be missing. When it appears, the rendering changes.
    File(PathBuf),
    /// All files in the folder whose names have this ending.
    Folder(PathBuf, &'static str),
}

/// A rendered configuration.
#[derive(Debug)]
pub struct Rendering {
    /// The rendered text. Bytes that are not UTF-8 become U+FFFD, as in KrakenD's JSON parser.
    pub text: String,
    /// The format to parse it as.
    pub format: Format,
    /// The file it is written to, or `None` without `FC_OUT`.
    pub kept_at: Option<PathBuf>,
    origins: Origins,
    secrets: Vec<String>,
}

impl Rendering {
    /// The place in the template that printed the text at `at`.
    pub fn origin(&self, at: Position) -> Option<Place> {
        self.origins.of(at, &self.text)
    }

    /// The text with `***` in place of every value that came from the environment.
    pub fn masked_text(&self) -> String {
        template_host::masked(&self.text, &self.secrets)
    }

    /// A message with `***` in place of every value that came from the environment.
    pub fn masked_message(&self, text: &str) -> String {
        template_host::masked_message(text, &self.secrets)
    }

    /// The name of the text in messages.
    pub fn name(&self) -> String {
        match &self.kept_at {
            Some(path) => path.display().to_string(),
            None => "rendered text".to_owned(),
        }
    }

    /// A short value may appear in a text by chance.
    fn holds_secret(&self, text: &str) -> bool {
        let secrets = &mut self.secrets.iter();
        secrets.any(|secret| text == secret || (secret.len() >= 8 && text.contains(&**secret)))
    }

    /// Marks values that came from the environment, so that no message prints them.
    pub fn hide_secrets(&self, value: &mut Value) {
        if self.secrets.is_empty() {
            return;
        }
        match &mut value.data {
            Data::Text(text) => value.masked |= self.holds_secret(text),
            Data::List(items) => items.iter_mut().for_each(|item| self.hide_secrets(item)),
            Data::Object(members) => members
                .iter_mut()
                .for_each(|member| self.hide_secrets(&mut member.value)),
            _ => {}
        }
    }
}

/// Whether files are templates, which any value of `FC_ENABLE` means.
pub(crate) fn is_on(environment: &Environment) -> bool {
    variable(environment, "FC_ENABLE").is_some()
}

/// The file that the rendered text is written to, if templates are enabled.
pub(crate) fn kept_at(environment: &Environment) -> Option<PathBuf> {
    let path = variable(environment, "FC_OUT")?;
    is_on(environment).then(|| PathBuf::from(path))
}

/// The folders of settings, partials and templates, if templates are enabled.
pub(crate) fn folders(environment: &Environment) -> Vec<PathBuf> {
    let names = ["FC_SETTINGS", "FC_PARTIALS", "FC_TEMPLATES"];
    let set = names.iter().filter_map(|name| variable(environment, name));
    set.filter(|_| is_on(environment))
        .map(PathBuf::from)
        .collect()
}

/// A variable. An empty value counts as unset.
fn variable<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment.get(name).filter(|value| !value.is_empty())
}

/// Renders the file at `path`, and writes the result to `FC_OUT` if that is set. `None` if there is no usable text:
/// the report says why, and `FC_OUT` is unchanged.
pub(crate) fn render(
    path: &Path,
    environment: &Environment,
    report: &Report,
) -> Option<Arc<Rendering>> {
    warn_about_variables(environment, report);
    let mut input = Input::read(path, environment);
    let before = report.config_errors();
    input
        .problems
        .drain(..)
        .for_each(|finding| report.add(finding));
    report.depends_on(&input.watched);
    if report.config_errors() > before {
        return None;
    }
    let world = TemplateHost::new(environment);
    let rendered = template::render(&input.sources, &input.data, &world);
    report.depends_on(&world.watched());
    let secrets = world.into_secrets();
    let mut rendered = match rendered {
        Ok(rendered) => rendered,
        Err(errors) => {
            let problems = errors
                .iter()
                .map(|error| problem::of_error(&input, error, &secrets));
            problems.for_each(|finding| report.add(finding));
            return None;
        }
    };
    for warning in &rendered.warnings {
        report.add(problem::of_warning(&input, warning, &secrets));
    }
    if environment.is_strict() && !rendered.warnings.is_empty() {
        return None;
    }
    let kept_at = kept_at(environment);
    if let Some(kept_at) = &kept_at
        && let Err(error) = fc_out::write(kept_at, &rendered.text)
    {
        report.add(whole_file(format!(
            "FC_OUT cannot be written: {}: {error}",
            kept_at.display()
        )));
        return None;
    }
    let text = String::from_utf8(std::mem::take(&mut rendered.text)).unwrap_or_else(|error| {
        // Positions count what was printed, not what replaces it.
        rendered.text = error.into_bytes();
        String::from_utf8_lossy(&rendered.text).into_owned()
    });
    Some(Arc::new(Rendering {
        text,
        format: kept_at.as_deref().map_or_else(|| Format::of(path), of_kept),
        kept_at,
        origins: Origins::new(rendered, input),
        secrets,
    }))
}

/// The extension of `FC_OUT` is case-sensitive.
fn of_kept(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("yml" | "yaml" | "toml") => Format::of(path),
        _ => Format::Json,
    }
}

fn whole_file(text: String) -> Finding {
    Finding {
        severity: Severity::ConfigError,
        pointer: String::new(),
        at: Position::UNKNOWN,
        config_error: ConfigError::invalid(text),
        hint: None,
    }
}

fn warn(report: &Report, text: &str) {
    report.add(Finding {
        severity: Severity::Warning,
        ..whole_file(text.to_owned())
    });
}

fn warn_about_variables(environment: &Environment, report: &Report) {
    if let Some(off @ ("0" | "false" | "no" | "off")) = environment.get("FC_ENABLE") {
        let text = format!("FC_ENABLE is {off:?}, but any value switches templates on: unset it");
        warn(report, &text);
    }
    if variable(environment, "FC_CONFIG").is_some() {
        warn(
            report,
            "FC_CONFIG is ignored: use FC_SETTINGS, FC_PARTIALS and FC_TEMPLATES",
        );
    }
}

/// Warns, without `FC_ENABLE`, about variables without effect and about template actions in strings.
pub(crate) fn without(
    text: &str,
    root: Option<&Value>,
    environment: &Environment,
    report: &Report,
) {
    let names = ["FC_SETTINGS", "FC_PARTIALS", "FC_TEMPLATES", "FC_OUT"];
    if let Some(name) = names
        .iter()
        .find(|name| variable(environment, name).is_some())
    {
        warn(
            report,
            &format!("{name} has no effect: FC_ENABLE is not set"),
        );
    }
    let action = root
        .filter(|_| text.contains("{{"))
        .and_then(|root| action_in(root, &mut String::new()));
    if let Some((at, pointer)) = action {
        report.add(Finding {
            severity: Severity::Warning,
            pointer,
            at,
            config_error: ConfigError::invalid(
                "this string contains a template action, which is not run",
            ),
            hint: Some(HINT.into()),
        });
    }
}

/// The hint for a file that looks like a template.
pub(crate) const HINT: &str = "this looks like a template: set FC_ENABLE=1 to render it";

/// Whether a member is the template of a body, which is rendered for requests.
fn is_template(member: &Member) -> bool {
    &*member.name == "template"
}

/// The first string with a template action: its position and pointer.
fn action_in(value: &Value, pointer: &mut String) -> Option<(Position, String)> {
    let length = pointer.len();
    let mut inside = |name: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let found = action_in(value, pointer);
        pointer.truncate(length);
        found
    };
    match &value.data {
        Data::Text(text) => holds_action(text).then(|| (value.at, pointer.clone())),
        Data::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| inside(&index.to_string(), item)),
        Data::Object(members) => members
            .iter()
            .filter(|member| !is_template(member))
            .find_map(|member| inside(&member.name, &member.value)),
        _ => None,
    }
}

/// Whether an action is `{{ .name }}` with blanks at its ends.
fn is_spaced(inner: &str, blank_before: bool) -> bool {
    let name = inner
        .strip_prefix('.')
        .and_then(|rest| rest.split_once("}}"));
    name.is_some_and(|(name, _)| {
        let end = name.trim_end_matches(['-', ' ', '\t']);
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        blank_before && end.len() < name.len() && !end.is_empty() && end.chars().all(is_name)
    })
}

/// Lua and GraphQL use doubled braces too, so only the name of a setting, a keyword or a function counts as an
/// action. `{{.Id}}` without blanks in a path is KrakenD's own notation for a parameter.
fn holds_action(text: &str) -> bool {
    text.match_indices("{{").any(|(at, _)| {
        let inner = text[at + 2..].trim_start_matches(['-', ' ', '\t']);
        let word: &str = inner
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        let closed = inner.contains("}}");
        let keyword = matches!(
            word,
            "if" | "range" | "with" | "template" | "define" | "block"
        );
        let setting = inner.starts_with('.')
            && inner[1..]
                .split(['}', ' '])
                .next()
                .is_some_and(|path| path.contains('.'));
        closed
            && (inner.starts_with('$')
                || is_spaced(inner, text[at + 2..].len() > inner.len())
                || keyword
                || setting
                || matches!(word, "env" | "include" | "marshal"))
    })
}
