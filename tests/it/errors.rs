//! `portcullis/errors`: every rejection and every failure has the configured body.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Response, Signer, Upstream, eventually, tokens};

const RESPONSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const MISSING: &str =
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nnothing";

/// A gateway with these `errors`, and an endpoint for each kind of error.
fn gateway(errors: Option<Value>) -> (Gateway, Signer, Upstream, Upstream) {
    let (good, missing) = (Upstream::raw(RESPONSE), Upstream::raw(MISSING));
    let signer = Signer::rs256("k");
    let down = "http://127.0.0.1:1".to_owned();
    let endpoint = |path: &str, host: String, more: Value| {
        let encoding = more["output_encoding"].as_str().unwrap_or("json");
        let mut endpoint = json!({
            "endpoint": path,
            "backend": [{ "host": [host], "url_pattern": "/x?password=hunter2", "encoding": encoding }]
        });
        let all = endpoint.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        endpoint
    };
    let validator = json!({ "auth/validator": {
        "alg": "RS256", "issuer": "i", "audience": ["a"], "jwk_local_path": "keys.json",
        "roles_key": "roles", "roles": ["admin"]
    }});
    let limit = json!({ "qos/ratelimit/router": {
        "client_max_rate": 1, "client_capacity": 1, "every": "1h", "strategy": "ip"
    }});
    let all = json!({ "qos/ratelimit/router": { "max_rate": 1, "every": "1h" } });
    let mut extra = json!({
        "portcullis/access-log": { "format": "json" },
        "portcullis/limits": { "request_body": 10, "headers": 20 }
    });
    if let Some(errors) = errors {
        extra["portcullis/errors"] = errors;
    }
    let file = json!({ "version": 3, "extra_config": extra, "endpoints": [
        endpoint("/token", good.url(), json!({ "extra_config": validator })),
        endpoint("/limited", good.url(), json!({ "extra_config": limit })),
        endpoint("/busy", good.url(), json!({ "extra_config": all })),
        endpoint("/body", good.url(), json!({ "method": "POST" })),
        endpoint("/down", down.clone(), json!({})),
        endpoint("/stream", down, json!({ "output_encoding": "no-op" })),
        endpoint("/missing", missing.url(), json!({ "output_encoding": "no-op" })),
    ]});
    let gateway = Gateway::start_with(&file.to_string(), &[("keys.json", &signer.jwks())]);
    (gateway, signer, good, missing)
}

/// The requests that are rejected or fail, with their status.
fn failures(gateway: &Gateway, signer: &Signer) -> Vec<(u16, Response)> {
    let token = |claims: Value| {
        let bearer = format!("Bearer {}", signer.token(&claims));
        gateway.get_with("/token", &[("Authorization", &bearer)])
    };
    let mut guest = tokens::claims("a");
    guest["iss"] = json!("i");
    guest["roles"] = json!(["guest"]);
    let mut other = guest.clone();
    other["aud"] = json!("another");
    let many: Vec<(String, String)> = (0..30).map(|i| (format!("X-{i}"), "a".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (&**n, &**v)).collect();
    gateway.get("/limited");
    gateway.get("/busy");
    let large = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    vec![
        (401, gateway.get("/token")),
        (401, token(other)),
        (403, token(guest)),
        (404, gateway.get("/nowhere")),
        (405, gateway.send("POST", request("POST", "/token", &[]))),
        (413, gateway.send("POST", large)),
        (429, gateway.get("/limited")),
        (503, gateway.get("/busy")),
        (431, gateway.send("GET", request("GET", "/token", &many))),
        (
            400,
            gateway.send("GET", "GET /token HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ),
        (500, gateway.get("/down")),
        (500, gateway.get("/stream")),
    ]
}

#[test]
fn every_error_is_a_problem_with_an_id_and_without_a_secret() {
    let (gateway, signer, _good, _missing) = gateway(Some(json!({ "format": "problem+json" })));
    let mut reasons = Vec::new();
    for (status, response) in failures(&gateway, &signer) {
        assert_eq!(response.status, status, "{}", response.text());
        let kind = response.header("content-type").unwrap();
        assert_eq!(kind, "application/problem+json", "{status}");
        let body = response.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], "about:blank");
        assert!(
            body["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty())
        );
        let id = body["request_id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36, "{id}");
        let text = response.text();
        for secret in ["hunter2", "127.0.0.1", "password"] {
            assert!(!text.contains(secret), "{text}");
        }
        reasons.push((status, body["reason"].as_str().unwrap_or("").to_owned()));
        eventually(&id, Duration::from_secs(30), || {
            gateway.output().contains(&id)
        });
    }
    for expected in [
        (401, "missing"),
        (401, "wrong_audience"),
        (403, "missing_role"),
        (413, "body_too_large"),
    ] {
        assert!(
            reasons.contains(&(expected.0, expected.1.to_owned())),
            "{reasons:?}"
        );
    }
}

#[test]
fn a_template_for_each_status_and_one_for_the_rest() {
    let errors = json!({ "templates": {
        "401": { "path": "login.html" },
        "404": { "content_type": "application/json", "body": "{\"code\": {status}, \"text\": \"{title}\"}" },
        "default": { "content_type": "text/plain; charset=utf-8", "body": "{status} {title}, {request_id}" }
    }});
    let (good, signer) = (Upstream::raw(RESPONSE), Signer::rs256("k"));
    let file = json!({
        "version": 3,
        "extra_config": { "portcullis/errors": errors, "portcullis/request-id": {} },
        "endpoints": [{
            "endpoint": "/token",
            "extra_config": { "auth/validator": {
                "alg": "RS256", "issuer": "i", "audience": ["a"], "jwk_local_path": "keys.json" } },
            "backend": [{ "host": [good.url()], "url_pattern": "/x" }]
        }]
    });
    let keys = signer.jwks();
    let page = "<!doctype html><style>p { margin: 0 }</style><p>Please log in: {reason}</p>";
    let files = [("keys.json", &*keys), ("login.html", page)];
    let gateway = Gateway::start_with(&file.to_string(), &files);
    let response = gateway.get("/token");
    assert_eq!(
        response.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        response.text().ends_with("<p>Please log in: missing</p>"),
        "{}",
        response.text()
    );
    // Headers with instructions for the client stay.
    assert!(response.header("www-authenticate").is_some());
    let response = gateway.get("/nowhere");
    assert_eq!(response.json(), json!({ "code": 404, "text": "Not Found" }));
    let response = gateway.send("POST", request("POST", "/token", &[]));
    let id = response.header("x-request-id").unwrap().to_owned();
    assert_eq!(response.text(), format!("405 Method Not Allowed, {id}"));
}

#[test]
fn bodies_of_backends_and_successes_stay_as_they_are() {
    let (gateway, _signer, _good, _missing) = gateway(Some(json!({ "format": "problem+json" })));
    let response = gateway.get("/missing");
    assert_eq!((response.status, &*response.text()), (404, "nothing"));
    assert_eq!(gateway.get("/limited").status, 200);
}

#[test]
fn without_the_block_nothing_changes() {
    let (gateway, signer, _good, _missing) = gateway(None);
    for (status, response) in failures(&gateway, &signer) {
        assert_eq!(response.status, status);
        let kind = response.header("content-type").unwrap_or("text/plain");
        assert!(kind.starts_with("text/plain"), "{status} {kind}");
    }
    assert_eq!(gateway.get("/token").text(), "");
    assert_eq!(gateway.get("/nowhere").text(), "404 page not found");
}

#[test]
fn a_response_to_head_has_no_body() {
    let (gateway, _signer, _good, _missing) = gateway(Some(json!({ "format": "problem+json" })));
    let response = gateway.send("HEAD", request("HEAD", "/nowhere", &[]));
    assert_eq!((response.status, response.body.len()), (404, 0));
}
