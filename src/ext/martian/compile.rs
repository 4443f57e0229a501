//! Compiles a definition to a tree. As in KrakenD, a single invalid definition disables the whole block, with a
//! warning.

use super::condition::Condition;
use super::config::KEYS;
use super::modifier::{Modifier, Scope, What};
use super::runtime::Martian;
use super::{filter, leaf};
use crate::config::suggest::nearest;
use crate::config::{Block, ConfigError, Kind, Node, Typing};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;

pub(super) fn backend(
    node: &Node<'_>,
    _site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    match modifier(node, cx) {
        Some(root) if cx.report.config_errors() == before => {
            BackendPart::OnWire(Box::new(Martian::new(root)))
        }
        _ => {
            node.warn_hint(
                ConfigError::invalid("every call is made without this block, as in KrakenD"),
                "one invalid modifier disables the whole block",
            );
            BackendPart::Nothing
        }
    }
}

/// Compiles one definition, `{"header.Modifier": {…}}`. `None` after an error, which is reported.
pub(super) fn modifier(node: &Node<'_>, cx: &Compile<'_>) -> Option<Modifier> {
    let (name, inner) = only(node)?;
    let Some(known) = KEYS.iter().find(|known| known.name == name) else {
        unknown(&inner, name);
        return None;
    };
    let Kind::Block(keys) = known.kind else {
        // Verifiers have no effect.
        inner.object()?;
        return Some(Modifier {
            scope: Scope::default(),
            what: What::Nothing,
        });
    };
    let block = inner.block(keys)?;
    let scope = scope(&block, known.name, leaf::supported(known.name));
    let (reach, what) = match known.name {
        "fifo.Group" => fifo(&block, cx)?,
        "priority.Group" => priority(&block, cx)?,
        name => match filter::condition(name, &block) {
            Some(condition) => filtered(condition, &block, cx)?,
            None => (
                Scope::BOTH,
                What::Change(leaf::change(name, &block, scope, cx)?),
            ),
        },
    };
    Some(Modifier {
        scope: scope?.and(reach),
        what,
    })
}

/// The only member of a definition.
fn only<'a>(node: &Node<'a>) -> Option<(&'a str, Node<'a>)> {
    let mut members = node.object()?.members().into_iter();
    match (members.next(), members.next()) {
        (Some(only), None) => Some(only),
        (None, _) => {
            node.config_error_hint(
                ConfigError::invalid("a modifier is missing"),
                "{\"header.Modifier\": {\"name\": \"X-Name\", \"value\": \"value\"}}",
            );
            None
        }
        (Some((first, _)), Some((second, _))) => {
            node.config_error_hint(
                ConfigError::invalid(format!(
                    "exactly one modifier is expected, but there are {first:?} and {second:?}"
                )),
                "{\"fifo.Group\": {\"modifiers\": [ … ]}} runs several",
            );
            None
        }
    }
}

fn unknown(node: &Node<'_>, name: &str) {
    let config_error = ConfigError::invalid(format!("unknown modifier: {name}"));
    match nearest(name, KEYS.iter().map(|known| known.name)) {
        Some(meant) => node.config_error_hint(config_error, format!("did you mean \"{meant}\"?")),
        None => node.config_error(config_error),
    }
}

/// The configured scope of a modifier. By default, everywhere the modifier is supported.
fn scope(block: &Block<'_>, name: &str, supported: Scope) -> Option<Scope> {
    let Some(node) = block.get("scope") else {
        return Some(supported);
    };
    let mut scope = Scope::default();
    let mut usable = true;
    node.texts(Typing::Strict)?;
    for item in node.items() {
        let one = match item.text(Typing::Strict) {
            Some("request") => Scope::REQUEST,
            Some("response") => Scope::RESPONSE,
            _ => {
                item.config_error(ConfigError::NotOneOf {
                    found: item.shown(),
                    allowed: "request, response".to_owned(),
                });
                usable = false;
                continue;
            }
        };
        if one.and(supported) != one {
            item.config_error_hint(
                ConfigError::invalid(format!("{name} cannot act on a {}", words(one))),
                format!("\"scope\": [\"{}\"]", words(supported)),
            );
            usable = false;
        }
        scope = scope.or(one);
    }
    if node.items().is_empty() {
        node.warn(ConfigError::invalid(format!(
            "without a scope, {name} has no effect"
        )));
    }
    usable.then_some(scope)
}

fn words(scope: Scope) -> &'static str {
    match scope {
        Scope::RESPONSE => "response",
        _ => "request",
    }
}

type Compiled = Option<(Scope, What)>;

fn filtered(condition: Option<Condition>, block: &Block<'_>, cx: &Compile<'_>) -> Compiled {
    let then = nested(block, cx);
    let has_else = filter::has_else(block);
    let otherwise = has_else.then(|| block.get("else")).flatten();
    // All of them are compiled, so that all errors are reported.
    let otherwise = match otherwise {
        Some(node) => Some(Box::new(modifier(&node, cx)?)),
        None => None,
    };
    let (condition, then) = (condition?, Box::new(then?));
    let other = otherwise
        .as_ref()
        .map_or(Scope::default(), |modifier| modifier.scope);
    let reach = then.scope.or(other);
    let what = What::Filter {
        condition,
        then,
        otherwise,
    };
    Some((reach, what))
}

fn nested(block: &Block<'_>, cx: &Compile<'_>) -> Option<Modifier> {
    match block.get("modifier") {
        Some(node) => modifier(&node, cx),
        None => {
            block.missing("modifier");
            None
        }
    }
}

fn fifo(block: &Block<'_>, cx: &Compile<'_>) -> Compiled {
    let list = block.list("modifiers");
    let modifiers = list.iter().map(|node| modifier(node, cx)).collect();
    group(modifiers, block.flag("aggregateErrors"))
}

/// Of equal priorities, the last one in the configuration runs first.
fn priority(block: &Block<'_>, cx: &Compile<'_>) -> Compiled {
    let entries = block.blocks("modifiers");
    let mut modifiers: Vec<(i64, Option<Modifier>)> = entries
        .iter()
        .rev()
        .map(|entry| {
            let priority = entry.integer("priority").unwrap_or(0);
            (priority, nested(entry, cx))
        })
        .collect();
    modifiers.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let modifiers = modifiers
        .into_iter()
        .map(|(_, modifier)| modifier)
        .collect();
    group(modifiers, false)
}

fn group(modifiers: Vec<Option<Modifier>>, aggregate: bool) -> Compiled {
    let modifiers: Box<[Modifier]> = modifiers.into_iter().collect::<Option<_>>()?;
    let reach = modifiers
        .iter()
        .fold(Scope::default(), |reach, one| reach.or(one.scope));
    let what = What::Group {
        modifiers,
        aggregate,
    };
    Some((reach, what))
}
