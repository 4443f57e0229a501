//! From a configuration to an OpenAPI 3.1 document.
//!
//! What the file says of an endpoint (`documentation/openapi`) is completed by what the gateway does: which parameters pass,
//! which credentials it asks for. Nothing of the backends gets into the document.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "documentation/openapi";

/// Headers that OpenAPI describes elsewhere.
const SAID_ELSEWHERE: [&str; 4] = ["accept", "authorization", "content-type", "cookie"];

/// The endpoints to export.
pub(super) struct Choice<'a> {
    pub audiences: &'a [String],
    pub documented: bool,
}

/// The document of a configuration.
///
/// # Errors
/// An `operation_id` that occurs twice, with the endpoints.
pub(super) fn document(file: &Value, choice: &Choice<'_>) -> Result<Value, String> {
    let own = block(file, NAMESPACE);
    let mut paths = Map::new();
    let mut schemes = Map::new();
    let mut ids = BTreeMap::new();
    for endpoint in list(file, "endpoints") {
        let Some(operation) = operation(file, endpoint, choice, &mut schemes) else {
            continue;
        };
        let id = text(&operation, "operationId").to_owned();
        let place = format!(
            "{} {}",
            method(endpoint).to_uppercase(),
            text(endpoint, "endpoint")
        );
        if let Some(before) = ids.insert(id.clone(), place.clone()) {
            return Err(format!(
                "the operation id {id:?} occurs twice: {before} and {place}"
            ));
        }
        let item = paths
            .entry(path(text(endpoint, "endpoint")))
            .or_insert_with(|| json!({}));
        item[method(endpoint)] = operation;
    }
    let mut document = json!({ "openapi": "3.1.0", "info": info(file, own), "paths": paths });
    for (name, value) in [
        ("servers", servers(own)),
        ("tags", own["tag_definition"].clone()),
    ] {
        if value.as_array().is_some_and(|list| !list.is_empty()) {
            document[name] = value;
        }
    }
    let mut components = Map::new();
    for (name, value) in [("schemas", schemas(own)), ("securitySchemes", schemes)] {
        if !value.is_empty() {
            components.insert(name.to_owned(), Value::Object(value));
        }
    }
    if !components.is_empty() {
        document["components"] = Value::Object(components);
    }
    Ok(document)
}

fn info(file: &Value, own: &Value) -> Value {
    let or = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let mut info = json!({
        "title": or(text(file, "name"), "API"),
        "version": or(text(own, "version"), "1.0.0"),
    });
    copy(own, "description", &mut info, "description");
    copy(own, "terms_of_service", &mut info, "termsOfService");
    for (part, names) in [
        ("contact", ["name", "email", "url"]),
        ("license", ["name", "url", ""]),
    ] {
        for name in names {
            let value = text(own, &format!("{part}_{name}"));
            if !value.is_empty() {
                info[part][name] = json!(value);
            }
        }
    }
    // A licence without a name is not allowed.
    if info["license"].is_object() && info["license"]["name"].is_null() {
        info["license"]["name"] = info["license"]["url"].clone();
    }
    info
}

fn servers(own: &Value) -> Value {
    if own["servers"].is_array() {
        return own["servers"].clone();
    }
    let base = text(own, "base_path");
    let host = text(own, "host");
    if host.is_empty() {
        return if base.is_empty() {
            json!([])
        } else {
            json!([{ "url": base }])
        };
    }
    let schemes = texts(own, "schemes");
    let schemes = if schemes.is_empty() {
        vec!["http"]
    } else {
        schemes
    };
    let urls = schemes
        .iter()
        .map(|scheme| json!({ "url": format!("{scheme}://{host}{base}") }));
    urls.collect()
}

/// Schemas are objects, or JSON in base64.
fn schemas(own: &Value) -> Map<String, Value> {
    let read = |value: &Value| match value {
        Value::String(coded) => STANDARD
            .decode(coded)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default(),
        other => other.clone(),
    };
    match &own["components_schemas"] {
        Value::Object(all) => all
            .iter()
            .map(|(name, value)| (name.clone(), read(value)))
            .collect(),
        Value::Array(all) => all
            .iter()
            .map(|one| (text(one, "name").to_owned(), read(&one["schema"])))
            .collect(),
        _ => Map::new(),
    }
}

/// The operation of an endpoint; `None` if it is not exported or OpenAPI cannot describe it.
fn operation(
    file: &Value,
    endpoint: &Value,
    choice: &Choice<'_>,
    schemes: &mut Map<String, Value>,
) -> Option<Value> {
    let own = block(endpoint, NAMESPACE);
    let pattern = text(endpoint, "endpoint");
    let tunnel = block(endpoint, "portcullis/stream")["upgrade"] == true;
    if is_unknown(endpoint)
        || pattern == "/__catchall"
        || tunnel
        || (choice.documented && !own.is_object())
    {
        return None;
    }
    let audience = texts(own, "audience");
    let wanted = |name: &String| audience.iter().any(|it| *it == "*" || it == name);
    if !choice.audiences.is_empty() && !choice.audiences.iter().any(wanted) {
        return None;
    }
    let mut operation = json!({ "operationId": operation_id(own, endpoint) });
    for name in ["summary", "description", "tags"] {
        copy(own, name, &mut operation, name);
    }
    let parameters = parameters(endpoint, own);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = request_body(endpoint, own) {
        operation["requestBody"] = body;
    }
    let security = security(file, endpoint, own, schemes);
    operation["responses"] = responses(file, endpoint, own, security.is_some());
    if let Some(security) = security {
        operation["security"] = security;
    }
    Some(operation)
}

fn operation_id(own: &Value, endpoint: &Value) -> String {
    match text(own, "operation_id") {
        "" => {
            let path = path(text(endpoint, "endpoint"));
            let words = path
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|w| !w.is_empty());
            let words: Vec<&str> = std::iter::once(method(endpoint))
                .chain(words)
                .map(|w| w as &str)
                .collect();
            words.join("_")
        }
        id => id.to_owned(),
    }
}

/// The path as OpenAPI writes it: gin's `:id` and wildcards as parameters.
fn path(pattern: &str) -> String {
    let segments = pattern
        .split('/')
        .map(|segment| match segment.as_bytes().first() {
            Some(b':') => format!("{{{}}}", segment.get(1..).unwrap_or_default()),
            Some(b'*') => "{wildcard}".to_owned(),
            _ => segment.to_owned(),
        });
    segments.collect::<Vec<_>>().join("/")
}

fn parameters(endpoint: &Value, own: &Value) -> Vec<Value> {
    let path = path(text(endpoint, "endpoint"));
    let names = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    let mut all = Vec::new();
    for name in names {
        let mut one = parameter("path", name, defined(own, "param_definition", name));
        one["required"] = json!(true);
        all.push(one);
    }
    let set = claim_headers(endpoint);
    for (place, listed, definitions) in [
        ("query", "input_query_strings", "query_definition"),
        ("header", "input_headers", "header_definition"),
    ] {
        let mut names: Vec<&str> = texts(endpoint, listed);
        names.extend(list(own, definitions).iter().map(|one| text(one, "name")));
        let mut seen = BTreeSet::new();
        for name in names {
            let lower = name.to_ascii_lowercase();
            let header = place == "header";
            let elsewhere = header && (SAID_ELSEWHERE.contains(&&*lower) || set.contains(&lower));
            let key = if header { lower } else { name.to_owned() };
            let definition = defined(own, definitions, name);
            if name.is_empty()
                || name == "*"
                || elsewhere
                || definition["hide"] == true
                || !seen.insert(key)
            {
                continue;
            }
            all.push(parameter(place, name, definition));
        }
    }
    all
}

/// Headers that the gateway fills from claims: a client does not send them.
fn claim_headers(endpoint: &Value) -> BTreeSet<String> {
    let claims = list(block(endpoint, "auth/validator"), "propagate_claims");
    let names = claims.iter().filter_map(|pair| pair[1].as_str());
    names.map(str::to_ascii_lowercase).collect()
}

fn defined<'a>(own: &'a Value, list_name: &str, name: &str) -> &'a Value {
    let found = list(own, list_name)
        .iter()
        .find(|one| text(one, "name") == name);
    found.unwrap_or(&Value::Null)
}

fn parameter(place: &str, name: &str, definition: &Value) -> Value {
    let mut schema = match text(definition, "type") {
        "" => json!({ "type": "string" }),
        "float" => json!({ "type": "number" }),
        "date-time" => json!({ "type": "string", "format": "date-time" }),
        other => json!({ "type": other }),
    };
    copy(definition, "enum", &mut schema, "enum");
    copy(definition, "format", &mut schema, "format");
    let mut one = json!({ "name": name, "in": place, "schema": schema });
    copy(definition, "description", &mut one, "description");
    copy(definition, "example", &mut one, "example");
    if definition["required"] == true {
        one["required"] = json!(true);
    }
    one
}

fn request_body(endpoint: &Value, own: &Value) -> Option<Value> {
    if !["post", "put", "patch"].contains(&method(endpoint)) {
        return None;
    }
    let mut content = Map::new();
    for definition in list(own, "request_definition") {
        content.insert(content_type(definition), media(definition));
    }
    let schema = block(endpoint, "validation/json-schema");
    if schema.is_object() {
        let json = content
            .entry("application/json")
            .or_insert_with(|| json!({}));
        json["schema"] = schema.clone();
    }
    (!content.is_empty()).then(|| json!({ "content": content, "required": true }))
}

fn content_type(definition: &Value) -> String {
    match text(definition, "content_type") {
        "" => "application/json".to_owned(),
        kind => kind.to_owned(),
    }
}

/// One content type of a body.
fn media(definition: &Value) -> Value {
    let mut media = json!({});
    match text(definition, "ref") {
        "" => copy(definition, "example_schema", &mut media, "schema"),
        reference => media["schema"] = json!({ "$ref": reference }),
    }
    copy(definition, "example", &mut media, "example");
    if definition["examples"].is_object() {
        copy(definition, "examples", &mut media, "examples");
    }
    media
}

fn responses(file: &Value, endpoint: &Value, own: &Value, guarded: bool) -> Value {
    let mut all = Map::new();
    if let Some(definitions) = own["response_definition"].as_object() {
        for (status, definition) in definitions
            .iter()
            .filter(|(name, _)| !name.starts_with('@'))
        {
            let several = match definition {
                Value::Array(several) => several.as_slice(),
                one => std::slice::from_ref(one),
            };
            let mut response = json!({ "description": "" });
            for one in several {
                copy(one, "description", &mut response, "description");
                if has_content(one) {
                    response["content"][content_type(one)] = media(one);
                }
            }
            all.insert(status.clone(), response);
        }
    }
    let mut default = |status: &str, response: Value| {
        all.entry(status).or_insert(response);
    };
    if own["disable_default_response_definitions"] != true {
        let mut good = json!({ "description": "OK" });
        let encoding = match text(endpoint, "output_encoding") {
            "" => text(file, "output_encoding"),
            encoding => encoding,
        };
        if let Some(kind) = kind_of(encoding) {
            good["content"] = json!({ kind: {} });
        }
        default("200", good);
        default("500", json!({ "description": "Internal Server Error" }));
    }
    if guarded {
        default("401", json!({ "description": "Unauthorized" }));
    }
    for (status, description) in super::rejections::of(file, endpoint) {
        default(status, json!({ "description": description }));
    }
    if all.is_empty() {
        all.insert("default".to_owned(), json!({ "description": "" }));
    }
    Value::Object(all)
}

/// Whether a definition says something about the body.
fn has_content(definition: &Value) -> bool {
    let keys = [
        "content_type",
        "example",
        "examples",
        "example_schema",
        "ref",
    ];
    keys.iter().any(|key| !definition[key].is_null())
}

/// The content type of an output encoding; `None` if the backend or the client decides.
fn kind_of(encoding: &str) -> Option<&'static str> {
    match encoding {
        "" | "json" | "fast-json" | "json-collection" => Some("application/json"),
        "xml" => Some("application/xml"),
        "yaml" => Some("application/yaml"),
        "string" => Some("text/plain"),
        _ => None,
    }
}

/// The credentials that an endpoint requires, and their schemes. All of them must be satisfied.
fn security(
    file: &Value,
    endpoint: &Value,
    own: &Value,
    schemes: &mut Map<String, Value>,
) -> Option<Value> {
    let service = block(file, NAMESPACE);
    let mut needed = Map::new();
    let mut need = |name: &str, scheme: Value| {
        schemes.insert(name.to_owned(), scheme);
        needed.insert(name.to_owned(), json!([]));
    };
    let validator = block(endpoint, "auth/validator");
    if validator.is_object() {
        let name = match text(service, "jwt_key") {
            "" => "KrakenD-JWT",
            name => name,
        };
        need(
            name,
            json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" }),
        );
    }
    if block(endpoint, "auth/api-keys").is_object() {
        let keys = block(file, "auth/api-keys");
        let scheme = match (text(keys, "strategy"), text(keys, "identifier")) {
            ("query_string", name) => {
                json!({ "type": "apiKey", "in": "query", "name": if name.is_empty() { "key" } else { name } })
            }
            (_, "" | "Authorization") => json!({ "type": "http", "scheme": "bearer" }),
            (_, name) => json!({ "type": "apiKey", "in": "header", "name": name }),
        };
        need("ApiKey", scheme);
    }
    if block(endpoint, "auth/basic").is_object() {
        need("Basic", json!({ "type": "http", "scheme": "basic" }));
    }
    if let (Some(custom), Some(all)) = (
        own["custom_security_schemes"].as_array(),
        service["custom_security_schemes"].as_object(),
    ) {
        for name in custom.iter().filter_map(Value::as_str) {
            if let Some(scheme) = all.get(name) {
                need(name, scheme.clone());
            }
        }
    }
    if needed.is_empty() {
        return None;
    }
    let mut ways = vec![Value::Object(needed)];
    if validator["optional"] == true {
        ways.push(json!({}));
    }
    Some(Value::Array(ways))
}

/// Whether OpenAPI 3.1 cannot describe the method, such as QUERY.
fn is_unknown(endpoint: &Value) -> bool {
    let given = text(endpoint, "method");
    !given.is_empty() && !given.eq_ignore_ascii_case(method(endpoint))
}

fn method(endpoint: &Value) -> &'static str {
    match text(endpoint, "method").to_ascii_uppercase().as_str() {
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "HEAD" => "head",
        "OPTIONS" => "options",
        _ => "get",
    }
}

pub(super) fn block<'a>(of: &'a Value, namespace: &str) -> &'a Value {
    &of["extra_config"][namespace]
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts<'a>(of: &'a Value, name: &str) -> Vec<&'a str> {
    list(of, name).iter().filter_map(Value::as_str).collect()
}

fn copy(from: &Value, name: &str, to: &mut Value, as_name: &str) {
    if !from[name].is_null() {
        to[as_name] = from[name].clone();
    }
}
