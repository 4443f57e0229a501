//! The step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use regex::bytes::Regex;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::heavy::aside;
use crate::runtime::json::{Count, Growth, Out, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, State};
use crate::upstream::budget::{Charge, Full};

/// The bytes that all changes of one response may make.
const MAX_BYTES: usize = 64 << 20;
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
    /// `None`: the text stays as it is. `made` counts the new text while it is made.
    fn of(&self, text: &str, made: &mut Made) -> Result<Option<String>, TooMuch> {
        Ok(match self {
            Change::Literal { find, replace } => {
                let found = text.matches(&**find).count();
                if found == 0 {
                    return Ok(None);
                }
                let size = text.len() - found * find.len();
                let size = size.saturating_add(found.saturating_mul(replace.len()));
                made.add(size)?;
                let mut out = String::with_capacity(size);
                let mut at = 0;
                for (found, _) in text.match_indices(&**find) {
                    out.push_str(text.get(at..found).unwrap_or_default());
                    out.push_str(replace);
                    at = found + find.len();
                }
                out.push_str(text.get(at..).unwrap_or_default());
                Some(out)
            }
            Change::Regexp { find, replace } => {
                let bytes = text.as_bytes();
                // Measured first: a buffer that grows takes three times its size for a moment.
                let mut count = Count::default();
                if replaced(find, replace, bytes, &mut count, made)? == 0 {
                    return Ok(None);
                }
                made.add(count.size())?;
                let mut out = Vec::with_capacity(count.size());
                replaced(find, replace, bytes, &mut out, made)?;
                // An empty match may lie within a character.
                Some(match String::from_utf8(out) {
                    Ok(text) => text,
                    Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                })
            }
            Change::Lower => {
                made.add(text.len())?;
                Some(text.chars().map(|c| single(c, c.to_lowercase())).collect())
            }
            Change::Upper => {
                made.add(text.len())?;
                Some(text.chars().map(|c| single(c, c.to_uppercase())).collect())
            }
            Change::Trim(set) => {
                made.add(text.len())?;
                Some(text.trim_matches(|c: char| set.contains(c)).to_owned())
            }
        })
    }
}

/// Replaces all matches, and returns their number.
fn replaced(
    find: &Regex,
    replace: &str,
    text: &[u8],
    out: &mut impl Out,
    made: &mut Made,
) -> Result<usize, TooMuch> {
    // Each of them is replaced by a part of a match, which is not longer than the match.
    let groups = memchr::memchr_iter(b'$', replace.as_bytes()).count();
    let (mut at, mut matches, mut one) = (0, 0, Vec::new());
    for found in find.captures_iter(text) {
        let Some(whole) = found.get(0) else {
            continue;
        };
        if out.size() > MAX_BYTES {
            return Err(TooMuch::Large);
        }
        out.put(text.get(at..whole.start()).unwrap_or_default());
        let most = groups.saturating_mul(whole.len());
        made.prepare(replace.len().saturating_add(most))?;
        one.clear();
        found.expand(replace.as_bytes(), &mut one);
        out.put(&one);
        at = whole.end();
        matches += 1;
    }
    out.put(text.get(at..).unwrap_or_default());
    Ok(matches)
}

/// Letters without a single counterpart stay as they are, as in Go.
fn single(letter: char, mut converted: impl Iterator<Item = char>) -> char {
    match (converted.next(), converted.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy)]
enum TooMuch {
    /// The result is too large.
    Large,
    /// The process holds too much.
    Full,
}

/// The bytes that the changes of one response make.
#[derive(Debug, Default)]
struct Made {
    bytes: usize,
    growth: Growth,
}

impl Made {
    /// Charges bytes that are about to be made, and counted then.
    fn prepare(&mut self, bytes: usize) -> Result<(), TooMuch> {
        if bytes > MAX_BYTES {
            return Err(TooMuch::Large);
        }
        self.growth.prepare(bytes).map_err(|Full| TooMuch::Full)
    }

    fn add(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BYTES {
            return Err(TooMuch::Large);
        }
        self.growth.add(bytes).map_err(|Full| TooMuch::Full)
    }
}

/// One pass over a response.
struct Pass<'p> {
    replacer: &'p Replacer,
    made: Made,
}

impl Pass<'_> {
    fn walk(
        &mut self,
        value: &mut Value,
        path: &[Box<str>],
        change: &Change,
    ) -> Result<(), TooMuch> {
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

    fn change(&mut self, value: &mut Value, change: &Change) -> Result<(), TooMuch> {
        let Value::String(text) = value.open() else {
            self.replacer.not_a_string(value);
            return Ok(());
        };
        if let Some(changed) = change.of(text, &mut self.made)? {
            *value = Value::string(changed);
        }
        Ok(())
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

    /// Changes the data, and returns the charge for what it becomes.
    fn apply(&self, data: &mut Value, deadline: Instant) -> Result<Charge, Failure> {
        let mut held = data.charge_expanded().map_err(|_| Failure::full())?;
        let mut pass = Pass {
            replacer: self,
            made: Made::default(),
        };
        aside(held.bytes(), deadline, || {
            let mut modifiers = self.modifiers.iter();
            modifiers.try_for_each(|modifier| pass.walk(data, &modifier.field, &modifier.change))
        })?
        .map_err(|why| match why {
            TooMuch::Full => Failure::full(),
            TooMuch::Large => Failure::new(
                Kind::TooLarge,
                "modifier/response-body: the result is too large",
            ),
        })?;
        held.join(pass.made.growth.into_charge());
        Ok(held)
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
        let held = self.apply(&mut response.data, request.deadline.into_std())?;
        response.held.join(held);
        Ok(())
    }
}
