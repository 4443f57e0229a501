//! Finds guards that have no effect where they are: an endpoint that seems to be protected must not start open.

use crate::compile::namespaces::{self, Level};
use crate::config::agent::AGENT;
use crate::config::backend::BACKEND;
use crate::config::endpoint::ENDPOINT;
use crate::config::key::is_comment;
use crate::config::report::Lost;
use crate::config::service::SERVICE;
use crate::config::suggest::nearest;
use crate::config::{ConfigError, Data, Finding, Key, Kind, Node, Report, Rule, Severity, Value};

const EXTRA: &str = "extra_config";

/// Reports every guard beside an `extra_config`, within a block of it, within a key that is unknown or is meant to be
/// one (`extraConfig`), and every guard that a second key of the same name replaced.
pub(super) fn report(root: &Node<'_>) {
    level(root, Level::Service);
    for lost in root.report().lost() {
        replaced(&lost, root.report());
    }
}

impl Level {
    fn keys(self) -> &'static [Key] {
        match self {
            Level::Service => SERVICE,
            Level::Endpoint => ENDPOINT,
            Level::Backend => BACKEND,
            Level::Agent => AGENT,
        }
    }

    /// The level of the objects in a list at this level.
    fn inner(self, list: &str) -> Option<Level> {
        match list {
            "endpoints" => Some(Level::Endpoint),
            "async_agent" => Some(Level::Agent),
            "backend" if self != Level::Service => Some(Level::Backend),
            _ => None,
        }
    }
}

fn level(node: &Node<'_>, here: Level) {
    for (name, inner) in node.members() {
        if is_comment(name) {
            continue;
        }
        let mut keys = here.keys().iter();
        let known = keys.find(|key| key.name.eq_ignore_ascii_case(name));
        match known.map(|key| (key.name, here.inner(key.name))) {
            Some((EXTRA, _)) => extra_config(node, name, &inner, here),
            Some((_, Some(deeper))) if is_list(known) => {
                inner.items().iter().for_each(|item| level(item, deeper));
                level(&inner, deeper);
            }
            Some(_) => within(&inner),
            None => stray(name, &inner, here),
        }
    }
}

fn is_list(key: Option<&Key>) -> bool {
    key.is_some_and(|key| matches!(key.kind, Kind::Blocks(_)))
}

fn extra_config(around: &Node<'_>, name: &str, extra: &Node<'_>, here: Level) {
    if name != EXTRA && around.get(EXTRA).is_some() && has_guard(extra.value()) {
        misplaced(name, extra, "join it with the \"extra_config\" beside it");
    }
    for (name, block) in extra.members() {
        if is_comment(name) {
            continue;
        }
        if is_tls(name, &block) {
            misplaced(name, &block, tls_place(here));
        } else {
            within(&block);
        }
    }
}

fn tls_place(here: Level) -> &'static str {
    match here {
        Level::Service => "it belongs beside the \"extra_config\"",
        Level::Endpoint | Level::Backend | Level::Agent => "it belongs at the root of the file",
    }
}

/// Whether it is the TLS of the gateway, and not that of a backend.
fn is_tls(name: &str, block: &Node<'_>) -> bool {
    let keys = ["enable_mtls", "keys", "public_key", "private_key"];
    name.eq_ignore_ascii_case("tls") && keys.iter().any(|key| block.get(key).is_some())
}

/// A key of a level that is in no table.
fn stray(name: &str, node: &Node<'_>, here: Level) {
    const PLACE: &str = "it belongs in the \"extra_config\" beside it";
    if namespaces::is_guard(name) {
        misplaced(name, node, PLACE);
    } else if let Some(guard) = namespaces::split_guard(name, node) {
        misplaced(
            &guard,
            node,
            "only \"extra_config\" holds namespaces, and each is one name",
        );
    } else if here != Level::Service && is_tls(name, node) {
        misplaced(name, node, tls_place(here));
    } else if namespaces::is_stray(name, node) {
        let text = format!(
            "{name:?} is unknown here. It may guard something, so the gateway does not start"
        );
        node.clone().ruled(Rule::Guard).config_error_hint(
            ConfigError::invalid(text),
            format!("guards belong in \"extra_config\"; to ignore it, write \"@{name}\""),
        );
    } else if nearest(name, [EXTRA].into_iter()).is_some() {
        let members = node.members().into_iter();
        let members = members.filter(|(name, _)| !is_comment(name));
        members.for_each(|(name, inner)| stray(name, &inner, here));
    } else {
        within(node);
    }
}

/// Looks for guards in a value that is not an `extra_config`: only whole names of guards count, because it may be any
/// data.
fn within(node: &Node<'_>) {
    node.items().iter().for_each(within);
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

/// Reports a guard that a second key of the same name replaced: it is unknown which one is intended.
fn replaced(lost: &Lost, report: &Report) {
    let name = &*lost.member.name;
    let is_guarding = namespaces::is_guard(name)
        || lost.pointer == "/tls"
        || (name.eq_ignore_ascii_case(EXTRA) && has_guard(&lost.member.value))
        || is_in_guard(&lost.pointer);
    if is_guarding {
        report.add(Finding {
            severity: Severity::ConfigError,
            pointer: lost.pointer.clone(),
            at: lost.member.at,
            config_error: ConfigError::invalid(format!(
                "{name:?} appears twice, and what this one guards would not be guarded"
            )),
            hint: Some(match &lost.member.value.data {
                Data::Object(_) | Data::List(_) => "join the two".into(),
                _ => "keep one of the two".into(),
            }),
        });
    }
}

/// Whether an `extra_config` has a guard, or a name that may be one.
fn has_guard(extra: &Value) -> bool {
    let members = extra.members().iter();
    let mut names = members
        .map(|member| &*member.name)
        .filter(|name| !is_comment(name));
    names.any(|name| namespaces::is_guard(name) || namespaces::may_guard(name))
}

/// Whether a location is directly in the block of a guard: `…/extra_config/auth~1validator/roles`.
fn is_in_guard(pointer: &str) -> bool {
    let mut parts = pointer.rsplit('/').skip(1);
    let (name, extra) = (parts.next(), parts.next());
    let name = name.map(|name| name.replace("~1", "/").replace("~0", "~"));
    extra == Some(EXTRA) && name.is_some_and(|name| namespaces::is_guard(&name))
}
