//! A compiled expression. This is the only module that uses the crate.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jmespath::ast::Ast;
use jmespath::{Rcvar, Variable};

use crate::runtime::json::{Object, Value};

/// Longer expressions are rejected.
const MOST_BYTES: usize = 16 * 1024;
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
        if text.len() > MOST_BYTES {
            return Err(format!("an expression has at most {MOST_BYTES} bytes"));
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

    /// Applies the expression.
    ///
    /// # Errors
    /// A function got a value that it cannot take.
    pub(in crate::ext) fn apply(&self, value: &Value) -> Result<Value, String> {
        let run = || {
            let data = Rcvar::new(variable(value));
            self.inner.search(data).map(|found| of(&found))
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(first_line(&error.to_string())),
            Err(_) => Err("the expression cannot be applied".to_owned()),
        }
    }
}

fn first_line(text: &str) -> String {
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

fn variable(value: &Value) -> Variable {
    match value {
        Value::Null => Variable::Null,
        Value::Bool(value) => Variable::Bool(*value),
        // Beyond 64 bits the digits are those of a float.
        Value::Number(text) => match text.parse::<serde_json::Number>() {
            Ok(number) => Variable::Number(number),
            Err(_) => Variable::Null,
        },
        Value::String(text) => Variable::String(text.to_string()),
        Value::Array(items) => {
            let items = items.iter().map(|item| Rcvar::new(variable(item)));
            Variable::Array(items.collect())
        }
        Value::Object(members) => {
            let members = members.iter();
            let members =
                members.map(|(name, value)| (name.to_string(), Rcvar::new(variable(value))));
            Variable::Object(members.collect::<BTreeMap<_, _>>())
        }
        Value::Raw(_) => variable(&value.expanded()),
    }
}

fn of(variable: &Variable) -> Value {
    match variable {
        Variable::Null | Variable::Expref(_) => Value::Null,
        Variable::Bool(value) => Value::Bool(*value),
        Variable::Number(number) => Value::Number(number.to_string().into()),
        Variable::String(text) => Value::string(text.as_str()),
        Variable::Array(items) => Value::Array(items.iter().map(|item| of(item)).collect()),
        Variable::Object(members) => {
            let members = members.iter();
            let members = members.map(|(name, value)| (name.as_str().into(), of(value)));
            Value::Object(members.collect::<Object>())
        }
    }
}
