//! Compiles the blocks.

use std::sync::Arc;

use http::HeaderValue;

use super::config::{RESPONSE_HEADERS, RESPONSE_HEADERS_ENDPOINT};
use crate::config::{Block, ConfigError, Extra, Node, Typing};
use crate::runtime::response_edits::{HeaderEdits, Name};

/// Headers of the connection and of the framing, which only the server sets.
const OURS: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Fields that protect the client.
const PROTECTING: &[&str] = &[
    "content-security-policy",
    "strict-transport-security",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
];

/// Compiles the service's block. The flag is true if the health endpoint is covered.
pub(crate) fn service(extra: &Extra<'_>) -> Option<(Arc<HeaderEdits>, bool)> {
    let block = extra.open(&RESPONSE_HEADERS)?;
    let health = block.flag("health");
    Some((edits(&block), health))
}

/// Compiles an endpoint's block.
pub(crate) fn endpoint(extra: &Extra<'_>) -> Option<Arc<HeaderEdits>> {
    let block = extra.open(&RESPONSE_HEADERS_ENDPOINT)?;
    Some(edits(&block))
}

fn edits(block: &Block<'_>) -> Arc<HeaderEdits> {
    let keys = ["delete", "rename", "replace", "add"];
    if !keys.iter().any(|key| block.has(key)) {
        block.node().config_error_hint(
            ConfigError::invalid("there is nothing to change"),
            "\"delete\", \"rename\", \"replace\" or \"add\"",
        );
    }
    Arc::new(HeaderEdits {
        delete: delete(block),
        rename: rename(block),
        replace: values(block, "replace"),
        add: values(block, "add"),
    })
}

fn delete(block: &Block<'_>) -> Box<[http::HeaderName]> {
    let nodes = block.list("delete");
    let names = nodes.iter().filter_map(|node| {
        let name = name(node.text(Typing::Strict)?, node)?;
        warn_of_loss(&name, node);
        Some(name.name)
    });
    names.collect()
}

fn rename(block: &Block<'_>) -> Box<[(http::HeaderName, Name)]> {
    let Some(map) = block.object("rename") else {
        return Box::default();
    };
    let members = map.members();
    let pairs = members.iter().filter_map(|(old, node)| {
        let old = name(old, node)?;
        let new = name(node.text(Typing::Strict)?, node)?;
        warn_of_loss(&old, node);
        warn_of_body(&new, node);
        Some((old.name, new))
    });
    pairs.collect()
}

fn values(block: &Block<'_>, key: &str) -> Box<[(Name, Box<[HeaderValue]>)]> {
    let Some(map) = block.object(key) else {
        return Box::default();
    };
    let members = map.members();
    let pairs = members.iter().filter_map(|(written, node)| {
        let name = name(written, node)?;
        if key == "replace" && name.name == http::header::SET_COOKIE {
            node.warn(ConfigError::invalid("the cookies of backends are dropped"));
        }
        warn_of_body(&name, node);
        let texts = node.texts(Typing::Strict)?;
        let values = texts.iter().filter_map(|text| value(text, node)).collect();
        Some((name, values))
    });
    pairs.collect()
}

fn value(text: &str, node: &Node<'_>) -> Option<HeaderValue> {
    let value = HeaderValue::try_from(text).ok();
    if value.is_none() {
        node.invalid("a value has a control character");
    }
    value
}

fn name(text: &str, node: &Node<'_>) -> Option<Name> {
    let Some(name) = Name::parse(text) else {
        node.config_error(ConfigError::header_name(text));
        return None;
    };
    if OURS.contains(&name.name.as_str()) {
        node.invalid(format!(
            "{text} belongs to the connection: it cannot be changed"
        ));
        return None;
    }
    Some(name)
}

fn warn_of_loss(name: &Name, node: &Node<'_>) {
    let text = name.name.as_str();
    if PROTECTING.contains(&text) || text.starts_with("access-control-") {
        node.warn(ConfigError::invalid(format!(
            "{text} protects the client, and is removed from every response"
        )));
    }
    warn_of_body(name, node);
}

fn warn_of_body(name: &Name, node: &Node<'_>) {
    let text = name.name.as_str();
    if matches!(text, "content-type" | "content-encoding") {
        node.warn(ConfigError::invalid(format!(
            "{text} says how the body is read: a wrong one makes it unreadable"
        )));
    }
}
