//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const GRAPHQL: Namespace = Namespace {
    name: "backend/graphql",
    aliases: &["github.com/devopsfaith/krakend/transport/http/client/graphql"],
    guard: false,
    doc: "Turns the call into a GraphQL request.",
    keys: &[
        key("type", Kind::Text, "", "`query` or `mutation`. Required.")
            .in_any_case(&["query", "mutation"]),
        key("method", Kind::Text, "POST", "`GET` or `POST`.").in_any_case(&["GET", "POST"]),
        key("query", Kind::Text, "", "The document."),
        key("query_path", Kind::Text, "", "A file with the document."),
        key(
            "operationName",
            Kind::Text,
            "",
            "The name of the operation in the document.",
        ),
        key(
            "variables",
            Kind::Object,
            "",
            "Values; `\"{name}\"` is the endpoint's parameter.",
        ),
    ],
};
