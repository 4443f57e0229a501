//! Misspelt keywords. JSON Schema ignores unknown keywords, so a misspelt rule would not be checked.

use crate::config::suggest::nearest;
use crate::config::{ConfigError, Data, Node};

/// Keywords that decide which values are valid.
const DECIDING: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Keywords that describe, of JSON Schema and of OpenAPI.
const DESCRIBING: &[&str] = &[
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "id",
    "if",
    "nullable",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];

/// Keywords that hold a schema, or a list of schemas.
const SCHEMAS: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords that hold schemas by name.
const NAMED: &[&str] = &[
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Shorter words are too similar to `not`, `then` and `type` to count as misspelt keywords.
const SHORTEST: usize = 5;

/// Reports unknown keywords that are similar to one that decides.
pub(in crate::ext) fn report(schema: &Node<'_>) {
    let Data::Object(_) = schema.value().data else {
        return schema.items().iter().for_each(report);
    };
    for (name, inner) in schema.members() {
        if SCHEMAS.contains(&name) {
            report(&inner);
        } else if !DECIDING.contains(&name) && !DESCRIBING.contains(&name) {
            unknown(name, &inner);
        }
    }
    for name in NAMED {
        let named = schema.get(name).map(|named| named.members());
        let named = named.unwrap_or_default();
        named.iter().for_each(|(_, inner)| report(inner));
    }
}

fn unknown(name: &str, node: &Node<'_>) {
    if name.len() < SHORTEST || name.starts_with("x-") {
        return;
    }
    let all = DECIDING.iter().chain(DESCRIBING).copied();
    let near = nearest(name, all).filter(|near| DECIDING.contains(near));
    if let Some(near) = near {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "the keyword {name:?} is unknown, and what it requires would not be checked"
            )),
            format!("did you mean \"{near}\"? To ignore it, write \"x-{name}\""),
        );
    }
}
