//! Body templates, SOAP, the content replacer, JMESPath, response schemas, the body extractor, and YAML.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Response, Upstream};

/// Answers with what it got.
pub(super) fn echo() -> Upstream {
    Upstream::start(|mut call| {
        let body = call.body()?;
        let field = |name: &str| {
            let lines = call.head.lines();
            let mut values = lines.filter_map(|line| line.split_once(':'));
            let found = values.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let said = json!({
            "line": call.head.lines().next(), "type": field("content-type"),
            "length": field("content-length"), "tenant": field("x-tenant"),
            "body": String::from_utf8_lossy(&body)
        });
        let said = said.to_string();
        call.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
            said.len()
        ))
    })
}

fn answering(content_type: &str, body: &str) -> Upstream {
    let length = body.len();
    Upstream::raw(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

pub(super) fn template(text: &str, more: Value) -> Value {
    let mut block = json!({ "template": STANDARD.encode(text) });
    block
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    block
}

pub(super) fn endpoint(
    path: &str,
    method: &str,
    upstream: &Upstream,
    extra: Value,
    backend: Value,
) -> Value {
    let mut call = json!({ "host": [upstream.url()], "url_pattern": "/b" });
    call.as_object_mut()
        .unwrap()
        .extend(backend.as_object().unwrap().clone());
    let encoding = if call["encoding"] == "no-op" {
        "no-op"
    } else {
        "json"
    };
    json!({
        "endpoint": path, "method": method, "output_encoding": encoding,
        "input_headers": ["X-Tenant", "Content-Type"], "input_query_strings": ["*"],
        "backend": [call], "extra_config": extra
    })
}

pub(super) fn gateway(endpoints: &[Value]) -> Gateway {
    let file = json!({ "version": 3, "endpoints": endpoints,
        "extra_config": { "router": { "return_error_msg": true } } });
    Gateway::start(&file.to_string())
}

pub(super) fn post(gateway: &Gateway, path: &str, body: &str) -> Response {
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
        ("X-Tenant", "own"),
    ];
    gateway.send("POST", request("POST", path, &headers) + body)
}

#[test]
fn requests_get_bodies_from_templates() {
    let upstream = echo();
    let of_backend = template(
        "{ \"country\": {{ .req_params.Country | toJson }}, \"q\": {{ index .req_querystring.q 0 | toJson }} }",
        json!({}),
    );
    let of_endpoint = template(
        "{ \"name\": {{ .req_body.user.name | toJson }}, \"v\": {{ .variables.v }} }",
        json!({ "variables": { "v": 7 } }),
    );
    let text = template(
        "hello {{ .req_body.user.name }}",
        json!({ "content_type": "text/plain" }),
    );
    let broken = template("{ {{ .req_body.user.name }} }", json!({}));
    let post_with = |block: &Value| json!({ "method": "POST", "extra_config": { "modifier/request-body-generator": block } });
    let gateway = gateway(&[
        endpoint(
            "/get/{country}",
            "GET",
            &upstream,
            json!({}),
            post_with(&of_backend),
        ),
        endpoint(
            "/post",
            "POST",
            &upstream,
            json!({ "modifier/body-generator": of_endpoint }),
            json!({}),
        ),
        endpoint("/text", "POST", &upstream, json!({}), post_with(&text)),
        endpoint(
            "/stream",
            "POST",
            &upstream,
            json!({ "modifier/request-body-generator": text }),
            json!({ "encoding": "no-op" }),
        ),
        endpoint("/broken", "POST", &upstream, json!({}), post_with(&broken)),
    ]);
    let got = gateway.get("/get/es?q=a%22b").json();
    let made = "{ \"country\": \"es\", \"q\": \"a\\\"b\" }";
    assert_eq!(got["line"], "POST /b?q=a%22b HTTP/1.1");
    assert_eq!(
        (&got["body"], &got["type"]),
        (&json!(made), &json!("application/json"))
    );
    assert_eq!(got["length"], made.len().to_string());
    let user = "{\"user\":{\"name\":\"Ana\"}}";
    assert_eq!(
        post(&gateway, "/post", user).json()["body"],
        "{ \"name\": \"Ana\", \"v\": 7 }"
    );
    for path in ["/text", "/stream"] {
        let got = post(&gateway, path, user).json();
        assert_eq!(
            (&got["body"], &got["type"], &got["length"]),
            (&json!("hello Ana"), &json!("text/plain"), &json!("9"))
        );
    }
    let calls = upstream.calls();
    let failed = post(&gateway, "/broken", user);
    assert_eq!(failed.status, 500);
    assert!(
        failed
            .text()
            .starts_with("body template: the result is not JSON"),
        "{}",
        failed.text()
    );
    assert_eq!(upstream.calls(), calls);
}

#[test]
fn responses_are_made_by_templates() {
    let upstream = answering("application/json", r#"{"names":["a","b"],"n":1}"#);
    let block = |text: &str, more: Value| json!({ "modifier/response-body-generator": template(text, more) });
    let names = "{ \"all\": {{ .resp_body.names | toJson }} }";
    let page = json!({ "content_type": "text/html" });
    let gateway = gateway(&[
        endpoint(
            "/composed",
            "GET",
            &upstream,
            block(names, json!({})),
            json!({}),
        ),
        endpoint(
            "/backend",
            "GET",
            &upstream,
            json!({}),
            json!({ "extra_config": block(names, json!({})) }),
        ),
        endpoint(
            "/stream",
            "GET",
            &upstream,
            block("<p>{{ .resp_status }} {{ .resp_body.n }}</p>", page),
            json!({ "encoding": "no-op" }),
        ),
        endpoint(
            "/broken",
            "GET",
            &upstream,
            block("{{ fail \"no\" }}", json!({})),
            json!({ "encoding": "no-op" }),
        ),
    ]);
    for path in ["/composed", "/backend"] {
        assert_eq!(
            gateway.get(path).json(),
            json!({ "all": ["a", "b"] }),
            "{path}"
        );
    }
    let page = gateway.get("/stream");
    assert_eq!(
        (page.text().as_str(), page.header("content-type")),
        ("<p>200 1</p>", Some("text/html"))
    );
    assert_eq!(page.header("content-length"), Some("12"));
    assert_eq!(gateway.get("/broken").status, 500);
}

#[test]
fn a_soap_service_is_called_with_an_escaped_envelope() {
    let upstream = Upstream::start(|mut call| {
        let body = String::from_utf8(call.body()?).unwrap();
        let xml = format!(
            "<r><line>{}</line><got>{}</got></r>",
            call.head.lines().next().unwrap(),
            body.replace('&', "&amp;").replace('<', "&lt;")
        );
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{xml}", xml.len()))
    });
    let soap = template("<code>{{ .req_params.Code }}</code>", json!({}));
    let gateway = gateway(&[endpoint(
        "/c/{code}",
        "GET",
        &upstream,
        json!({}),
        json!({ "extra_config": { "backend/soap": soap } }),
    )]);
    let got = gateway.get("/c/a%3Cb%26c").json();
    assert_eq!(got["r"]["line"], "POST /b HTTP/1.1");
    assert_eq!(got["r"]["got"], "<code>a&lt;b&amp;c</code>");
    assert!(
        upstream.heads()[0]
            .to_lowercase()
            .contains("content-type: text/xml")
    );
}

#[test]
fn responses_are_queried_replaced_and_checked_in_this_order() {
    let upstream = answering(
        "application/json",
        r#"{"users":[{"name":"ana","card":"1234"},{"name":"bo","card":"5678"}],"n":1}"#,
    );
    let query = json!({ "expr": "{cards: users[].card, first: users[0].name}" });
    let replace = json!({ "modifiers": [
        { "regexp": { "field": "cards.*", "find": "^\\d\\d", "replace": "**" } }, { "upper": { "field": "first" } }
    ]});
    let schema = |kind: &str| {
        json!({
            "schema": { "type": "object", "properties": { "first": { "type": kind, "const": "ANA" } } },
            "error": { "body": "not as promised", "status": 502 }
        })
    };
    let all = |kind: &str| {
        json!({
            "validation/response-json-schema": schema(kind), "modifier/response-body": replace, "modifier/jmespath": query
        })
    };
    let list = json!({ "modifier/jmespath": { "expr": "users[].name" } });
    let gateway = gateway(&[
        endpoint("/endpoint", "GET", &upstream, all("string"), json!({})),
        endpoint(
            "/backend",
            "GET",
            &upstream,
            json!({}),
            json!({ "extra_config": all("string") }),
        ),
        endpoint("/wrong", "GET", &upstream, all("integer"), json!({})),
        endpoint("/list", "GET", &upstream, list, json!({})),
        endpoint(
            "/stream",
            "GET",
            &upstream,
            json!({ "validation/response-json-schema": { "schema": { "required": ["n"] } } }),
            json!({ "encoding": "no-op" }),
        ),
    ]);
    for path in ["/endpoint", "/backend"] {
        assert_eq!(
            gateway.get(path).json(),
            json!({ "cards": ["**34", "**78"], "first": "ANA" }),
            "{path}"
        );
    }
    let wrong = gateway.get("/wrong");
    assert_eq!(
        (wrong.status, wrong.text().as_str()),
        (502, "not as promised")
    );
    assert_eq!(
        gateway.get("/list").json(),
        json!({ "collection": ["ana", "bo"] })
    );
    assert_eq!(gateway.get("/stream").status, 200);
}

#[test]
fn fields_of_the_body_become_headers_and_parameters() {
    let upstream = echo();
    let operation = |kind: &str, expression: &str, target: &str, conflict: &str| {
        json!({
            "type": kind, "strategy": "dotnotation", "expression": expression, "target": target, "on_conflict": conflict
        })
    };
    let late = json!({ "modifier/request-body-extractor": { "operations": [
        operation("header", "user.tenant", "X-Tenant", "replace"), operation("query_string", "page", "page", "replace")
    ]}});
    let early = json!({
        "modifier/request-body-extractor/early": { "operations": [operation("header", "key", "X-Key", "replace")] },
        "auth/api-keys": { "strategy": "header", "identifier": "X-Key", "roles": ["a"] }
    });
    let file = json!({ "version": 3,
        "extra_config": { "auth/api-keys": { "keys": [{ "key": "secret", "roles": ["a"] }] } },
        "endpoints": [
            endpoint("/late", "POST", &upstream, late.clone(), json!({})),
            endpoint("/stream", "POST", &upstream, late, json!({ "encoding": "no-op" })),
            endpoint("/early", "POST", &upstream, early, json!({})),
        ]
    });
    let gateway = Gateway::start(&file.to_string());
    let body = "{\"user\":{\"tenant\":\"acme\"},\"page\":3,\"key\":\"secret\"}";
    for path in ["/late?page=1&a=b", "/stream?page=1&a=b"] {
        let got = post(&gateway, path, body).json();
        assert_eq!(
            (&got["tenant"], &got["body"]),
            (&json!("acme"), &json!(body))
        );
        assert_eq!(got["line"], "POST /b?a=b&page=3 HTTP/1.1");
        assert_eq!(post(&gateway, path, "{}").json()["tenant"], "own");
        assert_eq!(
            post(&gateway, path, "{\"user\":{\"tenant\":\"a\\nb\"}}").status,
            400
        );
    }
    assert_eq!(post(&gateway, "/early", body).status, 200);
    assert_eq!(post(&gateway, "/early", "{\"key\":\"wrong\"}").status, 401);
    assert_eq!(post(&gateway, "/early", "{}").status, 401);
}

#[test]
fn a_backend_may_respond_with_yaml() {
    let upstream = answering("application/yaml", "a: 1\nb:\n  - x\n  - y: true\n");
    let list = answering("application/yaml", "- 1\n- 2\n");
    let gateway = gateway(&[
        endpoint(
            "/map",
            "GET",
            &upstream,
            json!({}),
            json!({ "encoding": "yaml", "allow": ["b"] }),
        ),
        endpoint(
            "/list",
            "GET",
            &list,
            json!({}),
            json!({ "encoding": "yaml", "is_collection": true }),
        ),
        endpoint(
            "/wrong",
            "GET",
            &list,
            json!({}),
            json!({ "encoding": "yaml" }),
        ),
    ]);
    assert_eq!(
        gateway.get("/map").json(),
        json!({ "b": ["x", { "y": true }] })
    );
    assert_eq!(gateway.get("/list").json(), json!({ "collection": [1, 2] }));
    assert_eq!(gateway.get("/wrong").status, 500);
}
