//! Evaluates the tree.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Instant;

use smallvec::SmallVec;

use super::operators;
use super::policy;
use super::tree::{Expr, Function, Macro, MacroKind, Program};
use super::value::{List, Map, Value, same_key};
use crate::runtime::heavy::{Cut, Heavy};

/// The source of the values of variables.
pub(crate) trait Facts: fmt::Debug {
    /// The variable at this index of the list that the program was compiled with. `None` if it has no value now.
    fn variable(&self, index: usize) -> Option<Value<'_>>;

    /// Its name.
    fn name(&self, index: usize) -> &'static str;
}

/// Units of work between two checks of the clock.
const UNITS_PER_LOOK: u64 = 1_000;

/// The remaining work of a run: about one unit for each step, each element and each eight bytes of text.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<u64>,
    until_look: Cell<u64>,
    heavy: RefCell<Heavy>,
}

impl Budget {
    /// `units` of work, and none after `deadline`.
    pub(crate) fn new(units: u64, deadline: Instant) -> Budget {
        Budget {
            left: Cell::new(units),
            until_look: Cell::new(UNITS_PER_LOOK),
            heavy: RefCell::new(Heavy::until(deadline)),
        }
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
        self.heavy.borrow_mut().look().map_err(|cut| {
            self.left.set(0);
            Failed::of(match cut {
                Cut::Deadline => "operation interrupted: the time limit was reached",
                Cut::Busy => "operation interrupted: too much heavy work at once",
            })
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
            Expr::Literal(literal) => Ok(Value::literal(literal)),
            Expr::Variable(index) => self.variable(*index),
            Expr::Local(index) => self.local(*index),
            Expr::Type(name) => Ok(Value::Type(*name)),
            Expr::Select { of, field } => self.eval(of)?.member(field),
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
        self.facts.variable(index).ok_or_else(|| {
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
            Value::Map(map) => Ok(Value::Bool(map.named(field).is_some())),
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
        let items: Result<Vec<Value<'a>>, Failed> =
            items.iter().map(|item| self.eval(item)).collect();
        Ok(Value::List(List::Made(items?.into())))
    }

    fn map(&self, entries: &'a [(Expr, Expr)]) -> Given<'a> {
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
                self.over(inner, map.keys().into_iter())
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
                made.push(self.eval(give)?);
            }
        }
        Ok(Value::List(List::Made(made.into())))
    }
}
