//! The approximate memory of a JSON tree, in bytes.

use serde_json::{Map, Value};

/// A node of a map has room for eleven members. One of several nodes has at least six.
const NODE: usize = 640;
const MEMBERS: usize = 6;
/// Allocations are rounded up to a multiple of this.
const STEP: usize = 16;

/// What an object takes besides itself.
pub(super) fn of_object(object: &Map<String, Value>) -> usize {
    let nodes = object.len().div_ceil(MEMBERS) * NODE;
    let members = object.iter().map(|(name, value)| of_text(name) + of(value));
    nodes + members.sum::<usize>()
}

/// What a value takes besides itself.
fn of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => of_text(text),
        Value::Array(list) => {
            let places = list.capacity() * size_of::<Value>();
            places + list.iter().map(of).sum::<usize>()
        }
        Value::Object(object) => of_object(object),
    }
}

fn of_text(text: &str) -> usize {
    text.len().next_multiple_of(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_and_small_objects_take_far_more_than_their_text() {
        let weight = |text: &str| of_object(&serde_json::from_str(text).unwrap());
        assert_eq!(weight("{}"), 0);
        assert_eq!(weight(r#"{"a":1,"b":null,"c":true}"#), NODE + 3 * STEP);
        assert_eq!(weight(r#"{"a":"0123456789abcdef0"}"#), NODE + 3 * STEP);
        let roles = format!(r#"{{"roles":[{}]}}"#, vec![r#""r""#; 4000].join(","));
        assert!(weight(&roles) >= 4000 * (STEP + size_of::<Value>()));
        let objects = format!(r#"{{"all":[{}]}}"#, vec![r#"{"":1}"#; 100].join(","));
        assert!(weight(&objects) >= 100 * NODE);
    }
}
