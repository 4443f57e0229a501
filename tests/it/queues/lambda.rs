//! `backend/lambda` against a stub of the API of Lambda.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sigv4::verify;
use super::{KEYS, checked, gateway, with_body};
use crate::support::{Gateway, Stub, eventually};

/// An endpoint whose only backend is a function behind `stub`.
fn function(path: &str, method: &str, stub: &Stub, block: Value) -> Value {
    let mut lambda = json!({ "region": "eu-west-1", "endpoint": stub.url() });
    for (key, value) in block.as_object().unwrap() {
        lambda[key] = value.clone();
    }
    json!({ "endpoint": path, "method": method, "timeout": "20s",
        "backend": [{ "url_pattern": "/ignored", "extra_config": { "backend/lambda": lambda } }] })
}

fn invocation(name: &str) -> String {
    format!("/2015-03-31/functions/{name}/invocations")
}

/// One route for each function.
fn stub(routes: Value) -> Stub {
    let routes = routes.as_object().unwrap().iter().map(|(name, route)| {
        let mut route = route.clone();
        route["path"] = json!(invocation(name));
        route
    });
    Stub::with(&json!(routes.collect::<Vec<Value>>()).to_string())
}

fn ok() -> Value {
    json!({ "headers": { "X-Amz-Executed-Version": "$LATEST", "X-Secret": "s" }, "body": { "a": 1, "big": 1 } })
}

#[test]
fn case_1_a_get_sends_the_parameters_signed() {
    let stub = stub(json!({ "ok": ok() }));
    let mut endpoint = function(
        "/ok/{userId}",
        "GET",
        &stub,
        json!({ "function_name": "ok" }),
    );
    endpoint["input_headers"] = json!(["X-A"]);
    endpoint["input_query_strings"] = json!(["q"]);
    let gateway = gateway(&KEYS, &[endpoint]);
    let response = gateway.get_with("/ok/a&b?q=1", &[("X-A", "z")]);
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "a": 1, "big": 1 })),
        "{}",
        response.text()
    );
    assert_eq!(response.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(response.header("x-secret"), None);
    let seen = stub.take_seen();
    let [call] = &seen[..] else {
        panic!("{} calls", seen.len())
    };
    assert_eq!(
        String::from_utf8_lossy(&call.body),
        "{\"userid\":\"a\\u0026b\"}\n"
    );
    assert_eq!((call.method.as_str(), call.query.as_str()), ("POST", ""));
    assert_eq!(call.header("x-a"), None);
    assert_eq!(
        call.header("x-amz-invocation-type"),
        Some("RequestResponse")
    );
    assert_eq!(call.header("x-amz-log-type"), Some("None"));
    verify(call, "eu-west-1", "lambda");
}

#[test]
fn case_2_a_post_sends_the_body() {
    let stub = stub(json!({ "ok": ok() }));
    let endpoint = function("/p", "POST", &stub, json!({ "function_name": "ok" }));
    let gateway = gateway(&KEYS, &[endpoint]);
    let response = gateway.send("POST", with_body("POST", "/p", &[], "plain"));
    assert_eq!(response.status, 200, "{}", response.text());
    let call = stub.take_seen().pop().unwrap();
    assert_eq!(call.body, b"plain");
    verify(&call, "eu-west-1", "lambda");
}

#[test]
fn case_3_an_error_of_the_function_is_not_a_success() {
    let failed = json!({ "headers": { "X-Amz-Function-Error": "Unhandled" },
        "body": { "errorMessage": "boom", "errorType": "Oops", "stackTrace": [] } });
    let stub = stub(json!({ "bad": failed }));
    let gateway = gateway(
        &KEYS,
        &[
            function("/bad", "GET", &stub, json!({ "function_name": "bad" })),
            function(
                "/pass",
                "GET",
                &stub,
                json!({ "function_name": "bad", "function_errors": "pass" }),
            ),
        ],
    );
    let response = gateway.get("/bad");
    assert_eq!(response.status, 500);
    assert!(!response.text().contains("boom"), "{}", response.text());
    assert_eq!(stub.take_seen().len(), 1);
    eventually("the line in the log", Duration::from_secs(30), || {
        gateway.output().contains("Unhandled Oops")
    });
    let response = gateway.get("/pass");
    assert_eq!(
        (response.status, response.json()["errorMessage"].clone()),
        (200, json!("boom"))
    );
}

#[test]
fn case_4_a_status_of_aws_is_passed_on() {
    let denied = |status: u16| {
        json!({ "status": status, "headers": { "X-Amzn-ErrorType": "AccessDeniedException:http://x" },
        "body": { "Message": "arn:aws:secret" } })
    };
    let stub = stub(
        json!({ "f400": denied(400), "f403": denied(403), "f404": denied(404), "f202": denied(202) }),
    );
    let endpoints: Vec<Value> = ["f400", "f403", "f404", "f202"]
        .map(|name| {
            function(
                &format!("/{name}"),
                "GET",
                &stub,
                json!({ "function_name": name }),
            )
        })
        .to_vec();
    let gateway = gateway(&KEYS, &endpoints);
    for (path, status) in [
        ("/f400", 400),
        ("/f403", 403),
        ("/f404", 404),
        ("/f202", 500),
    ] {
        let response = gateway.get(path);
        assert_eq!(response.status, status, "{path}");
        assert!(!response.text().contains("secret"), "{}", response.text());
        assert_eq!(stub.take_seen().len(), 1, "{path}");
    }
}

#[test]
fn case_5_a_post_is_not_repeated_after_500() {
    let stub = stub(json!({ "f": { "status": 500, "body": "" } }));
    let gateway = gateway(
        &KEYS,
        &[
            function(
                "/post",
                "POST",
                &stub,
                json!({ "function_name": "f", "max_retries": 1 }),
            ),
            function(
                "/get",
                "GET",
                &stub,
                json!({ "function_name": "f", "max_retries": "2" }),
            ),
        ],
    );
    assert_eq!(
        gateway
            .send("POST", with_body("POST", "/post", &[], "{}"))
            .status,
        500
    );
    assert_eq!(stub.take_seen().len(), 1);
    assert_eq!(gateway.get("/get").status, 500);
    assert_eq!(stub.take_seen().len(), 3);
}

#[test]
fn case_6_a_list_and_null_are_not_data() {
    let stub = stub(
        json!({ "list": { "body": [1, 2, 3] }, "null": { "body": "null" },
        "big": { "body": "{\"n\":12345678901234567890}" }, "html": { "body": "<html>" } }),
    );
    let endpoints: Vec<Value> = ["list", "null", "big", "html"]
        .map(|name| {
            function(
                &format!("/{name}"),
                "GET",
                &stub,
                json!({ "function_name": name }),
            )
        })
        .to_vec();
    let gateway = gateway(&KEYS, &endpoints);
    assert_eq!(gateway.get("/list").status, 500);
    assert_eq!(gateway.get("/html").status, 500);
    let null = gateway.get("/null");
    assert_eq!((null.status, null.text().as_str()), (200, "null"));
    assert_eq!(null.header("x-krakend-completed"), Some("false"));
    assert_eq!(gateway.get("/big").text(), "{\"n\":12345678901234567890}");
}

#[test]
fn case_7_a_parameter_names_the_function() {
    let stub = stub(json!({ "ok": ok(), "arn%3Aaws%3Af": ok() }));
    let gateway = gateway(
        &KEYS,
        &[
            function(
                "/f/{fn}",
                "GET",
                &stub,
                json!({ "function_param_name": "fn" }),
            ),
            function(
                "/g/{fn}",
                "GET",
                &stub,
                json!({ "function_param_name": "Fn", "functions": ["ok"] }),
            ),
        ],
    );
    assert_eq!(gateway.get("/f/ok").status, 200);
    assert_eq!(gateway.get("/f/arn:aws:f").status, 200);
    let seen = stub.take_seen();
    assert_eq!(seen.len(), 2);
    seen.iter()
        .for_each(|call| verify(call, "eu-west-1", "lambda"));
    assert_eq!(gateway.get("/g/ok").status, 200);
    stub.take_seen();
    assert_eq!(gateway.get("/f/a%20b").status, 400);
    assert_eq!(gateway.get("/f/%c3%a4").status, 400);
    assert_eq!(gateway.get("/g/other").status, 404);
    assert!(stub.take_seen().is_empty());
    gateway.tells("clients name the function");
}

#[test]
fn throttled_calls_are_repeated_and_then_429() {
    let stub = stub(json!({
        "never": { "status": 429, "body": "" },
        "later": { "replies": [{ "status": 429, "body": "" }, { "status": 200, "body": { "ok": true } }] } }));
    let gateway = gateway(
        &KEYS,
        &[
            function(
                "/never",
                "POST",
                &stub,
                json!({ "function_name": "never", "max_retries": 1 }),
            ),
            function("/later", "POST", &stub, json!({ "function_name": "later" })),
        ],
    );
    assert_eq!(
        gateway
            .send("POST", with_body("POST", "/never", &[], ""))
            .status,
        429
    );
    assert_eq!(stub.take_seen().len(), 2);
    assert_eq!(
        gateway
            .send("POST", with_body("POST", "/later", &[], ""))
            .status,
        200
    );
    assert_eq!(stub.take_seen().len(), 2);
}

#[test]
fn a_cut_connection_is_not_repeated_and_a_slow_function_ends_at_the_timeout() {
    let stub = stub(json!({ "cut": { "close": true }, "slow": { "delay_ms": 60000, "body": {} } }));
    let mut slow = function("/slow", "GET", &stub, json!({ "function_name": "slow" }));
    slow["timeout"] = json!("1500ms");
    let gateway = gateway(
        &KEYS,
        &[
            function("/cut", "GET", &stub, json!({ "function_name": "cut" })),
            slow,
        ],
    );
    assert_eq!(gateway.get("/cut").status, 500);
    assert_eq!(stub.take_seen().len(), 1);
    let started = Instant::now();
    assert_eq!(gateway.get("/slow").status, 500);
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_payload_over_the_limit_of_lambda_is_413_and_opens_no_breaker() {
    let stub = stub(json!({ "ok": ok() }));
    let mut endpoint = function("/p", "POST", &stub, json!({ "function_name": "ok" }));
    endpoint["timeout"] = json!("20s");
    endpoint["backend"][0]["extra_config"]["qos/circuit-breaker"] =
        json!({ "interval": 60, "timeout": 60, "max_errors": 1 });
    let gateway = gateway(&KEYS, &[endpoint]);
    let large = "a".repeat((6 << 20) + 1);
    for _ in 0..3 {
        assert_eq!(
            gateway
                .send("POST", with_body("POST", "/p", &[], &large))
                .status,
            413
        );
    }
    assert!(stub.take_seen().is_empty());
    assert_eq!(
        gateway
            .send("POST", with_body("POST", "/p", &[], "{}"))
            .status,
        200
    );
}

#[test]
fn a_function_is_one_of_several_backends_and_is_shaped_like_them() {
    let stub = stub(json!({ "ok": ok() }));
    let other = Stub::with(&json!([{ "body": { "b": 2 } }]).to_string());
    let mut endpoint = function("/m", "GET", &stub, json!({ "function_name": "ok" }));
    endpoint["backend"][0]["mapping"] = json!({ "a": "renamed" });
    endpoint["backend"][0]["deny"] = json!(["big"]);
    endpoint["backend"][0]["group"] = json!("fn");
    let both = endpoint["backend"].as_array_mut().unwrap();
    both.push(json!({ "host": [other.url()], "url_pattern": "/b" }));
    let stream = {
        let mut endpoint = function("/stream", "POST", &stub, json!({ "function_name": "ok" }));
        endpoint["output_encoding"] = json!("no-op");
        endpoint
    };
    let gateway = gateway(&KEYS, &[endpoint, stream]);
    let response = gateway.get("/m");
    assert_eq!(
        response.json(),
        json!({ "fn": { "renamed": 1 }, "b": 2 }),
        "{}",
        response.text()
    );
    assert_eq!(response.header("x-krakend-completed"), Some("true"));
    stub.take_seen();
    let response = gateway.send("POST", with_body("POST", "/stream", &[], "raw"));
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "a": 1, "big": 1 }))
    );
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(stub.take_seen().pop().unwrap().body, b"raw");
}

#[test]
fn without_keys_or_region_the_gateway_starts_and_calls_fail_with_the_reason() {
    let stub = stub(json!({ "ok": ok() }));
    let variables = [("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nowhere")];
    let nowhere = json!({ "endpoint": "/r",
        "backend": [{ "extra_config": { "backend/lambda": { "function_name": "ok", "endpoint": stub.url() } } }] });
    let keyless = function("/k", "GET", &stub, json!({ "function_name": "ok" }));
    let gateway: Gateway = gateway(&variables, &[nowhere, keyless]);
    let response = gateway.get("/r");
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("MissingRegion"),
        "{}",
        response.text()
    );
    let response = gateway.get("/k");
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("NoCredentialProviders"),
        "{}",
        response.text()
    );
    assert!(stub.take_seen().is_empty());
}

#[test]
fn a_broken_block_stops_the_start() {
    let endpoint = |block: Value| json!({ "endpoint": "/a", "backend": [{ "extra_config": { "backend/lambda": block } }] });
    for (block, words) in [
        (json!("x"), "an object is expected"),
        (json!({ "region": "eu-west-1" }), "no parameter {function}"),
        (
            json!({ "region": "eu-west-1", "function_name": "f", "endpoint": "a b" }),
            "endpoint",
        ),
    ] {
        let (good, text) = checked(endpoint(block));
        assert!(!good && text.contains(words), "{text}");
    }
}
