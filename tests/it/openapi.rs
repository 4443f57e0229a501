//! `openapi export` and `openapi import` as a user runs them; documents are validated with the schema of OpenAPI 3.1.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, Upstream};

const SCHEMA: &str = include_str!("../data/openapi-3.1.json");

const FILE: &str = r##"{
  "version": 3,
  "name": "Shop",
  "extra_config": {
    "documentation/openapi": {
      "version": "2.1.0", "contact_email": "a@example.com", "license_name": "Apache-2.0",
      "host": "api.example.com", "base_path": "/v1", "schemes": ["https"],
      "tag_definition": [{ "name": "orders", "description": "Orders" }],
      "components_schemas": { "Order": { "type": "object", "properties": { "id": { "type": "integer" } } } }
    },
    "auth/api-keys": {
      "identifier": "X-Key", "strategy": "header", "keys": [{ "key": "hunter2hunter2", "roles": ["r"] }]
    }
  },
  "endpoints": [
    {
      "endpoint": "/orders/{id}",
      "input_query_strings": ["expand"],
      "input_headers": ["X-Trace", "X-User", "Accept"],
      "extra_config": {
        "auth/validator": {
          "alg": "RS256", "issuer": "i", "audience": ["a"], "jwk_url": "https://login.internal/jwks",
          "propagate_claims": [["sub", "X-User"]]
        },
        "documentation/openapi": {
          "summary": "One order", "tags": ["orders"], "operation_id": "getOrder", "audience": ["public"],
          "param_definition": [{ "name": "id", "type": "integer", "description": "Its number" }],
          "query_definition": [{ "name": "expand", "enum": ["items"] }],
          "response_definition": {
            "200": { "description": "The order", "content_type": "application/json", "ref": "#/components/schemas/Order" },
            "404": [{ "description": "None", "content_type": "application/json", "example": { "error": "x" } }]
          }
        }
      },
      "backend": [{ "host": ["http://orders.internal"], "url_pattern": "/o/{id}" }]
    },
    {
      "endpoint": "/orders",
      "method": "POST",
      "extra_config": {
        "auth/api-keys": { "roles": ["r"] },
        "validation/json-schema": { "type": "object", "required": ["id"] }
      },
      "backend": [{ "host": ["http://orders.internal"], "url_pattern": "/o" }]
    },
    {
      "endpoint": "/files/*", "output_encoding": "no-op",
      "backend": [{ "host": ["http://files.internal"], "url_pattern": "/" }]
    }
  ]
}"##;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command()
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn exported(file: &str, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("krakend.json"), file).unwrap();
    let output = run(
        folder.path(),
        &[&["openapi", "export", "-c", "krakend.json"], more].concat(),
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Fails unless this is an OpenAPI 3.1 document.
fn is_valid(document: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors = validator.iter_errors(document);
    let errors: Vec<String> = errors
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn the_rejections_of_guards_are_documented() {
    let file = r#"{ "version": 3, "endpoints": [{ "endpoint": "/a",
        "extra_config": {
            "documentation/openapi": { "summary": "A" },
            "auth/validator": { "alg": "RS256", "jwk_url": "https://i.example/keys", "roles": ["r"] },
            "qos/ratelimit/router": { "max_rate": 5, "client_max_rate": 1, "strategy": "ip" } },
        "backend": [{ "host": ["http://h.example"], "url_pattern": "/" }] }] }"#;
    let document = exported(file, &[]);
    is_valid(&document);
    let responses = document["paths"]["/a"]["get"]["responses"]
        .as_object()
        .unwrap();
    let statuses: Vec<&str> = responses.keys().map(String::as_str).collect();
    assert_eq!(statuses, ["200", "401", "403", "429", "500", "503"]);
}

#[test]
fn the_document_of_a_file_is_valid_and_complete() {
    let document = exported(FILE, &[]);
    is_valid(&document);
    assert_eq!(document["info"]["title"], "Shop");
    assert_eq!(document["servers"][0]["url"], "https://api.example.com/v1");
    let one = &document["paths"]["/orders/{id}"]["get"];
    assert_eq!(one["operationId"], "getOrder");
    let named = |place: &str| {
        let all = one["parameters"].as_array().unwrap().iter();
        let of = all.filter(|parameter| parameter["in"] == place);
        of.map(|p| p["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(named("path"), ["id"]);
    assert_eq!(named("query"), ["expand"]);
    // `Accept` is described elsewhere, and the gateway sets `X-User`.
    assert_eq!(named("header"), ["X-Trace"]);
    assert_eq!(one["security"], json!([{ "KrakenD-JWT": [] }]));
    let responses = one["responses"].as_object().unwrap();
    let statuses: Vec<&str> = responses.keys().map(String::as_str).collect();
    assert_eq!(statuses, ["200", "401", "404", "500"]);
    let post = &document["paths"]["/orders"]["post"];
    assert_eq!(post["operationId"], "post_orders");
    let schema = &post["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["id"]));
    assert!(document["paths"]["/files/{wildcard}"]["get"].is_object());
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["ApiKey"]["name"], "X-Key");
}

#[test]
fn the_document_contains_no_backends_providers_and_keys() {
    let text = exported(FILE, &[]).to_string();
    for secret in ["internal", "hunter2", "jwks"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn an_audience_or_documentation_chooses_endpoints() {
    let paths = |more: &[&str]| exported(FILE, more)["paths"].as_object().unwrap().len();
    assert_eq!(paths(&[]), 3);
    assert_eq!(paths(&["--audience", "public"]), 1);
    assert_eq!(paths(&["--audience", "partners"]), 0);
    assert_eq!(paths(&["--documented"]), 1);
}

#[test]
fn an_operation_id_that_occurs_twice_and_a_broken_file_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let twice = FILE
        .replace(
            r#""method": "POST","#,
            r#""method": "POST", "output_encoding": "json","#,
        )
        .replace(
            r#""auth/api-keys": { "roles": ["r"] },"#,
            r#""documentation/openapi": { "operation_id": "getOrder" },"#,
        );
    for (file, said) in [
        (&*twice, "getOrder"),
        (r#"{"version": 3, "timeout": 1.5e}"#, "krakend.json"),
    ] {
        std::fs::write(folder.path().join("krakend.json"), file).unwrap();
        let output = run(folder.path(), &["openapi", "export", "-c", "krakend.json"]);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn documentation_alone_gives_no_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = FILE.replace("\"i\"", "\"https://login.internal/\"");
    std::fs::write(folder.path().join("krakend.json"), file).unwrap();
    let output = run(folder.path(), &["check", "-c", "krakend.json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("openapi"), "{said}");
}

#[test]
fn an_imported_document_is_served_and_exports_again() {
    let upstream = Upstream::raw("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\nTea");
    let document = r##"
openapi: 3.0.3
info: { title: Users, version: "7" }
servers: [{ url: "https://api.example.com/v1" }]
security: [{ bearer: [] }]
paths:
  /users/{user.id}:
    parameters: [{ $ref: "#/components/parameters/Id" }]
    get:
      operationId: getUser
      parameters: [{ name: fields, in: query, schema: { type: string } }]
      responses: { "200": { description: OK } }
    delete: { responses: { "204": { description: Gone } } }
  /reports/{id}.pdf:
    get: { parameters: [{ name: id, in: path, required: true, schema: { type: string } }], responses: {} }
components:
  parameters: { Id: { name: user.id, in: path, required: true, schema: { type: integer } } }
  securitySchemes: { bearer: { type: http, scheme: bearer } }
"##;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("api.yaml"), document).unwrap();
    let arguments = [
        "openapi",
        "import",
        "-i",
        "api.yaml",
        "--host",
        &upstream.url(),
        "-o",
        "krakend.json",
    ];
    let output = run(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("auth/validator"), "{said}");
    let file = std::fs::read_to_string(folder.path().join("krakend.json")).unwrap();

    // One endpoint for each operation, as in the document: any response of the backend is passed on.
    let value: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(value["endpoints"].as_array().unwrap().len(), 3);
    let gateway = Gateway::start(&file);
    let response = gateway.get_with(
        "/v1/users/7?fields=a&other=b",
        &[("Authorization", "Bearer t")],
    );
    assert_eq!((response.status, &*response.text()), (418, "Tea"));
    let head = upstream.heads().pop().unwrap();
    assert!(
        head.starts_with("GET /v1/users/7?fields=a HTTP/1.1"),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("authorization: bearer t"),
        "{head}"
    );
    assert_eq!(gateway.get("/v1/reports/3.pdf").status, 418);

    let again = exported(&file, &[]);
    is_valid(&again);
    assert_eq!(again["info"]["version"], "7");
    assert_eq!(
        again["paths"]["/v1/users/{user_id}"]["get"]["operationId"],
        "getUser"
    );
}

#[test]
fn the_import_of_an_invalid_document_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (document, said) in [
        (r#"{"swagger": "2.0"}"#, "Swagger 2"),
        (
            r#"{"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "paths": {}}"#,
            "--host",
        ),
        ("{", "api.json"),
    ] {
        std::fs::write(folder.path().join("api.json"), document).unwrap();
        let output = run(folder.path(), &["openapi", "import", "-i", "api.json"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(said), "{error}");
    }
    let output = run(folder.path(), &["openapi", "import", "-i", "nowhere.json"]);
    assert_eq!(output.status.code(), Some(1));
}
