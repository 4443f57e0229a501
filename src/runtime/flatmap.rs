//! `flatmap_filter`: move, append and delete by path, through arrays too.
//!
//! Numeric parts of a path address positions of arrays; `*` is every child of an object or array. An element keeps
//! its position until all operations are done, whatever is taken out before it; what is added goes behind. A container
//! that loses its last child becomes null, as KrakenD does.
//!
//! So an element that is taken out leaves a hole ([`Value::hole`]) behind, and holes are closed at the end. An array
//! with nothing but one hole has lost all its elements, but is still an array for the operations that follow.

mod tree;

use self::tree::{
    Label, child, clear, close, container, copied, find, is_list, label_in, list, position, put,
    take, taken, walk,
};
use super::json::Value;

/// The operations of one `flatmap_filter`, in the file's order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flatmap {
    operations: Box<[Operation]>,
    /// Whether any of them may take an element out of an array.
    leaves_holes: bool,
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
            leaves_holes: compiled.iter().any(Operation::may_leave_holes),
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
        if self.leaves_holes {
            close(data);
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
                    delete(data, path);
                }
            }
            Operation::Append { from, to } => append(data, from, to),
            Operation::Move { from, to } => relocate(data, from, to),
        }
    }

    fn may_leave_holes(&self) -> bool {
        let element = |path: &Path| match path.last() {
            Some(Part::Name(name)) => position(name).is_some(),
            Some(Part::Any) => true,
            None => false,
        };
        match self {
            Operation::Delete(paths) => paths.iter().any(element),
            Operation::Move { from, .. } | Operation::Append { from, .. } => element(from),
        }
    }
}

impl Part {
    /// The part as it is written.
    fn text(&self) -> &str {
        match self {
            Part::Any => "*",
            Part::Name(name) => name,
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

/// Deletes whatever `path` leads to.
fn delete(data: &mut Value, path: &[Part]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    walk(
        data,
        parents,
        &mut Vec::new(),
        &mut |parent, _| match last {
            Part::Any => clear(parent),
            Part::Name(name) => {
                take(parent, name);
            }
        },
    );
}

/// A `move`; what it does depends on the depths of its two sides. A `*` at the end of either side is a name like any
/// other, unlike elsewhere.
fn relocate(data: &mut Value, from: &[Part], to: &[Part]) {
    let (Some((source, parents)), Some((last, above))) = (from.split_last(), to.split_last())
    else {
        return;
    };
    let (source, last) = (source.text(), last.text());
    match above.get(parents.len()..) {
        Some([]) => walk(data, parents, &mut Vec::new(), &mut |parent, _| {
            rename(parent, source, last);
        }),
        Some(between) => walk(data, parents, &mut Vec::new(), &mut |parent, _| {
            sink(parent, source, between, last);
        }),
        None => promote(data, (source, parents), (last, above)),
    }
}

/// Source and destination at one depth: only the last name changes, where it is. Arrays have no names to change.
fn rename(parent: &mut Value, source: &str, last: &str) {
    if let Some(object) = parent.as_object_mut()
        && let Some(value) = object.remove(source)
    {
        object.insert(last.into(), value);
    }
}

/// Source shallower than destination: the value sinks below its own parent. As many leading parts of the destination
/// are ignored as the parent is deep, and wildcards in the rest are names.
fn sink(parent: &mut Value, source: &str, between: &[Part], last: &str) {
    let Some(value) = take(parent, source) else {
        return;
    };
    let parent = between
        .iter()
        .try_fold(parent, |parent, part| container(parent, part.text()));
    if let Some(parent) = parent {
        put(parent, last, value);
    }
}

/// Source deeper than destination: the value moves up, under the deepest part of the destination that exists.
fn promote(data: &mut Value, (source, parents): (&str, &[Part]), (last, above): (&str, &[Part])) {
    let mut taken = Vec::new();
    walk(data, parents, &mut Vec::new(), &mut |parent, place| {
        if let Some(value) = take(parent, source) {
            taken.push((place.to_vec(), value));
        }
    });
    for (place, value) in taken {
        lift(data, above, &place, last, value);
    }
}

/// Puts `value` below `parent`, as deep as `above` leads; its wildcards read as in `place`.
fn lift(parent: &mut Value, above: &[Part], place: &[Label], last: &str, value: Value) {
    if let Some((part, deeper)) = above.split_first()
        && let Some(label) = label_in(parent, part, place.first())
        && let Some(next) = child(parent, &label)
    {
        let place = place.get(1..).unwrap_or_default();
        return lift(next, deeper, place, last, value);
    }
    put(parent, last, value);
}

/// Puts the values of `from` behind those of `to`, and deletes `from`. Nothing happens unless both are lists.
///
/// As KrakenD does: a path with a `*` is always a list, of what each child has at the rest of the path, and of null
/// where it has nothing. Such a list of values that `to` gathers is stored under the name `*`.
fn append(data: &mut Value, from: &[Part], to: &[Part]) {
    if !is_list(data, from) || !is_list(data, to) {
        return;
    }
    let gathers = to.contains(&Part::Any);
    let kept = if gathers {
        copied(data, to)
    } else {
        Vec::new()
    };
    let moved = taken(data, from);
    if gathers {
        store(data, to, kept.into_iter().chain(moved).collect());
    } else if let Some(target) = find(data, to).and_then(list) {
        target.extend(moved);
    }
    delete(data, from);
}

/// Writes `elements` to `path`, in which a `*` is a name like any other.
fn store(data: &mut Value, path: &[Part], elements: Vec<Value>) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let parent = parents
        .iter()
        .try_fold(data, |parent, part| container(parent, part.text()));
    if let Some(parent) = parent {
        put(parent, last.text(), Value::Array(elements));
    }
}

#[cfg(test)]
mod tests;
