//! Limits of the whole gateway, by plan, and in Redis.

use serde_json::json;

use super::{OK, checked, endpoint, file, statuses};
use crate::support::{Gateway, Redis, Signer, Stub, tokens};

#[test]
fn a_limit_of_the_service_counts_over_all_endpoints_and_unknown_paths() {
    let stub = Stub::with(OK);
    let limit = json!({ "max_rate": 5, "capacity": 5, "client_max_rate": 3, "client_capacity": 3,
        "every": "1h", "strategy": "header", "key": "X-Who", "limit_headers": "both" });
    let endpoints = [
        endpoint("/a", &stub, json!({})),
        endpoint("/b", &stub, json!({})),
    ];
    let gateway = Gateway::start(&file(
        &endpoints,
        &json!({ "qos/ratelimit/service": limit }),
    ));
    assert_eq!(statuses(&gateway, "/__health", &[], 4), [200; 4]);
    let ada = [("X-Who", "ada")];
    let first = gateway.get_with("/a", &ada);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-remaining"), Some("2"));
    assert!(
        first
            .header("ratelimit")
            .unwrap()
            .contains("\"service-client\"")
    );
    assert_eq!(gateway.get_with("/b", &ada).status, 200);
    assert_eq!(gateway.get_with("/nowhere", &ada).status, 404);
    let rejected = gateway.get_with("/a", &ada);
    assert_eq!((rejected.status, rejected.text()), (429, String::new()));
    assert!(rejected.header("retry-after").is_some());
    // The limit of all clients is used up, too.
    assert_eq!(
        statuses(&gateway, "/a", &[("X-Who", "bob")], 3),
        [200, 200, 503]
    );
    assert_eq!(stub.take_seen().len(), 4);
}

#[test]
fn redirects_of_the_router_are_counted_and_rejected_like_unknown_paths() {
    let stub = Stub::with(OK);
    let endpoints = [endpoint("/a", &stub, json!({}))];
    let start = |extra| Gateway::start(&file(&endpoints, &extra));
    let limit = json!({ "max_rate": 2, "capacity": 2, "every": "1h" });
    for path in ["/A", "/a/", "//a"] {
        let gateway = start(json!({ "qos/ratelimit/service": limit }));
        assert_eq!(statuses(&gateway, path, &[], 3), [301, 301, 503], "{path}");
        // They have no line in the access log, but rejections have one.
        assert_eq!(gateway.output().matches("| 301 |").count(), 0);
    }
    let gateway = start(json!({ "security/bot-detector": { "deny": ["bad"] } }));
    for path in ["/A", "/a/", "//a", "/nowhere"] {
        assert_eq!(gateway.get_with(path, &[("User-Agent", "bad")]).status, 403);
    }
    assert_eq!(
        gateway.get_with("/A", &[("User-Agent", "good")]).status,
        301
    );
}

#[test]
fn a_limit_of_the_service_applies_before_that_of_an_endpoint() {
    let stub = Stub::with(OK);
    let of_endpoint = json!({ "qos/ratelimit/router": { "client_max_rate": 1, "client_capacity": 1,
        "every": "1h", "strategy": "ip" } });
    let of_service =
        json!({ "qos/ratelimit/service": { "max_rate": 3, "capacity": 3, "every": "1h" } });
    let gateway = Gateway::start(&file(&[endpoint("/a", &stub, of_endpoint)], &of_service));
    assert_eq!(statuses(&gateway, "/a", &[], 4), [200, 429, 429, 503]);
}

#[test]
fn a_claim_is_the_client_of_a_limit_of_the_service() {
    let stub = Stub::with(OK);
    let signer = Signer::es256("k");
    let limit = json!({ "client_max_rate": 1, "client_capacity": 1, "every": "1h", "strategy": "jwt", "key": "sub" });
    let validator = json!({ "auth/validator": { "alg": "ES256", "jwk_local_path": "keys.json" } });
    let endpoints = [
        endpoint("/a", &stub, validator.clone()),
        endpoint("/b", &stub, validator),
        endpoint("/open", &stub, json!({})),
    ];
    let config = file(&endpoints, &json!({ "qos/ratelimit/service": limit }));
    let gateway = Gateway::start_with(&config, &[("keys.json", &signer.jwks())]);
    let token = |sub: &str| {
        let mut claims = tokens::claims("api");
        claims["sub"] = json!(sub);
        format!("Bearer {}", signer.token(&claims))
    };
    let (ada, bob) = (token("ada"), token("bob"));
    assert_eq!(
        gateway.get_with("/a", &[("Authorization", &ada)]).status,
        200
    );
    assert_eq!(
        gateway.get_with("/b", &[("Authorization", &ada)]).status,
        429
    );
    assert_eq!(
        gateway.get_with("/b", &[("Authorization", &bob)]).status,
        200
    );
    // Without a token the validator rejects, and no limit counts.
    assert_eq!(gateway.get("/a").status, 401);
    assert_eq!(statuses(&gateway, "/open", &[], 2), [200, 429]);
}

#[test]
fn a_limit_by_claim_counts_requests_that_no_endpoint_takes_by_address() {
    let stub = Stub::with(OK);
    let limit = json!({ "client_max_rate": 2, "client_capacity": 2, "every": "1h", "strategy": "jwt", "key": "sub" });
    for path in ["/nowhere", "/s/a.txt"] {
        let extra = json!({ "qos/ratelimit/service": limit,
            "server/static-filesystem": { "prefix": "/s", "path": "site" } });
        let config = file(&[endpoint("/a", &stub, json!({}))], &extra);
        let gateway = Gateway::start_with(&config, &[("site/a.txt", "a")]);
        let first = if path == "/nowhere" { 404 } else { 200 };
        assert_eq!(
            statuses(&gateway, path, &[], 3),
            [first, first, 429],
            "{path}"
        );
        // Requests to endpoints without a validator are of the same client.
        assert_eq!(gateway.get("/a").status, 429);
        assert_eq!(gateway.get("/__health").status, 200);
    }
}

#[test]
fn tiers_limit_by_a_plan_that_a_token_names() {
    let stub = Stub::with(OK);
    let signer = Signer::es256("k");
    let tier = |value: &str, most: u64| {
        json!({ "tier_value": value, "ratelimit": { "client_max_rate": most, "client_capacity": most,
            "every": "1h", "strategy": "header", "key": "X-User" } })
    };
    let extra = json!({
        "auth/validator": { "alg": "ES256", "jwk_local_path": "keys.json",
            "propagate_claims": [["plan", "X-Plan"], ["sub", "X-User"]] },
        "qos/ratelimit/tiered": { "tier_key": "x-plan", "tiers": [tier("gold", 3), tier("tin", 1)],
            "on_unmatched_tier_allow": false }
    });
    let mut guarded = endpoint("/a", &stub, extra);
    guarded["input_headers"] = json!(["X-Plan"]);
    let config = file(&[guarded], &json!({}));
    let gateway = Gateway::start_with(&config, &[("keys.json", &signer.jwks())]);
    let call = |sub: &str, plan: &str| {
        let mut claims = tokens::claims("api");
        (claims["sub"], claims["plan"]) = (json!(sub), json!(plan));
        let token = format!("Bearer {}", signer.token(&claims));
        // A plan that the client names itself does not count.
        let sent = [("Authorization", token.as_str()), ("X-Plan", "gold")];
        gateway.get_with("/a", &sent).status
    };
    let gold: Vec<u16> = (0..4).map(|_| call("ada", "gold")).collect();
    assert_eq!(gold, [200, 200, 200, 429]);
    let tin: Vec<u16> = (0..2).map(|_| call("bob", "tin")).collect();
    assert_eq!(tin, [200, 429]);
    assert_eq!(call("eve", "none"), 403);
}

#[test]
fn tiers_of_the_service_count_requests_that_no_endpoint_takes_if_clients_choose_the_tier() {
    let stub = Stub::with(OK);
    let signer = Signer::es256("k");
    let tiered = json!({ "qos/ratelimit/tiered": { "tier_key": "x-plan", "tiers": [
        { "tier_value": "gold", "ratelimit": { "client_max_rate": 3, "client_capacity": 3, "every": "1h", "strategy": "ip" } },
        { "tier_value_as": "*", "ratelimit": { "client_max_rate": 1, "client_capacity": 1, "every": "1h", "strategy": "ip" } }] } });
    let validator = json!({ "auth/validator": { "alg": "ES256", "jwk_local_path": "keys.json",
        "propagate_claims": [["plan", "X-Plan"]] } });
    let gold = [("X-Plan", "gold")];
    for (extra, usual, chosen) in [
        (json!({}), [404, 429, 429, 429], [404, 404, 404, 429]),
        (validator, [404; 4], [404; 4]),
    ] {
        let config = file(&[endpoint("/a", &stub, extra)], &tiered);
        let gateway = Gateway::start_with(&config, &[("keys.json", &signer.jwks())]);
        assert_eq!(statuses(&gateway, "/nowhere", &[], 4), usual);
        assert_eq!(statuses(&gateway, "/nowhere", &gold, 4), chosen);
    }
}

/// Two gateways with this file, whose `REDIS` is the address of a Redis.
fn cluster(config: &str) -> Option<(Redis, Gateway, Gateway)> {
    let redis = Redis::start()?;
    let config = config.replace("REDIS", &format!("127.0.0.1:{}", redis.port()));
    let (one, two) = (Gateway::start(&config), Gateway::start(&config));
    Some((redis, one, two))
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn gateways_share_their_limits_in_a_pool() {
    let stub = Stub::with(OK);
    let pools = json!({ "connection_pools": [
        { "name": "shared", "address": "REDIS", "timeout": "5s" },
        { "name": "unused", "address": "127.0.0.1:1" }
    ] });
    let limit = |most: u64| {
        json!({ "connection_name": "shared", "client_max_rate": most, "client_capacity": most,
        "every": "1h", "strategy": "header", "key": "X-Who" })
    };
    let tiers = json!({ "tier_key": "X-Plan", "tiers": [{ "tier_value_as": "*", "ratelimit_redis": limit(2) }] });
    let endpoints = [
        endpoint("/a", &stub, json!({})),
        endpoint(
            "/b",
            &stub,
            json!({ "qos/ratelimit/router/redis": limit(2) }),
        ),
        endpoint("/c", &stub, json!({ "qos/ratelimit/tiered": tiers })),
    ];
    let extra = json!({ "redis": pools, "qos/ratelimit/service/redis": limit(5) });
    let Some((_redis, one, two)) = cluster(&file(&endpoints, &extra)) else {
        return;
    };
    let both = |path: &str, who: &str| {
        let sent = [("X-Who", who)];
        [&one, &two, &one, &two, &one, &two].map(|gateway| gateway.get_with(path, &sent).status)
    };
    assert_eq!(both("/a", "ada"), [200, 200, 200, 200, 200, 429]);
    assert_eq!(both("/b", "bob"), [200, 200, 429, 429, 429, 429]);
    assert_eq!(both("/c", "eve"), [200, 200, 429, 429, 429, 429]);
}

#[test]
fn without_redis_a_block_rejects_or_accepts_as_configured() {
    let stub = Stub::with(OK);
    let pools = json!({ "connection_pools": [{ "name": "gone", "address": "127.0.0.1:1" }] });
    let limit = |allow: bool| {
        json!({ "qos/ratelimit/router/redis": { "connection_name": "gone", "max_rate": 1,
            "every": "1h", "on_failure_allow": allow } })
    };
    let endpoints = [
        endpoint("/closed", &stub, limit(false)),
        endpoint("/open", &stub, limit(true)),
    ];
    let gateway = Gateway::start(&file(&endpoints, &json!({ "redis": pools })));
    let rejected = gateway.get("/closed");
    assert_eq!(rejected.status, 503);
    assert_eq!(rejected.header("retry-after"), Some("1"));
    assert_eq!(statuses(&gateway, "/open", &[], 3), [200; 3]);
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn the_limiter_of_the_old_plugin_counts_in_a_redis() {
    let stub = Stub::with(OK);
    let block = json!({ "host": "REDIS", "tokenizer": "header", "tokenizer_field": "X-Key",
        "rate": 1, "burst": 1, "period": "1h" });
    let extra = json!({ "portcullis/redis-ratelimit": block });
    let Some((_redis, one, two)) = cluster(&file(&[endpoint("/a", &stub, json!({}))], &extra))
    else {
        return;
    };
    let passed = [&one, &two, &one, &two]
        .map(|gateway| gateway.get_with("/a", &[("X-Key", "k")]).status)
        .iter()
        .filter(|status| **status == 200)
        .count();
    // A slow machine may let each gateway decide once for itself.
    assert!((2..=3).contains(&passed), "{passed}");
    assert_eq!(one.get("/a").status, 200);
}

#[test]
fn errors_in_limits_stop_the_start_with_a_hint() {
    for (extra, hint) in [
        (
            json!({ "qos/ratelimit/router": { "max_rate": 1 } }),
            "\"qos/ratelimit/service\" limits the whole service",
        ),
        (
            json!({ "qos/ratelimit/service": {} }),
            "\"max_rate\" limits all clients together",
        ),
        (
            json!({ "qos/ratelimit/service": { "client_max_rate": 1, "strategy": "param", "key": "id" } }),
            "only endpoints have path parameters",
        ),
        (
            json!({ "qos/ratelimit/service/redis": { "max_rate": 1 } }),
            "connection_name",
        ),
        (
            json!({ "redis": { "connection_pools": [{ "name": "a", "address": "127.0.0.1:1" }] },
                "qos/ratelimit/service/redis": { "max_rate": 1, "connection_name": "b" } }),
            "has \"a\"",
        ),
        (
            json!({ "redis": { "connection_pools": [{ "name": "a", "address": "127.0.0.1:1" }] },
                "qos/ratelimit/service/redis": { "max_rate": 1, "connection_name": "a", "redis": true } }),
            "two ways to name a Redis",
        ),
        (
            json!({ "redis": { "connection_pools": [{ "name": "a" }] } }),
            "address",
        ),
    ] {
        let (good, text) = checked(&file(&[], &extra));
        assert!(!good && text.contains(hint), "{extra}: {text}");
    }
}
