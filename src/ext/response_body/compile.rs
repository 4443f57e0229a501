//! Compiles the blocks.

use std::sync::atomic::AtomicBool;

use regex::bytes::Regex;

use super::config::KEYS;
use super::runtime::{Change, Modifier, Replacer};
use crate::config::{Block, ConfigError, Node, re2};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};

const NAMES: [&str; 5] = ["literal", "regexp", "lower", "upper", "trim"];

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    _cx: &mut Compile<'_>,
) -> EndpointPart {
    EndpointPart::pipe(compiled(node, site.streams, site.pattern))
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    _cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(compiled(node, site.endpoint.streams, site.pattern))
}

fn compiled(node: &Node<'_>, streams: bool, place: &str) -> Option<Replacer> {
    let block = node.block(KEYS)?;
    if refuses_streams(node, streams) {
        return None;
    }
    if !block.has("modifiers") {
        block.missing("modifiers");
        return None;
    }
    let modifiers = block.blocks("modifiers");
    let modifiers: Vec<Modifier> = modifiers.iter().filter_map(modifier).collect();
    Some(replacer(modifiers, block.flag("strict"), place))
}

fn replacer(modifiers: Vec<Modifier>, strict: bool, place: &str) -> Replacer {
    Replacer {
        modifiers: modifiers.into(),
        strict,
        place: place.into(),
        warned: AtomicBool::new(false),
    }
}

fn refuses_streams(node: &Node<'_>, streams: bool) -> bool {
    if streams {
        node.config_error_hint(
            ConfigError::invalid("the response of a \"no-op\" endpoint is not decoded"),
            "\"output_encoding\": \"json\"",
        );
    }
    streams
}

fn modifier(block: &Block<'_>) -> Option<Modifier> {
    let mut named = NAMES.iter().filter(|name| block.has(name));
    let (Some(name), None) = (named.next(), named.next()) else {
        block.node().config_error_hint(
            ConfigError::invalid("there must be exactly one modifier in each object"),
            NAMES.join(", "),
        );
        return None;
    };
    let inner = block.block(name)?;
    let field = inner.required("field")?;
    let node = inner.get("field")?;
    Some(Modifier {
        field: path(&field, &node)?,
        change: change(name, &inner)?,
    })
}

fn path(field: &str, node: &Node<'_>) -> Option<Box<[Box<str>]>> {
    let parts: Box<[Box<str>]> = field.split('.').map(Box::from).collect();
    if parts.iter().any(|part| part.is_empty()) {
        node.invalid(format!("{field:?} is not a dotted path"));
        return None;
    }
    Some(parts)
}

fn change(name: &str, block: &Block<'_>) -> Option<Change> {
    let replace = || {
        if !block.has("replace") {
            block.missing("replace");
        }
        block.text("replace").map(Box::<str>::from)
    };
    Some(match name {
        "lower" => Change::Lower,
        "upper" => Change::Upper,
        "trim" => Change::Trim(block.required("find")?.into()),
        "literal" => Change::Literal {
            find: block.required("find")?.into(),
            replace: replace()?,
        },
        _ => {
            let text = block.required("find")?;
            let node = block.get("find")?;
            let find = match re2::compile(&text) {
                Ok(find) => find,
                Err(error) => {
                    node.invalid(error.to_string());
                    return None;
                }
            };
            let replace = replace()?;
            if let Some(group) = missing_group(&find, &replace) {
                node.invalid(format!("there is no group {group:?} in this expression"));
                return None;
            }
            Change::Regexp { find, replace }
        }
    })
}

/// The first group that a replacement names and the expression does not have.
fn missing_group(find: &Regex, replace: &str) -> Option<String> {
    let has = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < find.captures_len(),
        Err(_) => find.capture_names().flatten().any(|known| known == name),
    };
    let mut rest = replace;
    while let Some(at) = rest.find('$') {
        rest = rest.get(at + 1..)?;
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split('}').next().unwrap_or_default(),
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
            }
        };
        if !name.is_empty() && !has(name) {
            return Some(name.to_owned());
        }
    }
    None
}
