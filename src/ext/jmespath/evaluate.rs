//! Evaluates an expression as the crate `jmespath` does, within limits.
//!
//! The crate cannot be interrupted, and small expressions make large results: `[@, @][].[@, @][]` shares its values,
//! but a result is written without sharing. So every step is counted here, and so is everything that a function of
//! the crate is about to read.

use std::collections::BTreeMap;
use std::time::Instant;

use jmespath::ast::Ast;
use jmespath::{Context, Rcvar, Variable};

use crate::runtime::failure::Failure;
use crate::runtime::heavy::{Cut, Heavy};
use crate::runtime::json::Growth;
use crate::upstream::budget::{Charge, Full};

/// The steps that an expression may take, besides those that grow with the document.
const STEPS: usize = 1_000_000;
/// The additional steps for each value of the document.
const STEPS_PER_VALUE: usize = 8;
/// The bytes of strings that it may copy, besides those that grow with the document.
const COPIED: usize = 16 << 20;
/// The additional bytes for each byte of strings in the document.
const COPIED_PER_BYTE: usize = 4;
/// Steps between two checks of the clock: some tens of microseconds.
const STEPS_PER_LOOK: usize = 64;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ext) enum Fault {
    /// The deadline has passed, or there is too much heavy work.
    Cut(Cut),
    /// The process holds too much.
    Full,
    /// The expression does not apply to this document, or exceeds the limits.
    Refused(String),
}

impl From<Cut> for Fault {
    fn from(cut: Cut) -> Fault {
        Fault::Cut(cut)
    }
}

impl From<Full> for Fault {
    fn from(_: Full) -> Fault {
        Fault::Full
    }
}

impl From<jmespath::JmespathError> for Fault {
    fn from(error: jmespath::JmespathError) -> Fault {
        Fault::Refused(super::expression::first_line(&error.to_string()))
    }
}

impl Fault {
    /// The failure of a request whose response was to be changed.
    pub(super) fn failure(self, kind: crate::runtime::failure::Kind) -> Failure {
        match self {
            Fault::Cut(cut) => cut.into(),
            Fault::Full => Failure::full(),
            Fault::Refused(text) => Failure::new(kind, format!("jmespath: {text}")),
        }
    }
}

/// What an expression may still do.
pub(super) struct Meter {
    heavy: Heavy,
    values: usize,
    bytes: usize,
    steps: usize,
    copied: usize,
    /// What is made of the document.
    growth: Growth,
}

/// A value of the crate.
pub(super) const NODE: usize = 96;
/// A place in a list, which may have doubled and is then copied.
pub(super) const PLACE: usize = 24;
/// The map of an object.
pub(super) const MAP: usize = 384;
/// A member of an object, without the bytes of its name.
pub(super) const MEMBER: usize = 96;
/// What a function may take for each item of a list that it gets: pairs that are sorted, in a list that grows.
const SORTED: usize = 96;

impl Meter {
    /// A meter that only counts, while the document is read.
    pub(super) fn until(deadline: Instant) -> Meter {
        Meter {
            heavy: Heavy::until(deadline),
            values: 0,
            bytes: 0,
            steps: usize::MAX,
            copied: usize::MAX,
            growth: Growth::default(),
        }
    }

    /// Sets the limits for a document that was counted.
    pub(super) fn limit(&mut self) {
        let growth = self.values.saturating_mul(STEPS_PER_VALUE);
        self.steps = STEPS.saturating_add(growth);
        let growth = self.bytes.saturating_mul(COPIED_PER_BYTE);
        self.copied = COPIED.saturating_add(growth);
    }

    /// Charges `bytes` that are about to be made.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), Fault> {
        Ok(self.growth.add(bytes)?)
    }

    /// The charge for what was made until now.
    pub(super) fn made(&mut self) -> Charge {
        std::mem::take(&mut self.growth).into_charge()
    }

    /// Counts one value with `bytes` bytes of its own.
    pub(super) fn step(&mut self, bytes: usize) -> Result<(), Fault> {
        self.values = self.values.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let left = self
            .steps
            .checked_sub(1)
            .zip(self.copied.checked_sub(bytes));
        let Some((steps, copied)) = left else {
            return Err(Fault::Refused("the result is too large".to_owned()));
        };
        (self.steps, self.copied) = (steps, copied);
        if self.steps.is_multiple_of(STEPS_PER_LOOK) {
            self.heavy.look()?;
        }
        Ok(())
    }

    /// Charges what a function of the crate makes of its arguments before it is called. It shares the values in them.
    fn make_result(&mut self, name: &str, args: &[Rcvar]) -> Result<(), Fault> {
        for arg in args {
            self.make(match &**arg {
                Variable::Array(items) => SORTED * items.len(),
                Variable::Object(members) => {
                    let names = members.keys().map(|name| MEMBER + NODE + name.len());
                    2 * (MAP + names.sum::<usize>())
                }
                // Some functions build a text from characters. It doubles while it grows.
                Variable::String(text) if name == "reverse" => 3 * text.len(),
                _ => 0,
            })?;
        }
        match (name, args) {
            ("to_string", [value]) if !value.is_string() => {
                let length = written_length(value);
                // It is written to a text that doubles while it grows, and then copied.
                self.make(length.saturating_mul(3))
            }
            ("join", [between, items]) => {
                let bytes = |value: &Rcvar| value.as_string().map_or(0, String::len);
                let items = items.as_array().map_or(&[][..], Vec::as_slice);
                let between = bytes(between).saturating_mul(items.len());
                let length = items.iter().map(bytes).fold(between, usize::saturating_add);
                self.step(between)?;
                // Each item is copied before.
                self.make(length.saturating_mul(2))
            }
            // The number is parsed as any JSON.
            ("to_number", [value]) => match value.as_string() {
                Some(text) => Ok(self.growth.tree(text.as_bytes())?),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Counts all of a value that is about to be read.
    fn walk(&mut self, value: &Variable) -> Result<(), Fault> {
        match value {
            Variable::String(text) => self.step(text.len()),
            Variable::Array(items) => {
                self.step(0)?;
                items.iter().try_for_each(|item| self.walk(item))
            }
            Variable::Object(members) => {
                self.step(0)?;
                members.iter().try_for_each(|(name, value)| {
                    self.step(name.len())?;
                    self.walk(value)
                })
            }
            _ => self.step(0),
        }
    }
}

/// The length of a value as JSON, or a little more.
fn written_length(value: &Variable) -> usize {
    let text = |text: &str| {
        let escaped = |byte: u8| match byte {
            0..0x20 => 6,
            b'"' | b'\\' => 2,
            _ => 1,
        };
        2 + text.bytes().map(escaped).sum::<usize>()
    };
    match value {
        Variable::String(string) => text(string),
        Variable::Array(items) => {
            2 + items
                .iter()
                .map(|item| 1 + written_length(item))
                .sum::<usize>()
        }
        Variable::Object(members) => {
            let member = |(name, value): (&String, &Rcvar)| 2 + text(name) + written_length(value);
            2 + members.iter().map(member).sum::<usize>()
        }
        Variable::Null | Variable::Bool(_) | Variable::Number(_) | Variable::Expref(_) => 24,
    }
}

/// The value of `node` for `data`.
pub(super) fn evaluate(
    data: &Rcvar,
    node: &Ast,
    meter: &mut Meter,
    cx: &mut Context<'_>,
) -> Result<Rcvar, Fault> {
    meter.step(0)?;
    let mut of = |data: &Rcvar, node: &Ast| evaluate(data, node, meter, cx);
    let value = match node {
        Ast::Subexpr { lhs, rhs, .. } => {
            let left = of(data, lhs)?;
            return of(&left, rhs);
        }
        Ast::Or { lhs, rhs, .. } => {
            let left = of(data, lhs)?;
            return if left.is_truthy() {
                Ok(left)
            } else {
                of(data, rhs)
            };
        }
        Ast::And { lhs, rhs, .. } => {
            let left = of(data, lhs)?;
            return if left.is_truthy() {
                of(data, rhs)
            } else {
                Ok(left)
            };
        }
        Ast::Not { node, .. } => Variable::Bool(!of(data, node)?.is_truthy()),
        Ast::Condition {
            predicate, then, ..
        } => {
            if of(data, predicate)?.is_truthy() {
                return of(data, then);
            }
            Variable::Null
        }
        Ast::Comparison {
            comparator,
            lhs,
            rhs,
            ..
        } => {
            let (left, right) = (of(data, lhs)?, of(data, rhs)?);
            meter.walk(&left)?;
            let compared = left.compare(comparator, &right);
            compared.map_or(Variable::Null, Variable::Bool)
        }
        Ast::ObjectValues { node, .. } => match &*of(data, node)? {
            Variable::Object(members) => array(members.values(), meter)?,
            _ => Variable::Null,
        },
        Ast::Projection { lhs, rhs, .. } => {
            let left = of(data, lhs)?;
            let Some(items) = left.as_array() else {
                return Ok(Rcvar::new(Variable::Null));
            };
            let mut found = Vec::new();
            for item in items {
                let value = evaluate(item, rhs, meter, cx)?;
                if !value.is_null() {
                    meter.make(PLACE)?;
                    found.push(value);
                }
            }
            Variable::Array(found)
        }
        Ast::Flatten { node, .. } => flat(&*of(data, node)?, meter)?,
        Ast::MultiList { elements, .. } if !data.is_null() => {
            meter.make(PLACE * elements.len())?;
            let mut of = |node: &Ast| evaluate(data, node, meter, cx);
            let elements = elements.iter().map(&mut of);
            Variable::Array(elements.collect::<Result<_, _>>()?)
        }
        Ast::MultiHash { elements, .. } if !data.is_null() => {
            let names = elements.iter().map(|pair| MEMBER + pair.key.len());
            meter.make(MAP + names.sum::<usize>())?;
            let mut of = |node: &Ast| evaluate(data, node, meter, cx);
            let elements = elements
                .iter()
                .map(|pair| Ok((pair.key.clone(), of(&pair.value)?)));
            Variable::Object(elements.collect::<Result<BTreeMap<_, _>, Fault>>()?)
        }
        Ast::MultiList { .. } | Ast::MultiHash { .. } => Variable::Null,
        Ast::Function { name, args, .. } => {
            let args = args.iter().map(|arg| of(data, arg));
            let args = args.collect::<Result<Vec<_>, _>>()?;
            return call(name, node, &args, meter, cx);
        }
        Ast::Slice { step: 0, .. } => {
            let text = "the step of a slice cannot be 0";
            return Err(Fault::Refused(text.to_owned()));
        }
        Ast::Slice {
            start, stop, step, ..
        } => {
            meter.make(PLACE * data.as_array().map_or(0, Vec::len))?;
            match data.slice(*start, *stop, *step) {
                Some(items) => array(items.iter(), meter)?,
                None => Variable::Null,
            }
        }
        Ast::Field { name, .. } => return known(data.get_field(name), meter),
        Ast::Identity { .. } => return Ok(Rcvar::clone(data)),
        Ast::Literal { value, .. } => return Ok(Rcvar::clone(value)),
        Ast::Index { idx, .. } => {
            let at = usize::try_from(idx.unsigned_abs()).unwrap_or(usize::MAX);
            let found = match idx {
                0.. => data.get_index(at),
                _ => data.get_negative_index(at),
            };
            return known(found, meter);
        }
        Ast::Expref { ast, .. } => Variable::Expref((**ast).clone()),
    };
    meter.make(NODE)?;
    Ok(Rcvar::new(value))
}

/// The value of a member or an item. One that is missing is a value of its own.
fn known(value: Rcvar, meter: &mut Meter) -> Result<Rcvar, Fault> {
    if value.is_null() {
        meter.make(NODE)?;
    }
    Ok(value)
}

fn array<'a>(items: impl Iterator<Item = &'a Rcvar>, meter: &mut Meter) -> Result<Variable, Fault> {
    let mut all = Vec::new();
    for item in items {
        meter.step(0)?;
        meter.make(PLACE)?;
        all.push(Rcvar::clone(item));
    }
    Ok(Variable::Array(all))
}

/// The items of a list, and those of lists in it.
fn flat(value: &Variable, meter: &mut Meter) -> Result<Variable, Fault> {
    let Some(items) = value.as_array() else {
        return Ok(Variable::Null);
    };
    let inner = items.iter().flat_map(|item| match item.as_array() {
        Some(inner) => inner.iter(),
        None => std::slice::from_ref(item).iter(),
    });
    array(inner, meter)
}

/// A function of the crate. What it reads is counted before. Functions such as `sort_by` evaluate an expression for
/// each item of a list, without a limit: so that is done here first, at the same cost.
fn call(
    name: &str,
    node: &Ast,
    args: &[Rcvar],
    meter: &mut Meter,
    cx: &mut Context<'_>,
) -> Result<Rcvar, Fault> {
    for arg in args {
        let Variable::Expref(inner) = &**arg else {
            meter.walk(arg)?;
            continue;
        };
        for item in args.iter().filter_map(|arg| arg.as_array()).flatten() {
            let value = evaluate(item, inner, meter, cx)?;
            meter.walk(&value)?;
        }
    }
    meter.make_result(name, args)?;
    if let Ast::Function { offset, .. } = node {
        cx.offset = *offset;
    }
    match cx.runtime.get_function(name) {
        Some(function) => Ok(function.evaluate(args, cx)?),
        None => Err(Fault::Refused(format!("there is no function {name}()"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// What is charged for the values that the expression makes.
    fn charged(expr: &str, document: &serde_json::Value) -> usize {
        let expression = jmespath::compile(expr).unwrap();
        let document = Rcvar::new(Variable::from_json(&document.to_string()).unwrap());
        let mut meter = Meter::until(Instant::now() + Duration::from_secs(60));
        meter.walk(&document).unwrap();
        meter.limit();
        let mut cx = Context::new(expr, &jmespath::DEFAULT_RUNTIME);
        let found = evaluate(&document, expression.as_ast(), &mut meter, &mut cx);
        found.unwrap();
        meter.made().bytes()
    }

    #[test]
    fn what_functions_make_is_charged() {
        let names: BTreeMap<String, usize> = (0..20_000).map(|n| (format!("n{n}"), n)).collect();
        let document = json!({
            "odd": ["\u{1}".repeat(1_000_000)], "s": "x".repeat(1_000_000), "few": vec!["y"; 10], "names": names,
            "list": vec![1; 100_000], "text": "[".repeat(10) + &"1,".repeat(100_000), "o": {"a": 1},
        });
        for (expr, least) in [
            ("to_string(odd)", 12_000_000),
            ("map(&to_string(@), [odd, odd])", 12_000_000),
            ("join(s, few)", 18_000_000),
            ("join('', [s, s, s, s, s, s, s])", 14_000_000),
            ("reverse(s)", 2_000_000),
            ("reverse(list)", 800_000),
            ("sort_by(list, &@)", 2_400_000),
            ("merge(names, names)", 2 * 20_000 * 80),
            ("keys(names)", 20_000 * 100),
            ("values(names)", 20_000 * 8),
            ("list[?@ == `1`]", 800_000),
            ("list[]", 800_000),
            ("list[::2]", 800_000),
            ("list[].[a, b]", 2 * 100_000 * 72),
            ("list[].{a: @}", 100_000 * MAP),
            ("to_number(text)", 100_000 * 72),
        ] {
            let bytes = charged(expr, &document);
            assert!(bytes >= least, "{expr}: {bytes}");
        }
        for expr in [
            "to_string(o)",
            "length(s)",
            "to_string(s)",
            "s",
            "[s, s, s]",
        ] {
            assert_eq!(charged(expr, &document), 0, "{expr}");
        }
    }
}
