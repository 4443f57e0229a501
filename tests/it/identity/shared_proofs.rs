//! Used proofs of possession that two gateways share through a Redis.

use std::time::Duration;

use serde_json::{Value, json};

use super::bound::Holder;
use crate::support::{Gateway, Redis, Signer, Stub, eventually, tokens};

const ORIGIN: &str = "https://api.example.com";

fn gateway(redis: &Redis, issuer: &Signer, backend: &Stub, more: &Value) -> Gateway {
    let mut binding = json!({"dpop": "required", "dpop_origins": [ORIGIN], "dpop_redis": true});
    for (key, value) in more.as_object().unwrap() {
        binding[key] = value.clone();
    }
    let config = json!({
        "version": 3, "host": [backend.url()],
        "extra_config": {"portcullis/redis": {"url": redis.url()}},
        "endpoints": [{"endpoint": "/x", "backend": [{"url_pattern": "/b"}],
            "extra_config": {"auth/validator": {"alg": "ES256", "jwk_local_path": "keys.json",
                "audience": ["api"], "binding": binding}}}],
    });
    Gateway::start_with(&config.to_string(), &[("keys.json", &issuer.jwks())])
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_proof_is_used_once_in_a_fleet_and_not_at_all_without_redis() {
    let Some(redis) = Redis::start() else { return };
    let (issuer, holder) = (Signer::es256("k"), Holder::new());
    let backend =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let one = gateway(&redis, &issuer, &backend, &json!({}));
    let two = gateway(&redis, &issuer, &backend, &json!({}));
    let local = json!({"dpop_redis_on_failure": "local"});
    let three = gateway(&redis, &issuer, &backend, &local);
    let mut claims = tokens::claims("api");
    claims["cnf"] = json!({"jkt": holder.thumbprint()});
    let token = issuer.token(&claims);
    let authorization = format!("DPoP {token}");
    let proof = || holder.sign(&holder.claims(&format!("{ORIGIN}/x"), &token));
    let status = |gateway: &Gateway, proof: &str| {
        let headers = [("Authorization", authorization.as_str()), ("DPoP", proof)];
        gateway.get_with("/x", &headers).status
    };
    // The status once Redis has responded: a machine that stalls for a second makes it 503.
    let settled = |gateway: &Gateway, proof: &dyn Fn() -> String| {
        let mut last = (503, String::new());
        eventually("Redis responds", Duration::from_secs(30), || {
            let proof = proof();
            last = (status(gateway, &proof), proof);
            last.0 != 503
        });
        last
    };
    let (first, used) = settled(&one, &proof);
    assert_eq!(first, 200);
    let again = || used.clone();
    assert_eq!(settled(&one, &again).0, 401);
    let seen = settled(&two, &again).0;
    assert_eq!(seen, 401, "another gateway has seen it");
    assert_eq!(status(&three, &used), 401);
    assert_eq!(settled(&two, &proof).0, 200);
    redis.end();
    eventually("Redis is gone", Duration::from_secs(30), || {
        status(&one, &proof()) == 503
    });
    assert_eq!(status(&three, &proof()), 200, "as configured");
    redis.begin();
    eventually("Redis is back", Duration::from_secs(30), || {
        status(&one, &proof()) == 200
    });
}
