//! Finds guards outside of `extra_config`: an endpoint that seems to be protected must not start open.

use crate::compile::namespaces;
use crate::config::key::is_comment;
use crate::config::{ConfigError, Data, Node, Rule};

/// The lists of objects that have an `extra_config`.
const LISTS: [&str; 3] = ["endpoints", "backend", "async_agent"];

/// Reports every guard beside an `extra_config`, within a block of it, or within a key that is meant to be one:
/// `extraConfig`.
pub(super) fn report(root: &Node<'_>) {
    for (name, inner) in root.members() {
        if is_comment(name) {
            continue;
        }
        if name.eq_ignore_ascii_case("extra_config") {
            let blocks = inner.members();
            let blocks = blocks.iter().filter(|(name, _)| !is_comment(name));
            blocks.for_each(|(_, block)| within(block));
        } else if LISTS.iter().any(|list| name.eq_ignore_ascii_case(list)) {
            inner.items().iter().for_each(report);
            report(&inner);
        } else if namespaces::is_guard(name) {
            misplaced(name, &inner, "it belongs in the \"extra_config\" beside it");
        } else {
            within(&inner);
        }
    }
}

/// The same for a value that is not an `extra_config`.
fn within(node: &Node<'_>) {
    if !matches!(node.value().data, Data::Object(_)) {
        return;
    }
    for (name, inner) in node.members() {
        if is_comment(name) {
            continue;
        }
        if namespaces::is_guard(name) {
            misplaced(name, &inner, "only \"extra_config\" holds namespaces");
        } else {
            within(&inner);
        }
    }
}

fn misplaced(name: &str, node: &Node<'_>, hint: &'static str) {
    let text = format!("{name:?} has no effect here, and nothing would be guarded");
    node.clone()
        .ruled(Rule::Guard)
        .config_error_hint(ConfigError::invalid(text), hint);
}
