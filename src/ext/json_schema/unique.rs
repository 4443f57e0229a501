//! `uniqueItems`, and equality of JSON values, in counted steps.

use std::hash::{BuildHasher, Hash, Hasher};

use ahash::RandomState;
use jsonschema::json;
use serde_json::Value;

use super::meter::{step, text_steps};

/// Lists of at most this length are compared item by item.
const FEW_ITEMS: usize = 15;

/// `uniqueItems`. The crate's own implementation compares all lists that contain only lists, such as `[[]]` and
/// `[[[]]]`, with each other, which is quadratic in their number. This one takes the nesting into account.
pub(super) fn are_unique(items: &[Value]) -> bool {
    if items.len() <= FEW_ITEMS {
        let mut rest = items;
        while let Some((first, others)) = rest.split_first() {
            if others.iter().any(|other| same(first, other)) {
                return false;
            }
            rest = others;
        }
        return true;
    }
    let state = RandomState::new();
    let mut known: std::collections::HashMap<u64, Vec<&Value>, RandomState> =
        std::collections::HashMap::default();
    items.iter().all(|item| {
        let like_it = known.entry(digest(item, &state)).or_default();
        let is_new = !like_it.iter().any(|other| same(other, item));
        like_it.push(item);
        is_new
    })
}

/// Whether two values are equal. Numbers are if their amounts are: `1` and `1.0`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    step(1);
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (a, b) => json::cmp::equal(a, b),
    }
}

/// A hash that is the same for equal values, with a secret seed.
fn digest(value: &Value, state: &RandomState) -> u64 {
    let mut hasher = state.build_hasher();
    match value {
        Value::Null => 0_u8.hash(&mut hasher),
        Value::Bool(yes) => (1_u8, yes).hash(&mut hasher),
        Value::Number(number) => {
            // Removes the sign of a zero.
            let float = number.as_f64().unwrap_or_default() + 0.0;
            (2_u8, float.to_bits()).hash(&mut hasher);
        }
        Value::String(text) => {
            step(text_steps(text));
            (3_u8, text).hash(&mut hasher);
        }
        Value::Array(items) => {
            (4_u8, items.len()).hash(&mut hasher);
            for item in items {
                digest(item, state).hash(&mut hasher);
            }
        }
        Value::Object(members) => {
            (5_u8, members.len()).hash(&mut hasher);
            // Independent of the order.
            let members = members
                .iter()
                .map(|(name, value)| state.hash_one((name, digest(value, state))));
            members.fold(0_u64, u64::wrapping_add).hash(&mut hasher);
        }
    }
    step(1);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::ext::json_schema::meter::{Budget, metered};
    use crate::runtime::heavy::Heavy;

    #[test]
    fn items_are_compared_as_json_values() {
        let with = |items: Vec<Value>| {
            let few = are_unique(&items);
            // The same result among many other items, where they are looked up by their digests.
            let more = (100..140).map(|n| json!({ "n": n }));
            let many: Vec<Value> = items.into_iter().chain(more).collect();
            assert_eq!(few, are_unique(&many), "{many:?}");
            few
        };
        assert!(with(vec![json!([]), json!([[]]), json!([[[]]]), json!({})]));
        assert!(with(vec![json!([1, 2]), json!([2, 1]), json!([[1], 2])]));
        assert!(with(vec![json!(1), json!("1"), json!(true), json!(null)]));
        assert!(!with(vec![json!(1), json!(1.0)]));
        assert!(!with(vec![json!(0), json!(-0.0)]));
        assert!(!with(vec![
            json!({"a": 1, "b": [2]}),
            json!({"b": [2.0], "a": 1})
        ]));
        assert!(with(vec![json!({"a": 1}), json!({"a": 1, "b": null})]));
    }

    #[test]
    fn the_steps_of_lists_of_empty_lists_are_linear() {
        // All lists with the same number of brackets: the worst case of a hash that ignores nesting.
        fn lists(pairs: usize) -> Vec<Value> {
            match pairs {
                0 => vec![json!([])],
                _ => (0..pairs)
                    .flat_map(|first| {
                        let others = lists(pairs - 1 - first);
                        lists(first).into_iter().flat_map(move |head| {
                            others.clone().into_iter().map(move |rest| {
                                let mut all = vec![head.clone()];
                                all.extend(rest.as_array().into_iter().flatten().cloned());
                                json!(all)
                            })
                        })
                    })
                    .collect(),
            }
        }
        let items = lists(10);
        assert_eq!(items.len(), 16_796);
        let budget = Budget {
            steps: 40 * items.len() as u64,
            bytes: usize::MAX,
            failure: 0,
        };
        let mut heavy = Some(Heavy::until(Instant::now() + Duration::from_secs(60)));
        let judged = metered(budget, &mut heavy, || are_unique(&items));
        assert_eq!(judged, Ok(true));
    }
}
