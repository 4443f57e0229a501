//! The values of expressions, borrowed from the request where possible.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use chrono::{DateTime, Utc};

use super::eval::{Budget, Failed};
use super::tree::{Literal, TypeName};

/// A value. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    /// Between the years 1 and 9999.
    Timestamp(DateTime<Utc>),
    /// Nanoseconds.
    Duration(i64),
    Type(TypeName),
    List(List<'a>),
    Map(Map<'a>),
}

#[derive(Debug, Clone)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

#[derive(Debug, Clone)]
pub(crate) enum List<'a> {
    Foreign(&'a (dyn Elements + 'a)),
    /// As it was built: a large list is not copied.
    Made(Rc<Vec<Value<'a>>>),
}

#[derive(Debug, Clone)]
pub(crate) enum Map<'a> {
    Foreign(&'a (dyn Members + 'a)),
    /// A map literal. No key occurs twice.
    Made(Rc<[(Value<'a>, Value<'a>)]>),
}

/// A list whose elements belong to the request.
pub(crate) trait Elements: fmt::Debug {
    fn count(&self) -> usize;
    fn get(&self, index: usize) -> Option<Value<'_>>;
}

/// A map whose members belong to the request. Its keys are strings. What is made of a member counts in the budget.
pub(crate) trait Members: fmt::Debug {
    fn count(&self) -> usize;
    fn get(&self, name: &str, budget: &Budget) -> Result<Option<Value<'_>>, Failed>;
    /// The caller counts the places of the names.
    fn names(&self, budget: &Budget) -> Result<Vec<Value<'_>>, Failed>;
}

impl<'a> Value<'a> {
    /// A borrowed string.
    pub(crate) fn text(text: &'a str) -> Value<'a> {
        Value::String(Text::Borrowed(text))
    }

    /// An owned string, which counts in the [`Budget`] if it may be long.
    pub(crate) fn made(text: impl Into<Rc<str>>) -> Value<'a> {
        Value::String(Text::Made(text.into()))
    }

    pub(super) fn literal(literal: &'a Literal, budget: &Budget) -> Result<Value<'a>, Failed> {
        Ok(match literal {
            Literal::Null => Value::Null,
            Literal::Bool(yes) => Value::Bool(*yes),
            Literal::Int(number) => Value::Int(*number),
            Literal::Uint(number) => Value::Uint(*number),
            Literal::Double(number) => Value::Double(*number),
            Literal::String(text) => Value::text(text),
            Literal::Bytes(bytes) => {
                budget.make_text(bytes.len())?;
                Value::Bytes(bytes.as_ref().into())
            }
        })
    }

    pub(super) fn type_name(&self) -> TypeName {
        match self {
            Value::Null => TypeName::Null,
            Value::Bool(_) => TypeName::Bool,
            Value::Int(_) => TypeName::Int,
            Value::Uint(_) => TypeName::Uint,
            Value::Double(_) => TypeName::Double,
            Value::String(_) => TypeName::String,
            Value::Bytes(_) => TypeName::Bytes,
            Value::Timestamp(_) => TypeName::Timestamp,
            Value::Duration(_) => TypeName::Duration,
            Value::Type(_) => TypeName::Type,
            Value::List(_) => TypeName::List,
            Value::Map(_) => TypeName::Map,
        }
    }

    /// The number as a key or an index. `None` if it is not a whole number.
    pub(super) fn whole(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some((*number).into()),
            Value::Uint(number) => Some((*number).into()),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < 1e19 => {
                Some(*number as i128)
            }
            _ => None,
        }
    }

    /// A member of a map.
    pub(super) fn member(&self, name: &str, budget: &Budget) -> Result<Value<'a>, Failed> {
        match self {
            Value::Map(map) => map
                .named(name, budget)?
                .ok_or_else(|| Failed::no_such_key(name)),
            _ => Err(Failed::NO_OVERLOAD),
        }
    }

    /// Whether two values are equal. Numbers of different types may be equal; other values of different types never
    /// are.
    pub(super) fn equals(&self, other: &Value<'_>, budget: &Budget) -> Result<bool, Failed> {
        budget.spend(1)?;
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => {
                budget.spend_bytes(a.len().min(b.len()))?;
                a.as_str() == b.as_str()
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                budget.spend_bytes(a.len().min(b.len()))?;
                a == b
            }
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.equals(b, budget)?,
            (Value::Map(a), Value::Map(b)) => a.equals(b, budget)?,
            (a, b) => numbers(a, b) == Some(Some(Ordering::Equal)),
        })
    }

    /// The order of two values of the same kind.
    pub(super) fn order(&self, other: &Value<'_>, budget: &Budget) -> Result<Ordering, Failed> {
        Ok(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => {
                budget.spend_bytes(a.len().min(b.len()))?;
                a.as_str().cmp(b.as_str())
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                budget.spend_bytes(a.len().min(b.len()))?;
                a.cmp(b)
            }
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            (a, b) => match numbers(a, b) {
                Some(Some(order)) => order,
                Some(None) => return Err(Failed::of("NaN values cannot be ordered")),
                None => return Err(Failed::NO_OVERLOAD),
            },
        })
    }
}

/// The order of two numbers of any type. The inner `None` means that one of them is NaN.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    Some(match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => against(*a, whole(b)?),
        (a, Value::Double(b)) => against(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    })
}

/// Compares a floating-point number with an integer, without rounding an integer that is out of its range.
fn against(double: f64, whole: i128) -> Option<Ordering> {
    match double {
        nan if nan.is_nan() => None,
        large if large.abs() >= 1e30 => large.partial_cmp(&0.0),
        double => {
            let cut = double.trunc();
            let order = (cut as i128).cmp(&whole);
            Some(order.then_with(|| double.partial_cmp(&cut).unwrap_or(Ordering::Equal)))
        }
    }
}

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Made(text) => text,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_str().len()
    }
}

impl<'a> List<'a> {
    pub(super) fn count(&self) -> usize {
        match self {
            List::Foreign(list) => list.count(),
            List::Made(list) => list.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Foreign(list) => list.get(index),
            List::Made(list) => list.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.count()).map_while(|index| self.get(index))
    }

    fn equals(&self, other: &List<'_>, budget: &Budget) -> Result<bool, Failed> {
        if self.count() != other.count() {
            return Ok(false);
        }
        for (a, b) in self.iter().zip(other.iter()) {
            if !a.equals(&b, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<'a> Map<'a> {
    pub(super) fn count(&self) -> usize {
        match self {
            Map::Foreign(map) => map.count(),
            Map::Made(entries) => entries.len(),
        }
    }

    pub(super) fn named(&self, name: &str, budget: &Budget) -> Result<Option<Value<'a>>, Failed> {
        Ok(match self {
            Map::Foreign(map) => map.get(name, budget)?,
            Map::Made(entries) => entries
                .iter()
                .find(|(key, _)| matches!(key, Value::String(key) if key.as_str() == name))
                .map(|(_, value)| value.clone()),
        })
    }

    /// The value under a key of any type. A key of a type that no map can have is an error.
    pub(super) fn get(
        &self,
        key: &Value<'_>,
        budget: &Budget,
    ) -> Result<Option<Value<'a>>, Failed> {
        if let Value::String(name) = key {
            return self.named(name.as_str(), budget);
        }
        if !matches!(
            key,
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_)
        ) {
            return Err(Failed::of("unsupported key type"));
        }
        Ok(match self {
            Map::Foreign(_) => None,
            Map::Made(entries) => entries
                .iter()
                .find(|(known, _)| same_key(known, key))
                .map(|(_, value)| value.clone()),
        })
    }

    pub(super) fn keys(&self, budget: &Budget) -> Result<Vec<Value<'a>>, Failed> {
        budget.make_places(self.count())?;
        match self {
            Map::Foreign(map) => map.names(budget),
            Map::Made(entries) => Ok(entries.iter().map(|(key, _)| key.clone()).collect()),
        }
    }

    fn equals(&self, other: &Map<'_>, budget: &Budget) -> Result<bool, Failed> {
        if self.count() != other.count() {
            return Ok(false);
        }
        for key in self.keys(budget)? {
            budget.spend(1)?;
            let (Some(a), Some(b)) = (self.get(&key, budget)?, other.get(&key, budget)?) else {
                return Ok(false);
            };
            if !a.equals(&b, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether two keys of a map are equal.
pub(super) fn same_key(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.as_str() == b.as_str(),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (a, b) => matches!((a.whole(), b.whole()), (Some(a), Some(b)) if a == b),
    }
}

impl TypeName {
    /// The name as an expression writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            TypeName::Null => "null_type",
            TypeName::Bool => "bool",
            TypeName::Int => "int",
            TypeName::Uint => "uint",
            TypeName::Double => "double",
            TypeName::String => "string",
            TypeName::Bytes => "bytes",
            TypeName::Timestamp => "google.protobuf.Timestamp",
            TypeName::Duration => "google.protobuf.Duration",
            TypeName::List => "list",
            TypeName::Map => "map",
            TypeName::Type => "type",
        }
    }

    pub(super) fn named(name: &str) -> Option<TypeName> {
        const ALL: [TypeName; 12] = [
            TypeName::Null,
            TypeName::Bool,
            TypeName::Int,
            TypeName::Uint,
            TypeName::Double,
            TypeName::String,
            TypeName::Bytes,
            TypeName::Timestamp,
            TypeName::Duration,
            TypeName::List,
            TypeName::Map,
            TypeName::Type,
        ];
        ALL.into_iter().find(|known| known.as_str() == name)
    }
}
