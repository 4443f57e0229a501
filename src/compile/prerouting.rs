//! Checks what precedes the router, together with the endpoints.

mod bypass;

use self::bypass::EndpointIndex;
use super::namespaces;
use crate::config::flexible::{self, Watched};
use crate::config::{ConfigError, Data, Endpoint, Node, Service, Value};
use crate::ext::Compile;
use crate::ext::static_files::{Placed, SecretFiles, Sites};
use crate::runtime::prerouting::{Hosts, Prerouting, VIRTUAL, Wildcards};

/// Keys whose values are the paths of files with secrets.
const SECRETS: [&str; 7] = [
    "private_key",
    "private_key_path",
    "tls_key",
    "htpasswd_path",
    "jwk_local_path",
    "secrets_file",
    "session_ticket_keys",
];

/// The files that the configuration consists of, and the files with secrets that it names.
pub(super) fn secrets(root: &Node<'_>, cx: &Compile<'_>) -> SecretFiles {
    let mut found = SecretFiles::default();
    for watched in cx.report.watched() {
        match watched {
            Watched::File(path) => found.0.push(path),
            Watched::Folder(path, _) => {
                // A file of the folder may be a link to a file elsewhere.
                let inside = std::fs::read_dir(&path).into_iter().flatten().flatten();
                found.0.extend(inside.map(|entry| entry.path()));
                found.0.push(path);
            }
        }
    }
    // A partial is read only where a template includes it.
    found.0.extend(flexible::folders(cx.environment));
    found.0.extend(flexible::kept_at(cx.environment));
    found.0.extend(cx.report.secret_files());
    collect(root.value(), cx, &mut found);
    found
}

fn collect(value: &Value, cx: &Compile<'_>, found: &mut SecretFiles) {
    match &value.data {
        Data::Object(members) => {
            for member in members {
                match &member.value.data {
                    Data::Text(path) if SECRETS.contains(&&*member.name) => {
                        found.0.push(cx.path(path));
                    }
                    _ => collect(&member.value, cx, found),
                }
            }
        }
        Data::List(items) => items.iter().for_each(|item| collect(item, cx, found)),
        _ => {}
    }
}

/// Endpoints below the prefix of a folder cannot be reached.
pub(super) fn sites(file: &Service<'_>, cx: &Compile<'_>) {
    let Some(sites) = cx.fact::<Sites>() else {
        return;
    };
    for placed in &sites.0 {
        site(placed, file);
    }
}

fn site(placed: &Placed, file: &Service<'_>) {
    let site = &placed.site;
    let paths = file.endpoints.iter().map(|endpoint| {
        let path = endpoint.endpoint.as_deref().unwrap_or("/");
        let node = endpoint.block.get("endpoint");
        let node = node.unwrap_or_else(|| endpoint.block.node().clone());
        (endpoint, path, node)
    });
    let covered: Vec<(&Endpoint<'_>, &str, Node<'_>)> = paths
        .filter(|(_, path, _)| site.rest(path).is_some())
        .collect();
    let is_all = covered.len() == file.endpoints.len();
    if let (true, true, true, Some((_, _, node))) = (
        site.prefix.is_empty(),
        site.skip.is_empty(),
        is_all,
        covered.first(),
    ) {
        return node.config_error_hint(
            ConfigError::invalid(format!(
                "no endpoint can be reached: {} serves all paths as files",
                placed.pointer
            )),
            "\"skip\": [\"/api\"] in the block leaves these paths to the endpoints",
        );
    }
    for (endpoint, path, node) in covered {
        node.warn_hint(
            ConfigError::invalid(format!(
                "{path} cannot be reached: a file is served at this path{}",
                unused_guards(endpoint)
            )),
            format!("{} serves all paths below {}", placed.pointer, site.shown()),
        );
    }
}

/// Names the guards of an endpoint that requests do not reach.
fn unused_guards(endpoint: &Endpoint<'_>) -> String {
    let namespaces = endpoint.extra.namespaces().into_iter();
    let guards = namespaces.map(|(name, _)| name);
    not_guarded(guards.filter(|name| namespaces::is_guard(name)).collect())
}

/// Names guards that do not apply.
fn not_guarded(guards: Vec<&str>) -> String {
    if guards.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = guards.iter().map(|name| format!("{name:?}")).collect();
    format!(", which its {} does not guard", quoted.join(", "))
}

/// Warns about endpoints whose paths a rewrite or a wildcard sends to another endpoint.
pub(super) fn rewritten(file: &Service<'_>, prerouting: Option<&Prerouting>) {
    let Some(prerouting) = prerouting else {
        return;
    };
    let reach = EndpointIndex::new(file, prerouting);
    for (index, endpoint) in file.endpoints.iter().enumerate() {
        let path = endpoint.endpoint.as_deref().unwrap_or_default();
        let shown = shown(path, prerouting);
        let usual = shown.and_then(|shown| elsewhere(&sample(shown), prerouting));
        let usual = usual.map(|(to, why)| (to, why, unused_guards(endpoint)));
        let found = usual.or_else(|| reach.unguarded(index));
        let Some((elsewhere, why, guards)) = found else {
            continue;
        };
        let node = endpoint.block.get("endpoint");
        let node = node.unwrap_or_else(|| endpoint.block.node().clone());
        // What is rewritten can depend on the values of parameters.
        let is_one_path = shown.is_some_and(|shown| !shown.contains(['{', '*']));
        let can = if is_one_path {
            "cannot be reached"
        } else {
            "may not be reached"
        };
        node.warn_hint(
            ConfigError::invalid(format!("{path} {can}: requests go to {elsewhere}{guards}")),
            why,
        );
    }
}

/// The path with which clients call an endpoint. `None` if they cannot call it by its own path.
fn shown<'p>(path: &'p str, prerouting: &Prerouting) -> Option<&'p str> {
    if prerouting.hosts.is_some()
        && let Some(rest) = path.strip_prefix(VIRTUAL)
    {
        return Some(rest.find('/').map_or("/", |at| &rest[at..]));
    }
    (!path.starts_with("/__")).then_some(path)
}

/// A path that matches a pattern.
fn sample(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment {
        "*" => "x",
        segment if segment.starts_with('{') => "x",
        segment => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Where a request with this path goes instead, and why.
fn elsewhere(path: &str, prerouting: &Prerouting) -> Option<(String, String)> {
    let rewritten = prerouting.rewrites.as_ref();
    let rewritten = rewritten.and_then(|all| all.apply(path, None)).flatten();
    let rewritten = rewritten.map(|new| new.path);
    let wildcards = prerouting.wildcards.as_ref();
    let taken = wildcards.and_then(|all| all.taking(rewritten.as_deref().unwrap_or(path)));
    if let Some((prefix, endpoint)) = taken {
        let why = format!("\"wildcard\" takes all paths below {prefix}");
        return Some((endpoint.to_owned(), why));
    }
    let new = rewritten.filter(|new| new != path)?;
    let why = format!("\"url-rewrite\" changes {path} to {new}");
    Some((new, why))
}

/// Reports wildcards without their endpoint, and endpoints below `/__virtual/` without their host.
pub(super) fn paths(file: &Service<'_>, cx: &Compile<'_>) {
    let declared = |path: &str| {
        let paths = file
            .endpoints
            .iter()
            .filter_map(|one| one.endpoint.as_deref());
        let bare = |path: &str| path.trim_end_matches('*').trim_end_matches('/').to_owned();
        paths.into_iter().any(|one| bare(one) == bare(path))
    };
    if let (Some(wildcards), Some(node)) = (cx.fact::<Wildcards>(), file.extra.node()) {
        for endpoint in wildcards.endpoints().filter(|endpoint| !declared(endpoint)) {
            node.invalid(format!(
                "there is no endpoint {endpoint:?}, which should serve the paths of a wildcard"
            ));
        }
    }
    let Some(hosts) = cx.fact::<Hosts>() else {
        return;
    };
    for endpoint in &file.endpoints {
        let path = endpoint.endpoint.as_deref().unwrap_or_default();
        if path.starts_with(VIRTUAL)
            && !hosts.has(path)
            && let Some(node) = endpoint.block.get("endpoint")
        {
            node.warn(ConfigError::invalid(format!(
                "no request reaches {path}: \"server/virtualhost\" has no such host"
            )));
        }
    }
}
