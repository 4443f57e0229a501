//! The step.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use regex::bytes::Regex;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::heavy::aside;
use crate::runtime::json::Value;
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, State};

/// The bytes that all changes of one response may make.
const MOST_BYTES: usize = 64 << 20;
/// The name that means all elements of a list.
const ANY: &str = "*";

/// Changes strings of a response.
#[derive(Debug)]
pub(super) struct Replacer {
    pub(super) modifiers: Box<[Modifier]>,
    /// What is not a string becomes null.
    pub(super) strict: bool,
    pub(super) place: Box<str>,
    pub(super) warned: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Modifier {
    pub(super) field: Box<[Box<str>]>,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) enum Change {
    Literal {
        find: Box<str>,
        replace: Box<str>,
    },
    Regexp {
        find: Regex,
        replace: Box<str>,
    },
    Lower,
    Upper,
    /// The characters.
    Trim(Box<str>),
}

impl Change {
    /// `None`: the text stays as it is.
    fn of(&self, text: &str) -> Option<String> {
        match self {
            Change::Literal { find, replace } => text
                .contains(&**find)
                .then(|| text.replace(&**find, replace)),
            Change::Regexp { find, replace } => {
                let replaced = find.replace_all(text.as_bytes(), replace.as_bytes());
                match replaced {
                    Cow::Borrowed(_) => None,
                    // An empty match may lie within a character.
                    Cow::Owned(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                }
            }
            Change::Lower => Some(text.chars().map(|c| single(c, c.to_lowercase())).collect()),
            Change::Upper => Some(text.chars().map(|c| single(c, c.to_uppercase())).collect()),
            Change::Trim(set) => Some(text.trim_matches(|c: char| set.contains(c)).to_owned()),
        }
    }
}

/// Letters without a single counterpart stay as they are, as in Go.
fn single(letter: char, mut converted: impl Iterator<Item = char>) -> char {
    match (converted.next(), converted.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}

/// One pass over a response.
struct Pass<'p> {
    replacer: &'p Replacer,
    made: usize,
}

impl Pass<'_> {
    fn walk(&mut self, value: &mut Value, path: &[Box<str>], change: &Change) -> Result<(), ()> {
        let Some((first, rest)) = path.split_first() else {
            return self.change(value, change);
        };
        if &**first == ANY
            && let Some(items) = value.as_array_mut()
        {
            return items
                .iter_mut()
                .try_for_each(|item| self.walk(item, rest, change));
        }
        let member = value
            .as_object_mut()
            .and_then(|members| members.get_mut(first));
        member.map_or(Ok(()), |member| self.walk(member, rest, change))
    }

    fn change(&mut self, value: &mut Value, change: &Change) -> Result<(), ()> {
        let Value::String(text) = value.open() else {
            self.replacer.not_a_string(value);
            return Ok(());
        };
        let Some(changed) = change.of(text) else {
            return Ok(());
        };
        self.made += changed.len();
        *value = Value::string(changed);
        if self.made > MOST_BYTES {
            Err(())
        } else {
            Ok(())
        }
    }
}

impl Replacer {
    fn not_a_string(&self, value: &mut Value) {
        if self.strict {
            *value = Value::Null;
        } else if !matches!(value, Value::Null) && !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "[{}] modifier/response-body: a field is not a string, and is not changed",
                self.place
            );
        }
    }

    fn apply(&self, data: &mut Value, deadline: Instant) -> Result<(), Failure> {
        let held = data.charge_expanded().map_err(|_| Failure::full())?;
        aside(held.bytes(), deadline, || {
            let mut pass = Pass {
                replacer: self,
                made: 0,
            };
            let mut modifiers = self.modifiers.iter();
            modifiers.try_for_each(|modifier| pass.walk(data, &modifier.field, &modifier.change))
        })?
        .map_err(|()| {
            Failure::new(
                Kind::TooLarge,
                "modifier/response-body: the result is too large",
            )
        })
    }
}

#[async_trait]
impl PipeStep for Replacer {
    async fn after(
        &self,
        _state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        self.apply(&mut response.data, request.deadline.into_std())
    }
}
