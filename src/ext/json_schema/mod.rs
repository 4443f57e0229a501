//! `validation/json-schema`, in an endpoint: lets pass only bodies that fit a schema.
//!
//! | module | what lives there |
//! |---|---|
//! | `schema` | a schema, compiled; the only place that names the crate which validates |
//! | `files` | where `$ref` leads to: files, at start, and never the network |
//! | `meter` | values whose use is counted, so that no body makes the validator's work long |
//! | `format` | what `format` asserts, and why a text does not fit |
//! | `quote` | texts as Go shows them |
//! | `tree` | failures, sorted as KrakenD's validator tells them |
//! | `order` | the order in which KrakenD's validator looks at a schema's keywords |
//! | `parts` | schemas within a schema that are asked by themselves when failures are told |
//! | `patterns` | regular expressions of a schema, which are RE2 |
//! | `number` | numbers as KrakenD's validator shows them |
//! | `wording` | what is wrong with a body, in the words of KrakenD's validator |
//! | `compile`, `runtime` | what the block means, and its step |

mod compile;
mod files;
mod format;
mod meter;
mod number;
mod order;
mod parts;
mod patterns;
mod quote;
mod runtime;
mod schema;
#[cfg(test)]
mod tests;
mod tree;
mod wording;

use super::registry::EndpointExtension;

/// `validation/json-schema`.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "validation/json-schema",
    aliases: &["github.com/devopsfaith/krakend-jsonschema"],
    doc: "A JSON Schema for the request's body: one that does not fit gets 400, and no backend sees it. The draft is \
          `$schema`'s (4, 6, 7, 2019-09, 2020-12), 2020-12 without one; `format` is asserted up to draft 7. `$ref` leads \
          to files, never to the network. See [validation](validation.md).",
    keys: &[],
    compile: compile::endpoint,
};
