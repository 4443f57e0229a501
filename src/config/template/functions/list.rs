//! Lists. Each function returns a new list.

use std::rc::Rc;

use super::Kind::{Any, Int};
use super::number::to_int;
use super::text::texts_of;
use super::{Call, Function, Outcome, any, fixed, int, variadic};
use crate::config::template::compare;
use crate::config::template::value::{List, Value};

pub(super) static TABLE: &[Function] = &[
    variadic("list", &[Any], |_, arguments| Ok(Value::list(arguments))),
    variadic("tuple", &[Any], |_, arguments| Ok(Value::list(arguments))),
    fixed("first", &[Any], first),
    fixed("mustFirst", &[Any], first),
    fixed("last", &[Any], last),
    fixed("mustLast", &[Any], last),
    fixed("rest", &[Any], rest),
    fixed("mustRest", &[Any], rest),
    fixed("initial", &[Any], initial),
    fixed("mustInitial", &[Any], initial),
    fixed("append", &[Any, Any], push),
    fixed("mustAppend", &[Any, Any], push),
    fixed("push", &[Any, Any], push),
    fixed("mustPush", &[Any, Any], push),
    fixed("prepend", &[Any, Any], prepend),
    fixed("mustPrepend", &[Any, Any], prepend),
    variadic("concat", &[Any], concat),
    fixed("reverse", &[Any], reverse),
    fixed("mustReverse", &[Any], reverse),
    fixed("uniq", &[Any], uniq),
    fixed("mustUniq", &[Any], uniq),
    variadic("without", &[Any, Any], without),
    variadic("mustWithout", &[Any, Any], without),
    fixed("has", &[Any, Any], has),
    fixed("mustHas", &[Any, Any], has),
    fixed("compact", &[Any], compact),
    fixed("mustCompact", &[Any], compact),
    fixed("chunk", &[Int, Any], chunk),
    fixed("mustChunk", &[Int, Any], chunk),
    variadic("slice", &[Any, Any], slice),
    variadic("mustSlice", &[Any, Any], slice),
    fixed("sortAlpha", &[Any], |call, arguments| {
        let mut texts = texts_of(call, &arguments[0])?;
        texts.sort();
        Ok(Value::texts(texts))
    }),
];

/// The list in an argument, or the error that names the operation.
fn list<'v>(value: &'v Value, operation: &str) -> Result<&'v List, String> {
    match value {
        Value::List(list) => Ok(list),
        value if value.is_nothing() => Err(format!("Cannot {operation} on nil")),
        value => Err(format!("Cannot {operation} on type {}", value.kind_name())),
    }
}

fn first(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    Ok(list(&arguments[0], "find first")?
        .items()
        .first()
        .cloned()
        .unwrap_or(Value::Nil))
}

fn last(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    Ok(list(&arguments[0], "find last")?
        .items()
        .last()
        .cloned()
        .unwrap_or(Value::Nil))
}

fn rest(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    part(call, list(&arguments[0], "find rest")?, |count| 1..count)
}

fn initial(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    part(call, list(&arguments[0], "find initial")?, |count| {
        0..count - 1
    })
}

fn part(call: &mut Call<'_>, list: &List, range: fn(usize) -> std::ops::Range<usize>) -> Outcome {
    let items = list.items();
    if items.is_empty() {
        return Ok(Value::nil_list());
    }
    made(call, items.len())?;
    Ok(Value::list(items[range(items.len())].to_vec()))
}

fn made(call: &mut Call<'_>, count: usize) -> Result<(), String> {
    call.make(count.saturating_mul(size_of::<Value>()))
}

fn push(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let mut items = list(&arguments[0], "push")?.items().to_vec();
    made(call, items.len() + 1)?;
    items.push(any(&arguments, 1));
    Ok(Value::list(items))
}

fn prepend(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let old = list(&arguments[0], "prepend")?.items();
    made(call, old.len() + 1)?;
    let mut items = vec![any(&arguments, 1)];
    items.extend_from_slice(old);
    Ok(Value::list(items))
}

fn concat(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let mut items = Vec::new();
    for argument in &arguments {
        let Value::List(list) = argument else {
            let kind = if argument.is_nothing() {
                "nil"
            } else {
                argument.kind_name()
            };
            return Err(format!("Cannot concat type {kind} as list"));
        };
        made(call, list.items().len())?;
        items.extend_from_slice(list.items());
    }
    Ok(if items.is_empty() {
        Value::nil_list()
    } else {
        Value::list(items)
    })
}

fn reverse(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let items = list(&arguments[0], "find reverse")?.items();
    made(call, items.len())?;
    Ok(Value::list(items.iter().rev().cloned().collect()))
}

fn uniq(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for item in list(&arguments[0], "find uniq")?.items() {
        compared(call, kept.len())?;
        if !holds(call, &kept, item)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

/// Comparisons grow with the square of the length of a list, so they use steps of the budget.
fn compared(call: &mut Call<'_>, count: usize) -> Result<(), String> {
    for _ in 0..=count / 64 {
        call.budget.step()?;
    }
    Ok(())
}

/// Whether a list holds an equal value.
fn holds(call: &mut Call<'_>, items: &[Value], wanted: &Value) -> Result<bool, String> {
    for item in items {
        if compare::equal(item, wanted, call.budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn without(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let omitted = &arguments[1..];
    let mut kept = Vec::new();
    for item in list(&arguments[0], "find without")?.items() {
        compared(call, omitted.len())?;
        if !holds(call, omitted, item)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

fn has(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    if arguments[1].is_nothing() {
        return Ok(Value::Bool(false));
    }
    let items = list(&arguments[1], "find has")?.items();
    compared(call, items.len())?;
    holds(call, items, &arguments[0]).map(Value::Bool)
}

fn compact(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let items = list(&arguments[0], "compact")?.items();
    Ok(Value::list(
        items
            .iter()
            .filter(|item| item.is_true())
            .cloned()
            .collect(),
    ))
}

fn chunk(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let Value::List(list) = &arguments[1] else {
        return Err(format!("Cannot chunk type {}", arguments[1].kind_name()));
    };
    let Ok(size @ 1..) = usize::try_from(int(&arguments, 0)) else {
        return Err("chunks must have a size above zero".to_owned());
    };
    made(call, list.items().len())?;
    Ok(Value::lists(
        list.items()
            .chunks(size)
            .map(|chunk| Value::list(chunk.to_vec()))
            .collect(),
    ))
}

fn slice(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let Value::List(list) = &arguments[0] else {
        let kind = if arguments[0].is_nothing() {
            "nil"
        } else {
            arguments[0].kind_name()
        };
        return Err(format!("list should be type of slice or array but {kind}"));
    };
    let items = list.items();
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    let start = arguments.get(1).map_or(0, to_int);
    let end = arguments.get(2).map_or(items.len() as i64, to_int);
    if start < 0 || end > items.len() as i64 || start > end {
        return Err("reflect.Value.Slice: slice index out of bounds".to_owned());
    }
    let part = items[start as usize..end as usize].to_vec();
    Ok(Value::List(List {
        element: list.element,
        items: Some(Rc::new(part)),
    }))
}
