//! Evaluates the tree.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use smallvec::SmallVec;

use super::operators;
use super::policy;
use super::tree::{Expr, Function, Macro, MacroKind, Program};
use super::value::{List, Map, Value, same_key};
use crate::runtime::heavy::{Cut, Heavy, Overload};
use crate::runtime::json::Growth;
use crate::upstream::budget::Memory;

/// The source of the values of variables.
pub(crate) trait Facts: fmt::Debug {
    /// The variable at this index of the list that the program was compiled with. `None` if it has no value now. What
    /// is made for it counts in `budget`.
    fn variable(&self, index: usize, budget: &Budget) -> Result<Option<Value<'_>>, Failed>;

    /// Its name.
    fn name(&self, index: usize) -> &'static str;
}

/// Units of work between two checks of the clock.
const UNITS_PER_LOOK: u64 = 1_000;

/// The values of one run may take so many bytes in all.
const MOST: usize = 64 << 20;
/// After this many bytes more, the system is asked how much memory the process may still take.
const STEP: usize = 256 << 10;
/// What a text takes in addition to its bytes: its counters, and what the allocator adds.
const TEXT: usize = 40;
/// The place of a value in a list.
const PLACE: usize = size_of::<Value<'static>>();
/// The same while the list grows: the places may double, and then they are copied.
const GROWING: usize = 3 * PLACE;

/// The remaining work of a run: about one unit for each step, each element and each eight bytes of text. It also counts
/// the bytes of all values that the run makes. The process is charged for them until this is dropped, after the values.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<u64>,
    until_look: Cell<u64>,
    heavy: RefCell<Heavy>,
    made: Cell<usize>,
    /// What was made when the system was asked.
    asked: Cell<usize>,
    growth: RefCell<Growth>,
    /// Why the run was stopped, if that is not a matter of the expression.
    overload: Cell<Option<Overload>>,
}

impl Budget {
    /// `units` of work, and none after `deadline`.
    pub(crate) fn new(units: u64, deadline: Instant) -> Budget {
        Budget {
            left: Cell::new(units),
            until_look: Cell::new(UNITS_PER_LOOK),
            heavy: RefCell::new(Heavy::until(deadline)),
            made: Cell::new(0),
            asked: Cell::new(0),
            growth: RefCell::default(),
            overload: Cell::new(None),
        }
    }

    /// What is charged for the values of the run.
    #[cfg(test)]
    pub(super) fn charged(self) -> usize {
        self.growth.into_inner().into_charge().bytes()
    }

    /// Why the run was stopped, if that is not a matter of the expression.
    pub(crate) fn overload(&self) -> Option<Overload> {
        self.overload.get()
    }

    /// Counts `bytes` of values that are about to be made.
    pub(crate) fn make(&self, bytes: usize) -> Result<(), Failed> {
        let made = self.made.get().saturating_add(bytes);
        if made > MOST {
            self.left.set(0);
            return Err(Failed::of("operation cancelled: the values are too large"));
        }
        self.made.set(made);
        let grown = self.growth.borrow_mut().add(bytes);
        grown.map_err(|full| self.stop(full))?;
        if made.saturating_sub(self.asked.get()) < STEP {
            return Ok(());
        }
        self.ask(bytes)
    }

    /// Asks the system whether the process may take `bytes` more: the allocator keeps pages of earlier runs.
    #[cold]
    fn ask(&self, bytes: usize) -> Result<(), Failed> {
        self.asked.set(self.made.get());
        let needed = bytes.saturating_add(2 * STEP) as u64;
        let asked = Memory::process().ask(self.made.get() as u64, needed);
        asked.map_err(|full| self.stop(full))
    }

    /// Ends the run: there is no memory for what it is about to make, or it would have to wait too long.
    #[cold]
    pub(crate) fn stop(&self, overload: impl Into<Overload>) -> Failed {
        let overload = overload.into();
        // Permanently: no other part of the expression may decide in its place.
        self.left.set(0);
        self.overload.set(Some(overload));
        Failed::of(overload.to_string())
    }

    /// Takes `bytes` back that are free now.
    fn release(&self, bytes: usize) {
        self.made.set(self.made.get().saturating_sub(bytes));
        self.growth.borrow_mut().release(bytes);
    }

    /// Counts a text of `bytes` that is about to be made.
    pub(crate) fn make_text(&self, bytes: usize) -> Result<(), Failed> {
        self.make_texts(1, bytes)
    }

    /// Counts texts that are about to be made, with `bytes` in all.
    pub(super) fn make_texts(&self, count: usize, bytes: usize) -> Result<(), Failed> {
        self.make(TEXT.saturating_mul(count).saturating_add(bytes))
    }

    /// Makes a text of at most `bytes`. For a moment there are two copies of it.
    pub(crate) fn text<'a, T: Into<Rc<str>>>(
        &self,
        bytes: usize,
        text: impl FnOnce() -> T,
    ) -> Result<Value<'a>, Failed> {
        self.make_text(bytes.saturating_mul(2))?;
        let made = Value::made(text());
        self.release(bytes);
        Ok(made)
    }

    /// Makes a sequence of bytes. For a moment there are two copies of it.
    pub(super) fn bytes<'a>(
        &self,
        bytes: usize,
        make: impl FnOnce() -> Vec<u8>,
    ) -> Result<Value<'a>, Failed> {
        self.make_text(bytes.saturating_mul(2))?;
        let made = Value::Bytes(make().into());
        self.release(bytes);
        Ok(made)
    }

    /// Makes a list of `count` values, which count themselves.
    pub(crate) fn list<'a>(
        &self,
        count: usize,
        items: impl IntoIterator<Item = Value<'a>>,
    ) -> Result<Value<'a>, Failed> {
        self.make(TEXT.saturating_add(PLACE.saturating_mul(count)))?;
        let mut made = Vec::with_capacity(count);
        made.extend(items);
        Ok(Value::List(List::Made(made.into())))
    }

    /// A list whose places were counted while it grew, as [`GROWING`]. Half of them may be free.
    fn grown<'a>(&self, items: Vec<Value<'a>>) -> Result<Value<'a>, Failed> {
        self.release((GROWING - 2 * PLACE) * items.len());
        self.make(TEXT)?;
        Ok(Value::List(List::Made(items.into())))
    }

    /// Counts the places of `count` values, for as long as the run lasts.
    pub(crate) fn make_places(&self, count: usize) -> Result<(), Failed> {
        self.make(PLACE.saturating_mul(count))
    }

    pub(super) fn spend(&self, units: u64) -> Result<(), Failed> {
        let Some(left) = self.left.get().checked_sub(units) else {
            // Permanently: later steps must not continue with a smaller cost.
            self.left.set(0);
            return Err(Failed::of(
                "operation cancelled: actual cost limit exceeded",
            ));
        };
        self.left.set(left);
        match self.until_look.get().checked_sub(units) {
            Some(until) => {
                self.until_look.set(until);
                Ok(())
            }
            None => self.look(),
        }
    }

    #[cold]
    fn look(&self) -> Result<(), Failed> {
        self.until_look.set(UNITS_PER_LOOK);
        let looked = self.heavy.borrow_mut().look();
        looked.map_err(|cut| match cut {
            Cut::Deadline => {
                self.left.set(0);
                Failed::of("operation interrupted: the time limit was reached")
            }
            Cut::Busy => self.stop(Overload::Work),
        })
    }

    pub(super) fn spend_bytes(&self, bytes: usize) -> Result<(), Failed> {
        self.spend(bytes as u64 / 8)
    }
}

/// Why an expression has no value, in cel-go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(Cow<'static, str>);

impl Failed {
    pub(super) const NO_OVERLOAD: Failed = Failed(Cow::Borrowed("no such overload"));

    pub(super) fn of(text: impl Into<Cow<'static, str>>) -> Failed {
        Failed(text.into())
    }

    /// Whether only a part of the request, the response or the token is not there.
    pub(super) fn is_missing(&self) -> bool {
        ["no such key", "no such attribute", "index out of bounds"]
            .iter()
            .any(|text| self.0.starts_with(text))
    }

    pub(super) fn no_such_key(name: &str) -> Failed {
        let short: String = name.chars().take(128).collect();
        Failed::of(format!("no such key: {short}"))
    }
}

impl Program {
    /// Evaluates the expression once.
    ///
    /// # Errors
    /// A required value is missing or has the wrong type, or the evaluation exceeds `budget`.
    pub(crate) fn run<'a>(
        &'a self,
        facts: &'a (dyn Facts + 'a),
        budget: &'a Budget,
    ) -> Result<Value<'a>, Failed> {
        let run = Run {
            facts,
            budget,
            locals: RefCell::default(),
        };
        run.eval(&self.root)
    }
}

struct Run<'a> {
    facts: &'a (dyn Facts + 'a),
    budget: &'a Budget,
    /// The variables of the enclosing macros, outermost first.
    locals: RefCell<Vec<Value<'a>>>,
}

type Given<'a> = Result<Value<'a>, Failed>;

impl<'a> Run<'a> {
    fn eval(&self, expr: &'a Expr) -> Given<'a> {
        self.budget.spend(1)?;
        match expr {
            Expr::Literal(literal) => Value::literal(literal, self.budget),
            Expr::Variable(index) => self.variable(*index),
            Expr::Local(index) => self.local(*index),
            Expr::Type(name) => Ok(Value::Type(*name)),
            Expr::Select { of, field } => self.eval(of)?.member(field, self.budget),
            Expr::Has { of, field } => self.has(of, field),
            Expr::And(both) => self.either(both, false),
            Expr::Or(both) => self.either(both, true),
            Expr::If(three) => self.conditional(three),
            Expr::Call { function, args } => self.call(*function, args),
            Expr::Matches { text, pattern } => {
                let text = self.eval(text)?;
                operators::matches(&text, pattern, self.budget)
            }
            Expr::IsEmpty(of) => self.is_empty(of),
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(entries),
            Expr::Macro(inner) => self.comprehension(inner),
        }
    }

    fn variable(&self, index: usize) -> Given<'a> {
        self.facts.variable(index, self.budget)?.ok_or_else(|| {
            let name = self.facts.name(index);
            Failed::of(format!("no such attribute(s): {name}"))
        })
    }

    fn local(&self, index: usize) -> Given<'a> {
        let locals = self.locals.borrow();
        locals.get(index).cloned().ok_or(Failed::NO_OVERLOAD)
    }

    fn has(&self, of: &'a Expr, field: &str) -> Given<'a> {
        match self.eval(of)? {
            Value::Map(map) => Ok(Value::Bool(map.named(field, self.budget)?.is_some())),
            _ => Err(Failed::NO_OVERLOAD),
        }
    }

    /// `&&` and `||`: the side that decides hides an error of the other one, whichever comes first.
    fn either(&self, [a, b]: &'a [Expr; 2], decides: bool) -> Given<'a> {
        let a = self.bool(a);
        if a == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        match (a, self.bool(b)) {
            (_, Ok(b)) if b == decides => Ok(Value::Bool(decides)),
            (Err(failed), _) | (_, Err(failed)) => Err(failed),
            _ => Ok(Value::Bool(!decides)),
        }
    }

    fn bool(&self, expr: &'a Expr) -> Result<bool, Failed> {
        match self.eval(expr)? {
            Value::Bool(yes) => Ok(yes),
            _ => Err(Failed::NO_OVERLOAD),
        }
    }

    fn conditional(&self, [test, yes, no]: &'a [Expr; 3]) -> Given<'a> {
        if self.bool(test)? {
            self.eval(yes)
        } else {
            self.eval(no)
        }
    }

    fn is_empty(&self, of: &'a Expr) -> Given<'a> {
        match self.eval(of) {
            Ok(value) => Ok(Value::Bool(policy::is_empty(&value))),
            Err(failed) if failed.is_missing() => Ok(Value::Bool(true)),
            Err(failed) => Err(failed),
        }
    }

    fn call(&self, function: Function, args: &'a [Expr]) -> Given<'a> {
        if let Function::Policy(function) = function {
            let args: Result<SmallVec<[Value<'a>; 3]>, Failed> =
                args.iter().map(|arg| self.eval(arg)).collect();
            return policy::apply(function, &args?, self.budget);
        }
        match args {
            [one] => operators::unary(function, &self.eval(one)?, self.budget),
            [a, b] => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                operators::binary(function, &a, &b, self.budget)
            }
            _ => Err(Failed::NO_OVERLOAD),
        }
    }

    fn list(&self, items: &'a [Expr]) -> Given<'a> {
        self.budget.make(TEXT + PLACE * items.len())?;
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            made.push(self.eval(item)?);
        }
        Ok(Value::List(List::Made(made.into())))
    }

    fn map(&self, entries: &'a [(Expr, Expr)]) -> Given<'a> {
        self.budget.make(TEXT + 4 * PLACE * entries.len())?;
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.eval(key)?;
            if !matches!(
                key,
                Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)
            ) {
                return Err(Failed::of("unsupported key type"));
            }
            self.budget.spend(made.len() as u64)?;
            if made.iter().any(|(known, _)| same_key(known, &key)) {
                return Err(Failed::of("Failed with repeated key"));
            }
            made.push((key, self.eval(value)?));
        }
        Ok(Value::Map(Map::Made(made.into())))
    }

    fn comprehension(&self, inner: &'a Macro) -> Given<'a> {
        match self.eval(&inner.over)? {
            Value::List(list) => self.over(inner, list.iter()),
            Value::Map(map) => {
                self.budget.spend(map.count() as u64)?;
                self.over(inner, map.keys(self.budget)?.into_iter())
            }
            _ => Err(Failed::NO_OVERLOAD),
        }
    }

    fn over(&self, inner: &'a Macro, items: impl Iterator<Item = Value<'a>>) -> Given<'a> {
        let given = match inner.kind {
            MacroKind::All => self.any(inner, items, false),
            MacroKind::Exists => self.any(inner, items, true),
            MacroKind::ExistsOne => self.exactly_one(inner, items),
            MacroKind::Map => self.mapped(inner, items),
        };
        self.locals.borrow_mut().truncate(inner.local);
        given
    }

    /// Sets the variable of the macro to `item`.
    fn bind(&self, inner: &Macro, item: Value<'a>) -> Result<(), Failed> {
        self.budget.spend(1)?;
        let mut locals = self.locals.borrow_mut();
        locals.truncate(inner.local);
        locals.push(item);
        Ok(())
    }

    /// Whether the element that was bound last passes the test.
    fn passes(&self, inner: &'a Macro) -> Result<bool, Failed> {
        match &inner.test {
            Some(test) => self.bool(test),
            None => Ok(true),
        }
    }

    /// `all` and `exists`: an element that decides hides the errors of others.
    fn any(
        &self,
        inner: &'a Macro,
        items: impl Iterator<Item = Value<'a>>,
        decides: bool,
    ) -> Given<'a> {
        let mut failed = None;
        for item in items {
            self.bind(inner, item)?;
            match self.passes(inner) {
                Ok(verdict) if verdict == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Value::Bool(!decides)),
        }
    }

    fn exactly_one(&self, inner: &'a Macro, items: impl Iterator<Item = Value<'a>>) -> Given<'a> {
        let mut found = 0_usize;
        for item in items {
            self.bind(inner, item)?;
            found += usize::from(self.passes(inner)?);
        }
        Ok(Value::Bool(found == 1))
    }

    fn mapped(&self, inner: &'a Macro, items: impl Iterator<Item = Value<'a>>) -> Given<'a> {
        let mut made = Vec::new();
        for item in items {
            self.bind(inner, item)?;
            if self.passes(inner)?
                && let Some(give) = &inner.give
            {
                self.budget.make(GROWING)?;
                made.push(self.eval(give)?);
            }
        }
        self.budget.grown(made)
    }
}
