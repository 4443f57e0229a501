//! Policies, conditional calls, and a circuit breaker by status.

use std::time::Duration;

use serde_json::{Value, json};

use super::{checked, endpoint, file, statuses};
use crate::support::{Gateway, Stub, eventually};
#[cfg(feature = "cel")]
use crate::support::{Signer, tokens};

#[test]
fn an_http_circuit_breaker_counts_unexpected_statuses_also_for_no_op() {
    let routes = json!([
        { "path": "/missing", "status": 404, "body": "" },
        { "path": "/broken", "status": 503, "body": "" },
        { "headers": { "Content-Type": "application/json" }, "body": { "ok": true } }
    ]);
    let stub = Stub::with(&routes.to_string());
    let breaker = json!({ "qos/circuit-breaker/http": { "interval": 60, "timeout": 60, "max_errors": 1,
        "valid_status_codes": [200, 404] } });
    let guarded = |path: &str, encoding: &str| {
        json!({ "endpoint": format!("{path}/{encoding}"), "timeout": "10s", "output_encoding": encoding,
            "backend": [{ "host": [stub.url()], "url_pattern": path, "extra_config": breaker }] })
    };
    let endpoints = [
        guarded("/missing", "no-op"),
        guarded("/missing", "json"),
        guarded("/broken", "no-op"),
        guarded("/broken", "json"),
        guarded("/fine", "json"),
    ];
    let extra = json!({ "router": { "return_error_msg": true } });
    let gateway = Gateway::start(&file(&endpoints, &extra));
    assert_eq!(statuses(&gateway, "/missing/no-op", &[], 4), [404; 4]);
    assert_eq!(statuses(&gateway, "/missing/json", &[], 4), [500; 4]);
    assert_eq!(statuses(&gateway, "/fine/json", &[], 4), [200; 4]);
    assert_eq!(stub.take_seen().len(), 12);
    // A streamed call is counted after its end, and its client may send the next request a moment before that.
    let calls = || statuses(&gateway, "/broken/no-op", &[], 1)[0] == 503;
    assert!(calls() && calls());
    eventually("the circuit is open", Duration::from_secs(30), || !calls());
    assert!(!calls());
    stub.take_seen();
    assert_eq!(statuses(&gateway, "/broken/no-op", &[], 2), [500; 2]);
    assert_eq!(stub.take_seen().len(), 0);
    assert_eq!(statuses(&gateway, "/broken/json", &[], 4), [500; 4]);
    assert_eq!(stub.take_seen().len(), 2);
    let open = gateway.get("/broken/json");
    assert!(
        open.text().contains("circuit breaker is open"),
        "{}",
        open.text()
    );
}

/// A client whose requests are rejected must not switch a backend off for the others.
#[cfg(feature = "cel")]
#[test]
fn what_the_gateway_rejects_opens_no_circuit() {
    let body = json!({ "owner": "ada", "list": [1] });
    let routes = json!([{ "headers": { "Content-Type": "application/json" }, "body": body }]);
    let stub = Stub::with(&routes.to_string());
    // {"a": {{ index .req_headers "X-User" 0 }}}
    let template = "eyJhIjoge3sgaW5kZXggLnJlcV9oZWFkZXJzICJYLVVzZXIiIDAgfX19";
    let blocks = [
        (
            "policy",
            json!({ "security/policies": { "req": { "policies": ["getHeader('X-User') == '1'"] } } }),
        ),
        (
            "answer",
            json!({ "security/policies": { "resp": { "policies": ["getHeader('X-User') == '1'"] } } }),
        ),
        (
            "request",
            json!({ "modifier/request-body-generator": { "template": template } }),
        ),
        (
            "response",
            json!({ "modifier/response-body-generator": { "template": template } }),
        ),
    ];
    let breaker = json!({ "interval": 60, "timeout": 60, "max_errors": 1 });
    let endpoints = blocks.iter().flat_map(|(name, block)| {
        ["json", "no-op"].map(|encoding| {
            let mut extra = block.clone();
            extra["qos/circuit-breaker"] = breaker.clone();
            json!({ "endpoint": format!("/{name}/{encoding}"), "timeout": "10s", "output_encoding": encoding,
                "input_headers": ["X-User"],
                "backend": [{ "host": [stub.url()], "url_pattern": "/x", "extra_config": extra }] })
        })
    });
    let endpoints: Vec<Value> = endpoints.collect();
    let extra = json!({ "router": { "return_error_msg": true } });
    let gateway = Gateway::start(&file(&endpoints, &extra));
    for (name, _) in &blocks {
        for encoding in ["json", "no-op"] {
            let path = format!("/{name}/{encoding}");
            for _ in 0..4 {
                let rejected = gateway.get_with(&path, &[("X-User", "}")]);
                let text = rejected.text();
                assert!(!text.contains("circuit breaker"), "{path}: {text}");
            }
            let good = gateway.get_with(&path, &[("X-User", "1")]);
            assert_eq!(good.status, 200, "{path}: {}", good.text());
        }
    }
}

#[cfg(feature = "cel")]
#[test]
fn a_policy_about_a_header_that_is_never_forwarded_is_reported() {
    let stub = Stub::with(r#"[{"body": "ok"}]"#);
    let of = |policy: &str| {
        let extra = json!({ "security/policies": { "req": { "policies": [policy] } } });
        checked(&file(&[endpoint("/a", &stub, extra)], &json!({}))).1
    };
    for (policy, name) in [
        ("!hasHeader('X-Debug')", "X-Debug"),
        ("getHeader('x-debug') == ''", "X-Debug"),
        ("getQuerystring('raw') != '1'", "raw"),
        ("!hasQuerystring('raw')", "raw"),
        ("!hasCookie('s')", "Cookie"),
    ] {
        let told = of(policy);
        assert!(
            told.contains(&format!("never has {name:?}")),
            "{policy}: {told}"
        );
    }
    let fine = of("!hasHeader('User-Agent')");
    assert!(!fine.contains("never has"), "{fine}");
}

#[cfg(feature = "cel")]
#[test]
fn policies_guard_requests_responses_tokens_and_backends() {
    let routes = json!([
        { "path": "/mine", "headers": { "Content-Type": "application/json" }, "body": { "owner": "ada" } },
        { "headers": { "Content-Type": "application/json" }, "body": { "owner": "eve" } }
    ]);
    let stub = Stub::with(&routes.to_string());
    let signer = Signer::es256("k");
    let error = json!({ "status": 403, "body": "{\"error\": \"not yours\"}", "content_type": "application/json" });
    let of_request = json!({ "security/policies": { "req": {
        "policies": ["hasHeader('X-Team')", "inCIDR(clientIP(), '127.0.0.0/8')"], "error": error } } });
    let of_response = json!({ "security/policies": { "resp": {
        "policies": ["resp_data.owner == getHeader('X-User')"], "error": error } } });
    let of_token = json!({
        "auth/validator": { "alg": "ES256", "jwk_local_path": "keys.json" },
        "security/policies": { "jwt": { "policies": ["JWT.sub.startsWith('a')"] } }
    });
    let mut request = endpoint("/req", &stub, of_request.clone());
    request["input_headers"] = json!(["X-Team"]);
    let mut mine = endpoint("/mine", &stub, of_response.clone());
    mine["input_headers"] = json!(["X-User"]);
    let mut theirs = endpoint("/theirs", &stub, of_response);
    theirs["input_headers"] = json!(["X-User"]);
    let partial = json!({ "endpoint": "/partial", "timeout": "10s", "backend": [
        { "host": [stub.url()], "url_pattern": "/mine", "group": "a" },
        { "host": [stub.url()], "url_pattern": "/x", "group": "b", "extra_config": of_request }
    ] });
    let mut streamed = endpoint("/streamed", &stub, of_request);
    streamed["output_encoding"] = json!("no-op");
    let endpoints = [
        request,
        mine,
        theirs,
        endpoint("/token", &stub, of_token),
        partial,
        streamed,
    ];
    let extra = json!({ "router": { "return_error_msg": true } });
    let config = file(&endpoints, &extra);
    let gateway = Gateway::start_with(&config, &[("keys.json", &signer.jwks())]);
    assert_eq!(gateway.get_with("/req", &[("X-Team", "a")]).status, 200);
    for path in ["/req", "/streamed"] {
        let rejected = gateway.get(path);
        assert_eq!(rejected.status, 403, "{path}");
        assert_eq!(rejected.header("content-type"), Some("application/json"));
        assert_eq!(rejected.json()["error"], "not yours");
    }
    let ada = [("X-User", "ada")];
    assert_eq!(gateway.get_with("/mine", &ada).status, 200);
    let theirs = gateway.get_with("/theirs", &ada);
    assert_eq!(theirs.status, 403);
    assert!(!theirs.text().contains("eve"));
    let partial = gateway.get("/partial");
    assert_eq!(partial.status, 200);
    assert_eq!(partial.json(), json!({ "a": { "owner": "ada" } }));
    assert_eq!(partial.header("x-krakend-completed"), Some("false"));
    let token = |sub: &str| {
        let mut claims = tokens::claims("api");
        claims["sub"] = json!(sub);
        format!("Bearer {}", signer.token(&claims))
    };
    for (sub, want) in [("ada", 200), ("eve", 401)] {
        let token = token(sub);
        let response = gateway.get_with("/token", &[("Authorization", &token)]);
        assert_eq!(response.status, want, "{sub}");
    }
}

/// Endpoints whose backends are called under conditions, and what each call gives.
fn conditional(stub: &Stub) -> String {
    let backend = |path: &str, block: Value| {
        json!({ "host": [stub.url()], "url_pattern": path, "group": &path[1..],
            "extra_config": { "backend/conditional": block } })
    };
    let by_header = |value: &str| json!({ "strategy": "header", "name": "X-Way", "value": value });
    let fallback = json!({ "strategy": "fallback" });
    let several = [
        backend("/a", by_header("a")),
        backend("/b", by_header("b")),
        backend("/c", fallback.clone()),
    ];
    let endpoint = |path: &str, more: Value, backends: &[Value]| {
        let mut endpoint = json!({ "endpoint": path, "timeout": "10s", "input_headers": ["X-Way"],
            "backend": backends });
        for (key, value) in more.as_object().unwrap() {
            endpoint[key] = value.clone();
        }
        endpoint
    };
    let in_turn = json!({ "extra_config": { "proxy": { "sequential": true } } });
    let always = json!({ "host": [stub.url()], "url_pattern": "/always", "group": "always" });
    let endpoints = [
        endpoint("/parallel", json!({}), &several),
        endpoint("/turn", in_turn.clone(), &several),
        endpoint("/also", json!({}), &[always, several[0].clone()]),
        endpoint("/one", json!({}), &several[..1]),
        endpoint(
            "/stream",
            json!({ "output_encoding": "no-op" }),
            &several[..1],
        ),
        #[cfg(feature = "cel")]
        endpoint(
            "/earlier",
            in_turn,
            &[
                json!({ "host": [stub.url()], "url_pattern": "/kind" }),
                backend(
                    "/a",
                    json!({ "strategy": "policy", "value": "req_params.Resp0_kind == 'a'" }),
                ),
                backend(
                    "/b",
                    json!({ "strategy": "policy", "value": "req_params.Resp0_kind == 'b'" }),
                ),
                backend("/c", fallback),
            ],
        ),
    ];
    file(&endpoints, &json!({}))
}

#[test]
fn backends_are_called_under_their_conditions() {
    let routes = json!([
        { "path": "/kind", "headers": { "Content-Type": "application/json" }, "body": { "kind": "b" } },
        { "headers": { "Content-Type": "application/json" }, "body": { "ok": true } }
    ]);
    let stub = Stub::with(&routes.to_string());
    let gateway = Gateway::start(&conditional(&stub));
    let called = |path: &str, way: &str| {
        let response = gateway.get_with(path, &[("X-Way", way)]);
        let completed = response.header("x-krakend-completed").map(str::to_owned);
        let mut seen: Vec<String> = stub.take_seen().into_iter().map(|seen| seen.path).collect();
        seen.sort();
        (
            response.status,
            completed.unwrap_or_default(),
            seen.join(" "),
        )
    };
    let want =
        |status: u16, completed: &str, seen: &str| (status, completed.to_owned(), seen.to_owned());
    for path in ["/parallel", "/turn"] {
        assert_eq!(called(path, "a"), want(200, "true", "/a"), "{path}");
        assert_eq!(called(path, "b"), want(200, "true", "/b"), "{path}");
        assert_eq!(called(path, "A"), want(200, "true", "/c"), "{path}");
    }
    assert_eq!(called("/also", "a"), want(200, "true", "/a /always"));
    assert_eq!(called("/also", "b"), want(200, "true", "/always"));
    assert_eq!(called("/one", "a"), want(200, "true", "/a"));
    assert_eq!(called("/one", "b"), want(200, "true", ""));
    assert_eq!(gateway.get("/one").json(), json!({}));
    assert_eq!(called("/stream", "a").0, 200);
    let (status, _, seen) = called("/stream", "b");
    assert_eq!((status, seen.as_str()), (404, ""));
    #[cfg(feature = "cel")]
    assert_eq!(called("/earlier", ""), want(200, "true", "/b /kind"));
    assert!(!gateway.output().contains("ERROR"), "{}", gateway.output());
}

#[test]
fn unclear_conditions_stop_the_start() {
    let backend = |block: Value| json!({ "host": ["http://127.0.0.1:1"], "extra_config": { "backend/conditional": block } });
    let fallback = || backend(json!({ "strategy": "fallback" }));
    for (backends, hint) in [
        (vec![fallback(), fallback()], "only one backend"),
        (
            vec![backend(
                json!({ "strategy": "header", "name": "X-Way", "value": "a" }),
            )],
            "input_headers",
        ),
        (
            vec![backend(json!({ "strategy": "cookie" }))],
            "header, policy, fallback",
        ),
    ] {
        let endpoint = json!({ "endpoint": "/a", "backend": backends });
        let (good, text) = checked(&file(&[endpoint], &json!({})));
        assert!(!good && text.contains(hint), "{text}");
    }
}
