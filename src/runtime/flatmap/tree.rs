//! The data while operations run on it: values are found by path and changed in place, with holes in place of removed
//! elements.

use super::Part;
use crate::runtime::heavy::is_late;
use crate::runtime::json::{Growth, Kind, Object, Value};
use crate::upstream::budget::Full;

/// The place of a value in a list that grows.
const PLACE: usize = 160;

/// One step on the path to an existing value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Name(Box<str>),
    Index(usize),
}

/// The elements of an array, if it still has any: one that has lost all of them counts as null for `append`.
pub(super) fn list(value: &mut Value) -> Option<&mut Vec<Value>> {
    value
        .as_array_mut()
        .filter(|array| array.is_empty() || array.iter().any(is_there))
}

fn is_there(element: &Value) -> bool {
    !element.is_hole()
}

/// Removes and returns the child `name` of `parent`.
pub(super) fn take(parent: &mut Value, name: &str) -> Option<Value> {
    if parent.kind() == Kind::Array {
        remove(parent, &Label::Index(position(name)?))
    } else {
        take_member(parent, name)
    }
}

/// Removes one child.
fn remove(parent: &mut Value, label: &Label) -> Option<Value> {
    match label {
        Label::Name(name) => take_member(parent, name),
        Label::Index(index) => {
            let array = parent.as_array_mut()?;
            let element = array.get_mut(*index).filter(|element| is_there(element))?;
            let taken = std::mem::replace(element, Value::hole());
            if !array.iter().any(is_there) {
                array.truncate(1);
            }
            Some(taken)
        }
    }
}

/// Removes one member. The object becomes null if it has no other members.
fn take_member(parent: &mut Value, name: &str) -> Option<Value> {
    let object = parent.as_object_mut()?;
    let value = object.remove(name)?;
    if object.is_empty() {
        *parent = Value::Null;
    }
    Some(value)
}

/// Removes all children, if there are any.
pub(super) fn clear(parent: &mut Value) {
    if let Some(object) = parent.as_object_mut() {
        if !object.is_empty() {
            *parent = Value::Null;
        }
    } else if let Some(array) = parent.as_array_mut()
        && !array.is_empty()
    {
        *array = vec![Value::hole()];
    }
}

/// Removes the holes in all arrays that were opened. An array that has lost all its elements becomes null.
pub(super) fn close(value: &mut Value) {
    match value {
        _ if is_late() => {}
        Value::Array(array) => {
            let was_empty = array.is_empty();
            array.retain(is_there);
            if array.is_empty() && !was_empty {
                *value = Value::Null;
            } else {
                array.iter_mut().for_each(close);
            }
        }
        Value::Object(object) => object.values_mut().for_each(close),
        _ => {}
    }
}

/// The value at a path of names.
pub(super) fn find<'a>(data: &'a mut Value, path: &[Part]) -> Option<&'a mut Value> {
    path.iter().try_fold(data, |value, part| {
        let label = label_in(value, part, None)?;
        child(value, &label)
    })
}

/// Whether `path` leads to a list: an array, or the children that a `*` matches.
pub(super) fn is_list(data: &mut Value, path: &[Part]) -> bool {
    let names = path.iter().position(|part| *part == Part::Any);
    let before = path.get(..names.unwrap_or(path.len())).unwrap_or(path);
    match (find(data, before), names) {
        (Some(value), None) => list(value).is_some(),
        (Some(value), Some(_)) => !children(value).is_empty(),
        (None, _) => false,
    }
}

/// The list at `path`, copied. The copies count in `growth`.
///
/// # Errors
/// There is no memory for them.
pub(super) fn copied(
    data: &mut Value,
    path: &[Part],
    growth: &mut Growth,
) -> Result<Vec<Value>, Full> {
    let mut counted = Ok(());
    let copies = gather(data, path, &mut |value| {
        if counted.is_ok() {
            counted = growth.add(PLACE + value.weight());
        }
        match counted {
            Ok(()) => value.clone(),
            Err(Full) => Value::Null,
        }
    });
    counted.map(|()| elements(copies))
}

/// The list at `path`, replaced by null.
pub(super) fn taken(data: &mut Value, path: &[Part]) -> Vec<Value> {
    elements(gather(data, path, &mut std::mem::take))
}

fn elements(value: Value) -> Vec<Value> {
    match value {
        Value::Array(array) => array,
        _ => Vec::new(),
    }
}

/// The result of `get` for the value at `path`. After a `*`, the results for all children, with null for those that
/// have no value there.
fn gather(value: &mut Value, path: &[Part], get: &mut dyn FnMut(&mut Value) -> Value) -> Value {
    if is_late() {
        return Value::Null;
    }
    let Some((part, rest)) = path.split_first() else {
        let mut value = get(value);
        value.as_array_mut();
        close(&mut value);
        return value;
    };
    match part {
        Part::Any => {
            let children = children(value);
            if children.is_empty() {
                return Value::Null;
            }
            let values = children.into_iter().map(|child| gather(child, rest, get));
            Value::Array(values.collect())
        }
        Part::Name(_) => label_in(value, part, None)
            .and_then(|label| child(value, &label))
            .map(|child| gather(child, rest, get))
            .unwrap_or_default(),
    }
}

/// The members of an object, or the existing elements of an array.
fn children(value: &mut Value) -> Vec<&mut Value> {
    match value.open() {
        Value::Object(object) => object.values_mut().collect(),
        Value::Array(array) => array.iter_mut().filter(|child| is_there(child)).collect(),
        _ => Vec::new(),
    }
}

/// Calls `found` with every value that matches `path`, in the order of the document, and with its concrete path.
pub(super) fn walk(
    value: &mut Value,
    path: &[Part],
    place: &mut Vec<Label>,
    found: &mut dyn FnMut(&mut Value, &[Label]),
) {
    if is_late() {
        return;
    }
    let Some((part, rest)) = path.split_first() else {
        return found(value, place);
    };
    let mut visit = |label: Label, child: &mut Value| {
        place.push(label);
        walk(child, rest, place, found);
        place.pop();
    };
    match part {
        Part::Any => {
            if let Some(object) = value.as_object_mut() {
                for (name, child) in object {
                    visit(Label::Name(name.clone()), child);
                }
            } else if let Some(array) = value.as_array_mut() {
                for (index, child) in array.iter_mut().enumerate() {
                    if is_there(child) {
                        visit(Label::Index(index), child);
                    }
                }
            }
        }
        Part::Name(_) => {
            if let Some(label) = label_in(value, part, None)
                && let Some(child) = child(value, &label)
            {
                visit(label, child);
            }
        }
    }
}

/// The label of `part` as a child of `value`, whether it exists or not. `None` if it cannot exist.
pub(super) fn label_in(value: &Value, part: &Part, wild: Option<&Label>) -> Option<Label> {
    match part {
        Part::Any => wild.cloned(),
        Part::Name(name) if value.kind() == Kind::Array => position(name).map(Label::Index),
        Part::Name(name) => Some(Label::Name(name.clone())),
    }
}

/// A position in an array: decimal digits without leading zeros.
pub(super) fn position(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with(['0', '+']);
    canonical.then(|| name.parse().ok()).flatten()
}

pub(super) fn child<'a>(value: &'a mut Value, label: &Label) -> Option<&'a mut Value> {
    match label {
        Label::Name(name) => value.as_object_mut()?.get_mut(name),
        Label::Index(index) => value
            .as_array_mut()?
            .get_mut(*index)
            .filter(|element| is_there(element)),
    }
}

/// The object or array `name` in `parent`. It is created if it does not exist.
pub(super) fn container<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let index = parent.as_array_mut().map(|array| slot(array, name));
    let child = match (parent, index) {
        (Value::Array(array), Some(index)) => array.get_mut(index)?,
        (parent, _) => object_in(parent)?.entry(name.into()).or_default(),
    };
    if !matches!(child.kind(), Kind::Array | Kind::Object) {
        *child = Value::Object(Object::new());
    }
    Some(child)
}

/// The position `name` in `array`, or a new one at its end.
fn slot(array: &mut Vec<Value>, name: &str) -> usize {
    match position(name).filter(|index| array.get(*index).is_some_and(is_there)) {
        Some(index) => index,
        None => {
            array.push(Value::Null);
            array.len() - 1
        }
    }
}

/// Puts `value` under `name` and replaces an existing value. In an array it is appended.
pub(super) fn put(parent: &mut Value, name: &str, value: Value) {
    if let Some(array) = parent.as_array_mut() {
        array.push(value);
    } else if let Some(object) = object_in(parent) {
        object.insert(name.into(), value);
    }
}

/// The members of `value`, which is made an object if it is not one.
fn object_in(value: &mut Value) -> Option<&mut Object> {
    if value.kind() != Kind::Object {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut()
}
