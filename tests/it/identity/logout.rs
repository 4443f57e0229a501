//! Logout tokens of a provider, sent to the revoker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{echo, get, server};
use crate::support::http::request;
use crate::support::{Client, Gateway, Signer, eventually, pause, ports, tokens};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn logout_token(signer: &Signer, more: &Value) -> String {
    let mut claims = json!({"iss": "https://as.example", "aud": "app", "iat": tokens::now(),
        "exp": tokens::now() + 60, "jti": "l1", "events": {EVENT: {}}});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    let kid = &signer.jwk()["kid"];
    let header = json!({"alg": "ES256", "kid": kid, "typ": "logout+jwt"});
    signer.token_with_header(&header, &claims)
}

/// A service with a revoker whose logout tokens come from a provider with this source of keys.
fn service(port: u16, keys: &Value) -> Value {
    let mut provider = json!({"issuer": "https://as.example", "audience": ["app"], "alg": "ES256"});
    for (name, value) in keys.as_object().unwrap() {
        provider[name] = value.clone();
    }
    json!({"auth/revoker": {
        "N": 1000, "P": 0.000_001, "hash_name": "optimal", "TTL": 600,
        "http_listen": format!("127.0.0.1:{port}"), "secret": "a secret of many letters",
        "logout": [provider],
    }})
}

/// Sends a logout token. Returns the status.
fn send(port: u16, token: &str) -> u16 {
    let body = format!("logout_token={token}");
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", length.as_str()),
    ];
    let mut client = Client::connect(port).unwrap();
    client
        .send(request("POST", "/logout", &headers) + &body)
        .unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.status
}

#[test]
fn a_logout_token_signed_with_a_new_key_of_the_provider_ends_its_session() {
    let (old, new, later) = (Signer::es256("a"), Signer::es256("b"), Signer::es256("c"));
    let document = Arc::new(Mutex::new(old.jwks()));
    let (published, calls) = (Arc::clone(&document), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let provider = server(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        (200, published.lock().unwrap().clone())
    });
    let port = ports::free();
    let keys = json!({"jwk_url": provider.url(), "disable_jwk_security": true});
    let config = json!({"version": 3, "extra_config": service(port, &keys), "endpoints": []});
    let _gateway = Gateway::start(&config.to_string());
    let sid = json!({"sid": "s1"});
    assert_eq!(send(port, &logout_token(&old, &sid)), 200);
    // An unknown key costs one download, and the token waits as long as there may be another one.
    *document.lock().unwrap() = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    assert_eq!(send(port, &logout_token(&new, &sid)), 200);
    let before = calls.load(Ordering::SeqCst);
    let begin = Instant::now();
    let unknown: Vec<_> = (0..8)
        .map(|_| {
            let token = logout_token(&later, &sid);
            std::thread::spawn(move || send(port, &token))
        })
        .collect();
    pause(Duration::from_millis(1500));
    eventually("a download", Duration::from_secs(30), || {
        calls.load(Ordering::SeqCst) > before
    });
    let during = calls.load(Ordering::SeqCst) - before;
    // One at once, and about one a second.
    let most = 2 + usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(during <= most, "{during} downloads");
    *document.lock().unwrap() = later.jwks();
    for unknown in unknown {
        assert_eq!(unknown.join().unwrap(), 200);
    }
}

/// Connections whose client does not send the rest of its request.
fn unfinished(port: u16, count: usize, path: &str) -> Vec<Client> {
    let start = |_| {
        let mut client = Client::connect(port).unwrap();
        let headers = [("Content-Length", "10000")];
        let sent = request("POST", path, &headers) + "logout_token=";
        // The gateway may have closed it already, for the next one.
        let _ = client.send(sent);
        client
    };
    (0..count).map(start).collect()
}

#[test]
fn unfinished_requests_that_anyone_may_send_do_not_delay_a_revocation() {
    let (signer, port, metrics) = (Signer::es256("k"), ports::free(), ports::free());
    let mut extra = service(port, &json!({"jwk_local_path": "keys.json"}));
    extra["portcullis/metrics"] = json!({"listen": format!("127.0.0.1:{metrics}")});
    let config = json!({"version": 3, "extra_config": extra, "endpoints": []});
    let _gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    let body = r#"{"key": "jti", "value": "J1"}"#;
    let length = body.len().to_string();
    let revoke = |secret: &str| {
        let headers = [("Authorization", secret), ("Content-Length", &length)];
        let mut client = Client::connect(port).unwrap();
        let sent = request("POST", "/revoke", &headers) + body;
        client.send(sent).unwrap();
        client.response("POST").unwrap().status
    };
    for count in [64, 150] {
        let _slow = unfinished(port, count, "/logout");
        let begin = Instant::now();
        assert_eq!(revoke("Bearer a secret of many letters"), 200);
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{count}: {:?}",
            begin.elapsed()
        );
    }
    // The head decides before the body is read.
    let mut stranger = unfinished(port, 1, "/revoke").remove(0);
    assert_eq!(stranger.response("POST").unwrap().status, 401);
    let _slow = unfinished(metrics, 150, "/metrics");
    let begin = Instant::now();
    let mut client = Client::connect(metrics).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_logout_token_ends_a_session_or_all_sessions_of_a_user() {
    let (signer, other, backend) = (Signer::es256("k"), Signer::es256("k"), echo());
    let port = ports::free();
    let config = json!({
        "version": 3, "host": [backend.url()],
        "extra_config": service(port, &json!({"jwk_local_path": "keys.json"})),
        "endpoints": [{"endpoint": "/x", "backend": [{"url_pattern": "/b"}], "extra_config": {
            "auth/validator": {"alg": "ES256", "jwk_local_path": "keys.json",
                "issuer": "https://as.example", "audience": ["api"]}}}],
    });
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    let send = |token: &str| send(port, token);
    let access = |sub: &str, sid: &str, issued: u64| {
        let mut claims = tokens::claims("api");
        claims["iss"] = json!("https://as.example");
        claims["sub"] = json!(sub);
        claims["sid"] = json!(sid);
        claims["iat"] = json!(issued);
        signer.token(&claims)
    };
    let now = tokens::now();
    let (first, second) = (access("ada", "s1", now - 10), access("ada", "s2", now - 10));
    let bob = access("bob", "s3", now - 10);
    for token in [&first, &second, &bob] {
        assert_eq!(get(&gateway, "/x", token).status, 200);
    }
    for (what, token) in [
        ("another key", logout_token(&other, &json!({"sid": "s1"}))),
        (
            "another issuer",
            logout_token(&signer, &json!({"sid": "s1", "iss": "https://other"})),
        ),
        (
            "another audience",
            logout_token(&signer, &json!({"sid": "s1", "aud": "api"})),
        ),
        (
            "expired",
            logout_token(&signer, &json!({"sid": "s1", "exp": now - 60})),
        ),
        (
            "no event",
            logout_token(&signer, &json!({"sid": "s1", "events": {}})),
        ),
        (
            "a nonce",
            logout_token(&signer, &json!({"sid": "s1", "nonce": "n"})),
        ),
        (
            "no exp",
            logout_token(&signer, &json!({"sid": "s1", "exp": null})),
        ),
        ("an access token's type", {
            let claims = json!({"iss": "https://as.example", "aud": "app", "iat": now, "sid": "s1",
                "exp": now + 60, "jti": "l1", "events": {EVENT: {}}});
            let header = json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"});
            signer.token_with_header(&header, &claims)
        }),
        ("nobody", logout_token(&signer, &json!({}))),
        ("an access token", first.clone()),
        ("garbage", "x".to_owned()),
    ] {
        assert_eq!(send(&token), 400, "{what}");
    }
    assert_eq!(get(&gateway, "/x", &first).status, 200);
    // Its audience fits, and yet it is no access token.
    let posing = logout_token(&signer, &json!({"sub": "ada", "aud": "api"}));
    assert_eq!(get(&gateway, "/x", &posing).status, 401);
    assert_eq!(
        send(&logout_token(&signer, &json!({"sid": "s1", "sub": "ada"}))),
        200
    );
    let statuses = [&first, &second, &bob].map(|token| get(&gateway, "/x", token).status);
    assert_eq!(statuses, [401, 200, 200], "one session");
    assert_eq!(
        send(&logout_token(
            &signer,
            &json!({"sub": "ada", "iat": now - 5})
        )),
        200
    );
    let statuses = [&first, &second, &bob].map(|token| get(&gateway, "/x", token).status);
    assert_eq!(statuses, [401, 401, 200], "all sessions of the user");
    assert_eq!(
        get(&gateway, "/x", &access("ada", "s4", now)).status,
        200,
        "a new login"
    );
}

#[test]
fn more_revoked_tokens_than_the_list_is_made_for_are_reported() {
    let port = ports::free();
    let mut extra = service(port, &json!({"jwk_local_path": "keys.json"}));
    extra["auth/revoker"]["N"] = json!(10);
    extra["telemetry/logging"] = json!({"level": "INFO", "stdout": true});
    let config = json!({"version": 3, "extra_config": extra, "endpoints": []});
    let keys = Signer::es256("k").jwks();
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &keys)]);
    let revoke = |from: u32, to: u32| {
        let elems: Vec<_> = (from..to).map(|n| format!("jti-{n}")).collect();
        let body = json!({ "elems": elems }).to_string();
        let length = body.len().to_string();
        let headers = [
            ("Authorization", "Bearer a secret of many letters"),
            ("Content-Length", &length),
        ];
        let mut client = Client::connect(port).unwrap();
        client
            .send(request("POST", "/revoke", &headers) + &body)
            .unwrap();
        assert_eq!(client.response("POST").unwrap().status, 200);
    };
    revoke(0, 10);
    assert!(!gateway.output().contains("more than 10 tokens"));
    revoke(10, 30);
    eventually("a warning", Duration::from_secs(30), || {
        gateway.output().contains("more than 10 tokens")
    });
}
