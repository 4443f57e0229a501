//! `flatmap_filter`: move, append and delete by path, through arrays too.
//!
//! Numeric parts of a path address positions of arrays; `*` is every child of an object or array. A container that
//! loses its last child becomes null, as KrakenD does.

use super::json::{Kind, Object, Value};

/// The operations of one `flatmap_filter`, in the file's order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flatmap {
    operations: Box<[Operation]>,
}

/// What is wrong with a `flatmap_filter`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlatmapError {
    /// KrakenD panics on the first request instead.
    #[error("operation {index}: `{kind}` needs two arguments, a source and a destination")]
    MissingArgument { index: usize, kind: &'static str },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Move { from: Path, to: Path },
    Append { from: Path, to: Path },
    Delete(Box<[Path]>),
}

type Path = Box<[Part]>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    Name(Box<str>),
}

/// One step on the way to a value that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Name(Box<str>),
    Index(usize),
}

impl Flatmap {
    /// Compiles pairs of `type` and `args`. Unknown types are skipped, as KrakenD does; `None` when nothing is left.
    ///
    /// # Errors
    /// A `move` or `append` without two arguments.
    pub fn compile<'a>(
        operations: impl IntoIterator<Item = (&'a str, &'a [String])>,
    ) -> Result<Option<Flatmap>, FlatmapError> {
        let mut compiled = Vec::new();
        for (index, (kind, args)) in operations.into_iter().enumerate() {
            let two = |kind| match args {
                [from, to, ..] => Ok((path(from), path(to))),
                _ => Err(FlatmapError::MissingArgument { index, kind }),
            };
            compiled.push(match kind {
                "move" => two("move").map(|(from, to)| Operation::Move { from, to })?,
                "append" => two("append").map(|(from, to)| Operation::Append { from, to })?,
                "del" => Operation::Delete(args.iter().map(|arg| path(arg)).collect()),
                _ => continue,
            });
        }
        Ok((!compiled.is_empty()).then(|| Flatmap {
            operations: compiled.into(),
        }))
    }

    /// Applies all operations to `data` in place. Nothing happens to null and to an empty object; what is not an
    /// object in the end becomes null.
    pub fn apply(&self, data: &mut Value) {
        match data.as_object_mut() {
            Some(object) if !object.is_empty() => {}
            _ => return,
        }
        for operation in &self.operations {
            operation.apply(data);
        }
        if data.as_object_mut().is_none() {
            *data = Value::Null;
        }
    }
}

impl Operation {
    fn apply(&self, data: &mut Value) {
        match self {
            Operation::Delete(paths) => {
                for path in paths {
                    take_all(data, path);
                }
            }
            Operation::Append { from, to } => append(data, from, to),
            Operation::Move { from, to } if from.len() == to.len() => relabel(data, from, to),
            Operation::Move { from, to } if from.len() > to.len() => promote(data, from, to),
            Operation::Move { from, to } => embed(data, from, to),
        }
    }
}

fn path(text: &str) -> Path {
    text.split('.')
        .map(|part| match part {
            "*" => Part::Any,
            name => Part::Name(name.into()),
        })
        .collect()
}

/// Source and destination at one depth: only the last name changes, where it is. Arrays have no names to change.
fn relabel(data: &mut Value, from: &[Part], to: &[Part]) {
    let Some(last) = to.last() else { return };
    for place in matches(data, from) {
        let Some((Label::Name(old), parent)) = place.split_last() else {
            continue;
        };
        let new = match last {
            Part::Name(new) => new,
            Part::Any => continue,
        };
        if let Some(object) = at(data, parent).and_then(Value::as_object_mut)
            && let Some(value) = object.remove(old)
        {
            object.insert(new.clone(), value);
        }
    }
}

/// Source deeper than destination: the value moves up, under the deepest part of the destination that exists.
fn promote(data: &mut Value, from: &[Part], to: &[Part]) {
    let Some((last, parents)) = to.split_last() else {
        return;
    };
    for (place, value) in take_all(data, from) {
        let mut parent = &mut *data;
        for (depth, part) in parents.iter().enumerate() {
            match has_container(parent, part, place.get(depth)) {
                Some(label) => match child(parent, &label) {
                    Some(next) => parent = next,
                    // Not reached: the label was found a moment ago.
                    None => return,
                },
                None => break,
            }
        }
        put(parent, &name_of(last, place.get(parents.len())), value);
    }
}

/// Source shallower than destination: the value sinks below its own parent. As many leading parts of the
/// destination are ignored as the parent is deep.
fn embed(data: &mut Value, from: &[Part], to: &[Part]) {
    for (place, value) in take_all(data, from) {
        let depth = place.len().saturating_sub(1);
        let Some(parent) = at(data, place.get(..depth).unwrap_or_default()) else {
            continue;
        };
        let Some((last, between)) = to.get(depth..).and_then(<[Part]>::split_last) else {
            continue;
        };
        let labels = |offset: usize| place.get(depth + offset);
        let parent = between
            .iter()
            .enumerate()
            .try_fold(parent, |parent, (offset, part)| {
                container(parent, &name_of(part, labels(offset)))
            });
        if let Some(parent) = parent {
            put(parent, &name_of(last, labels(between.len())), value);
        }
    }
}

/// Puts the elements of one array behind those of another. Wildcards of the destination take what those of the
/// source stand for.
fn append(data: &mut Value, from: &[Part], to: &[Part]) {
    let mut emptied = Vec::new();
    for source in matches(data, from) {
        // An array cannot go into itself, nor into what is in it.
        let target = resolve(data, to, &source).filter(|target| !target.starts_with(&source));
        let Some(target) = target else { continue };
        if at(data, &target).and_then(Value::as_array_mut).is_none() {
            continue;
        }
        let Some(elements) = at(data, &source).and_then(Value::as_array_mut) else {
            continue;
        };
        let elements = std::mem::take(elements);
        if let Some(array) = at(data, &target).and_then(Value::as_array_mut) {
            array.extend(elements);
        }
        emptied.push(source);
    }
    // Only now and from the back, so that positions in arrays stay true until all are moved.
    for source in emptied.iter().rev() {
        remove(data, source);
    }
}

/// Where `to` leads, if it leads to something; its wildcards read as in `source`.
fn resolve(data: &mut Value, to: &[Part], source: &[Label]) -> Option<Vec<Label>> {
    let mut value = data;
    let mut place = Vec::with_capacity(to.len());
    for (depth, part) in to.iter().enumerate() {
        let label = label_in(value, part, source.get(depth))?;
        value = child(value, &label)?;
        place.push(label);
    }
    Some(place)
}

/// Takes out every value that `path` leads to, in the order of the document. Containers that are empty afterwards
/// become null.
fn take_all(data: &mut Value, path: &[Part]) -> Vec<(Vec<Label>, Value)> {
    let mut taken: Vec<_> = matches(data, path)
        .into_iter()
        // From the back, so that positions in arrays stay true.
        .rev()
        .filter_map(|place| remove(data, &place).map(|value| (place, value)))
        .collect();
    taken.reverse();
    taken
}

/// Takes out one value; its parent becomes null if nothing else was in it.
fn remove(data: &mut Value, place: &[Label]) -> Option<Value> {
    let (last, parent) = place.split_last()?;
    let parent = at(data, parent)?;
    let (value, emptied) = match last {
        Label::Name(name) => {
            let object = parent.as_object_mut()?;
            (object.remove(name)?, object.is_empty())
        }
        Label::Index(index) => {
            let array = parent.as_array_mut()?;
            if *index >= array.len() {
                return None;
            }
            (array.remove(*index), array.is_empty())
        }
    };
    if emptied {
        *parent = Value::Null;
    }
    Some(value)
}

/// Every place that `path` leads to.
fn matches(data: &mut Value, path: &[Part]) -> Vec<Vec<Label>> {
    let mut found = Vec::new();
    collect(data, path, &mut Vec::with_capacity(path.len()), &mut found);
    found
}

fn collect(value: &mut Value, path: &[Part], place: &mut Vec<Label>, found: &mut Vec<Vec<Label>>) {
    let Some((part, rest)) = path.split_first() else {
        found.push(place.clone());
        return;
    };
    let mut visit = |label: Label, child: &mut Value| {
        place.push(label);
        collect(child, rest, place, found);
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
                    visit(Label::Index(index), child);
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

/// The label by which `part` is a child of `value`, whether it exists or not; `None` if it cannot be.
fn label_in(value: &mut Value, part: &Part, wild: Option<&Label>) -> Option<Label> {
    match part {
        Part::Any => wild.cloned(),
        Part::Name(name) if value.as_array_mut().is_some() => position(name).map(Label::Index),
        Part::Name(name) => Some(Label::Name(name.clone())),
    }
}

/// The label of `part` in `parent`, if an object or array is there.
fn has_container(parent: &mut Value, part: &Part, wild: Option<&Label>) -> Option<Label> {
    let label = label_in(parent, part, wild)?;
    let value = child(parent, &label)?;
    (value.as_object_mut().is_some() || value.as_array_mut().is_some()).then_some(label)
}

/// The text of a destination's part.
fn name_of(part: &Part, wild: Option<&Label>) -> Box<str> {
    match (part, wild) {
        (Part::Name(name), _) => name.clone(),
        (Part::Any, Some(Label::Name(name))) => name.clone(),
        (Part::Any, Some(Label::Index(index))) => index.to_string().into(),
        (Part::Any, None) => "*".into(),
    }
}

/// A position in an array: decimal digits as they are written, without leading zeros.
fn position(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with(['0', '+']);
    canonical.then(|| name.parse().ok()).flatten()
}

fn at<'a>(data: &'a mut Value, place: &[Label]) -> Option<&'a mut Value> {
    place
        .iter()
        .try_fold(data, |value, label| child(value, label))
}

fn child<'a>(value: &'a mut Value, label: &Label) -> Option<&'a mut Value> {
    match label {
        Label::Name(name) => value.as_object_mut()?.get_mut(name),
        Label::Index(index) => value.as_array_mut()?.get_mut(*index),
    }
}

/// The object or array that is `name` in `parent`, made if there is none.
fn container<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
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
    match position(name).filter(|index| *index < array.len()) {
        Some(index) => index,
        None => {
            array.push(Value::Null);
            array.len() - 1
        }
    }
}

/// Puts `value` under `name`; what was there is replaced. In an array it goes to the end.
fn put(parent: &mut Value, name: &str, value: Value) {
    if let Some(array) = parent.as_array_mut() {
        array.push(value);
    } else if let Some(object) = object_in(parent) {
        object.insert(name.into(), value);
    }
}

/// The members of `value`, which becomes an object if it is none.
fn object_in(value: &mut Value) -> Option<&mut Object> {
    if value.kind() != Kind::Object {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests;
