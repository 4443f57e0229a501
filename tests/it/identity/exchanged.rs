//! What reaches the backend, and the client, when tokens are exchanged.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{echo, exchanging, get, server, token_of};
use crate::support::http::request;
use crate::support::{Client, Gateway, Signer, Stub, ports};

fn new_token(more: &Value) -> String {
    let mut answer = json!({"access_token": "new", "token_type": "Bearer", "expires_in": 300,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
    for (key, value) in more.as_object().unwrap() {
        answer[key] = value.clone();
        if value.is_null() {
            answer.as_object_mut().unwrap().remove(key);
        }
    }
    answer.to_string()
}

#[test]
fn the_clients_token_reaches_the_backend_at_no_place() {
    let server = server(|_, _| (200, new_token(&json!({}))));
    let (backend, signer) = (echo(), Signer::es256("e"));
    let endpoint = |path: &str, encoding: &str, header: &str| {
        json!({"endpoint": path, "output_encoding": encoding,
            "input_headers": ["*"], "input_query_strings": ["*"],
            "extra_config": {"auth/validator": {"alg": "ES256", "jwk_local_path": "keys.json",
                "audience": ["api"], "auth_header_name": header}},
            "backend": [{"url_pattern": "/b", "encoding": encoding, "extra_config":
                {"portcullis/token-exchange": {"token_url": server.url(), "allow_insecure": true,
                    "client_id": "gateway", "client_secret": "s3cret"}}}]})
    };
    let mut endpoints = Vec::new();
    for encoding in ["json", "no-op"] {
        endpoints.push(endpoint(&format!("/{encoding}"), encoding, "Authorization"));
        endpoints.push(endpoint(&format!("/x/{encoding}"), encoding, "X-Token"));
    }
    let config = json!({"version": 3, "host": [backend.url()], "endpoints": endpoints});
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    let token = token_of(&signer, "ada");
    let cookie = format!("a=1; access_token={token}; b=2");
    let bearer = format!("Bearer {token}");
    let query = format!("?access_token={token}&q=1");
    for (path, header, value) in [
        ("/json", "Cookie", &cookie),
        ("/no-op", "Cookie", &cookie),
        ("/x/json", "X-Token", &token),
        ("/x/no-op", "X-Token", &bearer),
    ] {
        let path = format!("{path}{query}");
        let headers = [
            (header, value.as_str()),
            ("X-Other", bearer.as_str()),
            ("X-User", "ada"),
        ];
        assert_eq!(gateway.get_with(&path, &headers).status, 200);
        let seen = backend.take_seen().remove(0);
        let told = format!("{seen:?}");
        assert!(!told.contains(&token), "{path} {header}: {told}");
        assert_eq!(seen.headers["authorization"], ["Bearer new"]);
        assert_eq!(seen.header("x-user"), Some("ada"), "the rest stays");
        if header == "Cookie" {
            assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
        }
    }
}

#[test]
fn only_a_bearer_token_is_sent_and_only_until_it_expires() {
    let answer = Arc::new(Mutex::new(String::new()));
    let says = Arc::clone(&answer);
    let server = server(move |_, _| (200, says.lock().unwrap().clone()));
    let backend = echo();
    let (gateway, signer) = exchanging(&server.url(), &backend, &json!({}));
    let mut number = 0;
    let mut ask = |more: Value| {
        *answer.lock().unwrap() = new_token(&more);
        number += 1;
        get(&gateway, "/x", &token_of(&signer, &format!("user{number}"))).status
    };
    const TYPES: &str = "urn:ietf:params:oauth:token-type:";
    for wrong in [
        json!({"token_type": "mac"}),
        json!({"token_type": "DPoP"}),
        json!({"token_type": "N_A"}),
        json!({"token_type": null}),
        json!({"token_type": ""}),
        json!({"issued_token_type": null}),
        json!({"issued_token_type": ""}),
        json!({"issued_token_type": format!("{TYPES}refresh_token")}),
        json!({"issued_token_type": format!("{TYPES}saml2"), "token_type": "N_A"}),
        json!({"issued_token_type": format!("{TYPES}saml2")}),
        json!({"issued_token_type": format!("{TYPES}id_token")}),
        json!({"issued_token_type": "urn:example:own"}),
        json!({"access_token": "a b"}),
        json!({"access_token": "a,b"}),
        json!({"access_token": "\u{e9}"}),
        json!({"access_token": "a=b"}),
    ] {
        assert_eq!(ask(wrong.clone()), 502, "{wrong}");
    }
    assert!(backend.take_seen().is_empty());
    for right in [
        json!({"token_type": "bEARER"}),
        json!({"issued_token_type": format!("{TYPES}jwt")}),
        json!({"access_token": "a-._~+/9=="}),
    ] {
        assert_eq!(ask(right.clone()), 200, "{right}");
    }
    for (life, calls) in [
        (json!(0), 3),
        (json!(-5), 3),
        (json!("soon"), 3),
        (json!(null), 3),
        (json!(60), 1),
    ] {
        *answer.lock().unwrap() = new_token(&json!({"expires_in": life}));
        let token = token_of(&signer, &format!("life {life}"));
        let before = server.calls();
        for _ in 0..3 {
            assert_eq!(get(&gateway, "/x", &token).status, 200);
        }
        assert_eq!(server.calls() - before, calls, "{life}");
    }
    backend.take_seen();
    let saml = format!("{TYPES}saml2");
    for (asked_for, kind) in [(saml.as_str(), "N_A"), ("urn:example:own", "Bearer")] {
        let more = json!({ "requested_token_type": asked_for });
        let (gateway, signer) = exchanging(&server.url(), &backend, &more);
        *answer.lock().unwrap() =
            new_token(&json!({"issued_token_type": asked_for, "token_type": kind}));
        assert_eq!(get(&gateway, "/x", &token_of(&signer, "ada")).status, 200);
    }
}

/// Endpoints at `/x` and `/raw` with an exchange, and these members in the validator.
fn strict(server: &str, backend: &Stub, validator: &Value) -> (Gateway, Signer) {
    let signer = Signer::es256("e");
    let mut block = json!({"alg": "ES256", "jwk_local_path": "keys.json", "audience": ["api"],
        "error_body": "problem+json"});
    for (name, value) in validator.as_object().unwrap() {
        block[name] = value.clone();
    }
    let endpoint = |path: &str, encoding: &str| {
        json!({"endpoint": path, "output_encoding": encoding, "input_headers": ["Authorization"],
            "extra_config": {"auth/validator": block},
            "backend": [{"url_pattern": "/b", "encoding": encoding, "extra_config":
                {"portcullis/token-exchange": {"token_url": format!("{server}/token?secret=1"),
                    "allow_insecure": true, "client_id": "gateway", "client_secret": "s3cret"}}}]})
    };
    let config = json!({"version": 3, "timeout": "4s", "host": [backend.url()], "extra_config": {
            "telemetry/logging": {"level": "INFO", "stdout": true}},
        "endpoints": [endpoint("/x", "json"), endpoint("/raw", "no-op")]});
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    (gateway, signer)
}

#[test]
fn a_token_server_that_hangs_is_named_within_the_time_of_the_endpoint() {
    let server = server(|_, _| {
        crate::support::pause(Duration::from_secs(60));
        (200, new_token(&json!({})))
    });
    let backend = echo();
    let (gateway, signer) = strict(&server.url(), &backend, &json!({}));
    for path in ["/x", "/raw"] {
        let begin = Instant::now();
        let response = get(&gateway, path, &token_of(&signer, path));
        assert_eq!(response.status, 502, "{path}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{path}");
    }
    let named = format!("token exchange at {}/token", server.url());
    gateway.tells(&named);
    let output = gateway.output();
    assert!(!output.contains("secret=1"), "{output}");
    assert!(backend.take_seen().is_empty());
}

#[test]
fn a_request_without_a_token_is_told_that_one_is_missing() {
    let server = server(|_, _| (200, new_token(&json!({}))));
    let backend = echo();
    let (gateway, _) = strict(&server.url(), &backend, &json!({"optional": true}));
    for path in ["/x", "/raw"] {
        let response = gateway.get(path);
        assert_eq!(response.status, 401);
        // No error code, because there was no token (RFC 6750 §3.1).
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        let body: Value = serde_json::from_str(&response.text()).unwrap();
        assert_eq!(body["reason"], "missing", "{body}");
    }
    assert_eq!(server.calls(), 0);
    assert!(backend.take_seen().is_empty());
}

#[test]
fn a_rejected_exchange_is_reported_like_a_rejected_token() {
    let answer = Arc::new(Mutex::new((400, "invalid_grant")));
    let says = Arc::clone(&answer);
    let server = server(move |_, _| {
        let (status, error) = *says.lock().unwrap();
        (status, json!({"error": error}).to_string())
    });
    let (backend, signer, metrics) = (echo(), Signer::es256("e"), ports::free());
    let endpoint = |path: &str, encoding: &str| {
        json!({"endpoint": path, "output_encoding": encoding, "input_headers": ["Authorization"],
            "extra_config": {"auth/validator": {"alg": "ES256", "jwk_local_path": "keys.json",
                "audience": ["api"]}},
            "backend": [{"url_pattern": "/b", "encoding": encoding, "extra_config":
                {"portcullis/token-exchange": {"token_url": server.url(), "allow_insecure": true,
                    "client_id": "gateway", "client_secret": "s3cret"}}}]})
    };
    let config = json!({"version": 3, "host": [backend.url()], "extra_config": {
            "portcullis/metrics": {"listen": format!("127.0.0.1:{metrics}")},
            "portcullis/errors": {"format": "problem+json"},
            "telemetry/logging": {"level": "INFO", "stdout": true}},
        "endpoints": [endpoint("/x", "json"), endpoint("/raw", "no-op")]});
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    for path in ["/x", "/raw"] {
        for (error, status, reason, word) in [
            ("invalid_grant", 401, "exchange_refused", "invalid_token"),
            (
                "invalid_target",
                403,
                "exchange_forbidden",
                "insufficient_scope",
            ),
        ] {
            *answer.lock().unwrap() = (400, error);
            let response = get(
                &gateway,
                path,
                &token_of(&signer, &format!("{path}{error}")),
            );
            assert_eq!(response.status, status);
            let challenge = response.header("www-authenticate").unwrap_or_default();
            let expected = format!("Bearer error=\"{word}\"");
            assert!(challenge.starts_with(&expected), "{challenge}");
            let body: Value = serde_json::from_str(&response.text()).unwrap();
            assert_eq!(body["reason"], reason, "{body}");
        }
    }
    // A limit of the token server is not the fault of the next client.
    *answer.lock().unwrap() = (429, "slow_down");
    for number in 0..7 {
        let token = token_of(&signer, &format!("limited{number}"));
        assert_eq!(get(&gateway, "/x", &token).status, 502);
    }
    *answer.lock().unwrap() = (400, "invalid_grant");
    assert_eq!(get(&gateway, "/x", &token_of(&signer, "next")).status, 401);
    gateway.tells("invalid_grant");
    let mut client = Client::connect(metrics).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    for reason in ["exchange_refused", "exchange_forbidden"] {
        let line = page.lines().find(|line| {
            line.starts_with("portcullis_jwt_rejected_total") && line.contains(reason)
        });
        assert!(line.is_some(), "{reason}: {page}");
    }
    assert!(backend.take_seen().is_empty());
}
