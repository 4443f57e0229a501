//! Maps the names in `extra_config` to the extensions that compile them, and handles unknown names.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::config::namespaces::{
    BACKEND_NAMESPACES, ENDPOINT_NAMESPACES, Namespace, SERVICE_NAMESPACES,
};
use crate::config::suggest::nearest;
use crate::config::{Extra, Mistake, Node};
use crate::ext::registry;
use crate::ext::unbuilt::{UNBUILT, Unbuilt, Verdict, unbuilt};

/// The level of an `extra_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
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

/// The part that compiles a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// `compile` itself.
    Core,
    /// The extension at this index of its list.
    Extension(usize),
}

static SERVICE: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    table(
        SERVICE_NAMESPACES,
        registry::SERVICE
            .iter()
            .map(|extension| (extension.namespace, extension.aliases)),
    )
});

static ENDPOINT: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    table(
        ENDPOINT_NAMESPACES,
        registry::ENDPOINT
            .iter()
            .map(|extension| (extension.namespace, extension.aliases)),
    )
});

static BACKEND: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    table(
        BACKEND_NAMESPACES,
        registry::BACKEND
            .iter()
            .map(|extension| (extension.namespace, extension.aliases)),
    )
});

fn table(
    core: &'static [&'static Namespace],
    extensions: impl Iterator<Item = (&'static str, &'static [&'static str])>,
) -> HashMap<&'static str, Known> {
    let core = core
        .iter()
        .map(|namespace| (namespace.name, namespace.aliases, Known::Core));
    let extensions = extensions
        .enumerate()
        .map(|(index, (name, aliases))| (name, aliases, Known::Extension(index)));
    let mut table = HashMap::new();
    for (name, aliases, known) in core.chain(extensions) {
        for spelling in std::iter::once(&name).chain(aliases) {
            table.entry(*spelling).or_insert(known);
        }
    }
    table
}

/// The configured extensions of a level in the order of their list, each with its block. Unknown names are reported.
pub fn wanted<'a>(level: Level, extra: &Extra<'a>) -> Vec<(usize, Node<'a>)> {
    let mut wanted: Vec<(usize, Node<'a>)> = Vec::new();
    for (name, node) in extra.namespaces() {
        match level.known().get(name) {
            Some(Known::Core) => {}
            Some(Known::Extension(index)) if node.value().is_null() => {
                says_nothing(level, *index, &node);
            }
            Some(Known::Extension(index)) => {
                if wanted.iter().any(|(known, _)| known == index) {
                    node.warn(Mistake::invalid(format!(
                        "{name:?} is there under another spelling too, which is the one that counts"
                    )))
                } else {
                    wanted.push((*index, node))
                }
            }
            None => stranger(level, name, &node),
        }
    }
    wanted.sort_by_key(|(index, _)| *index);
    wanted
}

/// Handles a block that is `null`: a template value that was not filled in must not silently remove a guard.
fn says_nothing(level: Level, index: usize, node: &Node<'_>) {
    let name = match level {
        Level::Service => registry::SERVICE.get(index).map(|e| e.namespace),
        Level::Endpoint => registry::ENDPOINT.get(index).map(|e| e.namespace),
        Level::Backend => registry::BACKEND.get(index).map(|e| e.namespace),
    };
    if name.is_some_and(|name| registry::MAY_BE_NULL.contains(&name)) {
        node.warn(Mistake::invalid("null counts as absent"))
    } else {
        node.mistake_hint(
            Mistake::invalid("null is no block: it would protect or change nothing"),
            "remove the name, or put an \"@\" before it to switch the block off",
        )
    }
}

fn stranger(level: Level, name: &str, node: &Node<'_>) {
    let elsewhere = Level::ALL
        .into_iter()
        .find(|other| other.known().contains_key(name));
    match (elsewhere, unbuilt(name)) {
        (Some(other), _) => node.warn_hint(
            Mistake::UnknownNamespace {
                namespace: name.to_owned(),
            },
            format!("it belongs into the extra_config of {}", other.words()),
        ),
        (None, Some(known)) => not_built(known, name, node),
        (None, None) => unknown(level, name, node),
    }
}

fn not_built(known: &Unbuilt, name: &str, node: &Node<'_>) {
    let mistake = Mistake::Unsupported {
        namespace: name.to_owned(),
    };
    match (known.verdict, known.hint) {
        (Verdict::Refuse, hint) => node.mistake_hint(mistake, hint),
        (Verdict::Ignore, "") => node.warn_hint(mistake, "it is ignored"),
        (Verdict::Ignore, hint) => node.warn_hint(mistake, format!("it is ignored: {hint}")),
    }
}

fn unknown(level: Level, name: &str, node: &Node<'_>) {
    let known = level.known().keys().copied();
    let mistake = Mistake::UnknownNamespace {
        namespace: name.to_owned(),
    };
    match nearest(
        name,
        known.chain(UNBUILT.iter().map(|known| known.namespace)),
    ) {
        Some(meant) => node.warn_hint(mistake, format!("did you mean \"{meant}\"?")),
        None => node.warn(mistake),
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

    /// The extensions of a level, each by one of its names: its current name, or an older one if it has any.
    fn spelled(level: Level, older: usize) -> Vec<(&'static str, &'static str)> {
        let all: Vec<(&str, &[&str])> = match level {
            Level::Service => registry::SERVICE
                .iter()
                .map(|e| (e.namespace, e.aliases))
                .collect(),
            Level::Endpoint => registry::ENDPOINT
                .iter()
                .map(|e| (e.namespace, e.aliases))
                .collect(),
            Level::Backend => registry::BACKEND
                .iter()
                .map(|e| (e.namespace, e.aliases))
                .collect(),
        };
        all.into_iter()
            .filter_map(|(name, aliases)| match older {
                0 => Some((name, name)),
                older => aliases.get(older - 1).map(|alias| (name, *alias)),
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
    fn mistakes(level: Level, names: &[String], value: &str) -> Vec<String> {
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
            .filter(|finding| finding.severity == crate::config::Severity::Mistake)
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
                let names: Vec<String> = spelled.iter().map(|(_, s)| (*s).to_owned()).collect();
                let found = mistakes(level, &names, value);
                for (name, spelling) in &spelled {
                    let place = format!("/extra_config/{}", spelling.replace('/', "~1"));
                    let told = found.iter().any(|pointer| pointer.contains(&place));
                    match registry::MAY_BE_NULL.contains(name) {
                        true if value == "null" => assert!(!told, "{spelling}"),
                        true => {}
                        // A schema that matches every body.
                        false if value == "true" && *name == "validation/json-schema" => {}
                        false => assert!(told, "{level:?} {spelling}: {value}: {found:?}"),
                    }
                }
                let off: Vec<String> = names.iter().map(|name| format!("@{name}")).collect();
                assert_eq!(mistakes(level, &off, value), <[&str; 0]>::default());
            }
        }
        let refused = UNBUILT.iter().filter(|u| u.verdict == Verdict::Refuse);
        let names: Vec<String> = refused.map(|guard| guard.namespace.to_owned()).collect();
        assert_eq!(mistakes(Level::Endpoint, &names, "null").len(), names.len());
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
