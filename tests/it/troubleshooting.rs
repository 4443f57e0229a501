//! Symptoms of docs/troubleshooting.md, made by a gateway: what the page tells a reader to look for is there, and what it
//! advises helps.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, Stub, eventually};

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// A backend with these paths and JSON bodies; every other path is 404.
fn backend(bodies: &[(&str, Value)]) -> Stub {
    let mut routes: Vec<Value> = bodies
        .iter()
        .map(|(path, body)| json!({ "path": path, "body": body }))
        .collect();
    routes.push(json!({ "status": 404, "body": {} }));
    Stub::with(&Value::Array(routes).to_string())
}

fn call(stub: &Stub, path: &str, more: Value) -> Value {
    let mut backend = json!({ "host": [stub.url()], "url_pattern": path });
    let all = backend.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    backend
}

fn gateway(endpoints: &Value) -> Gateway {
    Gateway::start(&json!({ "version": 3, "endpoints": endpoints }).to_string())
}

/// The page has this text, and the log gets it.
fn is_explained_and_logged(gateway: &Gateway, text: &str) {
    assert!(PAGE.contains(text), "the page lacks {text}");
    eventually(text, Duration::from_secs(30), || {
        gateway.output().contains(text)
    });
}

#[test]
fn a_list_where_an_object_is_expected_and_the_reverse() {
    let stub = backend(&[
        ("/list", json!([{ "id": 1 }])),
        ("/object", json!({ "id": 1 })),
        ("/text", json!("\"x\"")),
    ]);
    let endpoint = |name: &str, path: &str, more: Value| json!({ "endpoint": name, "backend": [call(&stub, path, more)] });
    let mut plain = endpoint("/plain", "/list", json!({ "is_collection": true }));
    plain["output_encoding"] = "json-collection".into();
    let gateway = gateway(&json!([
        endpoint("/list", "/list", json!({})),
        endpoint("/object", "/object", json!({ "is_collection": true })),
        endpoint("/text", "/text", json!({})),
        endpoint("/collection", "/list", json!({ "is_collection": true })),
        endpoint("/safe-list", "/list", json!({ "encoding": "safejson" })),
        endpoint("/safe-object", "/object", json!({ "encoding": "safejson" })),
        endpoint("/safe-text", "/text", json!({ "encoding": "safejson" })),
        endpoint("/string", "/text", json!({ "encoding": "string" })),
        plain,
    ]));
    for (path, text) in [
        (
            "/list",
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            "/object",
            "json: cannot unmarshal object into Go value of type []interface {}",
        ),
        ("/text", "json: cannot unmarshal string"),
    ] {
        assert_eq!(gateway.get(path).status, 500, "{path}");
        is_explained_and_logged(&gateway, text);
    }
    let list = json!([{ "id": 1 }]);
    for (path, body) in [
        ("/collection", json!({ "collection": list })),
        ("/plain", list.clone()),
        ("/safe-list", json!({ "collection": list })),
        ("/safe-object", json!({ "id": 1 })),
        ("/safe-text", json!({ "content": "x" })),
        ("/string", json!({ "content": "\"x\"" })),
    ] {
        let response = gateway.get(path);
        assert_eq!((response.status, response.json()), (200, body), "{path}");
    }
}

#[test]
fn a_response_of_which_a_part_is_missing() {
    let stub = backend(&[
        ("/user", json!({ "name": "a" })),
        ("/other", json!({ "name": "b" })),
    ]);
    let gateway = gateway(&json!([
        { "endpoint": "/part", "backend": [call(&stub, "/user", json!({})), call(&stub, "/missing", json!({}))] },
        {
            "endpoint": "/chain",
            "extra_config": { "proxy": { "sequential": true } },
            "backend": [call(&stub, "/user", json!({})), call(&stub, "/orders/{resp0_id}", json!({}))]
        },
        { "endpoint": "/same", "backend": [call(&stub, "/user", json!({})), call(&stub, "/other", json!({}))] },
        {
            "endpoint": "/groups",
            "backend": [
                call(&stub, "/user", json!({ "group": "user" })), call(&stub, "/other", json!({ "group": "other" }))
            ]
        }
    ]));
    assert!(PAGE.contains("X-Krakend-Completed: false"));
    for path in ["/part", "/chain"] {
        let response = gateway.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(
            response.header("x-krakend-completed"),
            Some("false"),
            "{path}"
        );
        assert_eq!(response.json(), json!({ "name": "a" }), "{path}");
    }
    is_explained_and_logged(&gateway, "Error #0: invalid status code 404 [GET /");
    is_explained_and_logged(&gateway, "no value for {resp0_id}");
    is_explained_and_logged(&gateway, "(backend[1]: GET /");
    // Nothing failed: one field replaces the other, unless each has its group.
    let response = gateway.get("/same");
    assert_eq!(response.header("x-krakend-completed"), Some("true"));
    assert_eq!(response.json().as_object().unwrap().len(), 1);
    let both = json!({ "user": { "name": "a" }, "other": { "name": "b" } });
    assert_eq!(gateway.get("/groups").json(), both);
}

#[test]
fn a_value_of_an_earlier_backend_that_is_missing_is_500_if_none_responded() {
    let stub = backend(&[]);
    let gateway = gateway(&json!([{
        "endpoint": "/chain",
        "extra_config": { "proxy": { "sequential": true } },
        "backend": [call(&stub, "/missing", json!({})), call(&stub, "/orders/{resp0_id}", json!({}))]
    }]));
    assert_eq!(gateway.get("/chain").status, 500);
}

#[test]
fn limits_that_reject_too_early() {
    let stub = backend(&[("/user", json!({ "name": "a" }))]);
    let limited = |path: &str, limit: Value| {
        json!({
            "endpoint": path,
            "extra_config": { "qos/ratelimit/router": limit },
            "backend": [call(&stub, "/user", json!({}))]
        })
    };
    let gateway = gateway(&json!([
        limited(
            "/header",
            json!({ "client_max_rate": 10, "strategy": "header", "key": "X-Tenant" })
        ),
        limited(
            "/burst",
            json!({ "client_max_rate": 30, "every": "1h", "strategy": "ip" })
        ),
        limited(
            "/all",
            json!({ "client_max_rate": 30, "every": "1h", "client_capacity": 30, "strategy": "ip" })
        ),
    ]));
    for text in [
        "`strategy` is `header` or `param`",
        "\"client_capacity\": 30",
    ] {
        assert!(PAGE.contains(text), "the page lacks {text}");
    }
    let response = gateway.get("/header");
    assert_eq!(response.status, 429);
    assert!(response.header("retry-after").is_some());
    assert_eq!(
        gateway.get_with("/header", &[("X-Tenant", "a")]).status,
        200
    );
    assert_eq!(gateway.get("/burst").status, 200);
    let second = gateway.get("/burst");
    assert_eq!(second.status, 429);
    assert!(second.header("retry-after").is_some());
    for _ in 0..30 {
        assert_eq!(gateway.get("/all").status, 200);
    }
}

/// The page "Find one request": all lines are JSON, and one id leads from the response to the line of the access log.
#[test]
fn one_request_can_be_found_in_logs_that_are_json() {
    let page = include_str!("../../docs/find-one-request.md");
    let block = page
        .split("```json\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let stub = backend(&[]);
    let mut file: Value = serde_json::from_str(block).unwrap();
    file["endpoints"] =
        json!([{ "endpoint": "/orders", "backend": [call(&stub, "/orders", json!({}))] }]);
    let gateway = Gateway::start(&file.to_string());
    let response = gateway.get_with("/orders", &[("X-Request-Id", "of-the-client")]);
    assert_eq!(response.status, 500);
    let id = response.header("x-request-id").unwrap().to_owned();
    assert_ne!(id, "of-the-client");
    // The backend has it, too.
    assert_eq!(stub.take_seen()[0].header("x-request-id"), Some(&*id));
    let line = || {
        let output = gateway.output();
        let found = output
            .lines()
            .find(|line| line.contains(&id) && line.contains("\"duration_ms\""));
        found.map(str::to_owned)
    };
    eventually("the access log has the id", Duration::from_secs(30), || {
        line().is_some()
    });
    let line: Value = serde_json::from_str(&line().unwrap()).unwrap();
    assert_eq!(line["request_id"], id);
    assert_eq!(line["upstream_status"], 404);
    assert!(
        line["errors"][0].as_str().unwrap().contains("404"),
        "{line}"
    );
    // The last line may not be whole.
    let output = gateway.output();
    let (whole, _) = output.rsplit_once('\n').unwrap();
    for line in whole.lines() {
        assert!(
            serde_json::from_str::<Value>(line).is_ok(),
            "not JSON: {line}"
        );
    }
}
