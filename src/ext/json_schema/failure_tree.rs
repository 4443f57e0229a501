//! Groups the failures of a body by the schemas that it does not match: KrakenD's validator reports each schema
//! separately and in its own order, while ours yields all failures in sequence.
//!
//! The evaluation path of a failure names the schemas that lead to it: `/properties/a/$ref/anyOf`.

use std::collections::BTreeMap;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::messages;
use super::meter::Seen;
use super::order::rank;
use super::patterns::Patterns;
use super::subschemas::Parts;
use crate::config::path;

/// The maximum number of failures that are processed.
const MAX_FAILURES: usize = 1024;

/// The approximate maximum number of schemas in one path.
const MAX_STEPS: usize = 512;

/// One line, and the lines below it.
#[derive(Debug)]
pub(super) struct Failure {
    /// The position among the failures of its schema.
    rank: u8,
    pub(super) at: String,
    pub(super) text: String,
    pub(super) causes: Vec<Failure>,
}

/// A failure on the way from the outermost schema to the one that it belongs to.
#[derive(Debug, Clone, Copy)]
struct Item<'e> {
    error: &'e ValidationError<'e>,
    /// The value to which the instance path of the failure belongs.
    root: &'e Value,
    /// The rest of its path.
    way: &'e str,
    /// The length of the part of its instance path that belongs to outer schemas.
    outer: usize,
}

/// The next part of a path.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Way<'e> {
    /// The failure belongs to a keyword of this schema.
    Here(&'e str),
    /// A subschema of a keyword for the value itself, possibly with a name.
    Same(&'e str, &'e str),
    /// A subschema of a keyword for a member or item of the value.
    Within(&'e str, &'e str, &'e str),
}

/// Groups failures.
pub(super) struct FailureGrouper<'s> {
    body: &'s Value,
    schema: &'s Value,
    parts: &'s Parts,
    patterns: &'s Patterns,
    left: usize,
}

impl<'s> FailureGrouper<'s> {
    pub(super) fn new(
        body: &'s Value,
        schema: &'s Value,
        parts: &'s Parts,
        patterns: &'s Patterns,
    ) -> FailureGrouper<'s> {
        FailureGrouper {
            body,
            schema,
            parts,
            patterns,
            left: MAX_FAILURES,
        }
    }

    /// The failures of the body itself.
    pub(super) fn all(&mut self, errors: &[ValidationError<'_>]) -> Vec<Failure> {
        self.judged(entered(errors, self.body), "", 0)
    }

    /// The failures of one schema for the value at `at`.
    fn judged(&mut self, items: Vec<Item<'_>>, at: &str, steps: usize) -> Vec<Failure> {
        let mut groups: Vec<(Way<'_>, Vec<Item<'_>>)> = Vec::new();
        for item in items.into_iter().take(self.left) {
            let (way, item) = if steps < MAX_STEPS {
                item.step()
            } else {
                (Way::Here(""), item)
            };
            match groups.iter_mut().find(|(known, _)| *known == way) {
                Some((_, group)) => group.push(item),
                None => groups.push((way, vec![item])),
            }
        }
        let mut failures = Vec::new();
        let mut all_of: Vec<Failure> = Vec::new();
        for (way, group) in groups {
            match way {
                Way::Here(keyword) => failures.extend(self.own(keyword, &group, at, steps)),
                Way::Same(keyword, _) => {
                    let inner = self.judged(group, at, steps + 1);
                    let failure = collapsed(inner, at, rank(keyword));
                    match keyword {
                        "allOf" => all_of.extend(failure),
                        _ => failures.extend(failure),
                    }
                }
                Way::Within(keyword, _, name) => {
                    let at = below(at, name);
                    let inner = self.judged(group, &at, steps + 1);
                    failures.extend(collapsed(inner, &at, rank(keyword)));
                }
            }
        }
        if !all_of.is_empty() {
            failures.push(failure("allOf", at, "'allOf' failed".to_owned(), all_of));
        }
        settled(failures)
    }

    /// The failures of one keyword for the value itself.
    fn own(&mut self, keyword: &str, group: &[Item<'_>], at: &str, steps: usize) -> Vec<Failure> {
        let missing = self.missing(keyword, group, at);
        let mut failures: Vec<Failure> = missing;
        let mut names: BTreeMap<&str, Vec<Item<'_>>> = BTreeMap::new();
        for item in group {
            self.left = self.left.saturating_sub(1);
            match item.error.kind() {
                Kind::Required { .. } => {}
                Kind::PropertyNames { error } => {
                    let name = error.instance().as_str().unwrap_or_default();
                    let way = error.evaluation_path().as_str();
                    // All failures of a name are reported as if it were the body.
                    let way = way.strip_prefix(item.passed()).unwrap_or_default();
                    let way = way.strip_prefix("/propertyNames").unwrap_or(way);
                    let outer = error.instance_path().as_str().len();
                    names.entry(name).or_default().push(Item {
                        error,
                        way,
                        outer,
                        ..*item
                    });
                }
                _ => failures.extend(self.one(keyword, item, at, steps)),
            }
        }
        for (name, inner) in names {
            let causes = self.judged(inner, "", steps + 1);
            failures.push(failure(keyword, "", messages::bad_name(name), causes));
        }
        failures
    }

    fn one(&mut self, keyword: &str, item: &Item<'_>, at: &str, steps: usize) -> Vec<Failure> {
        let error = item.error;
        let value = item.value();
        let one = |text: String, causes| vec![failure(keyword, at, text, causes)];
        match (error.kind(), keyword) {
            (Kind::AnyOf { context } | Kind::OneOfNotValid { context }, _) => {
                let causes = self.branches(item, context, at, steps);
                one(messages::said(error, value, self.patterns), causes)
            }
            // The value is what fails, and the error contains only the first of these names.
            (Kind::FalseSchema, "additionalProperties") => {
                let names = self.body.pointer(at).and_then(Value::as_object);
                one(
                    messages::additional(names.into_iter().flatten().map(|(name, _)| &**name)),
                    Vec::new(),
                )
            }
            (Kind::FalseSchema, "items") => each(self.body.pointer(at).unwrap_or(value))
                .map(|index| false_schema(keyword, &format!("{at}/{index}")))
                .collect(),
            (Kind::Contains, _) => {
                let (text, causes) = self.contained(keyword, item, at, steps);
                one(text, causes)
            }
            (Kind::UnevaluatedProperties { unexpected }, _) => unexpected
                .iter()
                .take(self.left)
                .filter_map(|name| {
                    let at = below(at, &path::token(name));
                    self.unevaluated(keyword, item, value.get(name), &at, steps)
                })
                .collect(),
            (Kind::UnevaluatedItems { unexpected }, _) => messages::places(value, unexpected)
                .into_iter()
                .filter_map(|index| {
                    let at = format!("{at}/{index}");
                    self.unevaluated(keyword, item, value.get(index), &at, steps)
                })
                .collect(),
            _ => one(messages::said(error, value, self.patterns), Vec::new()),
        }
    }

    fn branches(
        &mut self,
        item: &Item<'_>,
        context: &[Vec<ValidationError<'static>>],
        at: &str,
        steps: usize,
    ) -> Vec<Failure> {
        let way = item.error.evaluation_path().as_str();
        let mut causes = Vec::new();
        for (index, branch) in context.iter().enumerate() {
            let prefix = format!("{way}/{index}");
            // Each of them builds the text of its path.
            let most = self.left;
            self.left = self.left.saturating_sub(branch.len());
            let inner = branch.iter().take(most).map(|error| {
                let way = error.evaluation_path().as_str();
                let way = way.strip_prefix(&*prefix).unwrap_or(way);
                Item {
                    error,
                    way,
                    ..*item
                }
            });
            let inner = self.judged(inner.collect(), at, steps + 1);
            causes.extend(collapsed(inner, at, 0));
        }
        causes
    }

    /// The failures of items if `contains` matches too few or too many of them.
    fn contained(
        &mut self,
        keyword: &str,
        item: &Item<'_>,
        at: &str,
        steps: usize,
    ) -> (String, Vec<Failure>) {
        let place = item.error.schema_path().as_str();
        let (parent, _) = place.rsplit_once('/').unwrap_or(("", place));
        let part = self.parts.get(&format!("{parent}/contains"));
        let (mut matched, mut causes) = (Vec::new(), Vec::new());
        let list = item.value();
        for index in each(list) {
            match (list.get(index), part) {
                (Some(value), Some(part)) if part.is_valid(Seen(value)) => matched.push(index),
                (Some(value), Some(_)) if keyword != "maxContains" => {
                    let at = format!("{at}/{index}");
                    causes.extend(self.part(&format!("{parent}/contains"), value, &at, steps));
                }
                _ => {}
            }
        }
        let limit = self.schema.pointer(place);
        (
            messages::contained(keyword, limit, part.map(|_| &*matched)),
            causes,
        )
    }

    fn unevaluated(
        &mut self,
        keyword: &str,
        item: &Item<'_>,
        value: Option<&Value>,
        at: &str,
        steps: usize,
    ) -> Option<Failure> {
        let place = item.error.schema_path().as_str();
        let told = value.and_then(|value| self.part(place, value, at, steps));
        Some(Failure {
            rank: rank(keyword),
            ..told.unwrap_or_else(|| false_schema(keyword, at))
        })
    }

    /// The failure of the schema at `place` for a single value.
    fn part(&mut self, place: &str, value: &Value, at: &str, steps: usize) -> Option<Failure> {
        let errors: Vec<_> = self
            .parts
            .get(place)?
            .iter_errors(Seen(value))
            .take(self.left)
            .collect();
        let inner = self.judged(entered(&errors, value), at, steps + 1);
        collapsed(inner, at, 0)
    }

    /// Missing members of one object are reported together.
    fn missing(&self, keyword: &str, group: &[Item<'_>], at: &str) -> Vec<Failure> {
        let mut all: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
        for item in group {
            if let Kind::Required { property } = item.error.kind() {
                let name = property.as_str().unwrap_or_default();
                let demands = self.schema.pointer(item.error.schema_path().as_str());
                let because = messages::because(demands, item.value(), name);
                all.entry(because).or_default().push(name);
            }
        }
        all.into_iter()
            .map(|(because, names)| {
                failure(keyword, at, messages::required(because, &names), Vec::new())
            })
            .collect()
    }
}

/// The longest place. Each level of a body holds one, and messages show the beginning.
const MAX_PLACE: usize = 4096;

/// The place of a member.
fn below(at: &str, name: &str) -> String {
    let most = MAX_PLACE.saturating_sub(at.len());
    let name = name.get(..name.floor_char_boundary(most));
    format!("{at}/{}", name.unwrap_or_default())
}

/// Failures of a validator, each of which begins with a reference to the schema (see `Schema::compile`).
fn entered<'e>(errors: &'e [ValidationError<'_>], root: &'e Value) -> Vec<Item<'e>> {
    let item = |error: &'e ValidationError<'_>| {
        let way = error.evaluation_path().as_str();
        let way = way.strip_prefix("/$ref").unwrap_or(way);
        Item {
            error,
            root,
            way,
            outer: 0,
        }
    };
    errors.iter().map(item).collect()
}

impl<'e> Item<'e> {
    /// The value that fails. In the failures of lists, objects and long texts it is `null` (see `meter`).
    fn value(&self) -> &'e Value {
        match self.error.instance().as_ref() {
            Value::Null => {
                let found = self.root.pointer(self.error.instance_path().as_str());
                found.unwrap_or(&Value::Null)
            }
            value => value,
        }
    }

    /// The part of the path before the current position.
    fn passed(&self) -> &'e str {
        let all = self.error.evaluation_path().as_str();
        all.strip_suffix(self.way).unwrap_or_default()
    }

    /// Enters the next inner schema.
    fn step(self) -> (Way<'e>, Item<'e>) {
        let Some((keyword, rest)) = token(self.way) else {
            return (Way::Here(""), self);
        };
        let here = (Way::Here(keyword), self);
        if rest.is_empty() {
            // `items: false` applies to the list, or to an item.
            return match keyword {
                "items" | "additionalItems" | "additionalProperties" => {
                    self.within(keyword, "", rest).unwrap_or(here)
                }
                _ => here,
            };
        }
        let named = token(rest);
        match keyword {
            "properties" | "patternProperties" | "prefixItems" => match named {
                Some((name, rest)) => self.within(keyword, name, rest).unwrap_or(here),
                None => here,
            },
            "items" => match named.filter(|(name, _)| is_number(name)) {
                Some((name, rest)) => self.within(keyword, name, rest).unwrap_or(here),
                None => self.within(keyword, "", rest).unwrap_or(here),
            },
            "additionalProperties" | "additionalItems" => {
                self.within(keyword, "", rest).unwrap_or(here)
            }
            "allOf" | "dependentSchemas" | "dependencies" => match named {
                Some((name, way)) => (Way::Same(keyword, name), Item { way, ..self }),
                None => here,
            },
            "$ref" | "$dynamicRef" | "$recursiveRef" | "if" | "then" | "else" => {
                (Way::Same(keyword, ""), Item { way: rest, ..self })
            }
            _ => here,
        }
    }

    /// Enters a member or item of the body too.
    fn within(self, keyword: &'e str, name: &'e str, way: &'e str) -> Option<(Way<'e>, Item<'e>)> {
        let place = self.error.instance_path().as_str();
        let (child, _) = token(place.get(self.outer..)?)?;
        let item = Item {
            way,
            outer: self.outer + 1 + child.len(),
            ..self
        };
        Some((Way::Within(keyword, name, child), item))
    }
}

/// The first part of a JSON pointer, and the rest.
fn token(pointer: &str) -> Option<(&str, &str)> {
    let pointer = pointer.strip_prefix('/')?;
    let end = pointer.find('/').unwrap_or(pointer.len());
    Some(pointer.split_at(end))
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The indexes of a list's items.
fn each(value: &Value) -> std::ops::Range<usize> {
    0..value.as_array().map_or(0, Vec::len).min(MAX_FAILURES)
}

fn failure(keyword: &str, at: &str, text: String, causes: Vec<Failure>) -> Failure {
    Failure {
        rank: rank(keyword),
        at: at.to_owned(),
        text,
        causes,
    }
}

fn false_schema(keyword: &str, at: &str) -> Failure {
    failure(keyword, at, "false schema".to_owned(), Vec::new())
}

/// Puts several failures of one schema below a line of their own.
fn collapsed(mut failures: Vec<Failure>, at: &str, rank: u8) -> Option<Failure> {
    match failures.len() {
        0 | 1 => failures.pop().map(|one| Failure { rank, ..one }),
        _ => Some(Failure {
            rank,
            at: at.to_owned(),
            text: "validation failed".to_owned(),
            causes: failures,
        }),
    }
}

/// A schema is not evaluated further after failures of this rank.
const LAST: u8 = 4;

/// Sorts failures in the order of KrakenD's validator.
fn settled(mut failures: Vec<Failure>) -> Vec<Failure> {
    failures.sort_by_key(|failure| failure.rank);
    if failures.first().is_some_and(|first| first.rank < LAST) {
        failures.truncate(1);
    }
    failures
}
