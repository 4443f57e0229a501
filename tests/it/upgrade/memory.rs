//! Two processes share the memory while one takes over from the other.

use std::time::Duration;

use serde_json::json;

use super::Successor;
use crate::support::http::request;
use crate::support::{Client, Gateway, Upstream, eventually, ports};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// What the process that serves this page may use for requests. `None` while no process serves it.
fn granted(port: u16) -> Option<u64> {
    let mut client = Client::connect(port).ok()?;
    client.send(request("GET", "/metrics", &[])).ok()?;
    let page = client.response("GET").ok()?.text();
    let name = "portcullis_memory_charged_bytes_limit ";
    let value = page.lines().find_map(|line| line.strip_prefix(name))?;
    value.parse().ok()
}

/// Uploads that the old process holds, and as many that the new one gets, ended both in a small container.
#[test]
fn the_new_process_gets_the_memory_that_the_old_one_leaves() {
    let backend = Upstream::start(|mut call| {
        call.body()?;
        call.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    });
    let metrics = ports::free();
    let file = json!({
        "version": 3, "timeout": "120s", "host": [backend.url()],
        "extra_config": {
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") },
            "portcullis/server": { "max_shutdown_wait_time": "120s" },
        },
        "endpoints": [{ "endpoint": "/up", "method": "POST", "backend": [{ "url_pattern": "/up" }] }],
    });
    let old = Gateway::start(&file.to_string());
    let alone = granted(metrics).unwrap();
    let body = vec![b'x'; 4 << 20];
    let mut upload = old.client();
    let length = body.len().to_string();
    let head = [
        ("Content-Type", "application/json"),
        ("Content-Length", &*length),
    ];
    upload.send(request("POST", "/up", &head)).unwrap();
    upload.send(&body[..body.len() - 1]).unwrap();
    let new = Successor::waiting(&old);
    old.signal("QUIT");
    let log = || Successor::log(&old);
    let is_shared = |log: &str| log.contains("The memory is shared with the old process");
    eventually(
        "the new process knows the share of the old one",
        LIMIT,
        || is_shared(&log()),
    );
    // The old process has its own memory, and that of its request.
    eventually("the new process has less", LIMIT, || {
        granted(metrics).is_some_and(|left| left < alone - 44 * MIB)
    });
    upload.send(&body[body.len() - 1..]).unwrap();
    assert_eq!(upload.response("POST").unwrap().status, 200, "{}", log());
    let ended = old.wait(LIMIT);
    assert!(ended.is_some_and(|end| end.success()), "{}", log());
    eventually("the new process has all of it", LIMIT, || {
        granted(metrics).is_some_and(|left| left > alone - 30 * MIB)
    });
    assert!(log().contains("The old process has ended"), "{}", log());
    drop(new);
}

/// An upgrade that fails must not leave the old process with less.
#[test]
fn a_failed_upgrade_gives_the_memory_back() {
    let metrics = ports::free();
    let file = json!({
        "version": 3, "host": ["http://127.0.0.1:9"],
        "extra_config": { "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") } },
        "endpoints": [{ "endpoint": "/a", "backend": [{ "url_pattern": "/a" }] }],
    });
    let old = Gateway::start(&file.to_string());
    let alone = granted(metrics).unwrap();
    std::fs::write(old.config_path(), "{").unwrap();
    old.signal("USR2");
    eventually("the upgrade fails", LIMIT, || {
        old.output().contains("Upgrade failed")
    });
    assert_eq!(granted(metrics), Some(alone));
}
