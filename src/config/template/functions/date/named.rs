//! Numbers with a type of their own: `time.Month`, `time.Weekday`, `time.Duration`.

use super::super::Kind::Any;
use super::super::{Function, Outcome, fixed};
use super::duration_text;
use crate::config::template::value::{Object, Value};

/// A number that prints as a text and compares as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config::template) enum Named {
    /// 1 is January.
    Month(u32),
    /// 0 is Sunday.
    Weekday(u32),
    /// Nanoseconds.
    Duration(i64),
}

impl Named {
    pub(super) fn value(self) -> Value {
        Value::Object(Object::Named(self).into())
    }

    /// The name of its Go type.
    pub(in crate::config::template) fn type_name(self) -> &'static str {
        match self {
            Named::Month(_) => "time.Month",
            Named::Weekday(_) => "time.Weekday",
            Named::Duration(_) => "time.Duration",
        }
    }

    /// The name of its kind in Go's reflection.
    pub(in crate::config::template) fn kind_name(self) -> &'static str {
        match self {
            Named::Month(_) | Named::Weekday(_) => "int",
            Named::Duration(_) => "int64",
        }
    }

    pub(in crate::config::template) fn number(self) -> i64 {
        match self {
            Named::Month(number) | Named::Weekday(number) => i64::from(number),
            Named::Duration(nanos) => nanos,
        }
    }

    /// Its `String` method.
    pub(in crate::config::template) fn text(self) -> String {
        let name = |names: &[&str], index: u32| {
            let name = names.get(index as usize).copied();
            name.unwrap_or_default().to_owned()
        };
        match self {
            Named::Month(number) => name(&super::parsed::MONTHS, number.wrapping_sub(1)),
            Named::Weekday(number) => name(&super::parsed::DAYS, number),
            Named::Duration(nanos) => duration_text(i128::from(nanos)),
        }
    }
}

pub(in crate::config::template::functions) static METHODS: &[Function] = &[
    fixed("String", &[Any], |_, arguments| {
        read(&arguments, |named| Value::text(named.text()))
    }),
    fixed("Hours", &[Any], |_, arguments| of(&arguments, 3600e9)),
    fixed("Minutes", &[Any], |_, arguments| of(&arguments, 60e9)),
    fixed("Seconds", &[Any], |_, arguments| of(&arguments, 1e9)),
    fixed("Milliseconds", &[Any], |_, arguments| {
        read(&arguments, |named| Value::Int64(named.number() / 1_000_000))
    }),
    fixed("Microseconds", &[Any], |_, arguments| {
        read(&arguments, |named| Value::Int64(named.number() / 1_000))
    }),
    fixed("Nanoseconds", &[Any], |_, arguments| {
        read(&arguments, |named| Value::Int64(named.number()))
    }),
];

/// The methods of a type: months and weekdays have only `String`.
pub(in crate::config::template::functions) fn methods(named: Named) -> &'static [Function] {
    match named {
        Named::Duration(_) => METHODS,
        Named::Month(_) | Named::Weekday(_) => &METHODS[..1],
    }
}

fn read(arguments: &[Value], read: fn(Named) -> Value) -> Outcome {
    let named = arguments[0].named().ok_or("not a named number")?;
    Ok(read(named))
}

fn of(arguments: &[Value], unit: f64) -> Outcome {
    let named = arguments[0].named().ok_or("not a named number")?;
    Ok(Value::Float(named.number() as f64 / unit))
}
