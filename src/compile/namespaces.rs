//! Maps the names in `extra_config` to the extensions that compile them, and handles unknown names.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::config::Namespace;
use crate::config::suggest::nearest;
use crate::config::{ConfigError, Extra, Node, Rule, rule};
use crate::ext::plugins::PluginKind;
use crate::ext::registry;
use crate::ext::registry::BACKEND_NAMESPACES;
use crate::ext::registry::ENDPOINT_NAMESPACES;
use crate::ext::registry::SERVICE_NAMESPACES;
use crate::ext::unbuilt::{UNBUILT, Unbuilt, Verdict, unbuilt};

/// The level of an `extra_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Service,
    Endpoint,
    Backend,
}

impl Level {
    const ALL: [Level; 3] = [Level::Service, Level::Endpoint, Level::Backend];

    fn words(self) -> &'static str {
        match self {
            Level::Service => "the service",
            Level::Endpoint => "an endpoint",
            Level::Backend => "a backend",
        }
    }

    fn known(self) -> &'static HashMap<&'static str, Known> {
        match self {
            Level::Service => &SERVICE,
            Level::Endpoint => &ENDPOINT,
            Level::Backend => &BACKEND,
        }
    }
}

/// A namespace of a level: the part that compiles it, and whether it is a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    name: &'static str,
    /// The index of the extension in its list. `None` means `compile` itself.
    extension: Option<usize>,
    guard: bool,
}

static SERVICE: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions = registry::SERVICE.iter();
    table(
        SERVICE_NAMESPACES,
        extensions.map(|e| (e.namespace, e.aliases, e.guard)),
    )
});

static ENDPOINT: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions = registry::ENDPOINT.iter();
    table(
        ENDPOINT_NAMESPACES,
        extensions.map(|e| (e.namespace, e.aliases, e.guard)),
    )
});

static BACKEND: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let extensions = registry::BACKEND.iter();
    table(
        BACKEND_NAMESPACES,
        extensions.map(|e| (e.namespace, e.aliases, e.guard)),
    )
});

fn table(
    core: &'static [&'static Namespace],
    extensions: impl Iterator<Item = (&'static str, &'static [&'static str], bool)>,
) -> HashMap<&'static str, Known> {
    let core = core.iter().map(|namespace| {
        let known = Known {
            name: namespace.name,
            extension: None,
            guard: namespace.guard,
        };
        (namespace.aliases, known)
    });
    let extensions = extensions
        .enumerate()
        .map(|(index, (name, aliases, guard))| {
            let known = Known {
                name,
                extension: Some(index),
                guard,
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
        let name = unbuilt(name)
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
        let Some(index) = known.extension else {
            continue;
        };
        let node = node.ruled(Rule::of(known.guard));
        if node.value().is_null() {
            says_nothing(&node);
        } else if wanted.iter().any(|(other, _)| *other == index) {
            node.warn(ConfigError::invalid(format!(
                "{name:?} appears under another spelling too, which takes precedence"
            )));
        } else {
            wanted.push((index, node));
        }
    }
    wanted.sort_by_key(|(index, _)| *index);
    wanted
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

/// The same. KrakenD ignores such a name, but its meaning is clear.
fn respelled(level: Level, name: &str, node: &Node<'_>) -> Option<Known> {
    let known = guard_spelled(level, name)?;
    node.warn_hint(
        ConfigError::invalid(format!("{name:?} is taken as {:?}", known.name)),
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
    let elsewhere = Level::ALL.into_iter().find_map(|other| {
        let known = other.known().get(name).copied();
        Some((other, known.or_else(|| guard_spelled(other, name))?))
    });
    match (elsewhere, unbuilt(name)) {
        (Some((other, known)), _) => node.clone().ruled(Rule::of(known.guard)).config_error_hint(
            ConfigError::UnknownNamespace {
                namespace: name.to_owned(),
            },
            belongs(level, other, name),
        ),
        (None, Some(known)) => not_built(known, name, node),
        (None, None) => unknown(level, name, node),
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
        _ => place,
    }
}

fn not_built(known: &Unbuilt, name: &str, node: &Node<'_>) {
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
    let config_error = ConfigError::UnknownNamespace {
        namespace: name.to_owned(),
    };
    let names = Level::ALL
        .iter()
        .flat_map(|any| any.known().keys().copied());
    let here = level.known().keys().copied();
    // This level first: of two names that are equally near, the one that has an effect here is meant.
    let all = here
        .chain(names)
        .chain(UNBUILT.iter().map(|known| known.namespace));
    let Some(meant) = nearest(name, all) else {
        return node.warn(config_error);
    };
    let hint = format!("did you mean \"{meant}\"?");
    // The intended namespace is a guard, which would be missing.
    if lookup(meant).is_some_and(|found| found.guard) {
        node.config_error_hint(config_error, hint);
    } else {
        node.warn_hint(config_error, hint);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::load::Format;
    use crate::upstream::{Clients, DnsTable};

    /// The extensions of a level, each by one of its names (its current name, or an older one if it has any), and
    /// whether it is a guard.
    fn spelled(level: Level, older: usize) -> Vec<(&'static str, &'static str, bool)> {
        let all: Vec<(&str, &[&str], bool)> = match level {
            Level::Service => registry::SERVICE
                .iter()
                .map(|e| (e.namespace, e.aliases, e.guard))
                .collect(),
            Level::Endpoint => registry::ENDPOINT
                .iter()
                .map(|e| (e.namespace, e.aliases, e.guard))
                .collect(),
            Level::Backend => registry::BACKEND
                .iter()
                .map(|e| (e.namespace, e.aliases, e.guard))
                .collect(),
        };
        all.into_iter()
            .filter_map(|(name, aliases, guard)| match older {
                0 => Some((name, name, guard)),
                older => aliases.get(older - 1).map(|alias| (name, *alias, guard)),
            })
            .collect()
    }

    fn outcome(file: &str) -> crate::compile::Outcome {
        // The system's certificates are loaded once for all tests.
        static CLIENTS: LazyLock<Arc<Clients>> = LazyLock::new(|| {
            crate::jose::install_crypto();
            Arc::new(Clients::new(Arc::new(DnsTable::default())))
        });
        let inputs = crate::compile::Inputs {
            environment: &crate::config::Environment::default(),
            clients: &CLIENTS,
            before: &crate::ext::Carry::default(),
            port: None,
            debug: false,
        };
        crate::compile::text(file, Format::Json, Path::new("."), &inputs)
    }

    /// The pointers of the errors in a configuration with `value` under each of `names` at `level`.
    fn config_errors(level: Level, names: &[String], value: &str) -> Vec<String> {
        let members: Vec<String> = names
            .iter()
            .map(|name| format!("{name:?}: {value}"))
            .collect();
        let extra = |here| {
            if here == level {
                format!(r#""extra_config": {{{}}},"#, members.join(", "))
            } else {
                String::new()
            }
        };
        let file = format!(
            r#"{{"version": 3, {} "endpoints": [{{"endpoint": "/a", {} "backend": [{{{}
                "host": ["http://127.0.0.1:1"], "url_pattern": "/a"}}]}}]}}"#,
            extra(Level::Service),
            extra(Level::Endpoint),
            extra(Level::Backend),
        );
        let findings = outcome(&file).findings.into_iter();
        findings
            .filter(|finding| finding.severity == crate::config::Severity::ConfigError)
            .map(|finding| finding.pointer)
            .collect()
    }

    #[test]
    fn a_guard_that_is_not_a_block_stops_the_start() {
        for (level, older) in Level::ALL
            .iter()
            .flat_map(|level| [(*level, 0), (*level, 1)])
        {
            let spelled = spelled(level, older);
            for value in ["null", "\"x\"", "7", "true", "[7]"] {
                let names: Vec<String> = spelled.iter().map(|(_, s, _)| (*s).to_owned()).collect();
                let found = config_errors(level, &names, value);
                for (name, spelling, guard) in &spelled {
                    let place = format!("/extra_config/{}", spelling.replace('/', "~1"));
                    let within = format!("{place}/");
                    let told = found
                        .iter()
                        .any(|pointer| pointer.ends_with(&place) || pointer.contains(&within));
                    // A schema that matches every body.
                    if value == "true" && *name == "validation/json-schema" {
                        continue;
                    }
                    assert_eq!(told, *guard, "{level:?} {spelling}: {value}: {found:?}");
                }
                let off: Vec<String> = names.iter().map(|name| format!("@{name}")).collect();
                assert_eq!(config_errors(level, &off, value), <[&str; 0]>::default());
            }
        }
        let rejected = UNBUILT.iter().filter(|u| u.verdict == Verdict::Reject);
        let names: Vec<String> = rejected.map(|guard| guard.namespace.to_owned()).collect();
        assert_eq!(
            config_errors(Level::Endpoint, &names, "null").len(),
            names.len()
        );
    }

    /// Each namespace at a level where it is not supported.
    #[test]
    fn a_guard_at_the_wrong_level_stops_the_start_and_others_are_ignored() {
        for (level, other) in [
            (Level::Service, Level::Backend),
            (Level::Endpoint, Level::Service),
            (Level::Backend, Level::Endpoint),
        ] {
            for (name, _, guard) in spelled(other, 0) {
                if level.known().contains_key(name) {
                    continue;
                }
                let found = config_errors(level, &[name.to_owned()], "{}");
                assert_eq!(!found.is_empty(), guard, "{name} at {level:?}: {found:?}");
            }
        }
    }

    #[test]
    fn a_guard_in_another_spelling_works_and_a_misspelt_one_stops_the_start() {
        for name in [
            "Auth/Validator",
            " auth/validator ",
            "github_com/devopsfaith/krakend-jose/validator",
        ] {
            // The block is compiled: it lacks the keys that a validator needs.
            let found = config_errors(Level::Endpoint, &[name.to_owned()], "{}");
            assert!(!found.is_empty(), "{name}");
            let good = r#"{"alg": "RS256", "jwk_url": "https://a.example/keys"}"#;
            assert_eq!(
                config_errors(Level::Endpoint, &[name.to_owned()], good),
                <[&str; 0]>::default()
            );
        }
        for name in ["auth/validatr", "qos/ratelimit/routr", "validation/cell"] {
            let found = config_errors(Level::Endpoint, &[name.to_owned()], "{}");
            assert_eq!(found.len(), 1, "{name}: {found:?}");
        }
        for name in ["proxi", "some/unknown", "modifier/lua-endpoints-of-mine"] {
            let found = config_errors(Level::Endpoint, &[name.to_owned()], "{}");
            assert_eq!(found, <[&str; 0]>::default(), "{name}");
        }
    }

    fn distinct<'n>(spellings: impl Iterator<Item = &'n str>) {
        let mut seen = HashSet::new();
        for spelling in spellings {
            assert!(seen.insert(spelling), "{spelling:?} is there twice");
        }
    }

    #[test]
    fn no_namespace_occurs_twice_in_a_list() {
        let spellings = |name: &'static str, aliases: &'static [&'static str]| {
            std::iter::once(name).chain(aliases.iter().copied())
        };
        let core = |list: &'static [&'static Namespace]| {
            list.iter().flat_map(move |n| spellings(n.name, n.aliases))
        };
        distinct(
            core(SERVICE_NAMESPACES).chain(
                registry::SERVICE
                    .iter()
                    .flat_map(|e| spellings(e.namespace, e.aliases)),
            ),
        );
        distinct(
            core(ENDPOINT_NAMESPACES).chain(
                registry::ENDPOINT
                    .iter()
                    .flat_map(|e| spellings(e.namespace, e.aliases)),
            ),
        );
        distinct(
            core(BACKEND_NAMESPACES).chain(
                registry::BACKEND
                    .iter()
                    .flat_map(|e| spellings(e.namespace, e.aliases)),
            ),
        );
        distinct(
            UNBUILT
                .iter()
                .flat_map(|u| spellings(u.namespace, u.aliases)),
        );
    }
}
