//! Moves the blocks of plugins that are built in to their own namespaces, before anything else is read.
//!
//! `"plugin/http-server": {"name": ["virtualhost"], "virtualhost": {…}}` becomes `"server/virtualhost": {…}`. Both the
//! form of version 3 and that of version 4 (`{"plugins": [{"name": …, "config": {…}}]}`) are read in both versions.

use crate::compile::namespaces::{self, Level};
use crate::config::key::is_comment;
use crate::config::path::token;
use crate::config::suggest::nearest;
use crate::config::value::Member;
use crate::config::{ConfigError, Data, Finding, Node, Typing, Value};
use crate::ext::plugins::{BUILT_IN, BuiltIn, Moved, PluginKind, built_in, hint};

/// A configuration whose plugins were moved.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub root: Value,
    /// The new pointers of blocks, and their places in the file.
    moves: Vec<(String, String)>,
}

impl Rewritten {
    /// Lets a finding point to the place in the file.
    pub(super) fn locate(&self, finding: &mut Finding) {
        let found = self.moves.iter().find_map(|(new, old)| {
            let rest = finding.pointer.strip_prefix(new.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{old}{rest}"))
        });
        if let Some(pointer) = found {
            finding.pointer = pointer;
        }
    }
}

/// The configuration with the blocks of plugins in their own namespaces. `None` if it names no plugin.
///
/// Plugins that are not built in are reported.
pub(super) fn rewrite(root: &Node<'_>) -> Option<Rewritten> {
    let mut new = root.value().clone();
    let mut work = Work {
        ignored: ignored(root),
        moves: Vec::new(),
        found: false,
    };
    work.level(&mut new, root, Level::Service);
    work.found.then_some(Rewritten {
        root: new,
        moves: work.moves,
    })
}

/// Whether every plugin that this block names is built in.
pub(super) fn are_built_in(kind: PluginKind, block: &Node<'_>) -> bool {
    let named = match (block.get("plugins"), block.get("name")) {
        (Some(list), _) => list
            .items()
            .iter()
            .filter_map(|item| item.get("name"))
            .collect(),
        (None, Some(name)) if name.items().is_empty() => vec![name],
        (None, Some(name)) => name.items(),
        (None, None) => Vec::new(),
    };
    let is_built_in = |name: &Node<'_>| matches!(&name.value().data, Data::Text(name) if built_in(kind, name).is_some());
    !named.is_empty() && named.iter().all(is_built_in)
}

/// `ignore_plugins` of `portcullis/compat`.
fn ignored(root: &Node<'_>) -> Vec<String> {
    let list = member(root, "extra_config")
        .and_then(|extra| extra.get("portcullis/compat"))
        .and_then(|block| block.get("ignore_plugins"));
    let items = list.map(|list| list.items()).unwrap_or_default();
    let names = items.iter().filter_map(|item| match &item.value().data {
        Data::Text(name) => Some(name.to_string()),
        _ => None,
    });
    names.collect()
}

/// A member of a core level, where the letter case of names does not count.
fn member<'a>(node: &Node<'a>, name: &str) -> Option<Node<'a>> {
    let mut members = node.members().into_iter();
    members
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, node)| node)
}

struct Work {
    ignored: Vec<String>,
    moves: Vec<(String, String)>,
    /// Whether a plugin was found.
    found: bool,
}

/// A plugin that a block names.
struct Named<'a> {
    name: String,
    /// Where the name is.
    node: Node<'a>,
    /// Its own block.
    block: Option<Node<'a>>,
    /// Its keys are next to `name`, so that `name` is one of them.
    beside: bool,
}

impl Work {
    fn level(&mut self, value: &mut Value, node: &Node<'_>, level: Level) {
        let Data::Object(members) = &mut value.data else {
            return;
        };
        for one in members.iter_mut() {
            let Some(node) = node.get(&one.name) else {
                continue;
            };
            let is = |name: &str| one.name.eq_ignore_ascii_case(name);
            match level {
                _ if is("extra_config") => self.extra(&mut one.value, &node, level),
                Level::Service if is("endpoints") => {
                    self.each(&mut one.value, &node, Level::Endpoint);
                }
                Level::Service if is("async_agent") => {
                    self.each(&mut one.value, &node, Level::Agent);
                }
                Level::Endpoint | Level::Agent if is("backend") => {
                    self.each(&mut one.value, &node, Level::Backend);
                }
                _ => {}
            }
        }
    }

    fn each(&mut self, value: &mut Value, node: &Node<'_>, level: Level) {
        match &mut value.data {
            Data::List(items) => {
                for (item, node) in items.iter_mut().zip(node.items()) {
                    self.level(item, &node, level);
                }
            }
            // As elsewhere at the core levels, one item may replace a list with one item.
            Data::Object(_) => self.level(value, node, level),
            _ => {}
        }
    }

    fn extra(&mut self, value: &mut Value, node: &Node<'_>, level: Level) {
        let Data::Object(members) = &mut value.data else {
            return;
        };
        let is_plugin = |one: &Member| {
            PluginKind::of(&one.name).is_some() || level == Level::Service && &*one.name == "plugin"
        };
        if !members.iter().any(is_plugin) {
            return;
        }
        self.found = true;
        let all = std::mem::take(members);
        let (plugins, mut kept): (Vec<Member>, Vec<Member>) = all.into_iter().partition(is_plugin);
        for plugin in &plugins {
            let Some(kind) = PluginKind::of(&plugin.name) else {
                // The folder of plugins, where KrakenD 3.0 has it.
                if let Some(folder) = node.get(&plugin.name) {
                    folder.warn(ConfigError::invalid(
                        "Go plugins cannot be loaded by this gateway: the folder is not read",
                    ));
                }
                continue;
            };
            self.block(kind, &plugin.name, node, level, &mut kept);
        }
        *members = kept;
    }

    /// Moves the plugins of one block into `kept`, the members of `extra`.
    fn block(
        &mut self,
        kind: PluginKind,
        name: &str,
        extra: &Node<'_>,
        level: Level,
        kept: &mut Vec<Member>,
    ) {
        let Some(block) = extra.get(name) else {
            return extra.config_error_hint(
                ConfigError::invalid(format!("{name:?} is null")),
                "remove the name, or put an \"@\" before it to switch the block off",
            );
        };
        if !fits(kind, level) {
            return block.config_error_hint(
                ConfigError::Unsupported {
                    namespace: name.to_owned(),
                },
                format!("it belongs in the extra_config of {}", place(kind)),
            );
        }
        let Some(named) = named(kind, &block) else {
            return;
        };
        for plugin in named {
            self.plugin(kind, plugin, &block, level, (extra, kept));
        }
    }

    fn plugin(
        &mut self,
        kind: PluginKind,
        plugin: Named<'_>,
        block: &Node<'_>,
        level: Level,
        (extra, kept): (&Node<'_>, &mut Vec<Member>),
    ) {
        let Named { name, node, .. } = &plugin;
        if self.ignored.contains(name) {
            return node.warn(ConfigError::invalid(format!(
                "the plugin {name:?} is ignored, because \"portcullis/compat\" lists it"
            )));
        }
        let Some(known) = built_in(kind, name) else {
            return node.config_error_hint(
                ConfigError::invalid(format!(
                    "the plugin {name:?} is not built in, and Go plugins (.so) cannot be loaded by this gateway"
                )),
                format!(
                    "{}. Or \"portcullis/compat\": {{\"ignore_plugins\": [{name:?}]}} in the service, if requests may pass \
                     without it",
                    hint(kind, name)
                ),
            );
        };
        let block_at = plugin.block.as_ref();
        let value = block_at.map(|block| {
            if plugin.beside {
                without_name(block.value())
            } else {
                block.value().clone()
            }
        });
        if let Some(used) = known.shape.keys() {
            let members = block_at.into_iter().flat_map(|block| block.members());
            for (key, at) in members.filter(|(key, _)| !(plugin.beside && *key == "name")) {
                if !used.contains(&key) && !is_comment(key) {
                    let key = key.to_owned();
                    at.warn(ConfigError::UnknownKey { key });
                }
            }
        }
        match known.shape.moved(value.as_ref(), node.at()) {
            Err(why) => {
                node.config_error(ConfigError::invalid(format!("the plugin {name:?}: {why}")))
            }
            Ok(Moved::Nothing(why)) => node.warn(ConfigError::invalid(format!(
                "the plugin {name:?} has no effect here: {why}"
            ))),
            Ok(moved) => {
                if !namespaces::is_known(level, known.namespace) {
                    let error = ConfigError::invalid(format!(
                        "the plugin {name:?} is not supported here by this version"
                    ));
                    return match known.name {
                        "jwk-aggregator" => node.config_error_hint(
                            error,
                            "\"providers\" of \"auth/validator\" name several key sets, each with its issuer",
                        ),
                        _ => node.config_error(error),
                    };
                }
                let new = format!("{}/{}", extra.pointer(), token(known.namespace));
                let old = plugin.block.as_ref().unwrap_or(block).pointer();
                self.moves.push((new, old));
                put(known, moved, node, kept);
            }
        }
    }
}

/// The keys next to `name`, without it.
fn without_name(block: &Value) -> Value {
    let mut block = block.clone();
    if let Data::Object(members) = &mut block.data {
        members.retain(|member| &*member.name != "name");
    }
    block
}

/// Whether the namespace has its place at this level.
fn fits(kind: PluginKind, level: Level) -> bool {
    match kind {
        PluginKind::Server => level == Level::Service,
        PluginKind::Client => level == Level::Backend,
        PluginKind::Modifier | PluginKind::Middleware => level != Level::Service,
    }
}

fn place(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Server => "the service",
        PluginKind::Client => "a backend",
        PluginKind::Modifier | PluginKind::Middleware => "an endpoint or a backend",
    }
}

/// Puts a moved block or key under its namespace.
fn put(known: &BuiltIn, moved: Moved, node: &Node<'_>, kept: &mut Vec<Member>) {
    let namespace = known.namespace;
    let there = kept
        .iter_mut()
        .find(|member| &*member.name == namespace && !member.value.is_null());
    let twice = || {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "the plugin {:?} is the same as {namespace:?}, which is also configured",
                known.name
            )),
            "keep one of the two",
        );
    };
    let at = node.at();
    match (moved, there) {
        (Moved::Block(_), Some(_)) => twice(),
        (Moved::Block(value), None) => kept.push(Member {
            name: namespace.into(),
            at,
            value,
        }),
        (Moved::Key(key, value), there) => {
            let one = Member {
                name: key.into(),
                at,
                value,
            };
            match there.map(|member| &mut member.value.data) {
                Some(Data::Object(members)) if members.iter().all(|m| &*m.name != key) => {
                    members.push(one);
                }
                Some(_) => twice(),
                None => kept.push(Member {
                    name: namespace.into(),
                    at,
                    value: Value::new(at, Data::Object(vec![one])),
                }),
            }
        }
        (Moved::Nothing(_), _) => {}
    }
}

/// The plugins that a block names, in its order. `None` after an error.
fn named<'a>(kind: PluginKind, block: &Node<'a>) -> Option<Vec<Named<'a>>> {
    let block = block.object()?;
    let named = match (block.get("plugins"), block.get("name")) {
        (Some(list), None) => of_version_4(&list)?,
        (Some(_), Some(name)) => {
            name.config_error(ConfigError::invalid(
                "\"name\" and \"plugins\" are both set: use one of them",
            ));
            return None;
        }
        (None, name) => of_version_3(kind, &block, name)?,
    };
    for (index, plugin) in named.iter().enumerate() {
        if named[..index].iter().any(|other| other.name == plugin.name) {
            plugin.node.config_error(ConfigError::invalid(format!(
                "the plugin {:?} is configured twice",
                plugin.name
            )));
            return None;
        }
    }
    warn_order(&named);
    Some(named)
}

/// `{"plugins": [{"name": "geoip", "config": {…}}]}`.
fn of_version_4<'a>(list: &Node<'a>) -> Option<Vec<Named<'a>>> {
    let items = list.list(Typing::Strict)?;
    let each = items.into_iter().map(|item| {
        let Some(node) = item.object()?.get("name") else {
            item.config_error(ConfigError::Missing("name"));
            return None;
        };
        Some(Named {
            name: node.text(Typing::Strict)?.to_owned(),
            node,
            block: item.get("config"),
            beside: false,
        })
    });
    each.collect()
}

/// `{"name": ["geoip"], "geoip": {…}}`. The keys of a client's only plugin may be next to `name`.
fn of_version_3<'a>(
    kind: PluginKind,
    block: &Node<'a>,
    name: Option<Node<'a>>,
) -> Option<Vec<Named<'a>>> {
    let nodes = match &name {
        None => Vec::new(),
        Some(node) if matches!(node.value().data, Data::List(_)) => node.items(),
        Some(node) => vec![node.clone()],
    };
    let mut named = Vec::with_capacity(nodes.len());
    for node in nodes {
        let name = node.text(Typing::Strict)?.to_owned();
        let own = block.get(&name);
        let beside = kind == PluginKind::Client && own.is_none();
        named.push(Named {
            block: own.or_else(|| beside.then(|| block.clone())),
            name,
            node,
            beside,
        });
    }
    let beside = kind == PluginKind::Client && !named.is_empty();
    let mut misspelt = false;
    for (name, node) in block.members() {
        if name == "name" || beside || named.iter().any(|plugin| plugin.name == name) {
            continue;
        }
        if let Some(meant) = list_of_names(kind, name) {
            misspelt = true;
            node.config_error_hint(
                ConfigError::invalid(format!("{name:?} names no plugin to run")),
                format!("did you mean \"{meant}\"?"),
            );
        } else {
            inactive(kind, name, &node);
        }
    }
    if named.is_empty() && !misspelt {
        block.warn(ConfigError::invalid(
            "no plugin is named here: the block has no effect",
        ));
    }
    Some(named)
}

/// The key that is meant by a misspelt one, whose plugins would not run.
fn list_of_names(kind: PluginKind, name: &str) -> Option<&'static str> {
    if built_in(kind, name).is_some() {
        return None;
    }
    nearest(name, ["name", "plugins"].into_iter())
}

/// An object whose name is not in the list. KrakenD does not run such a plugin.
fn inactive(kind: PluginKind, name: &str, node: &Node<'_>) {
    let text = format!("{name:?} is not in the list \"name\": the plugin would not run");
    match built_in(kind, name) {
        Some(BuiltIn { guard: true, .. }) => node.config_error_hint(
            ConfigError::invalid(text),
            "add it to the list, or remove the block",
        ),
        _ => node.warn(ConfigError::invalid(text)),
    }
}

/// KrakenD lets the last plugin of the list see the request first. Here the order is fixed.
fn warn_order(named: &[Named<'_>]) {
    let places = named.iter().rev().filter_map(|plugin| {
        let place = |known: &BuiltIn| known.kind == PluginKind::Server && known.name == plugin.name;
        BUILT_IN.iter().position(place)
    });
    let places: Vec<usize> = places.collect();
    if let (false, Some(plugin)) = (places.is_sorted(), named.first()) {
        let all = BUILT_IN
            .iter()
            .filter(|known| known.kind == PluginKind::Server);
        let order: Vec<&str> = all.map(|known| known.name).collect();
        plugin.node.warn_hint(
            ConfigError::invalid("the order of these plugins has no effect here"),
            format!("a request passes them in this order: {}", order.join(", ")),
        );
    }
}

#[cfg(test)]
mod tests;
