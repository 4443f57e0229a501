//! Compiles the block.

use super::config::KEYS;
use super::expression::Expression;
use super::runtime::Query;
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    _cx: &mut Compile<'_>,
) -> EndpointPart {
    match query(node, site.streams) {
        Some(query) => EndpointPart::Piped {
            steps: Vec::new(),
            pipes: vec![Box::new(query)],
        },
        None => EndpointPart::Nothing,
    }
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    _cx: &mut Compile<'_>,
) -> BackendPart {
    match query(node, site.endpoint.streams) {
        Some(query) => BackendPart::Pipe(Box::new(query)),
        None => BackendPart::Nothing,
    }
}

fn query(node: &Node<'_>, streams: bool) -> Option<Query> {
    let block = node.block(KEYS)?;
    if streams {
        node.config_error_hint(
            ConfigError::invalid("the response of a \"no-op\" endpoint is not decoded"),
            "\"output_encoding\": \"json\"",
        );
        return None;
    }
    let text = block.required("expr")?;
    match Expression::parse(&text) {
        Ok(expression) => Some(Query { expression }),
        Err(error) => {
            let node = block.get("expr")?;
            node.invalid(format!("not a JMESPath expression: {error}"));
            None
        }
    }
}
