//! Subschemas that are evaluated separately for failed items when failures are reported.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::schema::Validator;
use crate::config::path::token;

/// The maximum number of them.
const MOST: usize = 64;

/// Keywords whose failures do not describe the items.
const KEYWORDS: [&str; 3] = ["contains", "unevaluatedItems", "unevaluatedProperties"];

/// The subschemas by their location in the schema.
#[derive(Default)]
pub(super) struct Parts(HashMap<String, Validator>);

impl Parts {
    /// Compiles the subschemas of `schema`, whose address is `root`. One that cannot be evaluated separately is
    /// omitted.
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
