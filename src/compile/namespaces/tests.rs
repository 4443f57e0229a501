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
        Level::Agent => registry::agent()
            .map(|(_, e)| (e.namespace, e.aliases, e.guard))
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
        before: &crate::ext::ReloadState::default(),
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
    // Agents have extensions of endpoints only.
    let levels = Level::ALL.iter().filter(|level| **level != Level::Agent);
    for (level, older) in levels.flat_map(|level| [(*level, 0), (*level, 1)]) {
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
    let rejected = UNSUPPORTED.iter().filter(|u| u.verdict == Verdict::Reject);
    let names: Vec<String> = rejected.map(|guard| guard.namespace.to_owned()).collect();
    assert_eq!(
        config_errors(Level::Endpoint, &names, "null").len(),
        names.len()
    );
}

#[test]
fn a_guard_of_the_core_that_is_null_stops_the_start() {
    for (level, namespaces) in [
        (Level::Service, SERVICE_NAMESPACES),
        (Level::Endpoint, ENDPOINT_NAMESPACES),
        (Level::Backend, BACKEND_NAMESPACES),
    ] {
        for namespace in namespaces {
            let found = config_errors(level, &[namespace.name.to_owned()], "null");
            assert_eq!(!found.is_empty(), namespace.guard, "{}", namespace.name);
        }
    }
}

#[test]
fn a_key_of_a_guard_that_is_null_stops_the_start() {
    for (level, name, block, errors) in [
        (
            Level::Backend,
            "backend/http/client",
            r#"{"client_tls": null}"#,
            1,
        ),
        (
            Level::Backend,
            "backend/http/client",
            r#"{"no_redirect": null}"#,
            1,
        ),
        (
            Level::Backend,
            "backend/http/client",
            r#"{"proxy_address": ""}"#,
            1,
        ),
        (Level::Service, "router", r#"{"max_payload": null}"#, 1),
        (Level::Endpoint, "proxy", r#"{"max_payload": null}"#, 1),
        (
            Level::Service,
            "router",
            r#"{"hide_version_header": null}"#,
            0,
        ),
    ] {
        let found = config_errors(level, &[name.to_owned()], block);
        assert_eq!(found.len(), errors, "{name}: {block}: {found:?}");
    }
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
    for name in [
        "ip-filter",
        "krakend-ip-filter",
        "plugin/ip_filter",
        "basic-auth",
        "redis-ratelimit",
        "api-keys",
        "ratelimit/router",
        "validator",
        "bot-detector",
        "json-schema",
    ] {
        let found = config_errors(Level::Endpoint, &[name.to_owned()], "{}");
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
    for name in ["ip-filter", "basic-auth", "redis-ratelimit", "cors"] {
        let found = config_errors(Level::Service, &[name.to_owned()], "{}");
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
    for name in ["proxi", "some/unknown", "modifier/lua-endpoints-of-mine"] {
        let found = config_errors(Level::Endpoint, &[name.to_owned()], "{}");
        assert_eq!(found, <[&str; 0]>::default(), "{name}");
    }
}

#[test]
fn agents_have_what_needs_no_client() {
    let known = Level::Agent.known();
    for name in ["async/amqp", "proxy"] {
        assert!(known.contains_key(name), "{name}");
    }
    for name in ["auth/validator", "qos/ratelimit/router", "security/cors"] {
        assert!(!known.contains_key(name), "{name}");
    }
    // Each name is one of an endpoint.
    let built = [cfg!(feature = "lua"), cfg!(feature = "cel")];
    let schemas = if cfg!(feature = "json-schema") { 2 } else { 0 };
    let most = 1 + schemas + built.into_iter().filter(|built| *built).count();
    assert_eq!(registry::agent().count(), most);
    // The queue of an agent elsewhere would process nothing.
    for level in [Level::Service, Level::Endpoint, Level::Backend] {
        let found = config_errors(level, &["async/amqp".to_owned()], "{}");
        assert_eq!(found.len(), 1, "{level:?}: {found:?}");
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
        UNSUPPORTED
            .iter()
            .flat_map(|u| spellings(u.namespace, u.aliases)),
    );
}
