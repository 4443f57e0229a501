//! Something else than a Redis at its address.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, pause, ports};

const OK: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;
const LIMIT: Duration = Duration::from_secs(60);

/// A server that sends this after each chunk that it reads, until its client closes the connection.
fn hostile(reply: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reply = Arc::new(reply);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let reply = Arc::clone(&reply);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer) {
                    if stream.write_all(&reply()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn config(stub: &Stub, port: u16, metrics: u16, allow: bool) -> String {
    let endpoint = |path: &str, extra: Value| {
        json!({ "endpoint": path, "extra_config": extra,
            "backend": [{ "host": [stub.url()], "url_pattern": "/" }] })
    };
    let ours = if allow { "open" } else { "closed" };
    json!({
        "version": 3,
        "extra_config": {
            "redis": { "connection_pools": [{ "name": "p", "address": format!("127.0.0.1:{port}"), "pool_size": 2, "timeout": "10s" }] },
            "portcullis/redis": { "url": format!("redis://127.0.0.1:{port}"), "on_failure": ours, "timeout": "10s" },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") }
        },
        "endpoints": [
            endpoint("/free", json!({})),
            endpoint("/pool", json!({ "qos/ratelimit/router/redis": {
                "connection_name": "p", "max_rate": 5, "on_failure_allow": allow } })),
            endpoint("/ours", json!({ "qos/ratelimit/router": { "max_rate": 5, "redis": true } })),
        ]
    })
    .to_string()
}

fn page(metrics: u16) -> String {
    let mut client = Client::connect(metrics).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    client.response("GET").unwrap().text()
}

#[test]
fn a_hostile_redis_ends_its_connection_and_nothing_else() {
    let stub = Stub::with(OK);
    for (name, flood, why, reason) in [
        (
            "arrays",
            b"*1\r\n".repeat(100_000),
            "nested too deeply",
            "too_deep",
        ),
        (
            "maps",
            b"%1\r\n".repeat(100_000),
            "does not come from a Redis",
            "malformed",
        ),
        ("a line", vec![b'+'; 8 << 20], "too large", "too_large"),
        (
            "a length",
            b"$4294967296\r\n".to_vec(),
            "too large",
            "too_large",
        ),
    ] {
        for allow in [true, false] {
            let flood = flood.clone();
            let port = hostile(move || flood.clone());
            let metrics = ports::free();
            let gateway = Gateway::start(&config(&stub, port, metrics, allow));
            let expected = if allow { 200 } else { 503 };
            for _ in 0..3 {
                assert_eq!(gateway.get("/free").status, 200, "{name}");
                assert_eq!(gateway.get("/pool").status, expected, "{name}");
                assert_eq!(gateway.get("/ours").status, expected, "{name}");
            }
            // A request is what it is logged for, and after another reason not at once.
            eventually("the reason is logged", LIMIT, || {
                gateway.get("/pool");
                gateway.get("/ours");
                gateway.output().contains(why)
            });
            let counter =
                format!("portcullis_redis_connection_errors_total{{reason=\"{reason}\"}}");
            assert!(page(metrics).contains(&counter), "{name}");
            assert!(gateway.ended().is_none(), "{name}");
        }
    }
}

#[test]
fn an_endless_reply_does_not_fill_memory() {
    let stub = Stub::with(OK);
    let port = hostile(|| vec![b'+'; 256 << 20]);
    let gateway = Gateway::start(&config(&stub, port, ports::free(), true));
    for _ in 0..20 {
        assert_eq!(gateway.get("/pool").status, 200);
        assert!(gateway.resident_kib() < 200 * 1024);
        pause(Duration::from_millis(50));
    }
}
