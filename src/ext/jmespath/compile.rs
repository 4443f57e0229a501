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
    EndpointPart::pipe(query(node, site.streams))
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    _cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(query(node, site.endpoint.streams))
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
