//! The number of allocations for each request. A binary of its own, because it counts those of the whole process.

#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[allow(dead_code)]
#[path = "it/support/ports.rs"]
mod ports;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The maximum for a request that is passed on as it is, from a connection that is kept to one that is kept.
const MOST_PLAIN: usize = 11;
/// The maximum for three responses of JSON in one.
const MOST_MERGED: usize = 32;

/// Requests before the count starts: pools, buffers and tables have their size then.
const BEFORE: usize = 500;
const COUNTED: usize = 1000;
/// The limit for a gateway that never becomes ready. It is long enough for a slow machine.
const START: Duration = Duration::from_secs(60);

const BODY: &str = r#"{"id": 42, "name": "Ada"}"#;

/// Reads a head, and the body of a response, into `space`. `false` at the end of the connection.
fn read(stream: &mut TcpStream, space: &mut [u8], is_response: bool) -> bool {
    let mut length = 0;
    loop {
        let read = space[..length]
            .windows(4)
            .position(|end| end == b"\r\n\r\n");
        if let Some(head) = read {
            let body = if is_response {
                announced(&space[..head])
            } else {
                0
            };
            if length >= head + 4 + body {
                return true;
            }
        }
        match stream.read(&mut space[length..]) {
            Ok(count) if count > 0 => length += count,
            _ => return false,
        }
    }
}

fn announced(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let (_, length) = lines
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .unwrap();
    length.parse().unwrap()
}

/// A backend that allocates nothing for a request.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
    let response = format!("{head}: {}\r\n\r\n{BODY}", BODY.len());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let response = response.clone();
            thread::spawn(move || {
                let mut space = [0; 4096];
                stream.set_nodelay(true).unwrap();
                while read(&mut stream, &mut space, false) {
                    stream.write_all(response.as_bytes()).unwrap();
                }
            });
        }
    });
    port
}

fn connect(port: u16) -> TcpStream {
    let began = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < START, "{error}"),
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Requests a path so often, without an allocation.
fn ask(client: &mut TcpStream, request: &[u8], times: usize) {
    let mut space = [0; 4096];
    for _ in 0..times {
        client.write_all(request).unwrap();
        assert!(read(client, &mut space, true));
    }
}

/// The number of allocations for each request for a path. Other threads of the process have a few of their own, which
/// are far fewer than the requests.
fn allocations(client: &mut TcpStream, path: &str) -> usize {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
    ask(client, request.as_bytes(), BEFORE);
    let before = ALLOCATOR.stats();
    ask(client, request.as_bytes(), COUNTED);
    let after = ALLOCATOR.stats();
    let all = after.allocations + after.reallocations - before.allocations - before.reallocations;
    (all + COUNTED / 2) / COUNTED
}

#[test]
fn a_request_makes_few_allocations() {
    let folder = tempfile::tempdir().unwrap();
    let (port, backend) = (ports::free(), backend());
    let log = folder.path().join("access.log");
    let file = format!(
        r#"{{
            "version": 3, "listen_ip": "127.0.0.1", "port": {port}, "host": ["http://127.0.0.1:{backend}"],
            "extra_config": {{
                "portcullis/server": {{"threads": 1}},
                "portcullis/access-log": {{"output": {log:?}}}
            }},
            "endpoints": [
                {{"endpoint": "/plain", "output_encoding": "no-op",
                  "backend": [{{"url_pattern": "/s", "encoding": "no-op"}}]}},
                {{"endpoint": "/merged", "backend": [
                  {{"url_pattern": "/a", "group": "a"}}, {{"url_pattern": "/b", "group": "b"}},
                  {{"url_pattern": "/c", "group": "c"}}]}}
            ]
        }}"#
    );
    thread::spawn(move || portcullis::serve(&file));
    let mut client = connect(port);
    client.set_nodelay(true).unwrap();
    let plain = allocations(&mut client, "/plain");
    let merged = allocations(&mut client, "/merged");
    println!("plain: {plain}, merged: {merged}");
    assert!(plain <= MOST_PLAIN, "{plain} for a plain request");
    assert!(merged <= MOST_MERGED, "{merged} for three responses in one");
}
