//! The memory limit of a request's data.

use super::{Node, TreeError};
use crate::runtime::json::Value;

/// The approximate maximum size of all objects and lists of one request.
const MAX_BYTES: usize = 64 << 20;
/// The size of a value without its text.
pub(super) const VALUE_BYTES: usize = 64;

/// Counts `bytes`.
pub(super) fn add(spent: &mut usize, bytes: usize) -> Result<(), TreeError> {
    *spent = spent.saturating_add(bytes);
    if *spent > MAX_BYTES {
        Err(TreeError::Full)
    } else {
        Ok(())
    }
}

/// The size of one value.
pub(super) fn text_bytes(node: &Node) -> usize {
    match node {
        Node::Leaf(value) => VALUE_BYTES + value_bytes(value),
        _ => VALUE_BYTES,
    }
}

/// The additional size of a copy of `value`. An unparsed slice is shared.
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
