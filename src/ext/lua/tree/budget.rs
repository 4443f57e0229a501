//! What the data of a request takes, and its limit.

use super::{Node, TreeError};
use crate::runtime::json::{Growth, ITEM, LIST, OBJECT, Value};
use crate::upstream::budget::Memory;

/// The maximum size of all objects and lists of one request.
const MAX_BYTES: usize = 64 << 20;
/// The place of an object or a list in a vector that grows: twice as many places are free, or being copied.
const PLACE: usize = 96;
/// The members for which the first node of a map has room.
const FIRST: usize = 11;
/// The first node has become two, below a third one.
const TWO_NODES: usize = 2 * OBJECT;
/// What the allocator adds to the texts of a name and of a value.
const ROUNDING: usize = 32;

/// An object without its members: with the first one it has a node.
pub(super) const NEW_OBJECT: usize = PLACE + OBJECT;
/// A list without its items: with the first one it has room for four.
pub(super) const NEW_LIST: usize = PLACE + LIST;
/// An item without its text, in a list that grows.
pub(super) const LIST_ITEM: usize = PLACE + ROUNDING;

/// After this many bytes more, the system is asked how much memory the process may still take.
const STEP: usize = 256 << 10;

/// What is counted for a request, and what the process is charged for it.
#[derive(Debug, Default)]
pub(super) struct Spent {
    bytes: usize,
    asked: usize,
    pub(super) growth: Growth,
}

impl Spent {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts `bytes` against the limit of the request only.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), TreeError> {
        add(&mut self.bytes, bytes)
    }

    /// Counts and charges `bytes`.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.count(bytes)?;
        self.growth.add(bytes)?;
        if self.bytes - self.asked < STEP {
            return Ok(());
        }
        self.asked = self.bytes;
        let asked = Memory::process().ask(self.bytes as u64, 2 * STEP as u64);
        asked.map_err(TreeError::from)
    }
}

/// Counts `bytes`.
fn add(spent: &mut usize, bytes: usize) -> Result<(), TreeError> {
    *spent = spent.saturating_add(bytes);
    if *spent > MAX_BYTES {
        Err(TreeError::Full)
    } else {
        Ok(())
    }
}

/// One more member of an object that has `members`, without its texts.
pub(super) fn member(members: usize) -> usize {
    match members {
        FIRST => TWO_NODES + ITEM,
        few if few < FIRST => ROUNDING,
        _ => ITEM,
    }
}

/// The members of an object without their texts.
pub(super) fn members(count: usize) -> usize {
    let more = count.saturating_sub(FIRST);
    let nodes = if more > 0 { TWO_NODES } else { 0 };
    count * ROUNDING + more * (ITEM - ROUNDING) + nodes
}

/// The text of a value.
pub(super) fn text_bytes(node: &Node) -> usize {
    match node {
        Node::Leaf(value) => value_bytes(value),
        _ => 0,
    }
}

/// What a copy of `value` takes in addition to its place. An unparsed slice is shared.
pub(super) fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Raw(_) => 0,
        Value::Number(text) | Value::String(text) => text.len(),
        Value::Array(items) => {
            let inner = items.iter().map(value_bytes).sum::<usize>();
            LIST + LIST_ITEM * items.len() + inner
        }
        Value::Object(object) => {
            let inner = object.iter().map(|(key, v)| key.len() + value_bytes(v));
            OBJECT + members(object.len()) + inner.sum::<usize>()
        }
    }
}

/// A list of `count` texts with `bytes` in all, and what refers to them before they are in the list.
pub(crate) fn texts_bytes(count: usize, bytes: usize) -> usize {
    NEW_LIST + count * (LIST_ITEM + ROUNDING) + bytes
}
