//! A cursor in the tree that knows its location and reports errors.

mod read;

use std::borrow::Cow;

use super::block::Block;
use super::key::{Key, Kind};
use super::path::Path;
use super::report::{ConfigError, Finding, Report, Severity};
use super::rule::{self, Rule};
use super::secret;
use super::value::{Data, Position, Value};

/// How strictly types are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// Inside namespaces: a value with a clear meaning is accepted with a warning. For other values see
    /// [`super::rule`].
    Strict,
    /// At the core levels, as in KrakenD: `"8080"` is accepted as a number, `"true"` as a boolean and a single item
    /// as a list, and keys are case-insensitive.
    Weak,
}

/// A value with its location. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    value: &'a Value,
    path: Path,
    report: &'a Report,
    /// According to the table this is a secret, so messages do not show it.
    hidden: bool,
    rule: Rule,
}

impl<'a> Node<'a> {
    /// The whole configuration.
    pub fn root(value: &'a Value, report: &'a Report) -> Node<'a> {
        Node::at_path(value, Path::root(), report)
    }

    pub(super) fn at_path(value: &'a Value, path: Path, report: &'a Report) -> Node<'a> {
        Node {
            value,
            path,
            report,
            hidden: false,
            rule: Rule::Core,
        }
    }

    /// The same location with another rule, which applies to everything in it.
    pub fn ruled(mut self, rule: Rule) -> Node<'a> {
        self.rule = rule;
        self
    }

    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// A value within this one.
    fn within(&self, value: &'a Value, path: Path) -> Node<'a> {
        Node::at_path(value, path, self.report).ruled(self.rule)
    }

    pub(super) fn hiding(mut self, hidden: bool) -> Node<'a> {
        self.hidden = hidden;
        self
    }

    /// Whether messages do not show this value, because it may be secret.
    fn is_hidden(&self) -> bool {
        self.hidden || self.value.masked || secret::may_be_at(&self.path)
    }

    /// The text for this value in messages.
    pub fn shown(&self) -> String {
        let is_plain = matches!(self.value.data, Data::Text(_) | Data::Number(_));
        if self.hidden || (is_plain && self.is_hidden()) {
            secret::MASK.to_owned()
        } else {
            self.value.shown()
        }
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    pub fn at(&self) -> Position {
        self.value.at
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The location as an RFC 6901 pointer.
    pub fn pointer(&self) -> String {
        self.path.pointer()
    }

    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// The member with exactly this name. `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<Node<'a>> {
        self.value
            .get(name)
            .filter(|value| !value.is_null())
            .map(|value| self.within(value, self.path.key(name)))
    }

    /// Whether this is a string, a number or a boolean.
    pub(super) fn text_like(&self) -> bool {
        matches!(
            self.value.data,
            Data::Text(_) | Data::Number(_) | Data::Bool(_)
        )
    }

    /// The members of an object, in the configured order. Empty for any other value. Comments and nulls are omitted.
    pub fn members(&self) -> Vec<(&'a str, Node<'a>)> {
        self.value
            .members()
            .iter()
            .filter(|member| !super::key::is_comment(&member.name) && !member.value.is_null())
            .map(|member| {
                let path = self.path.key(&member.name);
                (&*member.name, self.within(&member.value, path))
            })
            .collect()
    }

    /// The items of a list. Empty for any other value.
    pub fn items(&self) -> Vec<Node<'a>> {
        match &self.value.data {
            Data::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.within(item, self.path.index(index)))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Opens an object with the keys `keys`, typed strictly. Anything else is an error.
    pub fn block(&self, keys: &'static [Key]) -> Option<Block<'a>> {
        Block::open(self.clone(), keys, Typing::Strict)
    }

    // Reporting of problems.

    /// Reports an error, which stops the start. In a namespace that is not a guard, it is a warning and the value is
    /// ignored.
    pub fn config_error(&self, config_error: ConfigError) {
        let ignored = (self.rule == Rule::Free).then_some(Cow::Borrowed(rule::IGNORED));
        self.add(self.rule.severity(), config_error, ignored);
    }

    /// Reports an error with a hint what to write instead.
    pub fn config_error_hint(&self, config_error: ConfigError, hint: impl Into<Cow<'static, str>>) {
        let hint = match self.rule {
            Rule::Free => Cow::Owned(format!("{}; {}", rule::IGNORED, hint.into())),
            Rule::Core | Rule::Guard => hint.into(),
        };
        self.add(self.rule.severity(), config_error, Some(hint));
    }

    /// Reports an error with a text of the caller.
    pub fn invalid(&self, text: impl Into<Cow<'static, str>>) {
        self.config_error(ConfigError::invalid(text));
    }

    /// Reports a warning.
    pub fn warn(&self, config_error: ConfigError) {
        self.add(Severity::Warning, config_error, None);
    }

    /// Reports a warning with a hint what to write instead.
    pub fn warn_hint(&self, config_error: ConfigError, hint: impl Into<Cow<'static, str>>) {
        self.add(Severity::Warning, config_error, Some(hint.into()));
    }

    fn add(&self, severity: Severity, config_error: ConfigError, hint: Option<Cow<'static, str>>) {
        let mut finding = Finding {
            severity,
            pointer: self.path.pointer(),
            at: self.value.at,
            config_error,
            hint,
        };
        if self.is_hidden() {
            finding.mask(|text| secret::without(text, self.value));
        }
        self.report.add(finding);
    }

    /// Reports that this value has the wrong type.
    pub fn wrong_type(&self, kind: &Kind) {
        let found = match kind {
            Kind::Secret => secret::MASK.to_owned(),
            _ => self.shown(),
        };
        let config_error = ConfigError::WrongType {
            found,
            is: self.value.type_name(),
            expected: kind.expected(),
        };
        match self.rewritten(kind) {
            Some(hint) => self.config_error_hint(config_error, hint),
            None => self.config_error(config_error),
        }
    }

    // Typed values. A wrong type is reported and gives `None`.
}
