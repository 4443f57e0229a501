use super::*;
use crate::cli::openapi::export::{self, Choice};

fn document(more: Value) -> Value {
    let mut document = json!({
        "openapi": "3.0.3",
        "info": { "title": "Users", "version": "2" },
        "servers": [{ "url": "https://{env}.example.com:8443/v1/", "variables": { "env": { "default": "api" } } }],
        "paths": { "/users/{user.id}": {
            "parameters": [{ "$ref": "#/components/parameters/Id" }],
            "get": { "operationId": "one", "parameters": [
                { "name": "fields", "in": "query", "schema": { "type": "string" } },
                { "name": "X-Trace", "in": "header", "schema": { "type": ["string", "null"] } }
            ], "responses": {} },
            "trace": { "responses": {} }
        } },
        "components": { "parameters": { "Id": {
            "name": "user.id", "in": "path", "required": true, "schema": { "type": "integer" }
        } } }
    });
    let all = document.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    document
}

#[test]
fn each_operation_becomes_an_endpoint_that_forwards_the_documented_inputs() {
    let made = configuration(&document(json!({})), None).unwrap();
    let endpoints = made.file["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 1);
    let one = &endpoints[0];
    assert_eq!(one["endpoint"], "/v1/users/{user_id}");
    assert_eq!(
        one["backend"][0]["host"],
        json!(["https://api.example.com:8443"])
    );
    assert_eq!(one["backend"][0]["url_pattern"], "/v1/users/{user_id}");
    assert_eq!(one["input_query_strings"], json!(["fields"]));
    assert_eq!(one["input_headers"], json!(["Accept", "X-Trace"]));
    let own = &one["extra_config"]["documentation/openapi"];
    assert_eq!(own["param_definition"][0]["name"], "user_id");
    assert_eq!(own["header_definition"][0]["type"], "string");
    assert_eq!(made.remarks.len(), 1, "{:?}", made.remarks);
}

#[test]
fn an_operation_id_that_occurs_twice_is_rejected_with_both_places() {
    let twice = document(json!({ "paths": {
        "/a": { "get": { "operationId": "list", "responses": {} } },
        "/b": { "post": { "operationId": "list", "responses": {} }, "get": { "responses": {} },
                "put": { "responses": {} } }
    } }));
    let reason = configuration(&twice, None).unwrap_err();
    assert_eq!(
        reason,
        r#"the operationId "list" occurs twice: GET /a and POST /b"#
    );
}

#[test]
fn bodies_are_described_and_the_user_learns_that_they_are_not_checked() {
    let described = document(json!({
        "paths": { "/users": { "post": {
            "requestBody": { "$ref": "#/components/requestBodies/User" },
            "responses": {
                "201": { "description": "Made", "content": { "application/json": {
                    "schema": { "type": "object" }, "example": { "id": 7 } } } },
                "204": { "description": "Nothing" }
            }
        } } },
        "components": { "requestBodies": { "User": { "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/User" } } } } } }
    }));
    let made = configuration(&described, None).unwrap();
    let own = &made.file["endpoints"][0]["extra_config"]["documentation/openapi"];
    assert_eq!(
        own["request_definition"],
        json!([{ "content_type": "application/json", "ref": "#/components/schemas/User" }])
    );
    assert_eq!(
        own["response_definition"],
        json!({ "201": [{
            "content_type": "application/json", "description": "Made",
            "example_schema": { "type": "object" }, "example": { "id": 7 }
        }], "204": [{ "description": "Nothing" }] })
    );
    let told = made
        .remarks
        .iter()
        .any(|it| it.contains("validation/json-schema"));
    assert!(told, "{:?}", made.remarks);
}

#[test]
fn credentials_reach_the_backend_and_are_reported() {
    let secured = document(json!({
        "security": [{ "key": [] }, { "cookie": [] }, { "oidc": [] }],
        "components": { "securitySchemes": {
            "key": { "type": "apiKey", "in": "query", "name": "api_key" },
            "cookie": { "type": "apiKey", "in": "cookie", "name": "sid" },
            "oidc": { "type": "openIdConnect" }
        } }
    }));
    let made = configuration(&secured, None).unwrap();
    let one = &made.file["endpoints"][0];
    assert_eq!(one["input_query_strings"], json!(["api_key", "fields"]));
    assert_eq!(
        one["input_headers"],
        json!(["Accept", "Authorization", "Cookie", "X-Trace"])
    );
    assert!(
        made.remarks.iter().any(|it| it.contains("auth/validator")),
        "{:?}",
        made.remarks
    );
}

#[test]
fn a_custom_host_keeps_the_path_of_the_server() {
    let file = configuration(&document(json!({})), Some("http://users:80/"))
        .unwrap()
        .file;
    assert_eq!(
        file["endpoints"][0]["backend"][0]["host"],
        json!(["http://users:80"])
    );
    assert_eq!(file["endpoints"][0]["endpoint"], "/v1/users/{user_id}");
    let relative = document(json!({ "servers": [{ "url": "/v2" }] }));
    assert!(
        configuration(&relative, None)
            .unwrap_err()
            .contains("--host")
    );
    let file = configuration(&relative, Some("http://users")).unwrap().file;
    assert_eq!(file["endpoints"][0]["endpoint"], "/v2/users/{user_id}");
}

#[test]
fn other_documents_than_openapi_3_are_rejected() {
    assert!(
        configuration(&json!({ "swagger": "2.0" }), None)
            .unwrap_err()
            .contains("Swagger 2")
    );
    assert!(configuration(&json!([]), None).is_err());
}

#[test]
fn parameters_within_a_segment_need_a_switch() {
    assert!(is_mixed("/a/{id}.pdf") && is_mixed("/a/x{id}") && is_mixed("/{a}-{b}"));
    assert!(!is_mixed("/a/{id}/b") && !is_mixed("/"));
    assert_eq!(renamed("/a/{x.y}-{z}/b"), "/a/{x_y}-{z}/b");
}

#[test]
fn a_path_that_endpoints_cannot_have_is_left_out_with_a_note() {
    let made = configuration(
        &document(json!({ "paths": {
            "/files/{name}.{ext}": { "get": { "responses": {} } },
            "/f/{x}-{y}": { "get": { "responses": {} } },
            "/good/{id}": { "get": { "responses": { "204": { "description": "Gone" } } } }
        } })),
        None,
    )
    .unwrap();
    let endpoints = made.file["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 1);
    assert!(made.file["disable_rest"].is_null());
    let notes = made.remarks.join("\n");
    for path in ["GET /files/{name}.{ext}", "GET /f/{x}-{y}"] {
        let note = format!("{path} is left out: a segment can have only one parameter");
        assert!(notes.contains(&note), "{notes}");
    }
    let own = &endpoints[0]["extra_config"]["documentation/openapi"];
    assert_eq!(
        own["response_definition"]["204"],
        json!([{ "description": "Gone" }])
    );
    assert_eq!(own["disable_default_response_definitions"], true);
    let choice = Choice {
        audiences: &[],
        documented: false,
    };
    let exported = export::document(&made.file, &choice).unwrap();
    let responses = &exported["paths"]["/v1/good/{id}"]["get"]["responses"];
    assert_eq!(responses, &json!({ "204": { "description": "Gone" } }));
}

#[test]
fn the_provider_of_the_document_is_offered() {
    let url = "https://idp.example.com/.well-known/openid-configuration";
    let made = configuration(
        &document(json!({ "components": { "securitySchemes": {
            "login": { "type": "openIdConnect", "openIdConnectUrl": url }
        } }, "paths": {} })),
        None,
    );
    let notes = made.unwrap().remarks.join("\n");
    let want = format!("\"auth/validator\": {{\"openid_configuration\": \"{url}\"");
    assert!(notes.contains(&want), "{notes}");
}
