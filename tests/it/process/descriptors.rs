//! Clients that use up descriptors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{OK, config, with_metrics};
use crate::support::gateway::{RUNTIME_FOLDER, command};
use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, pause, ports};

const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn silent(port: u16, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(("127.0.0.1", port)).unwrap();
    (0..count).map(connect).collect()
}

/// Whether the other end closes within `limit`.
fn closes(mut stream: &TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).unwrap();
    let ended = stream.read_exact(&mut [0; 1]);
    ended.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
}

#[test]
fn more_silent_clients_than_descriptors_do_not_block_others() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let file = with_metrics(config(&stub.url()), metrics);
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    // Some never send anything, others stop within the head.
    for begun in [&b""[..], b"GET /a HT"] {
        let clients = silent(gateway.port(), 500);
        for mut client in &clients {
            let _ = std::io::Write::write_all(&mut client, begun);
        }
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
            assert!(began.elapsed() < Duration::from_secs(5));
        }
    }
    let mut page = Client::connect(metrics).unwrap();
    page.send(request("GET", "/metrics", &[])).unwrap();
    assert_eq!(page.response("GET").unwrap().status, 200);
}

#[test]
fn clients_that_stop_within_a_body_make_room() {
    let stub = Stub::with(OK);
    let url = stub.url();
    let mut file = config(&url);
    for (path, encoding) in [("/composed", "json"), ("/stream", "no-op")] {
        file["endpoints"].as_array_mut().unwrap().push(json!({
            "endpoint": path, "method": "POST", "timeout": "60s", "output_encoding": encoding,
            "backend": [{ "host": [url], "url_pattern": "/a", "encoding": encoding, "method": "POST" }]
        }));
    }
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    for begun in [
        "POST /composed HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        "POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    ] {
        let clients = silent(gateway.port(), 300);
        for mut client in &clients {
            let _ = std::io::Write::write_all(&mut client, begun.as_bytes());
        }
        for _ in 0..5 {
            let mut client = gateway.client().timeout(Duration::from_secs(20));
            client.send(request("GET", "/a", &[])).unwrap();
            let response = client.response("GET");
            assert_eq!(
                response
                    .unwrap_or_else(|error| panic!("{begun}: {error}"))
                    .status,
                200,
                "{begun}"
            );
        }
    }
}

#[test]
fn clients_far_away_are_not_closed_for_each_other() {
    let stub = Stub::with(OK);
    let gateway = Gateway::start_under(
        "ulimit -n 256; exec \"$@\"",
        &config(&stub.url()).to_string(),
    );
    let port = gateway.port();
    // As with a round trip of 60 ms. There are places for 88 of them at a time.
    let ask = move || {
        let mut client = Client::connect(port).unwrap();
        pause(Duration::from_millis(60));
        client.send(request("GET", "/a", &[])).ok()?;
        client.response("GET").ok()
    };
    let lost = || {
        let clients: Vec<_> = (0..120).map(|_| std::thread::spawn(ask)).collect();
        let responses = clients.into_iter().map(|client| client.join().unwrap());
        responses
            .filter(|response| {
                response
                    .as_ref()
                    .is_none_or(|response| response.status != 200)
            })
            .count()
    };
    // The best of three: on a machine that stalls, some clients are silent for longer.
    let mut all = Vec::new();
    while !all.contains(&0) {
        assert!(all.len() < 3, "lost: {all:?}");
        all.push(lost());
    }
    let output = gateway.output();
    assert!(
        output.contains("clients wait: the limit of file descriptors"),
        "{output}"
    );
}

#[test]
fn a_new_client_behind_many_quiet_ones_waits_for_about_a_second() {
    let stub = Stub::with(OK);
    let url = stub.url();
    let mut file = config(&url);
    file["endpoints"].as_array_mut().unwrap().push(json!({
        "endpoint": "/composed", "method": "POST", "timeout": "60s",
        "backend": [{ "host": [url], "url_pattern": "/a", "method": "POST" }]
    }));
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    // With a second for each 88 clients this takes 6 s, with two seconds 14 s.
    for (begun, limit) in [
        ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", 4),
        (
            "POST /composed HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
            8,
        ),
    ] {
        let waits = || {
            let clients = silent(gateway.port(), 600);
            for mut client in &clients {
                let _ = std::io::Write::write_all(&mut client, begun.as_bytes());
            }
            let began = Instant::now();
            let mut client = gateway.client();
            client.send(request("GET", "/a", &[])).unwrap();
            assert_eq!(client.response("GET").unwrap().status, 200, "{begun}");
            began.elapsed()
        };
        // The shortest of three: a machine that stalls makes some of them long.
        let mut times = Vec::new();
        while times.iter().all(|took| *took >= Duration::from_secs(limit)) {
            assert!(times.len() < 3, "{begun}: {times:?}");
            times.push(waits());
        }
    }
}

/// A backend whose responses never end. Returns its port.
fn endless() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                use std::io::Write as _;
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
            });
        }
    });
    port
}

#[test]
fn clients_that_do_not_read_are_closed_to_make_room() {
    let stub = Stub::with(OK);
    let url = format!("http://127.0.0.1:{}", endless());
    let mut file = config(&stub.url());
    file["write_timeout"] = json!("300s");
    file["endpoints"].as_array_mut().unwrap().push(json!({
        "endpoint": "/stream", "timeout": "60s", "output_encoding": "no-op",
        "backend": [{ "host": [url], "url_pattern": "/", "encoding": "no-op" }]
    }));
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    let clients = silent(gateway.port(), 300);
    for mut client in &clients {
        let _ = std::io::Write::write_all(&mut client, b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // Long enough that all of them have a response that is stuck.
    pause(Duration::from_secs(1));
    for _ in 0..3 {
        let mut client = gateway.client().timeout(Duration::from_secs(30));
        client.send(request("GET", "/a", &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    drop(clients);
}

#[test]
fn five_hundred_clients_are_served_with_256_descriptors() {
    let stub = Stub::with(OK);
    let gateway = Gateway::start_under(
        "ulimit -n 256; exec \"$@\"",
        &config(&stub.url()).to_string(),
    );
    let mut clients: Vec<Client> = (0..500)
        .map(|_| Client::connect(gateway.port()).unwrap())
        .collect();
    // Clients whose idle connection was closed before their request try again, as browsers do.
    let mut served = 0;
    for client in &mut clients {
        let asked = client.send(request("GET", "/a", &[]));
        let response = asked.and_then(|()| client.response("GET"));
        let status = response.map_or_else(|_| gateway.get("/a").status, |response| response.status);
        served += usize::from(status == 200);
    }
    assert_eq!(served, 500, "{}", gateway.output());
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let stub = Stub::with(OK);
    let gateway = Gateway::start_under(
        "ulimit -Sn 64; exec \"$@\"",
        &config(&stub.url()).to_string(),
    );
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

#[test]
fn a_silent_client_gets_the_header_timeout_and_not_the_idle_timeout() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["read_header_timeout"] = json!("2s");
    file["idle_timeout"] = json!("60s");
    let gateway = Gateway::start(&file.to_string());
    let stream = silent(gateway.port(), 1).remove(0);
    assert!(closes(&stream, Duration::from_secs(30)));
    // A client that has sent a request may pause for longer.
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(request("GET", "/a", &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
        pause(Duration::from_millis(2500));
    }
}

#[test]
fn http2_clients_without_a_request_make_room() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["use_h2c"] = json!(true);
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // GET http://a/ (RFC 7541 §6), which is answered with 404.
    let asked = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
    for begun in [hello.to_vec(), [&hello[..], asked].concat()] {
        let clients = silent(gateway.port(), 300);
        for mut client in &clients {
            let _ = client.write_all(&begun);
        }
        let began = Instant::now();
        for _ in 0..5 {
            let mut client = gateway.client().timeout(Duration::from_secs(20));
            client.send(request("GET", "/a", &[])).unwrap();
            assert_eq!(client.response("GET").unwrap().status, 200);
        }
        // Ten seconds are the time of a connection with open streams.
        assert!(began.elapsed() < Duration::from_secs(9), "{begun:?}");
    }
}

/// Writes to each client again and again until the sender is dropped.
fn write_steadily(clients: Vec<TcpStream>, bytes: &'static [u8]) -> mpsc::Sender<()> {
    let (sender, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            for mut client in &clients {
                let _ = client.write_all(bytes);
            }
            pause(Duration::from_millis(20));
        }
    });
    sender
}

#[test]
fn http2_clients_that_only_ping_make_room() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["use_h2c"] = json!(true);
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    let clients = silent(gateway.port(), 300);
    for mut client in &clients {
        client.set_nonblocking(true).unwrap();
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let _ = client.write_all(hello);
    }
    let ping = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let _pings = write_steadily(clients, ping);
    for _ in 0..5 {
        let mut client = gateway.client().timeout(Duration::from_secs(20));
        client.send(request("GET", "/a", &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
}

/// A backend that holds all requests until it is opened.
#[derive(Clone, Default)]
struct Held {
    requests: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Held {
    /// Starts the backend. Returns its URL.
    fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let held = self.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let held = held.clone();
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).is_ok_and(|count| count > 0) {
                        held.requests.fetch_add(1, Ordering::SeqCst);
                        while !held.open.load(Ordering::SeqCst) {
                            pause(Duration::from_millis(5));
                        }
                        let response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Content-Length: 7\r\n\r\n{\"a\":1}";
                        let _ = stream.write_all(response);
                    }
                });
            }
        });
        url
    }

    /// Waits until there are this many requests.
    fn has(&self, count: usize) {
        eventually("the backend has the requests", LIMIT, || {
            self.requests.load(Ordering::SeqCst) >= count
        });
    }
}

/// Sends a request with each of so many clients, and calls `between` before the first response.
fn all_at_once(gateway: &Gateway, count: usize, between: impl FnOnce()) {
    let mut clients: Vec<Client> = (0..count)
        .map(|_| gateway.client().timeout(LIMIT))
        .collect();
    for client in &mut clients {
        client.send(request("GET", "/held", &[])).unwrap();
    }
    between();
    let readers = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            let response = client.response("GET").map_err(|error| error.to_string())?;
            let is_complete = response.header("x-krakend-completed") == Some("true");
            Ok::<_, String>((response.status, is_complete))
        })
    });
    let readers: Vec<_> = readers.collect();
    for reader in readers {
        assert_eq!(
            reader.join().unwrap(),
            Ok((200, true)),
            "{}",
            gateway.output()
        );
    }
}

#[test]
fn clients_that_waited_for_a_place_are_served() {
    let held = Held::default();
    let file = json!({ "version": 3, "timeout": "60s", "endpoints": [{
        "endpoint": "/held", "backend": [{ "host": [held.start()], "url_pattern": "/x" }] }] });
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    all_at_once(&gateway, 200, || {
        held.has(80);
        held.open.store(true, Ordering::SeqCst);
    });
}

#[test]
fn calls_wait_for_descriptors_and_a_reload_has_some() {
    let held = Held::default();
    let backend =
        |group: &str| json!({ "host": [held.start()], "url_pattern": "/x", "group": group });
    let file = json!({ "version": 3, "timeout": "60s", "endpoints": [{
        "endpoint": "/held", "backend": [backend("a"), backend("b"), backend("c"), backend("d")] }] });
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    for _ in 0..2 {
        held.open.store(false, Ordering::SeqCst);
        held.requests.store(0, Ordering::SeqCst);
        all_at_once(&gateway, 60, || {
            held.has(80);
            let reloaded = command()
                .env(RUNTIME_FOLDER, gateway.dir())
                .args(["reload", "-c"])
                .arg(gateway.config_path())
                .output()
                .unwrap();
            held.open.store(true, Ordering::SeqCst);
            assert!(reloaded.status.success(), "{reloaded:?}");
        });
    }
    assert!(
        gateway
            .output()
            .contains("calls wait: the limit of file descriptors allows at most")
    );
    assert!(!gateway.output().contains("Too many open files"));
}
