//! Schemas within a schema that are asked by themselves, of items that failed one by one, when failures are told.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::schema::Validator;
use crate::config::path::token;

/// More of them are not kept.
const MOST: usize = 64;

/// Keywords whose failures say nothing of the items.
const KEYWORDS: [&str; 3] = ["contains", "unevaluatedItems", "unevaluatedProperties"];

/// By their places in the schema.
#[derive(Default)]
pub(super) struct Parts(HashMap<String, Validator>);

impl Parts {
    /// Compiles those of `schema`, whose address is `root`. One that cannot be asked by itself is left out.
    pub(super) fn compile(
        schema: &Value,
        root: &str,
        build: impl Fn(&Value) -> Option<Validator>,
    ) -> Parts {
        let mut places = Vec::new();
        find(schema, String::new(), &mut places);
        let validator = |place: String| {
            let fragment = place.replace('%', "%25");
            let reference = json!({ "$ref": format!("{root}#{fragment}") });
            Some((place, build(&reference)?))
        };
        Parts(places.into_iter().filter_map(validator).collect())
    }

    pub(super) fn get(&self, place: &str) -> Option<&Validator> {
        self.0.get(place)
    }
}

fn find(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let at = format!("{at}/{}", token(key));
                if KEYWORDS.contains(&&**key) && value.is_object() && places.len() < MOST {
                    places.push(at.clone());
                }
                find(value, at, places);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find(item, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}
