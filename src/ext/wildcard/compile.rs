//! From the block to the table of prefixes.

use std::sync::Arc;

use super::SERVICE;
use crate::config::{ConfigError, Node, Typing};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::runtime::prerouting::{PreroutingPart, Wildcards, decoded};

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(SERVICE.keys) else {
        return ServicePart::Nothing;
    };
    let Some(endpoints) = block.object("endpoints") else {
        if !block.has("endpoints") {
            block.missing("endpoints");
        }
        return ServicePart::Nothing;
    };
    let mut wildcards = Wildcards::default();
    for (endpoint, prefixes) in endpoints.members() {
        let Some(endpoint) = path(endpoint, &prefixes) else {
            continue;
        };
        let Some(list) = prefixes.texts(Typing::Strict) else {
            continue;
        };
        for prefix in &list {
            if let Some(prefix) = path(prefix, &prefixes)
                && !wildcards.add(prefix, endpoint)
            {
                prefixes.invalid(format!("the prefix {prefix:?} is configured twice"));
            }
        }
    }
    let wildcards = Arc::new(wildcards);
    cx.set_fact(Arc::clone(&wildcards));
    ServicePart::Ahead(PreroutingPart::Wildcards(wildcards))
}

/// A path without a slash or a wildcard at its end.
fn path<'t>(text: &'t str, node: &Node<'_>) -> Option<&'t str> {
    let bare = text.strip_suffix("/*").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    if bare.is_empty() || bare.contains(['*', '{', '?', '%']) || decoded(bare).is_none() {
        node.config_error_hint(
            ConfigError::invalid(format!("{text:?} is not the beginning of a path")),
            "such as \"/foo\"",
        );
        return None;
    }
    Some(bare)
}
