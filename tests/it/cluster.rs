//! Two gateways and one Redis: a limit that they share, and what happens if Redis does not respond.

mod late;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Redis, Stub, eventually, pause};

const ANY: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;
/// The limit for a broken build. It is long enough for a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

/// One endpoint, `/a`, with this limit in this Redis.
fn config(backend: &Stub, redis: &Value, limit: &Value) -> String {
    let mut limit = limit.clone();
    limit["redis"] = json!(true);
    json!({
        "version": 3,
        "extra_config": { "portcullis/redis": redis },
        "endpoints": [{
            "endpoint": "/a",
            "extra_config": { "qos/ratelimit/router": limit },
            "backend": [{ "host": [backend.url()], "url_pattern": "/a" }]
        }]
    })
    .to_string()
}

/// Fifty requests for each client, and then none for a very long time.
fn fifty() -> Value {
    json!({ "client_max_rate": 1, "client_capacity": 50, "every": "1000h", "strategy": "header", "key": "X-Who" })
}

fn status(gateway: &Gateway, who: &str) -> u16 {
    gateway.get_with("/a", &[("X-Who", who)]).status
}

/// How many of `count` requests of one client pass, sent to the gateways in turn.
fn passing(gateways: &[&Gateway], who: &str, count: usize) -> usize {
    (0..count)
        .filter(|n| status(gateways[n % gateways.len()], who) == 200)
        .count()
}

/// Waits until the gateway counts in Redis: the first request of a client creates a key there.
fn counts_in(redis: &Redis, gateway: &Gateway) {
    let mut turn = 0;
    eventually("the gateway counts in Redis", LIMIT, || {
        turn += 1;
        let before = redis.command("DBSIZE");
        status(gateway, &format!("new-{}-{turn}", gateway.port()));
        redis.command("DBSIZE") != before
    });
}

/// Sends requests on one connection until they are rejected after `until`; adds those that passed to `passed`.
/// Returns when the last response, a rejection, arrived.
fn send_until(port: u16, until: Instant, passed: &AtomicU64) {
    let mut client = Client::connect(port).unwrap();
    loop {
        client.send(request("GET", "/a", &[])).unwrap();
        match client.response("GET").unwrap().status {
            200 => {
                passed.fetch_add(1, Ordering::Relaxed);
            }
            503 if Instant::now() >= until => return,
            503 => {}
            other => panic!("status {other}"),
        }
    }
}

/// Uses up the whole bucket with all connections, so that a measurement begins and ends with an empty bucket.
fn round(ports: &[u16], lasting: Duration) -> u64 {
    let passed = AtomicU64::new(0);
    let until = Instant::now() + lasting;
    std::thread::scope(|scope| {
        for port in ports {
            scope.spawn(|| send_until(*port, until, &passed));
        }
    });
    passed.load(Ordering::Relaxed)
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn two_gateways_hold_one_rate_within_two_percent() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    // A machine under load may respond slowly; that must not look like a limit that lets too much pass.
    let store = json!({ "url": redis.url(), "timeout": "10s", "on_failure": "closed" });
    let limit = json!({ "max_rate": 100, "capacity": 100 });
    let file = config(&stub, &store, &limit);
    let gateways = [Gateway::start(&file), Gateway::start(&file)];
    let [one, two] = &gateways;
    let ports = [one.port(), one.port(), two.port(), two.port()];
    for gateway in [one, two] {
        eventually("it is connected", LIMIT, || gateway.get("/a").status == 200);
    }
    let troubles = || {
        one.output().matches("[SERVICE: Redis]").count()
            + two.output().matches("[SERVICE: Redis]").count()
    };
    let (passed, due, lost) = late::undisturbed(|| {
        late::unless_stalled(&gateways, Some(&redis), || {
            round(&ports, Duration::ZERO);
            let before = troubles();
            let start = Instant::now();
            let passed = round(&ports, Duration::from_secs(4)) as f64;
            let due = 100.0 * start.elapsed().as_secs_f64();
            (passed, due, troubles() - before)
        })
    });
    assert!(
        (passed - due).abs() <= due * 0.02,
        "{passed} requests passed, {due:.1} were due"
    );
    assert_eq!(lost, 0, "Redis was lost on the way");
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn two_gateways_count_one_client_together() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let store = json!({ "url": redis.url(), "timeout": "10s" });
    let file = config(&stub, &store, &fifty());
    let (one, two) = (Gateway::start(&file), Gateway::start(&file));
    for gateway in [&one, &two] {
        counts_in(&redis, gateway);
    }
    assert_eq!(passing(&[&one, &two], "a", 120), 50);
    assert_eq!(status(&one, "a"), 429);
    assert_eq!(passing(&[&two, &one], "b", 60), 50);
    // A client is identified by the value of its header, which must not be readable in Redis.
    assert!(!redis.command("KEYS *").contains("new-"));
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_flushed_redis_costs_no_request() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let store = json!({ "url": redis.url(), "timeout": "10s", "on_failure": "closed" });
    let file = config(&stub, &store, &fifty());
    let (one, two) = (Gateway::start(&file), Gateway::start(&file));
    for gateway in [&one, &two] {
        counts_in(&redis, gateway);
    }
    assert_eq!(passing(&[&one, &two], "a", 30), 30);
    assert!(redis.command("SCRIPT FLUSH").starts_with("+OK"));
    // The script is gone, but the count is still there.
    assert_eq!(passing(&[&one, &two], "a", 60), 20);
    assert!(redis.command("FLUSHALL").starts_with("+OK"));
    assert_eq!(passing(&[&two, &one], "a", 60), 50);
}

/// A gateway for each value of `on_failure`.
fn three(redis: &Redis, stub: &Stub, timeout: &str) -> [Gateway; 3] {
    ["local", "open", "closed"].map(|choice| {
        let store = json!({ "url": redis.url(), "timeout": timeout, "on_failure": choice });
        Gateway::start(&config(stub, &store, &fifty()))
    })
}

/// How the three treat sixty requests of a new client.
fn without_redis(gateways: &[Gateway; 3], who: &str) -> [usize; 3] {
    gateways
        .each_ref()
        .map(|gateway| passing(&[gateway], who, 60))
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_stopped_redis_leaves_each_gateway_to_its_rule() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let gateways = three(&redis, &stub, "10s");
    for gateway in &gateways {
        counts_in(&redis, gateway);
    }
    redis.end();
    for gateway in &gateways {
        eventually("the loss is noticed", LIMIT, || {
            status(gateway, "x");
            gateway.output().contains("rate limits are not available")
        });
    }
    assert_eq!(without_redis(&gateways, "a"), [50, 60, 0]);
    redis.begin();
    for gateway in &gateways {
        counts_in(&redis, gateway);
        // The first request detects the failure, and the request that created a key may have lost its response.
        eventually("its return is logged", LIMIT, || {
            status(gateway, "x");
            gateway.output().contains("available again")
        });
    }
    let all: Vec<&Gateway> = gateways.iter().collect();
    assert_eq!(passing(&all, "b", 90), 50);
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn gateways_start_before_their_redis() {
    let Some(redis) = Redis::start() else { return };
    redis.end();
    let stub = Stub::with(ANY);
    let gateways = three(&redis, &stub, "10s");
    assert_eq!(without_redis(&gateways, "a"), [50, 60, 0]);
    redis.begin();
    for gateway in &gateways {
        counts_in(&redis, gateway);
    }
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_stalled_redis_does_not_stall_requests() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let gateways = three(&redis, &stub, "5ms");
    for gateway in &gateways {
        counts_in(&redis, gateway);
    }
    redis.signal("STOP");
    let mut took = Vec::new();
    let passed = gateways.each_ref().map(|gateway| {
        let mut passed = 0;
        let mut client = gateway.client();
        for _ in 0..100 {
            let start = Instant::now();
            client
                .send(request("GET", "/a", &[("X-Who", "a")]))
                .unwrap();
            passed += usize::from(client.response("GET").unwrap().status == 200);
            took.push(start.elapsed());
        }
        passed
    });
    redis.signal("CONT");
    // Requests that asked Redis before its failure was known are decided by the same rule.
    assert_eq!(passed, [50, 100, 0]);
    took.sort();
    let (median, long) = (took[took.len() / 2], took[took.len() * 19 / 20]);
    // Five milliseconds once per second; the rest of the limit is for the test machine, which makes a few long.
    assert!(median < Duration::from_millis(50), "median {median:?}");
    assert!(long < Duration::from_secs(1), "one in twenty {long:?}");
    for gateway in &gateways {
        counts_in(&redis, gateway);
    }
}

/// A gateway that shares revocations through this Redis.
fn revoking(redis: &Redis, signer: &crate::support::Signer, backend: &Stub) -> (Gateway, u16) {
    let port = crate::support::ports::free();
    let config = json!({
        "version": 3, "host": [backend.url()],
        "extra_config": {
            "portcullis/redis": {"url": redis.url()},
            "auth/revoker": {"N": 1000, "P": 0.000_001, "hash_name": "optimal", "TTL": 600,
                "token_keys": ["jti"], "http_listen": format!("127.0.0.1:{port}"),
                "secret": "a secret of many letters", "redis": true},
        },
        "endpoints": [{"endpoint": "/x", "backend": [{"url_pattern": "/b"}],
            "extra_config": {"auth/validator": {"alg": "ES256", "jwk_local_path": "keys.json"}}}],
    });
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    (gateway, port)
}

pub(crate) fn revoke(port: u16, id: &str) {
    let body = json!({"key": "jti", "value": id}).to_string();
    let length = body.len().to_string();
    let headers = [
        ("Authorization", "Bearer a secret of many letters"),
        ("Content-Length", length.as_str()),
    ];
    let mut client = Client::connect(port).unwrap();
    client
        .send(request("POST", "/revoke", &headers) + &body)
        .unwrap();
    assert_eq!(client.response("POST").unwrap().status, 200);
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_revocation_reaches_all_gateways_outlives_restarts_and_waits_for_redis() {
    let Some(redis) = Redis::start() else { return };
    let signer = crate::support::Signer::es256("k");
    let backend = Stub::with(
        &json!([{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}])
            .to_string(),
    );
    let ((one, port), (two, _)) = (
        revoking(&redis, &signer, &backend),
        revoking(&redis, &signer, &backend),
    );
    let status = |gateway: &Gateway, id: &str| {
        let mut claims = crate::support::tokens::claims("api");
        claims["jti"] = json!(id);
        let token = format!("Bearer {}", signer.token(&claims));
        gateway.get_with("/x", &[("Authorization", &token)]).status
    };
    assert_eq!((status(&one, "J1"), status(&two, "J1")), (200, 200));
    revoke(port, "J1");
    assert_eq!(status(&one, "J1"), 401, "at once where it was revoked");
    eventually("the other gateway knows", Duration::from_secs(30), || {
        status(&two, "J1") == 401
    });
    assert_eq!(status(&two, "J2"), 200);
    let (three, _) = revoking(&redis, &signer, &backend);
    eventually("a new gateway knows", Duration::from_secs(30), || {
        status(&three, "J1") == 401
    });
    redis.end();
    revoke(port, "J3");
    assert_eq!((status(&one, "J3"), status(&two, "J3")), (401, 200));
    redis.begin();
    eventually("it is told later", Duration::from_secs(30), || {
        status(&two, "J3") == 401
    });
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_revocation_does_not_wait_behind_a_mass_of_others() {
    let Some(redis) = Redis::start() else { return };
    let signer = crate::support::Signer::es256("k");
    let backend = Stub::with(
        &json!([{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}])
            .to_string(),
    );
    let ((one, port), (two, _)) = (
        revoking(&redis, &signer, &backend),
        revoking(&redis, &signer, &backend),
    );
    let status = |gateway: &Gateway, id: &str| {
        let mut claims = crate::support::tokens::claims("api");
        claims["jti"] = json!(id);
        let token = format!("Bearer {}", signer.token(&claims));
        gateway.get_with("/x", &[("Authorization", &token)]).status
    };
    revoke(port, "J1");
    eventually("the other gateway knows", Duration::from_secs(30), || {
        status(&two, "J1") == 401
    });
    // As another gateway or a restore would, and all at the same time. They name no tokens, so that no others are revoked.
    let added = redis.command(
        "EVAL \"local t = redis.call('TIME') for i = 1, 60000 do redis.call('ZADD', KEYS[1], t[1] * 1000 + 100, 'mass!' .. i) end return 'added'\" 1 portcullis:{default:revoked}",
    );
    assert!(added.contains("added"), "{added}");
    for id in ["J2", "J3", "J4"] {
        revoke(port, id);
        let started = Instant::now();
        eventually(id, Duration::from_secs(30), || status(&two, id) == 401);
        // A second on a quiet machine; the rest of the limit is for the test machine.
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{id}: {took:?}");
    }
    // What has been read is not read again.
    pause(Duration::from_secs(1));
    let calls = || {
        let all = redis.command("INFO stats");
        let bytes = all
            .lines()
            .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        bytes.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = calls();
    pause(Duration::from_secs(2));
    let sent = calls() - before;
    assert!(sent < 100_000, "{sent} bytes in two seconds");
    drop(one);
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn what_redis_does_not_permit_is_logged_with_its_reason() {
    let Some(redis) = Redis::start() else { return };
    redis.command("ACL SETUSER gateway on >secret ~* +@all -@scripting");
    let url = format!("redis://gateway:secret@127.0.0.1:{}", redis.port());
    let port = crate::support::ports::free();
    let config = json!({
        "version": 3, "host": ["http://127.0.0.1:1"],
        "extra_config": {
            "portcullis/redis": {"url": url},
            "auth/revoker": {"N": 1000, "P": 0.000_001, "hash_name": "optimal", "TTL": 600,
                "token_keys": ["jti"], "http_listen": format!("127.0.0.1:{port}"),
                "secret": "a secret of many letters", "redis": true},
        },
        "endpoints": [{"endpoint": "/x", "backend": [{"url_pattern": "/b"}]}],
    });
    let gateway = Gateway::start(&config.to_string());
    let expected = "[SERVICE: Revoker] revocations cannot be read from Redis: NOPERM";
    eventually("the reason", Duration::from_secs(30), || {
        gateway.output().contains(expected)
    });
    redis.command("ACL SETUSER gateway +@scripting");
    eventually("it is permitted", Duration::from_secs(30), || {
        gateway.output().contains("revocations are shared again")
    });
    assert!(!gateway.output().contains("secret@"));
}
