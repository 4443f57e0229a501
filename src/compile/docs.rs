//! Generates the page of configuration keys from the tables that are used for parsing, so that they always agree.

use std::fmt::Write as _;

use crate::config::Namespace;
use crate::config::variables::GROUPS;
use crate::config::{Key, Kind};
use crate::ext::registry;
use crate::ext::registry::AGENT_NAMESPACES;
use crate::ext::registry::BACKEND_NAMESPACES;
use crate::ext::registry::ENDPOINT_NAMESPACES;
use crate::ext::registry::SERVICE_NAMESPACES;
use crate::ext::unsupported::{UNSUPPORTED, Verdict, unsupported};

const HEAD: &str = "\
# Configuration

This page lists every key of a file. The program makes it from the tables with which it parses a file, so it is complete.

A file is strict JSON, YAML (`.yaml`, `.yml`) or TOML (`.toml`), at most 64 MiB. A duration is a number and a unit:
`\"2s\"`, `\"1h30m\"`, `\"300ms\"`. A bare number counts nanoseconds as in KrakenD, but seconds in namespaces, and
gets a warning. Keys that begin with `@`, `$`, `_` or
`#` are comments. Unknown keys are ignored with a warning. At the core levels (service, endpoint, backend) types are read as
loosely as in KrakenD: `\"8080\"` is a number, `\"true\"` a boolean, a single string a list of one, and keys are case-insensitive.
In namespaces such a value gets a warning. A value that cannot be read is ignored with a warning, but stops the start in a
namespace that is a guard: see [Files that are not quite right](differences-from-krakend.md#files-that-are-not-quite-right).

`portcullis schema` prints these tables as a JSON Schema, which editors use to complete and explain keys;
`conf/portcullis.schema.json` is the same file ([Editors](install.md#editors)). Refer to it in the configuration: `\"$schema\": \"./portcullis.schema.json\"`.

`KRAKEND_<KEY>` in the environment replaces the root key `<key>`: see [Environment variables](#environment-variables). With
`FC_ENABLE` the file is a template: see [Templates](templates.md).

`portcullis check -c FILE` prints all errors at once, each with its location in the file.
";

/// The whole page.
pub fn page() -> String {
    let mut out = String::new();
    table(
        &mut out,
        2,
        "Service",
        "The root of the file.",
        crate::config::service::SERVICE,
    );
    table(
        &mut out,
        2,
        "Endpoint",
        "One entry of `endpoints`.",
        crate::config::endpoint::ENDPOINT,
    );
    table(
        &mut out,
        2,
        "Backend",
        "One entry of an endpoint's `backend`.",
        crate::config::backend::BACKEND,
    );
    table(
        &mut out,
        2,
        "Async agent",
        "One entry of `async_agent`.",
        crate::config::agent::AGENT,
    );
    let service = registry::SERVICE
        .iter()
        .map(|e| (e.namespace, e.aliases, e.doc, e.keys));
    let endpoint = registry::ENDPOINT
        .iter()
        .map(|e| (e.namespace, e.aliases, e.doc, e.keys));
    let backend = registry::BACKEND
        .iter()
        .map(|e| (e.namespace, e.aliases, e.doc, e.keys));
    level(&mut out, "of the service", SERVICE_NAMESPACES, service);
    level(&mut out, "of an endpoint", ENDPOINT_NAMESPACES, endpoint);
    level(&mut out, "of a backend", BACKEND_NAMESPACES, backend);
    agents(&mut out);
    not_built(&mut out);
    variables(&mut out);
    format!("{HEAD}{}{out}", contents(&out))
}

/// A list of the headings of the page with links.
fn contents(page: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut out = "\n## Contents\n".to_owned();
    for line in page.lines() {
        let Some((level, heading)) = line.split_once("# ") else {
            continue;
        };
        let anchor = anchor(heading);
        // The second heading with the same text gets a number (GitHub, mdBook).
        let before = seen.iter().filter(|known| **known == anchor).count();
        let link = match before {
            0 => format!("[{heading}](#{anchor})"),
            before => format!("[{heading}](#{anchor}-{before})"),
        };
        seen.push(anchor);
        let _ = match level {
            "#" => write!(out, "\n- {link}"),
            "##" => write!(out, "\n  - {link}"),
            _ => Ok(()),
        };
    }
    out.push('\n');
    out
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
        .collect()
}

fn variables(out: &mut String) {
    out.push_str(
        "\n## Environment variables\n\nVariables that the program reads. `man portcullis` has the same list.\n",
    );
    for group in GROUPS {
        let _ = write!(
            out,
            "\n### {}\n\n| variable | meaning |\n|---|---|\n",
            group.title
        );
        for (names, doc) in group.variables {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            // Angle brackets and asterisks would be read as markup.
            let doc = doc
                .replace("<key>", "`<key>`")
                .replace("PORTCULLIS_<KEY>", "`PORTCULLIS_<KEY>`");
            let doc = doc.replace(" and *.", " and `*`.");
            let _ = writeln!(out, "| {} | {} |", names.join(", "), cell(&doc));
        }
    }
}

type Entry = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [Key],
);

fn level(
    out: &mut String,
    name: &str,
    core: &'static [&'static Namespace],
    extensions: impl Iterator<Item = Entry>,
) {
    let _ = write!(out, "\n## `extra_config` {name}\n");
    let core = core.iter().map(|n| (n.name, n.aliases, n.doc, n.keys));
    core.chain(extensions).for_each(|one| entry(out, one));
}

fn entry(out: &mut String, (name, aliases, doc, keys): Entry) {
    let older: Vec<String> = aliases.iter().map(|alias| format!("`{alias}`")).collect();
    let doc = if older.is_empty() {
        doc.to_owned()
    } else {
        format!("{doc} Older spelling: {}.", older.join(", "))
    };
    table(out, 3, &format!("`{name}`"), &doc, keys);
}

/// The namespaces of agents. Those that endpoints have, too, are only named.
fn agents(out: &mut String) {
    let (shared, own): (Vec<_>, Vec<_>) = AGENT_NAMESPACES
        .iter()
        .copied()
        .partition(|namespace| ENDPOINT_NAMESPACES.iter().any(|n| n.name == namespace.name));
    let _ = write!(out, "\n## `extra_config` of an async agent\n");
    let names = shared.iter().map(|namespace| namespace.name);
    let names = names.chain(registry::agent().map(|(_, extension)| extension.namespace));
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let _ = write!(
        out,
        "\nThe namespaces {} have the keys that they have in an endpoint.\n",
        names.join(", ")
    );
    for namespace in own {
        entry(
            out,
            (
                namespace.name,
                namespace.aliases,
                namespace.doc,
                namespace.keys,
            ),
        );
    }
}

fn table(out: &mut String, depth: usize, title: &str, doc: &str, keys: &'static [Key]) {
    let _ = write!(out, "\n{} {title}\n\n{doc}\n", "#".repeat(depth));
    if !keys.is_empty() {
        out.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
        rows(out, "", keys);
    }
}

/// The keys of inner objects follow their own: `tls`, then `tls.keys`.
fn rows(out: &mut String, prefix: &str, keys: &'static [Key]) {
    for key in keys {
        if matches!(key.kind, Kind::Leftover) {
            let _ = writeln!(
                out,
                "| `{prefix}{}` | – | – | No effect{}. |",
                key.name,
                match key.doc {
                    "" => String::new(),
                    doc => format!(": {}", cell(doc)),
                }
            );
            continue;
        }
        let default = match key.default {
            "" => "–".to_owned(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(
            out,
            "| `{prefix}{}` | {} | {} | {} |",
            key.name,
            kind(&key.kind),
            cell(&default),
            cell(key.doc)
        );
        match key.kind {
            // Endpoints, agents and backends have their own tables.
            Kind::Blocks(_) if matches!(key.name, "endpoints" | "async_agent" | "backend") => {}
            Kind::Block(inner) => rows(out, &format!("{prefix}{}.", key.name), inner),
            Kind::Blocks(inner) => rows(out, &format!("{prefix}{}[].", key.name), inner),
            _ => {}
        }
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Secret => "string, secret".to_owned(),
        Kind::Choice(allowed) => {
            let allowed: Vec<String> = allowed.iter().map(|word| format!("`{word}`")).collect();
            allowed.join(", ")
        }
        Kind::Bool => "boolean".to_owned(),
        Kind::Integer => "integer".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Texts => "list of strings".to_owned(),
        Kind::TextOrTexts => "string or list of strings".to_owned(),
        Kind::Integers => "list of integers".to_owned(),
        Kind::TextMap => "object of strings".to_owned(),
        Kind::Block(_) | Kind::Object => "object".to_owned(),
        Kind::Blocks(_) => "list of objects".to_owned(),
        Kind::List => "list".to_owned(),
        Kind::Any => "any".to_owned(),
        Kind::Leftover => String::new(),
    }
}

fn not_built(out: &mut String) {
    out.push_str(
        "\n## Not built by this version\n\nA configuration with one of these does not start, because the gateway could not do what it describes. The text behind each name says what to write instead:\n\n",
    );
    names(out, Verdict::Reject);
    out.push_str("\nThese are ignored with a warning:\n\n");
    names(out, Verdict::Ignore);
}

fn names(out: &mut String, verdict: Verdict) {
    let built = |name: &str| {
        let core = [SERVICE_NAMESPACES, ENDPOINT_NAMESPACES, BACKEND_NAMESPACES];
        core.iter().any(|list| list.iter().any(|n| n.name == name))
            || registry::SERVICE.iter().any(|e| e.namespace == name)
            || registry::ENDPOINT.iter().any(|e| e.namespace == name)
            || registry::BACKEND.iter().any(|e| e.namespace == name)
    };
    for known in UNSUPPORTED {
        let is_listed = unsupported(known.namespace).is_some() && known.verdict == verdict;
        if is_listed && !built(known.namespace) {
            let hint = match known.hint {
                "" => String::new(),
                hint => format!(": {hint}"),
            };
            let _ = writeln!(out, "- `{}`{hint}", known.namespace);
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
