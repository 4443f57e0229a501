//! Generates a JSON Schema (draft 7, which editors support best) from the tables of keys that are used for parsing,
//! so that they always agree.

use serde_json::{Map, Value, json};

use crate::config::Namespace;
use crate::config::key::{Key, Values};
use crate::config::{Kind, duration};
use crate::ext::plugins::PluginKind;
use crate::ext::registry;
use crate::ext::registry::AGENT_NAMESPACES;
use crate::ext::registry::BACKEND_NAMESPACES;
use crate::ext::registry::ENDPOINT_NAMESPACES;
use crate::ext::registry::SERVICE_NAMESPACES;
use crate::ext::unsupported::{UNSUPPORTED, Verdict};

/// Names of comments.
const REMARKS: &str = "^[@$_#]";
/// The syntax of [`duration::parse`].
const DURATION: &str = r"^[+]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// The schema as text, the output of `portcullis schema`.
pub fn text() -> String {
    format!("{:#}\n", whole())
}

fn whole() -> Value {
    let mut file = object(crate::config::service::SERVICE);
    file["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    file["title"] = json!("Portcullis configuration");
    file["description"] = json!(
        "A KrakenD file of version 3 or 4, with the keys of Portcullis. Made by `portcullis schema`."
    );
    file["required"] = json!(["version"]);
    file["properties"]["version"] = json!({
        "description": "Version of the file format: 3, or 4 as KrakenD 3.0 writes it.",
        "enum": [3, 4],
    });
    file["properties"]["endpoints"]["items"] = reference("endpoint");
    file["properties"]["async_agent"]["items"] = reference("async_agent");
    file["properties"]["extra_config"] = reference("service.extra_config");
    let mut agent = object(crate::config::agent::AGENT);
    agent["properties"]["backend"]["items"] = reference("backend");
    agent["properties"]["extra_config"] = reference("async_agent.extra_config");
    let mut endpoint = object(crate::config::endpoint::ENDPOINT);
    // A start without them is possible, but gets a warning or an error.
    endpoint["required"] = json!(["endpoint", "backend"]);
    endpoint["properties"]["backend"]["items"] = reference("backend");
    endpoint["properties"]["extra_config"] = reference("endpoint.extra_config");
    let mut backend = object(crate::config::backend::BACKEND);
    backend["properties"]["extra_config"] = reference("backend.extra_config");
    let service = registry::SERVICE.iter();
    let endpoints = registry::ENDPOINT.iter();
    let backends = registry::BACKEND.iter();
    file["definitions"] = json!({
        "endpoint": endpoint,
        "async_agent": agent,
        "backend": backend,
        "service.extra_config": extra(
            SERVICE_NAMESPACES,
            service.map(|e| (e.namespace, e.aliases, e.doc, e.keys)),
        ),
        "endpoint.extra_config": extra(
            ENDPOINT_NAMESPACES,
            endpoints.map(|e| (e.namespace, e.aliases, e.doc, e.keys)),
        ),
        "async_agent.extra_config": extra(
            AGENT_NAMESPACES,
            registry::agent().map(|(_, e)| (e.namespace, e.aliases, e.doc, e.keys)),
        ),
        "backend.extra_config": extra(
            BACKEND_NAMESPACES,
            backends.map(|e| (e.namespace, e.aliases, e.doc, e.keys)),
        ),
    });
    file
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

type Entry = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [Key],
);

/// The namespaces of a level. Those of other levels, and those that are not implemented, are only known by name.
fn extra(core: &'static [&'static Namespace], extensions: impl Iterator<Item = Entry>) -> Value {
    let mut properties = Map::new();
    let core = core.iter().map(|n| (n.name, n.aliases, n.doc, n.keys));
    for (name, aliases, doc, keys) in core.chain(extensions) {
        let block = block(name, doc, keys);
        for alias in aliases {
            let mut old = block.clone();
            old["description"] = json!(format!("An older name of \"{name}\". {doc}"));
            properties.insert((*alias).to_owned(), old);
        }
        properties.insert(name.to_owned(), block);
    }
    for known in UNSUPPORTED {
        let what = match known.verdict {
            Verdict::Ignore => "Not supported by this version: ignored with a warning.",
            Verdict::Reject => "Not supported by this version: a file with it does not start.",
        };
        for name in std::iter::once(&known.namespace).chain(known.aliases) {
            let known = json!({ "description": what });
            properties.entry((*name).to_owned()).or_insert(known);
        }
    }
    for name in PluginKind::ALL.iter().flat_map(|kind| kind.spellings()) {
        let plugins = json!({ "description": "Plugins of KrakenD: the names that are built in work, others stop the start." });
        properties.insert(name.to_owned(), plugins);
    }
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { REMARKS: {} },
        "additionalProperties": false,
    })
}

fn block(name: &str, doc: &str, keys: &'static [Key]) -> Value {
    let mut block = if keys.is_empty() {
        json!({})
    } else {
        object(keys)
    };
    if registry::LISTS.contains(&name) {
        block = json!({ "type": "array", "items": block });
    }
    block["description"] = json!(doc);
    block
}

fn object(keys: &'static [Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { REMARKS: {} },
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = with_values(kind(&key.kind), key);
    let mut description = match key.kind {
        Kind::Leftover if key.doc.is_empty() => "No effect.".to_owned(),
        Kind::Leftover => format!("No effect: {}.", key.doc),
        _ => key.doc.to_owned(),
    };
    match default(key) {
        Some(default) => schema["default"] = default,
        None if key.default.is_empty() => {}
        None => description = format!("{description} Default: {}.", key.default),
    }
    if matches!(key.kind, Kind::Leftover) {
        schema["deprecated"] = json!(true);
    }
    schema["description"] = json!(description);
    schema
}

/// A text with values, or a list of such texts.
fn with_values(schema: Value, key: &Key) -> Value {
    let Some(text) = values(key.values) else {
        return schema;
    };
    match key.kind {
        Kind::Texts => json!({ "type": "array", "items": text }),
        Kind::TextOrTexts => json!({ "anyOf": [text, { "type": "array", "items": text }] }),
        _ => text,
    }
}

/// The values as a list, which an editor offers, and a pattern for what else starts without a warning: nothing, and texts
/// with values of the environment (`${NAME}`).
fn values(values: Values) -> Option<Value> {
    const ELSE: &str = r"^$|\$\{";
    let (list, others) = match values {
        Values::Any => return None,
        Values::OneOf(list) => (list, json!({ "pattern": ELSE })),
        Values::InAnyCase(list) => (list, json!({ "pattern": in_any_case(list, ELSE) })),
        Values::SuchAs(list) => (list, json!({})),
    };
    let mut schema = json!({ "type": "string", "anyOf": [{ "enum": list }] });
    if let Some(any) = schema["anyOf"].as_array_mut() {
        any.push(others);
    }
    Some(schema)
}

/// `^([gG][eE][tT]|[pP][uU][tT])$` or the other pattern.
fn in_any_case(list: &[&str], other: &str) -> String {
    let word = |word: &&str| -> String {
        let letter = |letter: char| {
            let (lower, upper) = (letter.to_ascii_lowercase(), letter.to_ascii_uppercase());
            if lower == upper {
                letter.to_string()
            } else {
                format!("[{lower}{upper}]")
            }
        };
        word.chars().map(letter).collect()
    };
    let words: Vec<String> = list.iter().map(word).collect();
    format!("{other}|^({})$", words.join("|"))
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Secret => json!({ "type": "string" }),
        Kind::Choice(allowed) => json!({ "enum": allowed }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Duration => json!({ "type": "string", "pattern": DURATION }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::TextOrTexts => json!({
            "type": ["string", "array"],
            "items": { "type": "string" },
        }),
        Kind::Integers => json!({ "type": "array", "items": { "type": "integer" } }),
        Kind::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Block(keys) => object(keys),
        // Endpoints, agents and backends are definitions.
        Kind::Blocks(keys) if is_level(keys) => json!({ "type": "array" }),
        Kind::Blocks(keys) => json!({ "type": "array", "items": object(keys) }),
        Kind::Object => json!({ "type": "object" }),
        Kind::List => json!({ "type": "array" }),
        Kind::Any | Kind::Leftover => json!({}),
    }
}

fn is_level(keys: &'static [Key]) -> bool {
    let levels = [
        crate::config::endpoint::ENDPOINT,
        crate::config::agent::AGENT,
        crate::config::backend::BACKEND,
    ];
    levels.iter().any(|level| std::ptr::eq(*level, keys))
        || keys
            .iter()
            .any(|key| matches!(key.name, "url_pattern" | "endpoint"))
}

/// The default as a value, if the table has a value and not only words.
fn default(key: &Key) -> Option<Value> {
    let written = key.default;
    match key.kind {
        Kind::Text | Kind::TextOrTexts | Kind::Choice(_)
            if !written.is_empty() && !written.contains(' ') =>
        {
            Some(json!(written))
        }
        Kind::Duration => duration::parse(written).ok().map(|_| json!(written)),
        Kind::Bool | Kind::Integer | Kind::Number | Kind::Texts | Kind::Integers => {
            serde_json::from_str(written).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_contains_the_levels_the_namespaces_and_their_old_names() {
        let schema = whole();
        let definitions = &schema["definitions"];
        assert_eq!(schema["properties"]["port"]["default"], 8080);
        assert_eq!(
            schema["properties"]["endpoints"]["items"]["$ref"],
            "#/definitions/endpoint"
        );
        assert!(definitions["backend"]["properties"]["url_pattern"]["description"].is_string());
        let endpoint = &definitions["endpoint.extra_config"]["properties"];
        assert_eq!(
            endpoint["auth/validator"]["properties"]["audience"]["type"],
            "array"
        );
        assert!(endpoint["github.com/devopsfaith/krakend-jose/validator"].is_object());
        assert!(endpoint["workflow"].is_object());
    }

    #[test]
    fn the_schema_has_the_values_of_texts() {
        let schema = whole();
        let definitions = &schema["definitions"];
        let validator = &definitions["endpoint.extra_config"]["properties"]["auth/validator"];
        let algorithms = &validator["properties"]["alg"]["anyOf"][0]["anyOf"][0]["enum"];
        assert!(
            algorithms
                .as_array()
                .is_some_and(|all| all.contains(&json!("RS256")))
        );
        let endpoint = &definitions["endpoint"]["properties"];
        let encodings = &endpoint["output_encoding"]["anyOf"][0]["enum"];
        assert!(
            encodings
                .as_array()
                .is_some_and(|all| all.contains(&json!("no-op")))
        );
    }

    #[test]
    fn the_schema_accepts_values_that_start_without_a_warning_and_marks_others() {
        let schema = whole();
        let valid = |file: Value| jsonschema::is_valid(&schema, &file);
        let with = |key: &str, value: &str| json!({ "version": 3, "endpoints": [{ "endpoint": "/x", "backend": [], key: value }] });
        for (key, value, accepted) in [
            ("method", "POST", true),
            ("method", "post", true),
            ("method", "TRACE", false),
            ("method", "POSTS", false),
            ("output_encoding", "negotiate", true),
            ("output_encoding", "", true),
            ("output_encoding", "${ENCODING}", true),
            ("output_encoding", "jsn", false),
        ] {
            assert_eq!(valid(with(key, value)), accepted, "{key} {value}");
        }
        for (alg, accepted) in [
            (json!("RS256"), true),
            (json!(["RS256", "ES256"]), true),
            (json!("RS265"), false),
            (json!(["RS265"]), false),
        ] {
            let file = json!({ "version": 3, "endpoints": [{ "endpoint": "/x", "backend": [], "extra_config": {
                "auth/validator": { "alg": alg } } }] });
            assert_eq!(valid(file), accepted, "{alg}");
        }
    }
}
