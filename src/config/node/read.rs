//! Values as Rust types. A value of the wrong type is reported.

use std::time::Duration;

use http::HeaderName;

use super::{Node, Typing};
use crate::config::duration::{self, DurationError};
use crate::config::key::Kind;
use crate::config::report::ConfigError;
use crate::config::rule::{self, Rule};
use crate::config::secret;
use crate::config::value::Data;

/// The hint for a duration where a number of seconds is expected: the unit of every whole number is the second.
fn seconds_of(text: &str) -> Option<String> {
    let read = duration::parse(text).ok()?;
    let is_whole = read.subsec_nanos() == 0 && !read.is_zero();
    is_whole.then(|| format!("a number of seconds: {}", read.as_secs()))
}

impl<'a> Node<'a> {
    /// Reports that this value is accepted with its clear meaning, `taken`.
    pub(in crate::config) fn taken(&self, kind: &Kind, taken: String) {
        let hidden = self.is_hidden() || matches!(kind, Kind::Secret);
        self.warn(ConfigError::Taken {
            found: self.shown(),
            is: self.value.type_name(),
            expected: kind.expected(),
            taken: if hidden {
                secret::MASK.to_owned()
            } else {
                taken
            },
        });
    }

    /// The correct spelling of this value, if it is obvious.
    pub(super) fn rewritten(&self, kind: &Kind) -> Option<String> {
        if self.is_hidden() {
            return None;
        }
        match (&self.value.data, kind) {
            (Data::Text(text), Kind::Integer | Kind::Number) => {
                let number = text.trim().parse::<f64>().ok();
                let is_whole = |number: &f64| number.fract() == 0.0;
                let number = number
                    .filter(|number| number.abs() < 9e15)
                    .filter(|number| matches!(kind, Kind::Number) || is_whole(number))
                    .map(|number| format!("without quotes: {number}"));
                number.or_else(|| seconds_of(text))
            }
            (Data::Text(text), Kind::Bool) if matches!(&**text, "true" | "false") => {
                Some(format!("without quotes: {text}"))
            }
            (Data::Number(text), Kind::Text) => Some(format!("with quotes: \"{text}\"")),
            (Data::List(_), Kind::Text) => Some(
                match self.path.pointer().rsplit('/').next() {
                    Some("method") => "one method; write one endpoint for each method",
                    _ => "one value, without brackets",
                }
                .to_owned(),
            ),
            (Data::Text(_), Kind::Texts) => Some(format!("[{}]", self.value.shown())),
            _ => None,
        }
    }

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

    /// `true` or `false`. With weak typing, the other spellings that KrakenD accepts too, but not an empty string in a
    /// guard: a template value that was not filled in must not take a requirement away.
    pub fn bool(&self, typing: Typing) -> Option<bool> {
        let is_guard = self.rule() == Rule::Guard;
        let read = match (&self.value.data, typing) {
            (Data::Bool(yes), _) => Some(*yes),
            (Data::Text(text), Typing::Weak) if is_guard && text.is_empty() => None,
            (Data::Number(text), Typing::Weak) if is_guard => {
                let yes = text.parse::<f64>().ok().map(|n| n != 0.0);
                if let Some(yes) = yes {
                    self.taken(&Kind::Bool, yes.to_string());
                }
                yes
            }
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
                "{text} is not an integer: its fraction is ignored"
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
            (None, Data::Number(text)) => self.config_error(ConfigError::OutOfRange {
                found: text.to_string(),
                range: "of 64-bit numbers, up to 1.8e308".to_owned(),
            }),
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
            "a number and its unit without a blank: \"2s\", \"1500ms\"",
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
            // So small a number was meant in another unit.
            let hint = if duration < Duration::from_millis(1) {
                format!("write the unit: \"{nanos}ms\" or \"{nanos}s\"")
            } else {
                format!("write the unit: \"{}\"", duration::print(duration))
            };
            self.warn_hint(
                ConfigError::invalid(format!("the number {nanos} counts nanoseconds")),
                hint,
            );
        }
        Some(duration)
    }

    /// Parses the value as a header name. Reports an invalid name.
    pub fn header_name(&self, name: &str) -> Option<HeaderName> {
        let parsed = HeaderName::try_from(name).ok();
        match name {
            "" => self.invalid("the name of the header is missing"),
            _ if parsed.is_none() => self.config_error(ConfigError::header_name(name)),
            _ => {}
        }
        parsed
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
            // As in KrakenD.
            (Data::Object(members), Typing::Weak) if members.is_empty() => Some(Vec::new()),
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
