//! What was fetched from providers is passed to the new process.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::Successor;
use crate::support::{Gateway, Signer, Stub, Upstream, eventually, tokens};

/// Ends the old process of an upgrade after the new one has started, and returns the new one.
pub(super) fn upgrade(old: &Gateway) -> Successor {
    let new = Successor::waiting(old);
    old.signal("QUIT");
    let ended = old.wait(Duration::from_secs(40));
    let log = Successor::log(old);
    assert!(ended.is_some_and(|end| end.success()), "{log}");
    new
}

/// A provider with key sets and a token server, which fails from some time on.
fn provider(keys: String, fails: Arc<AtomicBool>) -> Upstream {
    Upstream::start(move |mut call| {
        call.body()?;
        let (status, body) = if fails.load(Ordering::SeqCst) {
            (503, "{}".to_owned())
        } else if call.head.starts_with("POST") {
            let token = r#"{"access_token": "token-of-the-provider", "token_type": "Bearer", "expires_in": 3600}"#;
            (200, token.to_owned())
        } else {
            (200, keys.clone())
        };
        call.send(format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    })
}

#[test]
fn keys_and_tokens_do_not_depend_on_a_provider_that_fails_during_an_upgrade() {
    let (one, two) = (Signer::es256("one"), Signer::es256("two"));
    let fails = Arc::new(AtomicBool::new(false));
    let provider_one = provider(one.jwks(), Arc::clone(&fails));
    let provider_two = provider(two.jwks(), Arc::clone(&fails));
    let backend =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let validator = |more: serde_json::Value| {
        let mut block =
            json!({ "alg": "ES256", "audience": ["api"], "disable_jwk_security": true });
        let all = block.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        block
    };
    let endpoint = |path: &str, block: serde_json::Value| {
        json!({
            "endpoint": path, "extra_config": { "auth/validator": block },
            "backend": [{ "url_pattern": "/b", "extra_config": { "auth/client-credentials": {
                "client_id": "c", "client_secret": "s", "token_url": format!("{}/token", provider_one.url()),
            } } }],
        })
    };
    // One set of one URL, and one of the URLs of an aggregator.
    let joined = crate::support::ports::free();
    let file = json!({
        "version": 3, "host": [backend.url()],
        "extra_config": { "portcullis/jwk-aggregator": {
            "port": joined, "origins": [provider_one.url(), provider_two.url()],
        } },
        "endpoints": [
            endpoint("/one", validator(json!({ "jwk_url": provider_one.url() }))),
            endpoint("/both", validator(json!({ "jwk_url": format!("http://127.0.0.1:{joined}") }))),
        ],
    });
    let old = Gateway::start(&file.to_string());
    let get = |path: &str, signer: &Signer| {
        let token = format!("Bearer {}", signer.token(&tokens::claims("api")));
        old.get_with(path, &[("Authorization", &token)]).status
    };
    let all = [("/one", &one), ("/both", &one), ("/both", &two)];
    eventually("the keys are there", Duration::from_secs(30), || {
        all.iter().all(|(path, signer)| get(path, signer) == 200)
    });
    fails.store(true, Ordering::SeqCst);
    let new = upgrade(&old);
    for (path, signer) in all {
        assert_eq!(get(path, signer), 200, "{path}: {}", Successor::log(&old));
    }
    assert_eq!(old.get("/__ready").status, 200);
    assert!(
        Successor::log(&old).contains("taken over from the previous process"),
        "{}",
        Successor::log(&old)
    );
    assert!(
        !Successor::log(&old).contains("token-of-the-provider"),
        "a token is in the log"
    );
    drop(new);
}

#[test]
fn a_process_that_takes_over_from_a_ready_one_is_ready() {
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hangs.local_addr().unwrap());
    let file = |wait: &str| {
        json!({
            "version": 3, "extra_config": { "portcullis/server": { "ready_wait": wait } },
            "endpoints": [{
                "endpoint": "/a", "backend": [{ "host": [url], "url_pattern": "/" }],
                "extra_config": { "auth/validator": {
                    "alg": "ES256", "jwk_url": url, "disable_jwk_security": true
                } }
            }]
        })
        .to_string()
    };
    let old = Gateway::start(&file("1s"));
    eventually("it is ready", Duration::from_secs(30), || {
        old.get("/__ready").status == 200
    });
    fs::write(old.config_path(), file("10m")).unwrap();
    let new = upgrade(&old);
    assert_eq!(old.get("/__ready").status, 200, "{}", Successor::log(&old));
    drop(new);
}

#[test]
fn revoked_tokens_stay_revoked() {
    let signer = Signer::es256("k");
    let backend =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let port = crate::support::ports::free();
    let file = json!({
        "version": 3, "host": [backend.url()],
        "extra_config": { "auth/revoker": { "N": 1000, "P": 0.000_001, "hash_name": "optimal", "TTL": 600,
            "token_keys": ["jti"], "http_listen": format!("127.0.0.1:{port}"),
            "secret": "a secret of many letters" } },
        "endpoints": [{ "endpoint": "/x", "backend": [{ "url_pattern": "/b" }],
            "extra_config": { "auth/validator": { "alg": "ES256", "jwk_local_path": "keys.json" } } }],
    });
    let old = Gateway::start_with(&file.to_string(), &[("keys.json", &signer.jwks())]);
    let status = |old: &Gateway, id: &str| {
        let mut claims = tokens::claims("api");
        claims["jti"] = json!(id);
        let token = format!("Bearer {}", signer.token(&claims));
        old.get_with("/x", &[("Authorization", &token)]).status
    };
    crate::cluster::revoke(port, "J1");
    let new = upgrade(&old);
    assert_eq!((status(&old, "J1"), status(&old, "J2")), (401, 200));
    drop(new);
}
