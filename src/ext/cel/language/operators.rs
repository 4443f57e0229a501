//! Functions of one and of two values. Types are checked again here, because a dynamic value may have any type.

use regex::bytes::Regex;

use super::check::MAX_PATTERN;
use super::eval::{Budget, Failed};
use super::tree::Function;
use super::value::{Text, Value};
use super::{convert, strings, time};
use crate::config::re2;

type Given<'a> = Result<Value<'a>, Failed>;

/// The cost of compiling a pattern at run time, and of each of its bytes: three of them may name a class of several
/// hundred ranges.
const PATTERN_COST: u64 = 20_000;
const PATTERN_BYTE_COST: u64 = 1_000;
/// What a byte of a pattern takes, approximately. The limit on compiled patterns bounds it.
const PATTERN_BYTES: usize = 512;

pub(super) fn unary<'a>(function: Function, value: &Value<'a>, budget: &Budget) -> Given<'a> {
    match (function, value) {
        (Function::Not, Value::Bool(yes)) => Ok(Value::Bool(!yes)),
        (Function::Negate, Value::Int(number)) => number
            .checked_neg()
            .map(Value::Int)
            .ok_or(overflow("integer")),
        (Function::Negate, Value::Double(number)) => Ok(Value::Double(-number)),
        (Function::Size, value) => size(value, budget),
        (Function::TypeOf, value) => Ok(Value::Type(value.type_name())),
        (Function::Dyn, value) => Ok(value.clone()),
        (Function::Part(part), value) => time::part(part, value, None),
        (function, value) => convert::convert(function, value, budget),
    }
}

pub(super) fn binary<'a>(
    function: Function,
    a: &Value<'a>,
    b: &Value<'a>,
    budget: &Budget,
) -> Given<'a> {
    match function {
        Function::Equal => a.equals(b, budget).map(Value::Bool),
        Function::NotEqual => a.equals(b, budget).map(|same| Value::Bool(!same)),
        Function::Less => a.order(b, budget).map(|order| Value::Bool(order.is_lt())),
        Function::LessEqual => a.order(b, budget).map(|order| Value::Bool(order.is_le())),
        Function::Greater => a.order(b, budget).map(|order| Value::Bool(order.is_gt())),
        Function::GreaterEqual => a.order(b, budget).map(|order| Value::Bool(order.is_ge())),
        Function::In => contains(b, a, budget).map(Value::Bool),
        Function::Index => index(a, b, budget),
        Function::Add => add(a, b, budget),
        Function::Subtract | Function::Multiply | Function::Divide | Function::Modulo => {
            arithmetic(function, a, b)
        }
        Function::Matches => dynamic_matches(a, b, budget),
        Function::Part(part) => match b {
            Value::String(zone) => time::part(part, a, Some(zone.as_str())),
            _ => Err(Failed::NO_OVERLOAD),
        },
        function => strings::compare(function, a, b, budget),
    }
}

/// Whether the text has a match. The time is linear in the text.
pub(super) fn matches<'a>(text: &Value<'a>, pattern: &Regex, budget: &Budget) -> Given<'a> {
    let Value::String(text) = text else {
        return Err(Failed::NO_OVERLOAD);
    };
    budget.spend(text.len() as u64)?;
    Ok(Value::Bool(pattern.is_match(text.as_str().as_bytes())))
}

fn dynamic_matches<'a>(text: &Value<'a>, pattern: &Value<'a>, budget: &Budget) -> Given<'a> {
    let Value::String(written) = pattern else {
        return Err(Failed::NO_OVERLOAD);
    };
    budget.spend(PATTERN_COST + PATTERN_BYTE_COST * written.len() as u64)?;
    budget.make(PATTERN_BYTES * written.len().min(MAX_PATTERN / 16 / PATTERN_BYTES))?;
    let pattern = re2::sized(written.as_str(), MAX_PATTERN / 16)
        .map_err(|_| Failed::of("invalid matches argument: error parsing regexp"))?;
    matches(text, &pattern, budget)
}

pub(super) fn overflow(what: &str) -> Failed {
    Failed::of(format!("{what} overflow"))
}

fn size<'a>(value: &Value<'a>, budget: &Budget) -> Given<'a> {
    let count = match value {
        Value::String(text) => {
            budget.spend_bytes(text.len())?;
            text.as_str().chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.count(),
        Value::Map(map) => map.count(),
        _ => return Err(Failed::NO_OVERLOAD),
    };
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn contains(whole: &Value<'_>, item: &Value<'_>, budget: &Budget) -> Result<bool, Failed> {
    match whole {
        Value::List(list) => {
            for element in list.iter() {
                if element.equals(item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => Ok(map.get(item, budget)?.is_some()),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn index<'a>(of: &Value<'a>, key: &Value<'a>, budget: &Budget) -> Given<'a> {
    match of {
        Value::List(list) => {
            let Some(place) = key.whole() else {
                return Err(Failed::of("unsupported index type in list"));
            };
            usize::try_from(place)
                .ok()
                .and_then(|place| list.get(place))
                .ok_or_else(|| Failed::of(format!("index out of bounds: {place}")))
        }
        Value::Map(map) => map.get(key, budget)?.ok_or_else(|| match key {
            Value::String(name) => Failed::no_such_key(name.as_str()),
            _ => Failed::of("no such key"),
        }),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>, budget: &Budget) -> Given<'a> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => joined(a, b, budget),
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.spend_bytes(a.len() + b.len())?;
            budget.bytes(a.len() + b.len(), || [&**a, &**b].concat())
        }
        (Value::List(a), Value::List(b)) => {
            let count = a.count() + b.count();
            budget.spend(count as u64)?;
            budget.list(count, a.iter().chain(b.iter()))
        }
        (a, b) => arithmetic(Function::Add, a, b),
    }
}

fn joined<'a>(a: &Text<'_>, b: &Text<'_>, budget: &Budget) -> Given<'a> {
    budget.spend_bytes(a.len() + b.len())?;
    budget.text(a.len() + b.len(), || [a.as_str(), b.as_str()].concat())
}

/// The result of an operation on two integers. `None` on overflow and for a division by zero.
macro_rules! checked {
    ($function:expr, $a:expr, $b:expr) => {
        match $function {
            Function::Add => $a.checked_add(*$b),
            Function::Subtract => $a.checked_sub(*$b),
            Function::Multiply => $a.checked_mul(*$b),
            Function::Divide => $a.checked_div(*$b),
            _ => $a.checked_rem(*$b),
        }
    };
}

fn arithmetic<'a>(function: Function, a: &Value<'a>, b: &Value<'a>) -> Given<'a> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            let zero = *b == 0;
            let result = checked!(function, a, b);
            result
                .map(Value::Int)
                .ok_or_else(|| by(function, zero, "integer"))
        }
        (Value::Uint(a), Value::Uint(b)) => {
            let zero = *b == 0;
            let result = checked!(function, a, b);
            result
                .map(Value::Uint)
                .ok_or_else(|| by(function, zero, "unsigned integer"))
        }
        (Value::Double(a), Value::Double(b)) => match function {
            Function::Add => Ok(Value::Double(a + b)),
            Function::Subtract => Ok(Value::Double(a - b)),
            Function::Multiply => Ok(Value::Double(a * b)),
            Function::Divide => Ok(Value::Double(a / b)),
            _ => Err(Failed::NO_OVERLOAD),
        },
        (a, b) => time::arithmetic(function, a, b),
    }
}

fn by(function: Function, zero: bool, what: &str) -> Failed {
    match (function, zero) {
        (Function::Divide, true) => Failed::of("division by zero"),
        (Function::Modulo, true) => Failed::of("modulus by zero"),
        _ => overflow(what),
    }
}
