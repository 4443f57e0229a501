//! `validation/json-schema`, in an endpoint: rejects request bodies that do not match a schema.
//!
//! | module | content |
//! |---|---|
//! | `schema` | a compiled schema; the only module that uses the validator crate |
//! | `files` | resolves `$ref` to files, at start; the network is never used |
//! | `meter` | values that count their use, so that no body makes validation long |
//! | `costs` | what one failure costs in memory |
//! | `format` | the formats of `format`, and why a text does not match |
//! | `quote` | texts as Go quotes them |
//! | `failure_tree` | failures, grouped as KrakenD's validator reports them |
//! | `order` | the order in which KrakenD's validator evaluates keywords |
//! | `unique` | `uniqueItems`, and which values are equal |
//! | `subschemas` | subschemas that are evaluated separately when failures are reported |
//! | `patterns` | regular expressions of a schema, which are RE2 |
//! | `number` | numbers as KrakenD's validator formats them |
//! | `misspelt` | misspelt keywords, at start |
//! | `messages` | the error messages of KrakenD's validator |
//! | `compile`, `runtime` | the compilation of the block, and its step |

mod compile;
mod costs;
mod failure_tree;
mod files;
mod format;
mod messages;
mod meter;
mod misspelt;
mod number;
mod order;
mod patterns;
mod quote;
mod runtime;
mod schema;
mod subschemas;
#[cfg(test)]
mod tests;
mod unique;

pub(in crate::ext) use misspelt::report as report_slips;
pub(in crate::ext) use runtime::{charge, read};
pub(in crate::ext) use schema::{Rejection, Schema};

use super::extension::EndpointExtension;

pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "validation/json-schema",
    aliases: &["github.com/devopsfaith/krakend-jsonschema"],
    guard: true,
    doc: "A JSON Schema for the request's body. A request whose body is not valid gets 400 and reaches no backend. `$schema` selects the draft (4, 6, 7, 2019-09, 2020-12; default 2020-12). `format` is asserted up to draft 7. `$ref` can refer to files, never to the network. See [validation](validation.md).",
    keys: &[],
    compile: compile::endpoint,
};
