//! How much the data of one request takes, and may take.

use super::{Node, TreeError};
use crate::runtime::json::Value;

/// What all objects and lists of one request may hold together, by a rough count.
const MOST_BYTES: usize = 64 << 20;
/// Of one value beside its text.
pub(super) const VALUE_BYTES: usize = 64;

/// Counts `bytes`.
pub(super) fn add(spent: &mut usize, bytes: usize) -> Result<(), TreeError> {
    *spent = spent.saturating_add(bytes);
    if *spent > MOST_BYTES {
        Err(TreeError::Full)
    } else {
        Ok(())
    }
}

/// What one value takes.
pub(super) fn text_bytes(node: &Node) -> usize {
    match node {
        Node::Leaf(value) => VALUE_BYTES + value_bytes(value),
        _ => VALUE_BYTES,
    }
}

/// What a copy of `value` takes beside itself. An unread slice is shared.
pub(super) fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Raw(_) => 0,
        Value::Number(text) | Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|v| VALUE_BYTES + value_bytes(v)).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, v)| VALUE_BYTES + key.len() + value_bytes(v))
            .sum(),
    }
}
