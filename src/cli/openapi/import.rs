//! From an OpenAPI 3 document to a configuration: one endpoint for each operation, forwarded unchanged (`no-op`).
//!
//! Only what the document lists is forwarded, and credentials: the backend requires them, and continues to check them. The
//! gateway checks no token until the user adds `auth/validator`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::runtime::router::Pattern;

/// Methods that endpoints can have.
const METHODS: [&str; 8] = [
    "get", "post", "put", "patch", "delete", "head", "options", "query",
];

/// The result of an import.
#[derive(Debug)]
pub(super) struct Made {
    pub file: Value,
    /// Notes for the user, one sentence each.
    pub remarks: Vec<String>,
}

/// The configuration for a document, with `host` as the backend or the document's first server.
///
/// # Errors
/// If it is not an OpenAPI 3 document, or names no host.
pub(super) fn configuration(document: &Value, host: Option<&str>) -> Result<Made, String> {
    check_version(document)?;
    let server = Server::of(document, host)?;
    let mut remarks = Vec::new();
    let mut guarded = Vec::new();
    let mut endpoints = Vec::new();
    let mut ids = BTreeMap::new();
    let mut with_body = Vec::new();
    let mut mixed = false;
    for (path, item) in members(&document["paths"]) {
        let item = resolved(document, item);
        for (method, operation) in members(item) {
            if METHODS.contains(&method.as_str()) {
                if let Err(why) =
                    Pattern::parse(&format!("{}{}", server.base, renamed(path)), false)
                {
                    remarks.push(format!(
                        "{} {path} is left out: {why}",
                        method.to_uppercase()
                    ));
                    continue;
                }
                let operation = Operation {
                    document,
                    path,
                    item,
                    method,
                    operation,
                };
                operation.check_id(&mut ids)?;
                if operation.is_guarded() {
                    guarded.push(operation.name());
                }
                if !members(&operation.body()["content"]).is_empty() {
                    with_body.push(operation.name());
                }
                mixed |= is_mixed(path);
                endpoints.push(operation.endpoint(&server));
            } else if method == "trace" {
                remarks.push(format!(
                    "{} {path} is skipped: endpoints do not support this method",
                    method.to_uppercase()
                ));
            }
        }
    }
    remarks.extend(credentials_remark(&guarded));
    remarks.extend(provider_remarks(document));
    remarks.extend(bodies_remark(&with_body));
    let mut file = json!({
        "$schema": "./portcullis.schema.json",
        "version": 3,
        "name": text(&document["info"], "title"),
        "timeout": "10s",
        "extra_config": { "documentation/openapi": service(document) },
        "endpoints": endpoints,
    });
    // Parameters within a segment, as in /reports/{id}.pdf.
    if mixed {
        file["disable_rest"] = json!(true);
    }
    Ok(Made { file, remarks })
}

fn check_version(document: &Value) -> Result<(), String> {
    if text(document, "openapi").starts_with("3.") {
        return Ok(());
    }
    let found = if document["swagger"].is_null() {
        "not an OpenAPI document"
    } else {
        "Swagger 2"
    };
    Err(format!("this is {found}, but OpenAPI 3 is required"))
}

/// `guarded` are the operations that ask for credentials.
fn credentials_remark(guarded: &[String]) -> Option<String> {
    if guarded.is_empty() {
        return None;
    }
    Some(format!(
        "the document asks for credentials at {} operations. They are passed on, and the backend must check them: add \
         \"auth/validator\" to let the gateway do it ({})",
        guarded.len(),
        shortened(guarded)
    ))
}

/// The OpenID providers of the document, whose tokens the gateway can check.
fn provider_remarks(document: &Value) -> Vec<String> {
    let schemes = members(&document["components"]["securitySchemes"]);
    let urls = schemes.into_iter().filter_map(|(_, scheme)| {
        let url = text(resolved(document, scheme), "openIdConnectUrl");
        (!url.is_empty()).then_some(url)
    });
    let remark = |url| {
        format!(
            "the document names an OpenID provider: \"auth/validator\": {{\"openid_configuration\": {url:?}, \
             \"audience\": […]}} checks its tokens"
        )
    };
    urls.map(remark).collect()
}

/// `with_body` are the operations whose request bodies have a schema.
fn bodies_remark(with_body: &[String]) -> Option<String> {
    if with_body.is_empty() {
        return None;
    }
    Some(format!(
        "the document describes the request bodies of {} operations. The descriptions are kept, and the gateway checks no \
         body: add \"validation/json-schema\" to let it do so ({})",
        with_body.len(),
        shortened(with_body)
    ))
}

fn shortened(all: &[String]) -> String {
    let first = all.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > 3 {
        format!("{first}, …")
    } else {
        first
    }
}

/// Where the operations are: `http://users:8080` and `/v1`.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    origin: String,
    base: String,
}

impl Server {
    fn of(document: &Value, host: Option<&str>) -> Result<Server, String> {
        let url = filled(&document["servers"][0]);
        let url = match host {
            // The path of the server is still that of the document.
            Some(host) => format!("{}{}", host.trim_end_matches('/'), base_of(&url)),
            None => url,
        };
        let Some(at) = url.find("://").map(|at| at + 3) else {
            return Err(
                "\"servers\" names no host: give one with --host http://name:port".to_owned(),
            );
        };
        let path = url
            .get(at..)
            .and_then(|rest| rest.find('/'))
            .map_or(url.len(), |n| at + n);
        let (origin, base) = url.split_at(path);
        Ok(Server {
            origin: origin.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
        })
    }
}

/// The path of a URL, which may also be only a path.
fn base_of(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(from..).unwrap_or_default();
    rest.find('/')
        .and_then(|at| rest.get(at..))
        .unwrap_or_default()
        .trim_end_matches('/')
}

/// The URL of a server with the defaults of its variables.
fn filled(server: &Value) -> String {
    let mut url = text(server, "url").to_owned();
    for (name, variable) in members(&server["variables"]) {
        url = url.replace(&format!("{{{name}}}"), text(variable, "default"));
    }
    url
}

/// An operation of the document.
struct Operation<'a> {
    document: &'a Value,
    path: &'a str,
    item: &'a Value,
    method: &'a str,
    operation: &'a Value,
}

impl<'a> Operation<'a> {
    /// `GET /users`
    fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }

    /// The id is unique in a document (OpenAPI 3.1, §4.8.10). `ids` has those of the operations before.
    fn check_id(&self, ids: &mut BTreeMap<&'a str, String>) -> Result<(), String> {
        let id = text(self.operation, "operationId");
        let before = ids.insert(id, self.name()).filter(|_| !id.is_empty());
        before.map_or(Ok(()), |before| {
            Err(format!(
                "the operationId {id:?} occurs twice: {before} and {}",
                self.name()
            ))
        })
    }

    fn body(&self) -> &'a Value {
        resolved(self.document, &self.operation["requestBody"])
    }

    fn endpoint(&self, server: &Server) -> Value {
        let path = renamed(self.path);
        let mut queries = BTreeSet::new();
        let mut headers = BTreeSet::new();
        let mut described = Map::new();
        for parameter in self.parameters() {
            let (place, name) = (text(parameter, "in"), text(parameter, "name"));
            let list = match place {
                "query" => {
                    queries.insert(name.to_owned());
                    "query_definition"
                }
                "header" => {
                    headers.insert(name.to_owned());
                    "header_definition"
                }
                "cookie" => {
                    headers.insert("Cookie".to_owned());
                    continue;
                }
                _ => "param_definition",
            };
            let all = described.entry(list).or_insert_with(|| json!([]));
            if let Some(all) = all.as_array_mut() {
                all.push(definition(parameter, &name_of(place, name)));
            }
        }
        if !self.operation["requestBody"].is_null() {
            headers.insert("Content-Type".to_owned());
        }
        headers.insert("Accept".to_owned());
        self.credentials(&mut queries, &mut headers);
        self.describe(&mut described);
        let mut endpoint = json!({
            "endpoint": format!("{}{path}", server.base),
            "method": self.method.to_uppercase(),
            "output_encoding": "no-op",
            "input_headers": headers,
            "backend": [{
                "host": [server.origin],
                "url_pattern": format!("{}{path}", server.base),
            }],
        });
        if !queries.is_empty() {
            endpoint["input_query_strings"] = json!(queries);
        }
        if !described.is_empty() {
            endpoint["extra_config"] = json!({ "documentation/openapi": described });
        }
        endpoint
    }

    /// Copies the texts for people.
    fn describe(&self, described: &mut Map<String, Value>) {
        for (name, ours) in [
            ("summary", "summary"),
            ("description", "description"),
            ("tags", "tags"),
            ("operationId", "operation_id"),
        ] {
            if !self.operation[name].is_null() {
                described.insert(ours.to_owned(), self.operation[name].clone());
            }
        }
        let bodies = definitions(self.document, self.body());
        if !bodies.is_empty() {
            described.insert("request_definition".to_owned(), json!(bodies));
        }
        let mut responses = Map::new();
        for (status, response) in members(&self.operation["responses"]) {
            let response = resolved(self.document, response);
            let mut bodies = definitions(self.document, response);
            if bodies.is_empty() {
                // A response without content, such as 204.
                bodies.push(json!({ "description": text(response, "description") }));
            }
            responses.insert(status.clone(), json!(bodies));
        }
        if !responses.is_empty() {
            // The document lists all of them.
            described.insert(
                "disable_default_response_definitions".to_owned(),
                json!(true),
            );
            described.insert("response_definition".to_owned(), json!(responses));
        }
    }

    /// The operation's own parameters, then those of its path.
    fn parameters(&self) -> Vec<&Value> {
        let own = [&self.operation["parameters"], &self.item["parameters"]];
        let all = own.into_iter().filter_map(Value::as_array).flatten();
        let mut seen = BTreeSet::new();
        all.map(|parameter| resolved(self.document, parameter))
            .filter(|one| seen.insert((text(one, "in").to_owned(), text(one, "name").to_owned())))
            .collect()
    }

    /// The security requirements of the operation, or else those of the document. `[]` requires nothing.
    fn security(&self) -> &[Value] {
        let own = &self.operation["security"];
        let of = if own.is_null() {
            &self.document["security"]
        } else {
            own
        };
        of.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn is_guarded(&self) -> bool {
        self.security().iter().any(|way| !members(way).is_empty())
    }

    /// Where the credentials are in a request, so that they are passed on to the backend.
    fn credentials(&self, queries: &mut BTreeSet<String>, headers: &mut BTreeSet<String>) {
        for (name, _) in self.security().iter().flat_map(members) {
            let scheme = &self.document["components"]["securitySchemes"][name.as_str()];
            let scheme = resolved(self.document, scheme);
            match (text(scheme, "type"), text(scheme, "in")) {
                ("apiKey", "query") => queries.insert(text(scheme, "name").to_owned()),
                ("apiKey", "cookie") => headers.insert("Cookie".to_owned()),
                ("apiKey", _) => headers.insert(text(scheme, "name").to_owned()),
                _ => headers.insert("Authorization".to_owned()),
            };
        }
    }
}

/// Path parameters are renamed to what the gateway accepts; others keep their names.
fn name_of(place: &str, name: &str) -> String {
    if place == "path" {
        plain(name)
    } else {
        name.to_owned()
    }
}

fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

/// The path with plain names: `/users/{user.id}` becomes `/users/{user_id}`.
fn renamed(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&format!("{{{}}}", plain(name)));
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn is_mixed(path: &str) -> bool {
    let whole =
        |segment: &str| segment.starts_with('{') && segment.find('}') == Some(segment.len() - 1);
    path.split('/')
        .any(|segment| segment.contains('{') && !whole(segment))
}

/// The content of a request body or of a response, in the form of `documentation/openapi`.
fn definitions(document: &Value, body: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for (kind, media) in members(&body["content"]) {
        let mut one = json!({ "content_type": kind });
        if !body["description"].is_null() {
            one["description"] = body["description"].clone();
        }
        let schema = &media["schema"];
        if schema["$ref"].is_string() {
            one["ref"] = schema["$ref"].clone();
        } else if !schema.is_null() {
            one["example_schema"] = schema.clone();
        }
        if !media["example"].is_null() {
            one["example"] = media["example"].clone();
        }
        let examples: Map<String, Value> = members(&media["examples"])
            .into_iter()
            .map(|(name, example)| (name.clone(), resolved(document, example).clone()))
            .collect();
        if !examples.is_empty() {
            one["examples"] = Value::Object(examples);
        }
        all.push(one);
    }
    all
}

/// A parameter in the form of `documentation/openapi`.
fn definition(parameter: &Value, name: &str) -> Value {
    let mut out = json!({ "name": name });
    for (from, to) in [
        (&parameter["description"], "description"),
        (&parameter["required"], "required"),
        (&parameter["example"], "example"),
        (&parameter["schema"]["type"], "type"),
        (&parameter["schema"]["enum"], "enum"),
        (&parameter["schema"]["format"], "format"),
    ] {
        // 3.1 allows lists of types; there is one here.
        let value = from
            .as_array()
            .filter(|_| to == "type")
            .and_then(|all| all.first())
            .unwrap_or(from);
        if !value.is_null() {
            out[to] = value.clone();
        }
    }
    out
}

/// The service's part of the document.
fn service(document: &Value) -> Value {
    let info = &document["info"];
    let mut out = json!({ "version": text(info, "version") });
    for (from, to) in [
        (&info["description"], "description"),
        (&info["termsOfService"], "terms_of_service"),
        (&info["contact"]["name"], "contact_name"),
        (&info["contact"]["email"], "contact_email"),
        (&info["contact"]["url"], "contact_url"),
        (&info["license"]["name"], "license_name"),
        (&info["license"]["url"], "license_url"),
        (&document["tags"], "tag_definition"),
        (&document["components"]["schemas"], "components_schemas"),
    ] {
        if !from.is_null() {
            out[to] = from.clone();
        }
    }
    out
}

/// The object itself, or the one within the document that it refers to (`#/components/parameters/Id`).
fn resolved<'a>(document: &'a Value, object: &'a Value) -> &'a Value {
    let place = object["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'));
    place
        .and_then(|pointer| document.pointer(pointer))
        .unwrap_or(object)
}

fn members(of: &Value) -> Vec<(&String, &Value)> {
    let all = of.as_object().into_iter().flatten();
    all.filter(|(name, _)| !name.starts_with("x-")).collect()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
