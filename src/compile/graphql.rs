//! `backend/graphql`.

use crate::compile::{files, static_data};
use crate::config::{Block, ConfigError, Node};
use crate::ext::Compile;
use crate::ext::graphql::GRAPHQL;
use crate::runtime::graphql::{GraphQl, GraphQlSpec, Operation};

/// Compiles the block. `None` if it has no effect or is invalid, which is reported.
///
/// As in KrakenD, a plain call is made if the type is unknown or the file of the query cannot be read.
pub(super) fn graphql(node: &Node<'_>, cx: &Compile<'_>) -> Option<GraphQl> {
    let block = node.block(GRAPHQL.keys)?;
    let operation = operation(&block)?;
    let query = query(&block, cx)?;
    let method = block.text("method").unwrap_or("POST");
    let by_get = method.eq_ignore_ascii_case("GET");
    if !by_get
        && !method.eq_ignore_ascii_case("POST")
        && let Some(node) = block.get("method")
    {
        node.warn_hint(
            ConfigError::NotOneOf {
                found: node.shown(),
                allowed: "GET, POST".to_owned(),
            },
            "POST is used",
        );
    }
    Some(GraphQl::compile(GraphQlSpec {
        operation,
        by_get,
        query,
        operation_name: block.string("operationName").unwrap_or_default(),
        variables: block
            .object("variables")
            .map(|node| static_data::object(&node))
            .unwrap_or_default(),
    }))
}

fn operation(block: &Block<'_>) -> Option<Operation> {
    let Some(node) = block.get("type") else {
        // As in KrakenD, without a type the call is unchanged.
        block.node().warn_hint(
            ConfigError::Missing("type"),
            "\"query\" or \"mutation\"; without it the block does nothing",
        );
        return None;
    };
    match block.text("type")?.to_ascii_lowercase().as_str() {
        "query" => Some(Operation::Query),
        "mutation" => Some(Operation::Mutation),
        _ => {
            node.config_error(ConfigError::NotOneOf {
                found: node.shown(),
                allowed: "query, mutation".to_owned(),
            });
            None
        }
    }
}

fn query(block: &Block<'_>, cx: &Compile<'_>) -> Option<String> {
    if let Some(query) = block.text("query").filter(|query| !query.is_empty()) {
        return Some(query.to_owned());
    }
    match block.get("query_path") {
        Some(path) => files::text(&path, cx),
        None => {
            // Servers that identify operations by name need no query.
            block.node().warn_hint(
                ConfigError::Missing("query"),
                "without \"query\" or \"query_path\" the call contains only \"operationName\"",
            );
            Some(String::new())
        }
    }
}
