//! A compiled expression. Only this module and `evaluate` use the crate.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use jmespath::ast::Ast;
use jmespath::{Context, Rcvar, Variable};

use super::evaluate::{Fault, MAP, MEMBER, Meter, NODE, PLACE, evaluate};
use crate::runtime::json::{Object, Value};
use crate::upstream::budget::Charge;

/// Longer expressions are rejected.
const MAX_BYTES: usize = 16 * 1024;
/// Expressions nested deeper are rejected, because the crate evaluates them on the stack of a worker.
const MAX_DEPTH: usize = 64;
/// The stack for parsing an expression before its depth is known.
const STACK: usize = 64 << 20;

/// Can be applied to any number of values.
pub(in crate::ext) struct Expression {
    inner: jmespath::Expression<'static>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression")
            .field(&self.inner.as_str())
            .finish()
    }
}

impl Expression {
    /// # Errors
    /// The text is not an expression. The error says where.
    pub(in crate::ext) fn parse(text: &str) -> Result<Expression, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("an expression has at most {MAX_BYTES} bytes"));
        }
        let parse = || {
            let inner = jmespath::compile(text).map_err(|error| first_line(&error.to_string()))?;
            match depth(inner.as_ast()) {
                depth if depth > MAX_DEPTH => Err(format!(
                    "the expression is nested too deeply (more than {MAX_DEPTH})"
                )),
                _ => Ok(Expression { inner }),
            }
        };
        let parsed = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread
                .spawn_scoped(scope, parse)
                .map(|thread| thread.join())
        });
        match parsed {
            Ok(Ok(result)) => result,
            _ => Err("the expression cannot be parsed".to_owned()),
        }
    }

    /// Applies the expression. The charge is for the result.
    ///
    /// # Errors
    /// The process holds too much, a function got a value that it cannot take, the result is too large, or the deadline
    /// has passed.
    pub(in crate::ext) fn apply(
        &self,
        value: &Value,
        deadline: Instant,
    ) -> Result<(Value, Charge), Fault> {
        let run = || {
            let mut meter = Meter::until(deadline);
            let data = Rcvar::new(variable(value, &mut meter)?);
            meter.limit();
            let mut cx = Context::new(self.inner.as_str(), &jmespath::DEFAULT_RUNTIME);
            let found = evaluate(&data, self.inner.as_ast(), &mut meter, &mut cx)?;
            let _made = meter.made();
            let value = of(&found, &mut meter)?;
            Ok((value, meter.made()))
        };
        let failed = || Fault::Refused("the expression cannot be applied".to_owned());
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(failed()))
    }
}

pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn depth(ast: &Ast) -> usize {
    1 + match ast {
        Ast::Comparison { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => depth(lhs).max(depth(rhs)),
        Ast::Condition {
            predicate, then, ..
        } => depth(predicate).max(depth(then)),
        Ast::Expref { ast, .. } => depth(ast),
        Ast::Flatten { node, .. } | Ast::Not { node, .. } | Ast::ObjectValues { node, .. } => {
            depth(node)
        }
        Ast::Function { args: nodes, .. }
        | Ast::MultiList {
            elements: nodes, ..
        } => nodes.iter().map(depth).max().unwrap_or(0),
        Ast::MultiHash { elements, .. } => {
            let values = elements.iter().map(|pair| depth(&pair.value));
            values.max().unwrap_or(0)
        }
        Ast::Field { .. }
        | Ast::Identity { .. }
        | Ast::Index { .. }
        | Ast::Literal { .. }
        | Ast::Slice { .. } => 0,
    }
}

fn variable(value: &Value, meter: &mut Meter) -> Result<Variable, Fault> {
    if let Value::Raw(_) = value {
        return variable(&value.expanded(), meter);
    }
    meter.step(match value {
        Value::String(text) | Value::Number(text) => text.len(),
        _ => 0,
    })?;
    meter.make(match value {
        Value::Array(items) => NODE + PLACE * items.len(),
        Value::Object(members) => {
            let names = members.keys().map(|name| MEMBER + name.len());
            NODE + MAP + names.sum::<usize>()
        }
        Value::String(text) => NODE + text.len(),
        _ => NODE,
    })?;
    Ok(match value {
        Value::Null | Value::Raw(_) => Variable::Null,
        Value::Bool(value) => Variable::Bool(*value),
        // Beyond 64 bits the digits are those of a float.
        Value::Number(text) => match text.parse::<serde_json::Number>() {
            Ok(number) => Variable::Number(number),
            Err(_) => Variable::Null,
        },
        Value::String(text) => Variable::String(text.to_string()),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| variable(item, meter).map(Rcvar::new));
            Variable::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                meter.step(name.len())?;
                Ok((name.to_string(), Rcvar::new(variable(value, meter)?)))
            });
            Variable::Object(members.collect::<Result<BTreeMap<_, _>, Fault>>()?)
        }
    })
}

/// A member of an object of the result, or an element of a list.
const ITEM: usize = 160;
/// The map of an object of the result.
const OBJECT: usize = 640;

fn of(variable: &Variable, meter: &mut Meter) -> Result<Value, Fault> {
    meter.step(match variable {
        Variable::String(text) => text.len(),
        _ => 0,
    })?;
    meter.make(match variable {
        Variable::String(text) => ITEM + text.len(),
        Variable::Object(members) => {
            OBJECT + members.keys().map(|name| ITEM + name.len()).sum::<usize>()
        }
        _ => ITEM,
    })?;
    Ok(match variable {
        Variable::Null | Variable::Expref(_) => Value::Null,
        Variable::Bool(value) => Value::Bool(*value),
        Variable::Number(number) => Value::Number(number.to_string().into()),
        Variable::String(text) => Value::string(text.as_str()),
        Variable::Array(items) => {
            let items = items.iter().map(|item| of(item, meter));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Variable::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                meter.step(name.len())?;
                Ok((name.as_str().into(), of(value, meter)?))
            });
            Value::Object(members.collect::<Result<Object, Fault>>()?)
        }
    })
}
