//! Two gateways and one Redis: a limit that they hold together, and what becomes of it when Redis does not answer.

// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::http::request;
use support::{Client, Gateway, Redis, Stub, eventually};

const ANY: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;
/// Bounds a broken build, not a slow machine.
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

/// How many of `count` requests of one client pass, dealt to the gateways in turn.
fn passing(gateways: &[&Gateway], who: &str, count: usize) -> usize {
    (0..count)
        .filter(|n| status(gateways[n % gateways.len()], who) == 200)
        .count()
}

/// Waits until the gateway counts in Redis: a client's first request leaves a key there.
fn counts_in(redis: &Redis, gateway: &Gateway) {
    let mut turn = 0;
    eventually("the gateway counts in Redis", LIMIT, || {
        turn += 1;
        let before = redis.command("DBSIZE");
        status(gateway, &format!("new-{}-{turn}", gateway.port()));
        redis.command("DBSIZE") != before
    });
}

/// Sends requests on one connection until they are refused after `until`; adds those that passed to `passed`.
/// Returns when the last answer, a refusal, had come.
fn send_until(port: u16, until: Instant, passed: &AtomicU64) {
    let mut client = Client::connect(port).unwrap();
    loop {
        client.send(request("GET", "/a", &[])).unwrap();
        match client.answer("GET").unwrap().status {
            200 => {
                passed.fetch_add(1, Ordering::Relaxed);
            }
            503 if Instant::now() >= until => return,
            503 => {}
            other => panic!("status {other}"),
        }
    }
}

/// Uses up what is there, with all connections; both ends of a measurement are at an empty bucket.
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
fn two_gateways_hold_one_rate_within_two_percent() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    // A machine under load may be slow to answer; that must not look like a limit that leaks.
    let store = json!({ "url": redis.url(), "timeout": "10s", "on_failure": "closed" });
    let limit = json!({ "max_rate": 400, "capacity": 400 });
    let file = config(&stub, &store, &limit);
    let (one, two) = (Gateway::start(&file), Gateway::start(&file));
    let ports = [one.port(), one.port(), two.port(), two.port()];
    for gateway in [&one, &two] {
        eventually("it is connected", LIMIT, || gateway.get("/a").status == 200);
    }
    round(&ports, Duration::ZERO);
    let troubles = || {
        one.output().matches("[SERVICE: Redis]").count()
            + two.output().matches("[SERVICE: Redis]").count()
    };
    let before = troubles();
    let start = Instant::now();
    let passed = round(&ports, Duration::from_secs(3)) as f64;
    let due = 400.0 * start.elapsed().as_secs_f64();
    assert!(
        (passed - due).abs() <= due * 0.02,
        "{passed} requests passed, {due:.1} were due"
    );
    assert_eq!(troubles(), before, "Redis was lost on the way");
}

#[test]
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
    // A client is told apart by what is in its header; the store need not know that.
    assert!(!redis.command("KEYS *").contains("new-"));
}

#[test]
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
    // The script is gone, the count is not.
    assert_eq!(passing(&[&one, &two], "a", 60), 20);
    assert!(redis.command("FLUSHALL").starts_with("+OK"));
    assert_eq!(passing(&[&two, &one], "a", 60), 50);
}

/// A gateway for each answer to the question what happens without Redis.
fn three(redis: &Redis, stub: &Stub, timeout: &str) -> [Gateway; 3] {
    ["local", "open", "closed"].map(|choice| {
        let store = json!({ "url": redis.url(), "timeout": timeout, "on_failure": choice });
        Gateway::start(&config(stub, &store, &fifty()))
    })
}

/// What the three do with sixty requests of a client that is new to them.
fn without_redis(gateways: &[Gateway; 3], who: &str) -> [usize; 3] {
    gateways
        .each_ref()
        .map(|gateway| passing(&[gateway], who, 60))
}

#[test]
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
        // A request finds out, and the one that left a key may have lost its answer.
        eventually("its return is logged", LIMIT, || {
            status(gateway, "x");
            gateway.output().contains("available again")
        });
    }
    let all: Vec<&Gateway> = gateways.iter().collect();
    assert_eq!(passing(&all, "b", 90), 50);
}

#[test]
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
fn a_stalled_redis_stalls_nobody() {
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
            passed += usize::from(client.answer("GET").unwrap().status == 200);
            took.push(start.elapsed());
        }
        passed
    });
    redis.signal("CONT");
    // Those that asked Redis before its silence was known are decided by the same rule.
    assert_eq!(passed, [50, 100, 0]);
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    // Five milliseconds once in a second; the rest of the allowance is the test machine's.
    assert!(median < Duration::from_millis(50), "median {median:?}");
    assert!(worst < Duration::from_secs(1), "worst {worst:?}");
    for gateway in &gateways {
        counts_in(&redis, gateway);
    }
}
