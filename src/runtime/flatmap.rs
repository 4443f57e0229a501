//! `flatmap_filter`: moves, appends and deletes values by path, including through arrays.
//!
//! A numeric part of a path is a position in an array. `*` means every child of an object or array. An element keeps
//! its position until all operations are done, even if elements before it are removed. New elements are added at the
//! end. As in KrakenD, a container that loses its last child becomes null.
//!
//! A removed element is replaced by a placeholder (`Value::hole`), and the placeholders are removed at the end. An
//! array that contains only holes has lost all its elements, but is still an array for the operations that follow.

mod tree;

use self::tree::{
    Label, child, clear, close, container, copied, find, is_list, label_in, list, position, put,
    take, taken, walk,
};
use super::heavy::is_late;
use super::json::{Growth, Value};
use crate::upstream::budget::Full;

/// The operations of one `flatmap_filter`, in the configured order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flatmap {
    operations: Box<[Operation]>,
    /// Whether an operation may remove an element from an array.
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
    /// Compiles pairs of `type` and `args`. As in KrakenD, unknown types are skipped. `None` if no operation remains.
    ///
    /// # Errors
    /// A `move` or `append` has fewer than two arguments.
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

    /// Applies all operations to `data` in place. Null and an empty object are unchanged. If the result is not an
    /// object, it becomes null. What is copied counts in `growth`.
    ///
    /// # Errors
    /// There is no memory for the copies. A part of the operations was done.
    pub fn apply(&self, data: &mut Value, growth: &mut Growth) -> Result<(), Full> {
        match data.as_object_mut() {
            Some(object) if !object.is_empty() => {}
            _ => return Ok(()),
        }
        for operation in &self.operations {
            operation.apply(data, growth)?;
        }
        if self.leaves_holes {
            close(data);
        }
        if data.as_object_mut().is_none() {
            *data = Value::Null;
        }
        Ok(())
    }
}

impl Operation {
    fn apply(&self, data: &mut Value, growth: &mut Growth) -> Result<(), Full> {
        match self {
            Operation::Delete(paths) => {
                for path in paths {
                    delete(data, path);
                }
            }
            Operation::Append { from, to } => append(data, from, to, growth)?,
            Operation::Move { from, to } => relocate(data, from, to),
        }
        Ok(())
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
    /// The part as written.
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

/// Deletes every value at `path`.
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

/// A `move`. Its effect depends on the depths of the two paths. Unlike elsewhere, a `*` at the end of either path is
/// an ordinary name.
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

/// Source and destination have the same depth: only the last name changes, in place. Elements of arrays have no names
/// to change.
fn rename(parent: &mut Value, source: &str, last: &str) {
    if let Some(object) = parent.as_object_mut()
        && let Some(value) = object.remove(source)
    {
        object.insert(last.into(), value);
    }
}

/// The source is shallower than the destination: the value moves down, below its own parent. As many leading parts of
/// the destination are ignored as the parent is deep. Wildcards in the rest are ordinary names.
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

/// The source is deeper than the destination: the value moves up, below the deepest part of the destination that
/// exists.
fn promote(data: &mut Value, (source, parents): (&str, &[Part]), (last, above): (&str, &[Part])) {
    let mut taken = Vec::new();
    walk(data, parents, &mut Vec::new(), &mut |parent, place| {
        if let Some(value) = take(parent, source) {
            taken.push((place.to_vec(), value));
        }
    });
    for (place, value) in taken {
        if is_late() {
            return;
        }
        lift(data, above, &place, last, value);
    }
}

/// Puts `value` below `parent`, as deep as the path `above` exists. Wildcards in it are resolved as in `place`.
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

/// Appends the values of `from` to those of `to`, and deletes `from`. Nothing happens unless both are lists.
///
/// As in KrakenD, a path with a `*` is always a list: the values that the children have at the rest of the path, with
/// null for those that have none. If `to` is such a list, the result is stored under the name `*`.
fn append(data: &mut Value, from: &[Part], to: &[Part], growth: &mut Growth) -> Result<(), Full> {
    if !is_list(data, from) || !is_list(data, to) {
        return Ok(());
    }
    let gathers = to.contains(&Part::Any);
    let kept = if gathers {
        copied(data, to, growth)?
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
    Ok(())
}

/// Writes `elements` to `path`, in which a `*` is an ordinary name.
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
