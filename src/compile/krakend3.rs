//! What KrakenD 3.0 reads differently from KrakenD 2, which reads version-3 files, as far as it was public in
//! November 2026.
//!
//! For a version-3 file, `check --compat krakend-3` lists what KrakenD 3.0 would drop. A version-4 file with such a
//! part gets a warning, because KrakenD ignores the part while it works here.

use crate::compile::namespaces::{self, Found};
use crate::compile::plugins;
use crate::config::key::is_comment;
use crate::config::{ConfigError, Data, Node};
use crate::ext::plugins::PluginKind;

/// A part of a configuration that KrakenD 3.0 would treat differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub pointer: String,
    /// KrakenD 3.0 drops the part.
    pub lost: bool,
    /// What changes, and what to write instead.
    pub text: String,
    /// How this gateway handles it.
    pub here: &'static str,
}

const WORKS: &str = "here it keeps working";
const NOT_BUILT: &str = "here it is not supported either";
const BOTH: &str = "here both are read";

/// Namespaces that KrakenD 3.0 removes, with their replacements.
const REMOVED: &[(&str, &str)] = &[
    (
        "telemetry/opencensus",
        "removed; write \"telemetry/opentelemetry\"",
    ),
    (
        "telemetry/influx",
        "removed; write \"telemetry/opentelemetry\"",
    ),
    (
        "telemetry/metrics",
        "removed from the schema; write \"telemetry/opentelemetry\"",
    ),
    (
        "plugin/http-server",
        "the Community Edition no longer has plugins",
    ),
    (
        "plugin/http-client",
        "the Community Edition no longer has plugins",
    ),
    (
        "plugin/req-resp-modifier",
        "the Community Edition no longer has plugins",
    ),
    (
        "plugin/middleware",
        "the Community Edition no longer has plugins",
    ),
];

/// The parts of this configuration that KrakenD 3.0 would read differently, in the configured order.
pub(crate) fn changes(root: &Node<'_>) -> Vec<Change> {
    let mut all = Vec::new();
    for (name, node) in root.members() {
        if name.eq_ignore_ascii_case("version") && node.value().to_json().trim_matches('"') == "3" {
            let text = "3 must become 4".to_owned();
            all.push(change(&node, false, text, BOTH));
        }
        if name.eq_ignore_ascii_case("plugin") {
            let text = "the Community Edition no longer has plugins".to_owned();
            all.push(change(&node, true, text, NOT_BUILT));
        }
    }
    walk(root, &mut all);
    all
}

/// Warns about the parts of a version-4 file that KrakenD 3.0 drops.
pub(crate) fn warn(root: &Node<'_>) {
    for (node, change) in found(root) {
        if change.lost {
            node.warn_hint(
                ConfigError::invalid(format!("KrakenD 3.0 ignores this: {}", change.text)),
                change.here,
            );
        }
    }
}

fn found<'a>(root: &Node<'a>) -> Vec<(Node<'a>, Change)> {
    let mut all = Vec::new();
    visit(root, &mut |node, change| all.push((node.clone(), change)));
    all
}

fn walk(root: &Node<'_>, all: &mut Vec<Change>) {
    visit(root, &mut |_, change| all.push(change));
}

/// Visits every `extra_config` of the configuration, at any depth.
fn visit<'a>(node: &Node<'a>, tell: &mut impl FnMut(&Node<'a>, Change)) {
    match &node.value().data {
        Data::Object(_) => {
            for (name, inner) in node.members() {
                if name.eq_ignore_ascii_case("extra_config") {
                    inner
                        .members()
                        .iter()
                        .for_each(|(name, block)| namespace(name, block, tell))
                } else if matches!(name, "endpoints" | "backend" | "async_agent") {
                    // Bodies and schemas are not visited.
                    visit(&inner, tell)
                }
            }
        }
        Data::List(_) => node.items().iter().for_each(|item| visit(item, tell)),
        _ => {}
    }
}

fn namespace<'a>(name: &str, block: &Node<'a>, tell: &mut impl FnMut(&Node<'a>, Change)) {
    if is_comment(name) {
        return;
    }
    let known = namespaces::lookup(name);
    let moved = PluginKind::of(name).is_some_and(|kind| plugins::are_built_in(kind, block));
    let here = match &known {
        Some(Found { built: true, .. }) => WORKS,
        _ if moved => WORKS,
        _ => NOT_BUILT,
    };
    if let Some(known) = known.as_ref().filter(|known| known.name != name) {
        let open = if known.guard {
            ", and nothing would be guarded"
        } else {
            ""
        };
        let text = format!(
            "the old name is not read any more{open}; write {:?}",
            known.name
        );
        tell(block, change(block, true, text, here));
    }
    let short = known.as_ref().map_or(name, |known| known.name);
    if let Some((_, what)) = REMOVED.iter().find(|(removed, _)| *removed == short) {
        tell(block, change(block, true, (*what).to_owned(), here));
    }
    if short == "proxy"
        && let Some(sequential) = block.get("sequential")
    {
        let text = "deprecated; write \"strategy\": \"sequential\"".to_owned();
        tell(&sequential, change(&sequential, false, text, WORKS));
    }
}

fn change(node: &Node<'_>, lost: bool, text: String, here: &'static str) -> Change {
    Change {
        pointer: node.pointer(),
        lost,
        text,
        here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Report, json};

    fn told(text: &str) -> Vec<String> {
        let report = Report::new();
        let value = json::parse(text, &report).unwrap();
        changes(&Node::root(&value, &report))
            .into_iter()
            .map(|one| {
                let lost = if one.lost { "LOST " } else { "" };
                format!("{lost}{}: {}", one.pointer, one.text)
            })
            .collect()
    }

    #[test]
    fn old_names_plugins_and_removed_parts_are_reported() {
        let found = told(
            r#"{"version": 3, "plugin": {"folder": "x"},
                "extra_config": {"telemetry/influx": {}, "github_com/devopsfaith/krakend-cors": {}, "@github.com/x": 1},
                "endpoints": [{"endpoint": "/a",
                    "extra_config": {"github.com/devopsfaith/krakend-jose/validator": {}, "proxy": {"sequential": true},
                                     "auth/validator": {}},
                    "backend": [{"extra_config": {"github.com/devopsfaith/krakend-martian": {"extra_config": {"a": 1}},
                                                  "plugin/http-client": {}}}]}]}"#,
        );
        assert_eq!(
            found,
            [
                "/version: 3 must become 4",
                "LOST /plugin: the Community Edition no longer has plugins",
                "LOST /extra_config/telemetry~1influx: removed; write \"telemetry/opentelemetry\"",
                "LOST /extra_config/github_com~1devopsfaith~1krakend-cors: the old name is not read any more, and nothing \
                 would be guarded; write \"security/cors\"",
                "LOST /endpoints/0/extra_config/github.com~1devopsfaith~1krakend-jose~1validator: the old name is not read \
                 any more, and nothing would be guarded; write \"auth/validator\"",
                "/endpoints/0/extra_config/proxy/sequential: deprecated; write \"strategy\": \"sequential\"",
                "LOST /endpoints/0/backend/0/extra_config/github.com~1devopsfaith~1krakend-martian: the old name is not read \
                 any more; write \"modifier/martian\"",
                "LOST /endpoints/0/backend/0/extra_config/plugin~1http-client: the Community Edition no longer has \
                 plugins",
            ]
        );
    }

    #[test]
    fn a_plain_version_4_file_has_no_changes() {
        assert!(
            told(r#"{"version": 4, "endpoints": [{"extra_config": {"auth/validator": {}}}]}"#)
                .is_empty()
        );
        assert_eq!(told(r#"{"VERSION": "3"}"#).len(), 1);
    }
}
