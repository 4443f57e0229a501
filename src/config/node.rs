//! A cursor in the tree that knows its location and reports errors.

use std::borrow::Cow;
use std::time::Duration;

use super::block::Block;
use super::duration::{self, DurationError};
use super::key::{Key, Kind};
use super::path::Path;
use super::report::{ConfigError, Finding, Report, Severity};
use super::rule::{self, Rule};
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

    /// The text for this value in messages.
    pub fn shown(&self) -> String {
        if self.hidden {
            "[redacted]".to_owned()
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

    /// The same, with a hint what to write instead.
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

    /// The same, with a hint what to write instead.
    pub fn warn_hint(&self, config_error: ConfigError, hint: impl Into<Cow<'static, str>>) {
        self.add(Severity::Warning, config_error, Some(hint.into()));
    }

    fn add(&self, severity: Severity, config_error: ConfigError, hint: Option<Cow<'static, str>>) {
        self.report.add(Finding {
            severity,
            pointer: self.path.pointer(),
            at: self.value.at,
            config_error,
            hint,
        });
    }

    /// Reports that this value has the wrong type.
    pub fn wrong_type(&self, kind: &Kind) {
        let found = match kind {
            Kind::Secret => "[redacted]".to_owned(),
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

    /// Reports that this value is accepted with its clear meaning, `taken`.
    pub(super) fn taken(&self, kind: &Kind, taken: String) {
        let hidden = self.hidden || self.value.masked || matches!(kind, Kind::Secret);
        self.warn(ConfigError::Taken {
            found: self.shown(),
            is: self.value.type_name(),
            expected: kind.expected(),
            taken: match hidden {
                true => "[redacted]".to_owned(),
                false => taken,
            },
        });
    }

    /// The correct spelling of this value, if it is obvious.
    fn rewritten(&self, kind: &Kind) -> Option<String> {
        if self.value.masked || self.hidden {
            return None;
        }
        match (&self.value.data, kind) {
            (Data::Text(text), Kind::Integer | Kind::Number) => text
                .parse::<f64>()
                .ok()
                .map(|_| format!("without quotes: {text}")),
            (Data::Text(text), Kind::Bool) if matches!(&**text, "true" | "false") => {
                Some(format!("without quotes: {text}"))
            }
            (Data::Number(text), Kind::Text) => Some(format!("with quotes: \"{text}\"")),
            (Data::Text(_), Kind::Texts) => Some(format!("[{}]", self.value.shown())),
            _ => None,
        }
    }

    // Typed values. A wrong type is reported and gives `None`.

    /// A string. With weak typing, numbers and booleans are accepted too.
    pub fn text(&self, typing: Typing) -> Option<&'a str> {
        match (&self.value.data, typing) {
            (Data::Text(text), _) => Some(text),
            (Data::Number(text), Typing::Weak) => Some(text),
            (Data::Bool(yes), Typing::Weak) => Some(if *yes { "1" } else { "0" }),
            _ => {
                let plain = rule::text(self.value).filter(|_| typing == Typing::Strict);
                match plain {
                    Some(text) => self.taken(&Kind::Text, format!("{text:?}")),
                    None => self.wrong_type(&Kind::Text),
                }
                plain
            }
        }
    }

    pub fn bool(&self, typing: Typing) -> Option<bool> {
        let read = match (&self.value.data, typing) {
            (Data::Bool(yes), _) => Some(*yes),
            (Data::Number(text), Typing::Weak) => text.parse::<f64>().ok().map(|n| n != 0.0),
            (Data::Text(text), Typing::Weak) => match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Some(false),
                _ => None,
            },
            (_, Typing::Strict) => {
                let plain = rule::boolean(self.value);
                if let Some(yes) = plain {
                    self.taken(&Kind::Bool, yes.to_string());
                }
                plain
            }
            _ => None,
        };
        if read.is_none() {
            self.wrong_type(&Kind::Bool);
        }
        read
    }

    /// An integer. With weak typing, digits in quotes are accepted too, and a fraction is truncated with a warning.
    pub fn integer(&self, typing: Typing) -> Option<i64> {
        let text = match (&self.value.data, typing) {
            (Data::Number(text), _) => Some(&**text),
            (Data::Text(text), Typing::Weak) => Some(&**text),
            (Data::Bool(yes), Typing::Weak) => Some(if *yes { "1" } else { "0" }),
            (_, Typing::Strict) => return self.plain_integer(),
            _ => None,
        };
        let read = text.and_then(|text| match text.parse::<i64>() {
            Ok(integer) => Some(integer),
            Err(_) => self.integer_of_float(text, typing),
        });
        if read.is_none() {
            self.wrong_type(&Kind::Integer);
        }
        read
    }

    fn plain_integer(&self) -> Option<i64> {
        let read = rule::number(self.value).and_then(|text| text.parse::<i64>().ok());
        match read {
            Some(integer) => self.taken(&Kind::Integer, integer.to_string()),
            None => self.wrong_type(&Kind::Integer),
        }
        read
    }

    fn integer_of_float(&self, text: &str, typing: Typing) -> Option<i64> {
        // As in KrakenD, only digits are accepted in quotes.
        if matches!(self.value.data, Data::Text(_)) {
            return None;
        }
        let number: f64 = text.parse().ok()?;
        if !number.is_finite() || number.abs() >= 9e15 {
            return None;
        }
        if number.fract() != 0.0 {
            if typing == Typing::Strict {
                return None;
            }
            self.warn(ConfigError::invalid(format!(
                "{text} is no integer: its fraction is ignored"
            )));
        }
        Some(number.trunc() as i64)
    }

    /// An integer of at least 0.
    pub fn count(&self, typing: Typing) -> Option<u64> {
        let integer = self.integer(typing)?;
        let count = u64::try_from(integer).ok();
        if count.is_none() {
            self.config_error(ConfigError::OutOfRange {
                found: integer.to_string(),
                range: "0 and above".to_owned(),
            });
        }
        count
    }

    /// A finite number.
    pub fn number(&self, typing: Typing) -> Option<f64> {
        let text = match (&self.value.data, typing) {
            (Data::Number(text), _) => Some(&**text),
            (Data::Text(text), Typing::Weak) => Some(&**text),
            (_, Typing::Strict) => rule::number(self.value),
            _ => None,
        };
        let read = text
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|number| number.is_finite());
        match (read, &self.value.data) {
            (Some(_), Data::Number(_)) => {}
            (Some(_), _) if typing == Typing::Weak => {}
            (Some(number), _) => self.taken(&Kind::Number, number.to_string()),
            (None, _) => self.wrong_type(&Kind::Number),
        }
        read
    }

    /// A duration: a string with units, or a number of nanoseconds, which gives a warning.
    pub fn duration(&self) -> Option<Duration> {
        match &self.value.data {
            Data::Text(text) => match duration::parse(text) {
                Ok(duration) => Some(duration),
                Err(error) => self.plain_duration(text, error),
            },
            Data::Number(_) if self.rule == Rule::Core => self.nanoseconds(),
            Data::Number(text) => self.seconds(text),
            _ => {
                self.wrong_type(&Kind::Duration);
                None
            }
        }
    }

    /// A text that KrakenD does not accept as a duration. At the core levels it rejects all except negative ones.
    fn plain_duration(&self, text: &str, error: DurationError) -> Option<Duration> {
        if self.rule == Rule::Core && error == DurationError::Negative {
            return self.negative();
        }
        let plain = rule::duration(text).filter(|_| self.rule != Rule::Core);
        let read = plain.as_deref().and_then(|text| duration::parse(text).ok());
        if let (Some(plain), Some(read)) = (plain, read) {
            self.taken(&Kind::Duration, format!("{plain:?}"));
            return Some(read);
        }
        self.config_error_hint(
            ConfigError::BadDuration {
                found: self.shown(),
                reason: error.reason(),
            },
            "a number and its unit, unspaced: \"2s\", \"1500ms\"",
        );
        None
    }

    fn negative(&self) -> Option<Duration> {
        self.warn(ConfigError::invalid(format!(
            "{} is a negative duration: it counts as not set",
            self.shown()
        )));
        Some(Duration::ZERO)
    }

    /// A bare number in a namespace, where KrakenD reads texts only: what people mean are seconds.
    fn seconds(&self, text: &str) -> Option<Duration> {
        let Ok(seconds) = text.parse::<u32>() else {
            self.wrong_type(&Kind::Duration);
            return None;
        };
        if seconds > 0 {
            self.taken(&Kind::Duration, format!("\"{seconds}s\""));
        }
        Some(Duration::from_secs(u64::from(seconds)))
    }

    fn nanoseconds(&self) -> Option<Duration> {
        let nanos = self.integer(Typing::Strict)?;
        if nanos < 0 && self.rule == Rule::Core {
            return self.negative();
        }
        let Ok(nanos) = u64::try_from(nanos) else {
            self.config_error(ConfigError::BadDuration {
                found: nanos.to_string(),
                reason: DurationError::Negative.reason(),
            });
            return None;
        };
        let duration = Duration::from_nanos(nanos);
        if nanos > 0 {
            self.warn_hint(
                ConfigError::invalid(format!("the number {nanos} counts nanoseconds")),
                format!("write the unit: \"{}\"", duration::print(duration)),
            );
        }
        Some(duration)
    }

    /// A list of strings. With weak typing, a single string is accepted.
    pub fn texts(&self, typing: Typing) -> Option<Vec<String>> {
        match (&self.value.data, typing) {
            (Data::List(_), _) => {
                let before = self.report.config_errors();
                let texts = self
                    .items()
                    .iter()
                    .filter_map(|item| item.text(typing).map(str::to_owned))
                    .collect();
                (self.report.config_errors() == before).then_some(texts)
            }
            (Data::Text(_) | Data::Number(_) | Data::Bool(_), Typing::Weak) => {
                Some(vec![self.text(typing)?.to_owned()])
            }
            (Data::Text(text) | Data::Number(text), Typing::Strict) => {
                self.taken(&Kind::Texts, format!("[{text:?}]"));
                Some(vec![text.to_string()])
            }
            _ => {
                self.wrong_type(&Kind::Texts);
                None
            }
        }
    }

    /// A list of integers.
    pub fn integers(&self, typing: Typing) -> Option<Vec<i64>> {
        match (&self.value.data, typing) {
            (Data::List(_), _) => self
                .items()
                .iter()
                .map(|item| item.integer(typing))
                .collect(),
            (Data::Number(_), Typing::Weak) => Some(vec![self.integer(typing)?]),
            (Data::Number(text), Typing::Strict) => {
                let one = self.integer(typing)?;
                self.taken(&Kind::Integers, format!("[{text}]"));
                Some(vec![one])
            }
            _ => {
                self.wrong_type(&Kind::Integers);
                None
            }
        }
    }

    /// An object of strings, in the configured order.
    pub fn text_map(&self, typing: Typing) -> Option<Vec<(String, String)>> {
        if !matches!(self.value.data, Data::Object(_)) {
            self.wrong_type(&Kind::TextMap);
            return None;
        }
        let before = self.report.config_errors();
        let texts = self
            .members()
            .into_iter()
            .filter_map(|(name, node)| Some((name.to_owned(), node.text(typing)?.to_owned())))
            .collect();
        (self.report.config_errors() == before).then_some(texts)
    }

    /// A list. With weak typing, a single object is accepted.
    pub fn list(&self, typing: Typing) -> Option<Vec<Node<'a>>> {
        match (&self.value.data, typing) {
            (Data::List(_), _) => Some(self.items()),
            (Data::Object(_), Typing::Weak) => Some(vec![self.clone()]),
            (Data::Object(_), Typing::Strict) => {
                self.taken(&Kind::List, "a list of one".to_owned());
                Some(vec![self.clone()])
            }
            _ => {
                self.wrong_type(&Kind::List);
                None
            }
        }
    }

    /// An object, whose members are not read yet.
    pub fn object(&self) -> Option<Node<'a>> {
        if matches!(self.value.data, Data::Object(_)) {
            return Some(self.clone());
        }
        self.wrong_type(&Kind::Object);
        None
    }
}
