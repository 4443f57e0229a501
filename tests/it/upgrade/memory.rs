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

/// What a process uses at least without requests.
const BASE: u64 = 7 * MIB;
const BODY: usize = 4 << 20;

/// An upload of which the last byte is missing.
fn begun(gateway: &Gateway) -> Client {
    let mut upload = gateway.client();
    let length = BODY.to_string();
    let head = [
        ("Content-Type", "application/json"),
        ("Content-Length", &*length),
    ];
    upload.send(request("POST", "/up", &head)).unwrap();
    upload.send(vec![b'x'; BODY - 1]).unwrap();
    upload
}

fn ends(upload: &mut Client) {
    upload.send(b"x").unwrap();
    assert_eq!(upload.response("POST").unwrap().status, 200);
}

/// An upload that the first process holds, and one that the second one holds: the third one leaves both their memory.
#[test]
fn each_new_process_gets_the_memory_that_the_old_ones_leave() {
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
    let first = Gateway::start(&file.to_string());
    let alone = granted(metrics).unwrap();
    let log = || Successor::log(&first);
    let shared = || {
        let line = "The memory is shared with the old process";
        eventually("it knows of the old process", LIMIT, || {
            log().contains(line)
        });
    };
    let less = |than: u64| {
        eventually("it has less", LIMIT, || {
            granted(metrics).is_some_and(|left| left < than)
        });
    };
    let mut of_first = begun(&first);
    let second = Successor::waiting(&first);
    first.signal("QUIT");
    shared();
    less(alone - BASE - BODY as u64);
    let mut of_second = begun(&first);
    let third = Successor::waiting(&first);
    second.signal("QUIT");
    shared();
    less(alone - 2 * (BASE + BODY as u64));
    // The service is stopped while the first process drains: its request still ends.
    first.signal("TERM");
    ends(&mut of_second);
    eventually("the second process has ended", LIMIT, || {
        granted(metrics).is_some_and(|left| left > alone - 36 * MIB)
    });
    ends(&mut of_first);
    let ended = first.wait(LIMIT);
    assert!(ended.is_some_and(|end| end.success()), "{}", log());
    eventually("the third process has all of it", LIMIT, || {
        granted(metrics).is_some_and(|left| left > alone - 30 * MIB)
    });
    eventually("it says so", LIMIT, || {
        log().contains("The old process has ended")
    });
    drop((second, third));
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
