//! Checks what precedes the router, together with the endpoints.

use crate::config::flexible::{self, Watched};
use crate::config::{ConfigError, Data, Node, Service, Value};
use crate::ext::Compile;
use crate::ext::static_files::{Placed, SecretFiles, Sites};
use crate::runtime::ahead::{Hosts, VIRTUAL, Wildcards};

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
    let Some(sites) = cx.left::<Sites>() else {
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
        (path, node.unwrap_or_else(|| endpoint.block.node().clone()))
    });
    let covered: Vec<(&str, Node<'_>)> = paths
        .filter(|(path, _)| site.rest(path).is_some())
        .collect();
    let is_all = covered.len() == file.endpoints.len();
    if let (true, true, true, Some((_, node))) = (
        site.prefix.is_empty(),
        site.skip.is_empty(),
        is_all,
        covered.first(),
    ) {
        return node.config_error_hint(
            ConfigError::invalid(format!(
                "no endpoint can be reached: all paths are files, as {} says",
                placed.pointer
            )),
            "\"skip\": [\"/api\"] in the block leaves these paths to the endpoints",
        );
    }
    for (path, node) in covered {
        node.warn_hint(
            ConfigError::invalid(format!(
                "{path} cannot be reached: the path is that of a file"
            )),
            format!("{} serves all paths below {}", placed.pointer, site.shown()),
        );
    }
}

/// Endpoints that are missing, and endpoints of hosts that are missing.
pub(super) fn paths(file: &Service<'_>, cx: &Compile<'_>) {
    let declared = |path: &str| {
        let paths = file
            .endpoints
            .iter()
            .filter_map(|one| one.endpoint.as_deref());
        let bare = |path: &str| path.trim_end_matches('*').trim_end_matches('/').to_owned();
        paths.into_iter().any(|one| bare(one) == bare(path))
    };
    if let (Some(wildcards), Some(node)) = (cx.left::<Wildcards>(), file.extra.node()) {
        for endpoint in wildcards.endpoints().filter(|endpoint| !declared(endpoint)) {
            node.invalid(format!(
                "there is no endpoint {endpoint:?}, which should serve the paths of a wildcard"
            ));
        }
    }
    let Some(hosts) = cx.left::<Hosts>() else {
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
