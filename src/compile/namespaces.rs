//! Maps the names in `extra_config` to the extensions that compile them, and handles unknown names.

mod guess;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::config::Namespace;
use crate::config::suggest::nearest;
use crate::config::{Block, ConfigError, Extra, Key, Node, Rule, Typing, rule};
use crate::ext::plugins::{self, BuiltIn, PluginKind};
use crate::ext::registry;
use crate::ext::registry::BACKEND_NAMESPACES;
use crate::ext::registry::ENDPOINT_NAMESPACES;
use crate::ext::registry::SERVICE_NAMESPACES;
use crate::ext::unsupported::{UNSUPPORTED, Unsupported, Verdict, unsupported};

pub(super) use guess::{is_stray, may_guard, split as split_guard};

/// The level of an `extra_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Service,
    Endpoint,
    Backend,
    /// An entry of `async_agent`. Its extensions are some of those of endpoints.
    Agent,
}

impl Level {
    const ALL: [Level; 4] = [
        Level::Service,
        Level::Endpoint,
        Level::Backend,
        Level::Agent,
    ];

    /// The other levels, the inner ones first: a block that is one level too deep was meant for the level around it.
    fn others(self) -> &'static [Level] {
        match self {
            Level::Service => &[Level::Endpoint, Level::Backend],
            Level::Endpoint => &[Level::Backend, Level::Service],
            Level::Backend => &[Level::Endpoint, Level::Service],
            Level::Agent => &[Level::Endpoint, Level::Backend, Level::Service],
        }
    }

    fn words(self) -> &'static str {
        match self {
            Level::Service => "the service",
            Level::Endpoint => "an endpoint",
            Level::Backend => "a backend",
            Level::Agent => "an async agent",
        }
    }

    fn known(self) -> &'static HashMap<&'static str, Known> {
        match self {
            Level::Service => &SERVICE,
            Level::Endpoint => &ENDPOINT,
            Level::Backend => &BACKEND,
            Level::Agent => &AGENT,
        }
    }
}

/// A namespace of a level: the part that compiles it, and whether it is a guard.
#[derive(Debug, Clone, Copy)]
struct Known {
    name: &'static str,
    /// The index of the extension in its list. `None` means `compile` itself.
    extension: Option<usize>,
    guard: bool,
    keys: &'static [Key],
}

static SERVICE: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions = registry::SERVICE.iter();
    table(
        SERVICE_NAMESPACES,
        extensions.map(|e| (e.namespace, e.aliases, e.guard, e.keys)),
    )
});

static ENDPOINT: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions = registry::ENDPOINT.iter();
    table(
        ENDPOINT_NAMESPACES,
        extensions.map(|e| (e.namespace, e.aliases, e.guard, e.keys)),
    )
});

static BACKEND: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions = registry::BACKEND.iter();
    table(
        BACKEND_NAMESPACES,
        extensions.map(|e| (e.namespace, e.aliases, e.guard, e.keys)),
    )
});

static AGENT: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions =
        registry::agent().map(|(index, e)| (index, (e.namespace, e.aliases, e.guard, e.keys)));
    numbered(registry::AGENT_NAMESPACES, extensions)
});

type Names = (&'static str, &'static [&'static str], bool, &'static [Key]);

fn table(
    core: &'static [&'static Namespace],
    extensions: impl Iterator<Item = Names>,
) -> HashMap<&'static str, Known> {
    numbered(core, extensions.enumerate())
}

/// Extensions with their indices.
fn numbered(
    core: &'static [&'static Namespace],
    extensions: impl Iterator<Item = (usize, Names)>,
) -> HashMap<&'static str, Known> {
    let core = core.iter().map(|namespace| {
        let known = Known {
            name: namespace.name,
            extension: None,
            guard: namespace.guard,
            keys: namespace.keys,
        };
        (namespace.aliases, known)
    });
    let extensions = extensions.map(|(index, (name, aliases, guard, keys))| {
        let known = Known {
            name,
            extension: Some(index),
            guard,
            keys,
        };
        (aliases, known)
    });
    let mut table = HashMap::new();
    for (aliases, known) in core.chain(extensions) {
        for spelling in std::iter::once(&known.name).chain(aliases) {
            table.entry(*spelling).or_insert(known);
        }
    }
    table
}

/// A namespace at any level, by any of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub name: &'static str,
    pub guard: bool,
    /// Whether it has an effect here.
    pub built: bool,
}

/// Whether a namespace has an effect at this level.
pub(super) fn is_known(level: Level, name: &str) -> bool {
    level.known().contains_key(name)
}

/// Looks up a namespace at any level.
pub(super) fn lookup(name: &str) -> Option<Found> {
    let mut levels = Level::ALL.iter();
    let known = levels.find_map(|level| level.known().get(name));
    let built = known.map(|known| Found {
        name: known.name,
        guard: known.guard,
        built: true,
    });
    let of_plugins = || PluginKind::of(name).map(PluginKind::namespace);
    built.or_else(|| {
        let name = unsupported(name)
            .map(|known| known.namespace)
            .or_else(of_plugins)?;
        Some(Found {
            name,
            guard: false,
            built: false,
        })
    })
}

/// The configured extensions of a level in the order of their list, each with its block. Unknown names are reported.
pub(super) fn wanted<'a>(level: Level, extra: &Extra<'a>) -> Vec<(usize, Node<'a>)> {
    let mut wanted: Vec<(usize, Node<'a>)> = Vec::new();
    for (name, node) in extra.namespaces() {
        let known = level.known().get(name).copied();
        let Some(known) = known.or_else(|| respelled(level, name, &node)) else {
            stranger(level, name, &node);
            continue;
        };
        let node = node.ruled(Rule::of(known.guard));
        if node.value().is_null() {
            says_nothing(&node);
            continue;
        }
        only_unknown_keys(level, &known, &node);
        let Some(index) = known.extension else {
            continue;
        };
        if wanted.iter().any(|(other, _)| *other == index) {
            twice(name, &node);
        } else {
            wanted.push((index, node));
        }
    }
    wanted.sort_by_key(|(index, _)| *index);
    wanted
}

/// Reports a block of a guard with only unknown keys: each of them may be a misspelt rule of the guard.
fn only_unknown_keys(level: Level, known: &Known, node: &Node<'_>) {
    const FAMILIES: [&str; 4] = ["auth/", "security/", "qos/ratelimit/", "validation/"];
    let of_family = FAMILIES.iter().any(|family| known.name.starts_with(family));
    if !known.guard || !of_family || known.keys.is_empty() || node.members().is_empty() {
        return;
    }
    let block = Block::open_quietly(node.clone(), known.keys, Typing::Strict);
    if block.is_some_and(|block| block.has_only_unknown_keys()) {
        let hint = match with_these_keys(level, known, node) {
            Some(place) => format!("its keys belong in the extra_config of {place}"),
            None => "see the keys of the namespace in docs/configuration.md".to_owned(),
        };
        node.config_error_hint(
            ConfigError::invalid("the block guards nothing, because none of its keys is known"),
            hint,
        );
    }
}

/// The level where the same namespace has a key of this block.
fn with_these_keys(level: Level, known: &Known, node: &Node<'_>) -> Option<&'static str> {
    let there = level.others().iter().find(|other| {
        let there = other.known().get(known.name);
        let block =
            there.and_then(|there| Block::open_quietly(node.clone(), there.keys, Typing::Strict));
        block.is_some_and(|block| node.members().iter().any(|(name, _)| block.knows(name)))
    });
    there.map(|there| there.words())
}

/// Reports a second spelling of a namespace. Two spellings of a guard are ambiguous.
fn twice(name: &str, node: &Node<'_>) {
    let twice =
        |rest| ConfigError::invalid(format!("{name:?} appears under another spelling too{rest}"));
    match node.rule() {
        Rule::Guard => node.config_error_hint(twice(""), "remove one of them"),
        Rule::Core | Rule::Free => node.warn(twice(", which takes precedence")),
    }
}

/// Whether a name is that of a guard of any level, in any spelling.
pub(super) fn is_guard(name: &str) -> bool {
    // Without a slash it is a key of older versions: `websocket`.
    name.contains('/')
        && (lookup(name).is_some_and(|found| found.guard)
            || Level::ALL
                .iter()
                .any(|level| guard_spelled(*level, name).is_some()))
}

/// A guard whose name differs only in letter case or spaces, or is that of version 1.
fn guard_spelled(level: Level, name: &str) -> Option<Known> {
    let spelled = rule::spelling(name);
    let of_version_1 = registry::VERSION_1.iter().find(|(old, _)| *old == spelled);
    let spelled = of_version_1.map_or(spelled, |(_, name)| (*name).to_owned());
    let known = level.known().iter();
    known
        .filter(|(_, known)| known.guard && known.extension.is_some())
        .find(|(spelling, _)| rule::spelling(spelling) == spelled)
        .map(|(_, known)| *known)
}

/// A known name in another spelling. KrakenD ignores such a name, but its meaning is clear.
fn respelled(level: Level, name: &str, node: &Node<'_>) -> Option<Known> {
    let known = guard_spelled(level, name)?;
    node.warn_hint(
        ConfigError::invalid(format!("{name:?} is treated as {:?}", known.name)),
        "KrakenD ignores the name as it is written",
    );
    Some(known)
}

/// Handles a block that is `null`: a template value that was not filled in must not silently remove a guard.
fn says_nothing(node: &Node<'_>) {
    match node.rule() {
        Rule::Guard => node.config_error_hint(
            ConfigError::invalid("null is not a block: it would protect nothing"),
            "remove the name, or put an \"@\" before it to switch the block off",
        ),
        Rule::Core | Rule::Free => node.warn(ConfigError::invalid("null counts as absent")),
    }
}

fn stranger(level: Level, name: &str, node: &Node<'_>) {
    let elsewhere = level.others().iter().find_map(|&other| {
        let known = other.known().get(name).copied();
        Some((other, known.or_else(|| guard_spelled(other, name))?))
    });
    match (elsewhere, unsupported(name)) {
        (Some((other, known)), _) => node
            .clone()
            .ruled(Rule::of(known.guard))
            .config_error_hint(not_known(name, known.guard), belongs(level, other, name)),
        (None, Some(known)) => not_built(known, name, node),
        (None, None) => unknown(level, name, node),
    }
}

/// What is wrong with a namespace that does not exist at its level.
fn not_known(name: &str, guard: bool) -> ConfigError {
    let namespace = name.to_owned();
    if guard {
        ConfigError::UnknownGuard { namespace }
    } else {
        ConfigError::UnknownNamespace { namespace }
    }
}

/// The hint about a namespace that is at the wrong level.
fn belongs(level: Level, other: Level, name: &str) -> String {
    let place = format!("it belongs in the extra_config of {}", other.words());
    let meant = registry::MEANT_IN_SERVICE;
    match meant.iter().find(|(known, _)| *known == name) {
        Some((_, here)) if level == Level::Service => {
            format!("{place}; \"{here}\" limits the whole service")
        }
        _ if level == Level::Backend && name == "qos/ratelimit/router" => {
            format!("{place}; \"qos/ratelimit/proxy\" limits the calls to this backend")
        }
        _ => place,
    }
}

fn not_built(known: &Unsupported, name: &str, node: &Node<'_>) {
    let config_error = ConfigError::Unsupported {
        namespace: name.to_owned(),
    };
    match (known.verdict, known.hint) {
        (Verdict::Reject, hint) => node.config_error_hint(config_error, hint),
        (Verdict::Ignore, "") => node.warn_hint(config_error, "it is ignored"),
        (Verdict::Ignore, hint) => node.warn_hint(config_error, format!("it is ignored: {hint}")),
    }
}

fn unknown(level: Level, name: &str, node: &Node<'_>) {
    let names = Level::ALL
        .iter()
        .flat_map(|any| any.known().keys().copied());
    let here = level.known().keys().copied();
    // This level first: of two names that are equally near, the one that has an effect here is meant.
    let all = here
        .chain(names)
        .chain(UNSUPPORTED.iter().map(|known| known.namespace));
    if let Some(guard) = guess::split(name, node) {
        let hint = format!("a namespace is one name: \"{guard}\"");
        return node.config_error_hint(not_known(name, true), hint);
    }
    if let Some(plugin) = plugins::meant(name).filter(|plugin| is_meant(level, plugin)) {
        return not_a_namespace(plugin, name, node);
    }
    if let Some(guard) = shortened(level, name) {
        let hint = format!("did you mean \"{guard}\"?");
        return node.config_error_hint(not_known(name, true), hint);
    }
    let meant = nearest(name, all);
    let is_of_guard = meant.is_some_and(|meant| lookup(meant).is_some_and(|found| found.guard));
    if is_of_guard || guess::may_guard(name) || guess::is_near_ending(name) {
        return node.config_error_hint(not_known(name, true), guess::hint(level, name));
    }
    match meant {
        Some(meant) => {
            node.warn_hint(not_known(name, false), format!("did you mean \"{meant}\"?"));
        }
        None => node.warn(not_known(name, false)),
    }
}

/// Whether the namespace of a plugin works at this level. In an endpoint `basic-auth` means another guard.
fn is_meant(level: Level, plugin: &BuiltIn) -> bool {
    match plugin.kind {
        PluginKind::Server => level == Level::Service,
        PluginKind::Client => level == Level::Backend,
        PluginKind::Modifier | PluginKind::Middleware => level != Level::Service,
    }
}

/// The name of a plugin in place of a namespace. Where a guard is meant, it would be missing.
fn not_a_namespace(plugin: &BuiltIn, written: &str, node: &Node<'_>) {
    let (name, kind) = (plugin.name, plugin.kind.namespace());
    let hint = format!("\"{kind}\": {{\"name\": [\"{name}\"], \"{name}\": {{…}}}}");
    if plugin.guard {
        node.config_error_hint(not_known(written, true), hint);
    } else {
        node.warn_hint(not_known(written, false), hint);
    }
}

/// The guard that is meant by the last part of its name: `api-keys`, `ratelimit/router`.
fn shortened(level: Level, name: &str) -> Option<&'static str> {
    const WORDS: [&str; 5] = ["cel", "cors", "policies", "revoker", "validator"];
    let spelled = rule::spelling(name);
    if !spelled.contains(['-', '/']) && !WORDS.contains(&&*spelled) {
        return None;
    }
    let mut guards = level.known().values().filter(|known| known.guard);
    let is_end = |known: &&Known| {
        known
            .name
            .strip_suffix(spelled.as_str())
            .is_some_and(|start| start.ends_with('/'))
    };
    guards.find(is_end).map(|known| known.name)
}

#[cfg(test)]
mod tests;
