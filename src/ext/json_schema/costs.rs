//! What one failure costs in memory, apart from the value that fails.
//!
//! The crate copies parts of the schema into a failure (`enum`, `const`, `not`), and the place of the failure in the
//! body and in the schema.

use serde_json::Value;

/// A failure without its contents.
const BARE: usize = 512;

/// The costs that a schema causes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Costs {
    /// The largest part of the schema that a failure copies.
    copied: usize,
    /// The longest way from one schema to the next, which is repeated for each level of the body.
    way: usize,
}

impl Costs {
    /// The costs of one more file of the schema.
    pub(super) fn add(&mut self, schema: &Value) {
        self.measure(schema, 0);
    }

    fn measure(&mut self, schema: &Value, way: usize) {
        self.way = self.way.max(way);
        match schema {
            Value::Object(members) => {
                for (name, inner) in members {
                    if matches!(&**name, "enum" | "const" | "not") {
                        self.copied = self.copied.max(size(inner));
                    }
                    self.measure(inner, way + 1 + name.len());
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.measure(item, way + 4)),
            _ => {}
        }
    }

    /// The most that a failure of `body` costs.
    pub(super) fn failure(self, body: &Value) -> usize {
        let (place, depth) = farthest(body);
        BARE + self.copied + place + self.way * (depth + 1)
    }
}

/// The approximate memory of a value.
fn size(value: &Value) -> usize {
    let own = size_of::<Value>();
    match value {
        Value::String(text) => own + text.len() + 16,
        Value::Array(items) => own + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| 64 + name.len() + size(value);
            own + members.iter().map(member).sum::<usize>()
        }
        _ => own,
    }
}

/// The longest place in a body, and the depth of the deepest one.
fn farthest(value: &Value) -> (usize, usize) {
    let below = |most: (usize, usize), (length, value): (usize, &Value)| {
        let (place, depth) = farthest(value);
        (most.0.max(place + length), most.1.max(depth + 1))
    };
    match value {
        Value::Array(items) => {
            let containers = items
                .iter()
                .filter(|item| item.is_array() || item.is_object());
            let deepest = containers.map(|item| (8, item)).fold((8, 1), below);
            if items.is_empty() { (0, 0) } else { deepest }
        }
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.len() + 1, value))
            .fold((0, 0), below),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_costs_its_place_and_the_largest_copied_part() {
        let mut costs = Costs::default();
        costs.add(&json!({"properties": {"a": {"enum": vec!["x".repeat(84); 10]}}}));
        assert!(costs.copied > 1000 && costs.copied < 2000, "{costs:?}");
        assert!(costs.way >= "/properties/a/enum".len());
        assert_eq!(farthest(&json!({"ab": [1, {"c": [[]]}], "x": 1})), (21, 4));
        let long = json!({ "k".repeat(100_000): [1, 2] });
        assert!(costs.failure(&long) > 100_000);
        assert!(costs.failure(&json!({})) < 4000);
    }
}
