//! The results of a new user who follows the guide, with the file that is shipped.

use std::time::Duration;

use crate::support::{Gateway, Signer, Stub, eventually, ports, tokens};

/// A local address instead of the guide's tenant and port; nothing else is changed.
fn start(provider: &str) -> Gateway {
    let (port, metrics) = (ports::free(), ports::free());
    let config = include_str!("../../conf/krakend.json")
        .replace("localhost:8080", &format!("localhost:{port}"))
        .replace("127.0.0.1:9090", &format!("127.0.0.1:{metrics}"))
        .replace(
            "\"https://YOUR-TENANT.auth0.com/.well-known/jwks.json\"",
            &format!("\"{provider}/.well-known/jwks.json\", \"disable_jwk_security\": true"),
        );
    let gateway = Gateway::spawn(port, &config, &[], &["-p", &port.to_string()]);
    assert!(
        gateway.listens(Duration::from_secs(30)),
        "{}",
        gateway.output()
    );
    gateway.ready()
}

#[test]
fn the_guide_holds_step_by_step() {
    let signer = Signer::rs256("key-1");
    let routes = serde_json::json!([{"path": "/.well-known/jwks.json", "headers": {"Content-Type": "application/json"}, "body": signer.jwks()}]);
    let provider = Stub::with(&routes.to_string());
    let gateway = start(&provider.url());

    let health = gateway.get("/__health");
    assert_eq!(health.status, 200);
    assert_eq!(
        health.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(health.json()["status"], "ok");

    let without = gateway.get("/auth0-protected");
    assert_eq!(without.status, 401);
    assert_eq!(without.header("content-length"), Some("0"));
    assert!(without.body.is_empty());
    let logged = |words: &str| gateway.output().lines().any(|line| line.contains(words));
    for words in [
        "Error #01: Token not found",
        "[ENDPOINT: /auth0-protected][JWTValidator]",
    ] {
        eventually(
            &format!("a log line with {words:?}"),
            Duration::from_secs(30),
            || logged(words),
        );
    }

    let token = signer.token(&tokens::claims("http://api.example.com"));
    let with = gateway.get_with(
        "/auth0-protected",
        &[("Authorization", &format!("Bearer {token}"))],
    );
    assert_eq!(with.status, 200, "{}", gateway.output());
    assert_eq!(with.json()["status"], "ok");

    let another = signer.token(&tokens::claims("http://api.example.org"));
    let rejected = gateway.get_with(
        "/auth0-protected",
        &[("Authorization", &format!("Bearer {another}"))],
    );
    assert_eq!((rejected.status, rejected.body.len()), (401, 0));
    assert!(
        !gateway.output().contains(&token),
        "a token stands in the log"
    );
}

#[test]
fn the_shipped_file_is_the_guides_plus_metrics_on_loopback() {
    let mut shipped: serde_json::Value =
        serde_json::from_str(include_str!("../../conf/krakend.json")).unwrap();
    let extra = shipped
        .as_object_mut()
        .unwrap()
        .remove("extra_config")
        .unwrap();
    assert_eq!(
        extra,
        serde_json::json!({"portcullis/metrics": {"listen": "127.0.0.1:9090"}})
    );
    let guide = serde_json::json!({
        "version": 3,
        "timeout": "3s",
        "endpoints": [{
            "endpoint": "/auth0-protected",
            "extra_config": {
                "auth/validator": {
                    "alg": "RS256",
                    "audience": ["http://api.example.com"],
                    "jwk_url": "https://YOUR-TENANT.auth0.com/.well-known/jwks.json"
                }
            },
            "backend": [{"host": ["http://localhost:8080"], "url_pattern": "/__health"}]
        }]
    });
    assert_eq!(shipped, guide);
}
