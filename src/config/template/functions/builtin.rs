//! Go's own functions.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Kind::{Any, Reflect, Text};
use super::{Call, Function, Outcome, fixed, variadic};
use crate::config::template::format;
use crate::config::template::value::{Element, Value};

pub(super) static TABLE: &[Function] = &[
    variadic("eq", &[Reflect, Reflect], eq),
    fixed("ne", &[Reflect, Reflect], ne),
    fixed("lt", &[Reflect, Reflect], |_, arguments| {
        order(&arguments, &[Ordering::Less])
    }),
    fixed("le", &[Reflect, Reflect], |_, arguments| {
        order(&arguments, &[Ordering::Less, Ordering::Equal])
    }),
    fixed("gt", &[Reflect, Reflect], |_, arguments| {
        order(&arguments, &[Ordering::Greater])
    }),
    fixed("ge", &[Reflect, Reflect], |_, arguments| {
        order(&arguments, &[Ordering::Greater, Ordering::Equal])
    }),
    fixed("not", &[Reflect], |_, arguments| {
        Ok(Value::Bool(!arguments[0].is_true()))
    }),
    variadic("index", &[Reflect, Reflect], index),
    fixed("len", &[Reflect], len),
    variadic("print", &[Any], |_, arguments| {
        Ok(Value::text(format::sprint(&arguments)))
    }),
    variadic("println", &[Any], |_, arguments| {
        Ok(Value::text(format::sprintln(&arguments)))
    }),
    variadic("printf", &[Text, Any], printf),
    variadic("html", &[Any], |_, arguments| {
        Ok(Value::text(html(&joined(&arguments))))
    }),
    variadic("js", &[Any], |_, arguments| {
        Ok(Value::text(js(&joined(&arguments))))
    }),
    variadic("urlquery", &[Any], |_, arguments| {
        Ok(Value::text(super::url::query_escape(&joined(&arguments))))
    }),
    variadic("call", &[Reflect, Reflect], |_, arguments| {
        Err(format!(
            "non-function {} of type {}",
            shown(&arguments[0]),
            arguments[0].type_name()
        ))
    }),
];

fn shown(value: &Value) -> String {
    String::from_utf8_lossy(&format::plain(value)).into_owned()
}

fn printf(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let text = format::sprintf(&super::text(&arguments, 0), &arguments[1..]);
    call.make(text.len())?;
    if String::from_utf8_lossy(&text).contains("%!") {
        call.warnings.push(format!(
            "printf prints a formatting error: {}",
            String::from_utf8_lossy(&text)
        ));
    }
    Ok(Value::text(text))
}

fn eq(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (first, others) = arguments
        .split_first()
        .ok_or("missing argument for comparison")?;
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if same(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn ne(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    Ok(Value::Bool(!same(&arguments[0], &arguments[1])?))
}

/// A month, a weekday or a duration compares as its number.
fn comparable(value: &Value) -> Cow<'_, Value> {
    match value.named() {
        Some(named) => Cow::Owned(Value::Int(named.number())),
        None => Cow::Borrowed(value),
    }
}

fn same(left: &Value, right: &Value) -> Result<bool, String> {
    match (&*comparable(left), &*comparable(right)) {
        (left, right) if left.is_nothing() || right.is_nothing() => {
            Ok(left.is_nothing() && right.is_nothing())
        }
        (Value::Int(left) | Value::Int64(left), Value::Int(right) | Value::Int64(right)) => {
            Ok(left == right)
        }
        (Value::Float(left), Value::Float(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) => Ok(left == right),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Time(left), Value::Time(right)) => Ok(left == right),
        (left, right) if is_basic(left) != is_basic(right) || is_basic(left) => {
            Err(incompatible(left, right))
        }
        (left, right) => Err(format!(
            "non-comparable type {}: {}, {}: {}",
            shown(left),
            left.type_name(),
            right.type_name(),
            shown(right)
        )),
    }
}

fn is_basic(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Int64(_) | Value::Float(_) | Value::Text(_)
    )
}

fn incompatible(left: &Value, right: &Value) -> String {
    format!(
        "incompatible types for comparison: {} and {}",
        left.type_name(),
        right.type_name()
    )
}

fn order(arguments: &[Value], wanted: &[Ordering]) -> Outcome {
    let (left, right) = (comparable(&arguments[0]), comparable(&arguments[1]));
    let found = match (&*left, &*right) {
        (Value::Int(left) | Value::Int64(left), Value::Int(right) | Value::Int64(right)) => {
            Some(left.cmp(right))
        }
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (left, right) if !is_basic(left) || !is_basic(right) => {
            return Err("invalid type for comparison".to_owned());
        }
        (Value::Bool(_), Value::Bool(_)) => return Err("invalid type for comparison".to_owned()),
        (left, right) => return Err(incompatible(left, right)),
    };
    Ok(Value::Bool(
        found.is_some_and(|found| wanted.contains(&found)),
    ))
}

fn index(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let (item, keys) = arguments.split_first().ok_or("index of untyped nil")?;
    if item.is_nothing() {
        return Err("index of untyped nil".to_owned());
    }
    let mut item = item.clone();
    for key in keys {
        item = step(&item, key)?;
    }
    Ok(item)
}

fn step(item: &Value, key: &Value) -> Outcome {
    match item {
        Value::Missing | Value::Nil => Err("index of nil pointer".to_owned()),
        Value::List(list) => Ok(list.items()[position(key, list.items().len())?].clone()),
        Value::Text(text) => Ok(Value::Int(i64::from(text[position(key, text.len())?]))),
        Value::Map(map) => match key {
            Value::Text(key) => Ok(map.get(key).unwrap_or(match map.element {
                Element::Any | Element::List => Value::Nil,
                _ => Value::text(""),
            })),
            key if key.is_nothing() => Err("value is nil; should be of type string".to_owned()),
            key => Err(format!(
                "value has type {}; should be string",
                key.type_name()
            )),
        },
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn position(key: &Value, length: usize) -> Result<usize, String> {
    match key {
        Value::Int(index) | Value::Int64(index) => match usize::try_from(*index) {
            Ok(position) if position < length => Ok(position),
            _ => Err(format!("index out of range: {index}")),
        },
        key if key.is_nothing() => Err("cannot index slice/array with nil".to_owned()),
        key => Err(format!(
            "cannot index slice/array with type {}",
            key.type_name()
        )),
    }
}

fn len(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let length = match &arguments[0] {
        Value::Nil => return Err("len of nil pointer".to_owned()),
        Value::Missing => return Err("len of untyped nil: there is no such value".to_owned()),
        Value::Text(text) => text.len(),
        Value::List(list) => list.items().len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

/// A single string unchanged, otherwise the output of `print`.
fn joined(arguments: &[Value]) -> Vec<u8> {
    match arguments {
        [Value::Text(text)] => text.to_vec(),
        _ => {
            let shown = |value: &Value| match value {
                value if value.is_nothing() => Value::text("<no value>"),
                value => value.clone(),
            };
            format::sprint(&arguments.iter().map(shown).collect::<Vec<_>>())
        }
    }
}

fn html(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

fn js(text: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            '\u{7f}' => out.push(c),
            c if format::is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    out.into_bytes()
}
