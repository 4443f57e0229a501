//! Collects all problems of a configuration, so that they are reported at once.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;

use super::flexible::{Place, Rendering, Watched};
use super::path::Path;
use super::secret;
use super::suggest::nearest;
use super::value::{Member, Position};

/// Whether a finding stops the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    ConfigError,
    Warning,
}

/// One problem and its location.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    /// RFC 6901. Empty for the whole file.
    pub pointer: String,
    pub at: Position,
    pub config_error: ConfigError,
    /// What to write instead.
    pub hint: Option<Cow<'static, str>>,
}

impl Finding {
    /// Replaces the message and the hint by what `masked` returns for them. Findings of templates are masked where they
    /// are made, and keep their notes.
    pub(super) fn mask(&mut self, masked: impl for<'t> Fn(&'t str) -> Cow<'t, str>) {
        if !matches!(self.config_error, ConfigError::Template(_)) {
            let text = self.config_error.to_string();
            let shown = masked(&text);
            if shown != text {
                let shown = shown.into_owned();
                self.config_error = match self.config_error {
                    ConfigError::Syntax(_) => ConfigError::Syntax(shown),
                    _ => ConfigError::invalid(shown),
                };
            }
        }
        if let Some(hint) = &mut self.hint {
            *hint = masked(hint).into_owned().into();
        }
    }
}

/// Why a text cannot be parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxError {
    pub at: Position,
    pub text: String,
    pub hint: Option<Cow<'static, str>>,
}

impl From<SyntaxError> for Finding {
    fn from(error: SyntaxError) -> Finding {
        Finding {
            severity: Severity::ConfigError,
            pointer: String::new(),
            at: error.at,
            config_error: ConfigError::Syntax(error.text),
            hint: error.hint,
        }
    }
}

/// The problems of a configuration. The texts use KrakenD's wording if it has one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The text is not JSON, YAML or TOML.
    #[error("{0}")]
    Syntax(String),
    #[error("{}, but {expected} is expected", typed(found, is))]
    WrongType {
        found: String,
        is: &'static str,
        expected: &'static str,
    },
    /// The value has a clear meaning, but another type.
    #[error("{}, but {expected} is expected: treated as {taken}", typed(found, is))]
    Taken {
        found: String,
        is: &'static str,
        expected: &'static str,
        taken: String,
    },
    #[error("the key {key:?} is treated as {known:?}")]
    KeyTaken { key: String, known: &'static str },
    #[error("{found} is not a duration: {reason}")]
    BadDuration { found: String, reason: &'static str },
    #[error("{found} is none of {allowed}")]
    NotOneOf { found: String, allowed: String },
    #[error("{found} is not in the range {range}")]
    OutOfRange { found: String, range: String },
    #[error("the key {0:?} is missing")]
    Missing(&'static str),
    #[error("the key {key:?} is unknown here and ignored")]
    UnknownKey { key: String },
    #[error(
        "the key {key:?} is unknown here. It may guard something, so the gateway does not start"
    )]
    UnknownGuardKey { key: String },
    #[error("the key {key:?} appears beside {known:?}, which is the same key")]
    KeySpelledTwice { key: String, known: &'static str },
    #[error("the key {key:?} appears twice: the last one is used")]
    DuplicateKey { key: String },
    #[error("mapping key {key:?} already defined at line {line}")]
    KeyTwice { key: String, line: u32 },
    #[error("the namespace {namespace:?} is unknown here and ignored")]
    UnknownNamespace { namespace: String },
    #[error(
        "the namespace {namespace:?} is unknown here. It may guard something, so the gateway does not start"
    )]
    UnknownGuard { namespace: String },
    #[error("the namespace {namespace:?} is not supported by this version")]
    Unsupported { namespace: String },
    #[error("the key {key:?} has no effect")]
    Leftover { key: String },
    #[error("unsupported version: {0} (want: 3)")]
    Version(i64),
    #[error("invalid ip address {0}")]
    Address(String),
    #[error("host {host} not valid: invalid host")]
    Host { host: String },
    #[error("ignoring the '{method} {path}' endpoint, since it is invalid!!!")]
    Path { method: String, path: String },
    #[error("ignoring the '{method} {path}' endpoint, since it has 0 backends defined!")]
    NoBackends { method: String, path: String },
    #[error("can not use NoOp encoding with more than one backends connected to the same endpoint")]
    NoOpBackends,
    #[error(
        "undefined output param '{param}'! endpoint: {method} {path}, backend: {backend}. input: [{input}], output: [{output}]"
    )]
    UndefinedParam {
        param: String,
        method: String,
        path: String,
        backend: usize,
        input: String,
        output: String,
    },
    #[error("a handler is already registered for {method} {path}")]
    DuplicateRoute { method: String, path: String },
    #[error("Unsupported method {0}")]
    Method(String),
    /// A file named in the configuration is not usable: certificates, keys, queries.
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    /// A template, a settings file or one of their folders is not usable.
    #[error("{}", .0.message)]
    Template(Box<Problem>),
    /// An error in a rendered text, with the template that printed it.
    #[error("{config_error}")]
    Rendered {
        config_error: Box<ConfigError>,
        /// The name of the rendered text.
        text: String,
        place: Place,
    },
    /// An error with a text of the extension that found it.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
}

/// A value and its type. The text of a list or an object already contains its type.
fn typed(found: &str, is: &str) -> String {
    if found.starts_with(is) || found == "null" {
        format!("found {found}")
    } else {
        format!("{found} is {is}")
    }
}

impl ConfigError {
    /// The most similar allowed value, as a hint.
    fn meant(&self) -> Option<Cow<'static, str>> {
        let ConfigError::NotOneOf { found, allowed } = self else {
            return None;
        };
        let found = found.trim_matches('"');
        let meant = nearest(found, allowed.split(", "))?;
        Some(format!("did you mean \"{meant}\"?").into())
    }

    /// A text that should be the name of a header. What follows a colon is not shown: it is a value, and may be a credential.
    pub fn header_name(text: &str) -> ConfigError {
        let shown = match text.split_once(':') {
            Some((name, value)) if !value.is_empty() => format!("{name}: …"),
            _ => text.to_owned(),
        };
        ConfigError::invalid(format!("{shown:?} is not the name of a header"))
    }

    /// An error with a text of the caller.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> ConfigError {
        ConfigError::Invalid(text.into())
    }
}

/// A problem of a template or a settings file.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The path, as given.
    pub file: String,
    pub at: Position,
    /// KrakenD's message, including the location in its notation.
    pub message: String,
    /// The message without a location.
    pub text: String,
    /// Lines to print after it: the line with a caret, the calls, the setting.
    pub notes: Vec<String>,
}

/// A member of an object that a later one with the same name replaced.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The location that both have.
    pub pointer: String,
    pub member: Member,
}

/// Collects findings. Everything that reads one configuration shares it.
#[derive(Debug, Default)]
pub struct Report {
    findings: RefCell<Vec<Finding>>,
    config_errors: Cell<usize>,
    rendering: OnceCell<Arc<Rendering>>,
    watched: RefCell<Vec<Watched>>,
    lost: RefCell<Vec<Lost>>,
    secret_files: RefCell<Vec<PathBuf>>,
}

impl Report {
    pub fn new() -> Report {
        Report::default()
    }

    /// Every message passes through here, so that none shows the credentials of a URL.
    ///
    /// A value that is none of the allowed ones gets the most similar one as its hint, if it has no other.
    pub fn add(&self, mut finding: Finding) {
        if finding.hint.is_none() {
            finding.hint = finding.config_error.meant();
        }
        finding.mask(secret::masked);
        if finding.severity == Severity::ConfigError {
            self.config_errors.set(self.config_errors.get() + 1);
        }
        self.findings.borrow_mut().push(finding);
    }

    /// Marks the configuration as rendered: findings with a position get the origin of that position.
    pub fn is_rendered(&self, rendering: Arc<Rendering>) {
        // A report is used for only one configuration.
        let _ = self.rendering.set(rendering);
    }

    /// The rendered text, if the file was a template.
    pub fn rendering(&self) -> Option<Arc<Rendering>> {
        self.rendering.get().cloned()
    }

    /// Adds files that the result depends on.
    pub fn depends_on(&self, files: &[Watched]) {
        self.watched.borrow_mut().extend_from_slice(files);
    }

    /// The files added with [`Report::depends_on`].
    pub fn watched(&self) -> Vec<Watched> {
        self.watched.borrow().clone()
    }

    /// Adds a file whose content became a value of the configuration.
    pub fn has_secret_of(&self, file: PathBuf) {
        self.secret_files.borrow_mut().push(file);
    }

    /// The files added with [`Report::has_secret_of`].
    pub fn secret_files(&self) -> Vec<PathBuf> {
        self.secret_files.borrow().clone()
    }

    /// Reports that a key occurs twice in one object.
    pub fn duplicate(&self, key: &str, at: Position, path: &Path) {
        self.add(Finding {
            severity: Severity::Warning,
            pointer: path.pointer(),
            at,
            config_error: ConfigError::DuplicateKey {
                key: key.to_owned(),
            },
            hint: None,
        });
    }

    /// Keeps a member that a later one with the same name and another value replaced.
    pub fn lose(&self, path: &Path, member: Member) {
        self.lost.borrow_mut().push(Lost {
            pointer: path.pointer(),
            member,
        });
    }

    /// The members added with [`Report::lose`].
    pub fn lost(&self) -> Vec<Lost> {
        self.lost.borrow().clone()
    }

    /// Reports a duplicate key in a format that forbids it.
    pub fn key_twice(&self, key: &str, at: Position, first: Position, path: &Path) {
        self.add(Finding {
            severity: Severity::ConfigError,
            pointer: path.pointer(),
            at,
            config_error: ConfigError::KeyTwice {
                key: key.to_owned(),
                line: first.line,
            },
            hint: None,
        });
    }

    /// The number of errors, which stop the start. Compare before and after an operation to see whether it succeeded.
    pub fn config_errors(&self) -> usize {
        self.config_errors.get()
    }

    /// `pointer: text` of each error so far, in the order in which they were found.
    #[cfg(test)]
    pub fn shown_config_errors(&self) -> Vec<String> {
        let findings = self.findings.borrow();
        findings
            .iter()
            .filter(|finding| finding.severity == Severity::ConfigError)
            .map(|finding| format!("{}: {}", finding.pointer, finding.config_error))
            .collect()
    }

    /// The hints of all findings so far.
    #[cfg(test)]
    pub fn shown_hints(&self) -> Vec<String> {
        let findings = self.findings.borrow();
        let hints = findings.iter().filter_map(|finding| finding.hint.as_ref());
        hints.map(|hint| hint.to_string()).collect()
    }

    /// All findings, in the order of the file. Duplicates, which occur if a block was opened twice, are removed.
    pub fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|a, b| (a.at, &a.pointer).cmp(&(b.at, &b.pointer)));
        findings.dedup();
        if let Some(rendering) = self.rendering.get() {
            let findings = findings.iter_mut();
            findings.for_each(|finding| {
                hide_secrets(finding, rendering);
                name_template(finding, rendering);
            });
        }
        findings
    }
}

/// Masks values of the environment in everything that is shown. What reads the configuration need not care.
fn hide_secrets(finding: &mut Finding, rendering: &Rendering) {
    finding.mask(|text| rendering.masked_message(text).into());
    finding.pointer = rendering.masked_message(&finding.pointer);
}

/// Names the template, because that is the file to correct, and not the rendered text.
fn name_template(finding: &mut Finding, rendering: &Rendering) {
    let Some(place) = rendering.origin(finding.at) else {
        return;
    };
    let empty = ConfigError::Invalid(Cow::Borrowed(""));
    finding.config_error = ConfigError::Rendered {
        config_error: Box::new(std::mem::replace(&mut finding.config_error, empty)),
        text: rendering.name(),
        place,
    };
}
