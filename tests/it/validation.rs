//! `validation/cel` and `validation/json-schema`: streamed responses, tokens, failures, start and reload.

mod cost;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, Response, Signer, Stub, eventually, tokens};

fn post(gateway: &Gateway, path: &str, body: &str) -> Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    gateway.send("POST", format!("{head}{body}"))
}

fn backend() -> Stub {
    let json = json!({"Content-Type": "application/json"});
    Stub::with(
        &json!([
            {"path": "/good", "headers": json, "body": {"state": "good", "n": 5}},
            {"path": "/bad", "headers": json, "body": {"state": "bad", "n": 7}},
            {"path": "/missing", "status": 404},
            {"path": "/text", "headers": {"Content-Type": "text/plain", "X-State": "good"}, "body": "as it is"},
            {"path": "/down", "status": 503, "headers": {"Content-Type": "text/plain"}, "body": "down"},
            {"path": "/echo", "echo": true, "headers": json},
        ])
        .to_string(),
    )
}

fn service(backend: &Stub, endpoints: Value) -> Value {
    json!({"version": 3, "host": [backend.url()], "extra_config": {"router": {"return_error_msg": true}},
        "endpoints": endpoints})
}

fn check(config: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let output = command().args(["check", "-c"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{config}");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_streamed_response_is_checked_by_its_head() {
    let backend = backend();
    let endpoint = |path: &str, to: &str, expression: &str| {
        json!({"endpoint": path, "output_encoding": "no-op", "extra_config": {"validation/cel": [{"check_expr": expression}]},
            "backend": [{"url_pattern": to, "encoding": "no-op"}]})
    };
    let in_backend = |path: &str, to: &str, expression: &str| {
        json!({"endpoint": path, "output_encoding": "no-op", "backend": [{"url_pattern": to, "encoding": "no-op",
            "extra_config": {"validation/cel": [{"check_expr": expression}]}}]})
    };
    let gateway = Gateway::start(
        &service(
            &backend,
            json!([
                endpoint(
                    "/yes",
                    "/text",
                    "resp_metadata_headers['X-State'][0] == 'good' && resp_data == {}"
                ),
                endpoint("/no", "/down", "resp_metadata_status < 500"),
                endpoint("/never", "/text", "req_path != '/never'"),
                in_backend(
                    "/inner/yes",
                    "/text",
                    "req_path == '/text' && req_method == 'GET'"
                ),
                in_backend("/inner/no", "/down", "resp_metadata_status == 200"),
            ]),
        )
        .to_string(),
    );
    for path in ["/yes", "/inner/yes"] {
        let response = gateway.get(path);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "as it is"),
            "{path}"
        );
        assert_eq!(response.header("x-state"), Some("good"));
    }
    for path in ["/no", "/never", "/inner/no"] {
        let response = gateway.get(path);
        assert_eq!(response.status, 500, "{path}");
        assert_eq!(response.text(), "request aborted by evaluator #0");
        assert_eq!(response.header("x-krakend-completed"), Some("false"));
    }
    let calls: Vec<String> = backend
        .take_seen()
        .into_iter()
        .map(|seen| seen.path)
        .collect();
    assert_eq!(calls, ["/text", "/text", "/down", "/down"]);
}

#[test]
fn a_streamed_body_is_validated_whole_and_forwarded_unchanged() {
    let backend = backend();
    let gateway = Gateway::start(
        &service(
            &backend,
            json!([{"endpoint": "/s", "method": "POST", "output_encoding": "no-op", "input_headers": ["Content-Type"],
                "extra_config": {"validation/json-schema": {"required": ["name", "age"]}},
                "backend": [{"url_pattern": "/echo", "encoding": "no-op"}]}]),
        )
        .to_string(),
    );
    let body = "{ \"name\": \"Ann\",\n \"age\" : 1.0 }";
    assert_eq!(post(&gateway, "/s", body).status, 200);
    let chunked = "POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"name\": \"Ann\", \r\nA\r\n\"age\": 1 }\r\n0\r\n\r\n";
    assert_eq!(gateway.send("POST", chunked).status, 200);
    let seen: Vec<String> = backend
        .take_seen()
        .into_iter()
        .map(|seen| String::from_utf8(seen.body).unwrap())
        .collect();
    assert_eq!(seen, [body, "{\"name\": \"Ann\", \"age\": 1 }"]);
    for (body, text) in [
        ("", "could not validate an empty body"),
        ("{}", "- at '': missing properties 'name', 'age'"),
        ("{", "unexpected EOF"),
    ] {
        let response = post(&gateway, "/s", body);
        assert_eq!((response.status, response.text().as_str()), (400, text));
        assert_eq!(
            response.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    assert!(backend.take_seen().is_empty());
}

#[test]
fn a_rejected_call_is_a_failed_call() {
    let backend = backend();
    let checked = |to: &str| json!({"url_pattern": to, "extra_config": {"validation/cel": [{"check_expr": "resp_data.state == 'good'"}]}});
    let mut guarded = checked("/bad");
    guarded["extra_config"]["qos/circuit-breaker"] =
        json!({"interval": 60, "timeout": 60, "max_errors": 1});
    let gateway = Gateway::start(
        &service(
            &backend,
            json!([
                {"endpoint": "/both", "backend": [checked("/good"), checked("/bad")]},
                {"endpoint": "/guarded", "backend": [guarded]},
                {"endpoint": "/whole", "extra_config": {"validation/cel": [{"check_expr": "int(resp_data.n) < 6"}]},
                    "backend": [{"url_pattern": "/good"}]},
                {"endpoint": "/whole/bad", "extra_config": {"validation/cel": [{"check_expr": "int(resp_data.n) < 6"}]},
                    "backend": [{"url_pattern": "/bad"}]},
            ]),
        )
        .to_string(),
    );
    let both = gateway.get("/both");
    assert_eq!(
        (both.status, both.json()),
        (200, json!({"state": "good", "n": 5}))
    );
    assert_eq!(both.header("x-krakend-completed"), Some("false"));
    let texts: Vec<String> = (0..3).map(|_| gateway.get("/guarded").text()).collect();
    assert_eq!(
        texts,
        [
            "request aborted by evaluator #0",
            "request aborted by evaluator #0",
            "circuit breaker is open"
        ]
    );
    assert_eq!(
        gateway.get("/whole").json(),
        json!({"state": "good", "n": 5})
    );
    assert_eq!(gateway.get("/whole/bad").status, 500);
}

fn guarded(provider: &Stub, more: &Value, expressions: &[&str]) -> Value {
    let mut validator = json!({"alg": "ES256", "jwk_url": format!("{}/jwks", provider.url()), "disable_jwk_security": true,
        "operation_debug": true});
    for (key, value) in more.as_object().unwrap() {
        validator[key] = value.clone();
    }
    let checks: Vec<Value> = expressions
        .iter()
        .map(|text| json!({"check_expr": text}))
        .collect();
    json!({"auth/validator": validator, "validation/cel": checks})
}

#[test]
fn an_expression_on_the_token_rejects_as_the_validator_does() {
    let (backend, signer) = (backend(), Signer::es256("k"));
    let provider = Stub::with(&json!([{"path": "/jwks", "headers": {"Content-Type": "application/json"}, "body": signer.jwks()}]).to_string());
    let endpoint = |path: &str, extra: Value| json!({"endpoint": path, "extra_config": extra, "backend": [{"url_pattern": "/good"}]});
    let level = [
        "JWT.level > 2",
        "'a' in JWT.teams && timestamp(int(JWT.exp)) > timestamp(now)",
    ];
    let config = service(
        &backend,
        json!([
            endpoint("/plain", guarded(&provider, &json!({}), &level)),
            endpoint(
                "/roles",
                guarded(&provider, &json!({"roles": ["admin"]}), &level)
            ),
            endpoint(
                "/open",
                guarded(&provider, &json!({"optional": true}), &level)
            ),
        ]),
    );
    let gateway = Gateway::start(&config.to_string());
    let token = |change: &dyn Fn(&mut Value)| {
        let mut claims = tokens::claims("x");
        claims["level"] = json!(3);
        claims["teams"] = json!(["a"]);
        change(&mut claims);
        signer.token(&claims)
    };
    let get = |path: &str, token: &str| {
        gateway.get_with(path, &[("Authorization", &format!("Bearer {token}"))])
    };
    let good = token(&|_| {});
    assert_eq!(get("/plain", &good).status, 200, "{}", gateway.output());
    assert_eq!(get("/roles", &good).status, 403);
    for change in [
        (|c: &mut Value| c["level"] = json!(2)) as fn(&mut Value),
        |c| c["level"] = json!("9"),
        |c| c["teams"] = json!(["b"]),
        |c| {
            c.as_object_mut().unwrap().remove("teams");
        },
    ] {
        let bad = token(&change);
        // Also if a role is missing: expressions are evaluated before roles.
        for path in ["/plain", "/roles", "/open"] {
            let response = get(path, &bad);
            assert_eq!((response.status, response.body.len()), (401, 0), "{path}");
            assert_eq!(response.header("x-krakend"), None);
            assert!(
                response
                    .header("www-authenticate")
                    .unwrap()
                    .contains("invalid_token")
            );
        }
    }
    assert_eq!(gateway.get("/open").status, 200);
    assert!(
        gateway
            .output()
            .contains("[ENDPOINT: /plain][JWTValidator] Token sent by client rejected")
    );
    assert!(backend.take_seen().len() == 2);
}

#[test]
fn everything_that_krakend_would_ignore_is_found_at_once() {
    let backend = backend();
    let cel = |text: &str| json!({"validation/cel": [{"check_expr": "req_method == 'GET'"}, {"check_expr": text}]});
    let config = service(
        &backend,
        json!([
            {"endpoint": "/a", "extra_config": cel("req_params.Id =="), "backend": [{"url_pattern": "/"}]},
            {"endpoint": "/b", "extra_config": cel("req_param.Id == '1'"), "backend": [{"url_pattern": "/"}]},
            {"endpoint": "/c", "extra_config": cel("req_path > 5"), "backend": [{"url_pattern": "/"}]},
            {"endpoint": "/d", "extra_config": cel("JWT.sub == 'ada'"), "backend": [{"url_pattern": "/"}]},
            {"endpoint": "/e", "backend": [{"url_pattern": "/", "extra_config": cel("JWT.sub == 'ada'")}]},
            {"endpoint": "/f", "extra_config": {"validation/json-schema": {"type": "objekt"}}, "backend": [{"url_pattern": "/"}]},
            {"endpoint": "/g", "extra_config": {"github.com/devopsfaith/krakend-cel": [{"check_expr": "req_x"}]},
                "backend": [{"url_pattern": "/"}]},
        ]),
    );
    let found = check(&config);
    for (pointer, text) in [
        (
            "/endpoints/0/extra_config/validation~1cel/1/check_expr",
            "Syntax error",
        ),
        (
            "/endpoints/1/extra_config/validation~1cel/1/check_expr",
            "character 1: undeclared reference to 'req_param' (in container '')",
        ),
        ("/endpoints/1/", "did you mean \"req_params\"?"),
        (
            "/endpoints/2/extra_config/validation~1cel/1/check_expr",
            "found no matching overload for '_>_' applied to '(string, int)'",
        ),
        (
            "/endpoints/3/extra_config/validation~1cel/1/check_expr",
            "\"JWT\" is known only where tokens are validated",
        ),
        (
            "/endpoints/4/backend/0/extra_config/validation~1cel/1/check_expr",
            "\"JWT\" is not known at a backend",
        ),
        (
            "/endpoints/5/extra_config/validation~1json-schema",
            "not a JSON Schema: /type",
        ),
        (
            "/endpoints/6/extra_config/github.com~1devopsfaith~1krakend-cel/0/check_expr",
            "undeclared",
        ),
    ] {
        assert!(
            found.contains(pointer) && found.contains(text),
            "{pointer} {text}:\n{found}"
        );
    }
}

#[test]
fn references_of_a_schema_are_read_at_start_and_never_from_the_network() {
    let backend = backend();
    let endpoint = |reference: &str| {
        json!([{"endpoint": "/s", "method": "POST", "extra_config": {"validation/json-schema": {"$ref": reference}},
            "backend": [{"url_pattern": "/good", "method": "GET"}]}])
    };
    let gateway = Gateway::start_with(
        &service(&backend, endpoint("schemas/name.json#/$defs/name")).to_string(),
        &[(
            "schemas/name.json",
            r#"{"$defs": {"name": {"type": "string"}}}"#,
        )],
    );
    assert_eq!(post(&gateway, "/s", "\"x\"").status, 200);
    let response = post(&gateway, "/s", "1");
    assert_eq!(
        (response.status, response.text().as_str()),
        (400, "- at '': got number, want string")
    );
    let found = check(&service(
        &backend,
        endpoint(&format!("{}/good", backend.url())),
    ));
    assert!(found.contains("never the network"), "{found}");
    assert!(check(&service(&backend, endpoint("nowhere.json"))).contains("nowhere.json"));
    let calls = backend.take_seen();
    assert!(
        calls.iter().all(|seen| seen.method == "GET") && calls.len() == 1,
        "{calls:?}"
    );
}

#[test]
fn a_reload_applies_new_expressions_and_rejects_invalid_ones() {
    let backend = backend();
    let config = |text: &str| {
        service(
            &backend,
            json!([{"endpoint": "/r", "extra_config": {"validation/cel": [{"check_expr": text}]},
            "backend": [{"url_pattern": "/good"}]}]),
        )
        .to_string()
    };
    let gateway = Gateway::start(&config("req_method == 'POST'"));
    assert_eq!(gateway.get("/r").status, 500);
    std::fs::write(gateway.config_path(), config("req_method == 'GET'")).unwrap();
    gateway.signal("HUP");
    eventually("the new expression", Duration::from_secs(30), || {
        gateway.get("/r").status == 200
    });
    std::fs::write(gateway.config_path(), config("req_method == ")).unwrap();
    gateway.signal("HUP");
    eventually("the refusal", Duration::from_secs(30), || {
        gateway.output().contains("Syntax error")
    });
    assert_eq!(gateway.get("/r").status, 200);
}

/// One expression at three levels.
#[test]
fn expressions_are_those_of_go_everywhere() {
    let backend = backend();
    let endpoint = |path: &str, extra: Value| {
        json!({"endpoint": path, "method": "POST", "extra_config": extra, "input_query_strings": ["a"],
            "backend": [{"url_pattern": "/echo", "method": "POST"}]})
    };
    let schema =
        |pattern: &str| json!({"validation/json-schema": {"type": "string", "pattern": pattern}});
    let cel = |pattern: &str| json!({"validation/cel": [{"check_expr": format!("req_querystring.a[0].matches('{pattern}')")}]});
    let gateway = Gateway::start(
        &service(
            &backend,
            json!([
                endpoint("/digits", schema(r"^\d+$")),
                endpoint("/posix", schema("^[[:alnum:]]+$")),
                endpoint("/braces", schema("^{[a-z]+}$")),
                endpoint("/quoted", schema(r"^\Qa.b\E$")),
                endpoint("/set", schema("^[a&&b]+$")),
                endpoint("/word", cel(r"^\\w+$")),
                endpoint("/literal", cel("^x{$")),
            ]),
        )
        .to_string(),
    );
    for (path, body, status) in [
        ("/digits", "\"12\"", 200),
        ("/digits", "\"\u{663}\"", 400),
        ("/posix", "\"abc\"", 200),
        ("/posix", "\"a-c\"", 400),
        ("/braces", "\"{abc}\"", 200),
        ("/braces", "\"abc\"", 400),
        ("/quoted", "\"a.b\"", 200),
        ("/quoted", "\"axb\"", 400),
        ("/set", "\"a&b\"", 200),
        ("/word?a=ab", "", 200),
        ("/word?a=%C3%A9", "", 500),
        ("/literal?a=x%7B", "", 200),
    ] {
        let response = post(&gateway, path, body);
        assert_eq!(
            response.status,
            status,
            "{path} {body}: {}",
            response.text()
        );
    }
    // The client reads the expression as it is written.
    let told = post(&gateway, "/digits", "\"x\"").text();
    assert_eq!(told, r"- at '': 'x' does not match pattern '^\\d+$'");
    let rejected = check(&service(&backend, json!([endpoint("/a", schema("a**"))])));
    assert!(
        rejected.contains("invalid nested repetition operator: `**`"),
        "{rejected}"
    );
}
