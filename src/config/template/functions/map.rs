//! Maps. `set`, `unset`, `merge` and `mergeOverwrite` change their argument, and every alias sees it.

use super::Kind::{Any, Map as MapKind, Text};
use super::{Call, Function, Outcome, any, fixed, map_of, printed, text, variadic};
use crate::config::template::value::{Entries, List, Map, Value};

/// Maps nested deeper are not merged or copied, because a map may contain itself.
const MAX_DEPTH: usize = 256;

pub(super) static TABLE: &[Function] = &[
    variadic("dict", &[Any], dict),
    fixed("get", &[MapKind, Text], |_, arguments| {
        Ok(map_of(&arguments, 0)
            .get(&text(&arguments, 1))
            .unwrap_or_else(|| Value::text("")))
    }),
    fixed("set", &[MapKind, Text, Any], set),
    fixed("unset", &[MapKind, Text], |_, arguments| {
        let map = map_of(&arguments, 0);
        map.entries.borrow_mut().remove(&text(&arguments, 1));
        Ok(Value::Map(map))
    }),
    fixed("hasKey", &[MapKind, Text], |_, arguments| {
        Ok(Value::Bool(
            map_of(&arguments, 0).get(&text(&arguments, 1)).is_some(),
        ))
    }),
    variadic("keys", &[MapKind], |_, arguments| {
        let maps = (0..arguments.len()).map(|index| map_of(&arguments, index));
        Ok(Value::texts(maps.flat_map(|map| {
            map.snapshot().into_iter().map(|(key, _)| key)
        })))
    }),
    fixed("values", &[MapKind], |_, arguments| {
        Ok(Value::list(
            map_of(&arguments, 0)
                .snapshot()
                .into_iter()
                .map(|(_, value)| value)
                .collect(),
        ))
    }),
    variadic("pluck", &[Text, MapKind], |_, arguments| {
        let key = text(&arguments, 0);
        let maps = (1..arguments.len()).map(|index| map_of(&arguments, index));
        Ok(Value::list(maps.filter_map(|map| map.get(&key)).collect()))
    }),
    variadic("pick", &[MapKind, Text], |_, arguments| {
        let map = map_of(&arguments, 0);
        let keys = (1..arguments.len()).map(|index| text(&arguments, index));
        Ok(Value::map(
            keys.filter_map(|key| map.get(&key).map(|value| (key, value)))
                .collect(),
        ))
    }),
    variadic("omit", &[MapKind, Text], |_, arguments| {
        let mut entries: Entries = map_of(&arguments, 0).snapshot().into_iter().collect();
        for index in 1..arguments.len() {
            entries.remove(&text(&arguments, index));
        }
        Ok(Value::map(entries))
    }),
    variadic("dig", &[Any], dig),
    variadic("merge", &[MapKind, MapKind], |call, arguments| {
        merge_all(call, &arguments, false)
    }),
    variadic("mustMerge", &[MapKind, MapKind], |call, arguments| {
        merge_all(call, &arguments, false)
    }),
    variadic("mergeOverwrite", &[MapKind, MapKind], |call, arguments| {
        merge_all(call, &arguments, true)
    }),
    variadic(
        "mustMergeOverwrite",
        &[MapKind, MapKind],
        |call, arguments| merge_all(call, &arguments, true),
    ),
    fixed("deepCopy", &[Any], |call, arguments| {
        deep_copy(call, &arguments[0])
    }),
    fixed("mustDeepCopy", &[Any], |call, arguments| {
        deep_copy(call, &arguments[0])
    }),
];

fn deep_copy(call: &mut Call<'_>, value: &Value) -> Outcome {
    if value.is_nothing() {
        return Err("reflect: call of reflect.Value.Type on zero Value".to_owned());
    }
    copy(call, value, 0)
}

fn dict(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    call.make(arguments.len() * size_of::<Value>())?;
    let mut entries = Entries::new();
    for pair in arguments.chunks(2) {
        let value = pair.get(1).cloned().unwrap_or_else(|| Value::text(""));
        entries.insert(printed(call, &pair[0])?.into(), value);
    }
    Ok(Value::map(entries))
}

fn set(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let map = map_of(&arguments, 0);
    if map.nil {
        return Err("assignment to entry in nil map".to_owned());
    }
    call.make(size_of::<Value>())?;
    map.entries
        .borrow_mut()
        .insert(text(&arguments, 1), any(&arguments, 2));
    Ok(Value::Map(map))
}

fn dig(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let [keys @ .., default, subject] = &arguments[..] else {
        return Err("dig needs at least three arguments".to_owned());
    };
    if keys.is_empty() {
        return Err("dig needs at least three arguments".to_owned());
    }
    let mut value = subject.clone();
    for key in keys {
        let Value::Text(name) = key else {
            return Err(conversion(key, "string"));
        };
        let Value::Map(map) = &value else {
            return Err(conversion(&value, "map[string]interface {}"));
        };
        let Some(next) = map.get(name) else {
            return Ok(default.clone());
        };
        value = next;
    }
    Ok(value)
}

fn conversion(value: &Value, wanted: &str) -> String {
    let kind = if value.is_nothing() {
        "nil"
    } else {
        value.type_name()
    };
    format!("interface conversion: interface {{}} is {kind}, not {wanted}")
}

fn merge_all(call: &mut Call<'_>, arguments: &[Value], overwrite: bool) -> Outcome {
    let target = map_of(arguments, 0);
    if target.nil && arguments.len() > 1 {
        return Err("assignment to entry in nil map".to_owned());
    }
    for index in 1..arguments.len() {
        merge(call, &target, &map_of(arguments, index), overwrite, 0)?;
    }
    Ok(Value::Map(target))
}

fn merge(
    call: &mut Call<'_>,
    target: &Map,
    source: &Map,
    overwrite: bool,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!(
            "maps are nested too deeply (more than {MAX_DEPTH})"
        ));
    }
    for (key, value) in source.snapshot() {
        call.budget.step()?;
        let old = target.get(&key);
        match (&old, &value) {
            (Some(Value::Map(old)), Value::Map(new)) => {
                if !std::rc::Rc::ptr_eq(&old.entries, &new.entries) {
                    merge(call, old, new, overwrite, depth + 1)?;
                }
                continue;
            }
            (_, value) if value.is_nothing() && !overwrite => continue,
            (Some(old), _) if old.is_true() && !overwrite => continue,
            _ => {}
        }
        target.entries.borrow_mut().insert(key, value);
    }
    Ok(())
}

fn copy(call: &mut Call<'_>, value: &Value, depth: usize) -> Outcome {
    if depth > MAX_DEPTH {
        return Err(format!(
            "the value is nested too deeply (more than {MAX_DEPTH})"
        ));
    }
    call.budget.step()?;
    call.make(size_of::<Value>())?;
    Ok(match value {
        Value::List(list) => {
            let items: Result<Vec<Value>, String> = list
                .items()
                .iter()
                .map(|item| copy(call, item, depth + 1))
                .collect();
            Value::List(List {
                element: list.element,
                items: list.items.is_some().then_some(items?.into()),
            })
        }
        Value::Map(map) => {
            let mut entries = Entries::new();
            for (key, value) in map.snapshot() {
                entries.insert(key, copy(call, &value, depth + 1)?);
            }
            let mut copied = Map::of(entries);
            copied.element = map.element;
            Value::Map(copied)
        }
        scalar => scalar.clone(),
    })
}
