//! Many clients that cause harm, on purpose or not: a well-behaved client does not notice them.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, pause, ports};

const ANY: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;
const LIMIT: Duration = Duration::from_secs(30);

/// One composed endpoint for GET and one for POST.
fn config(stub: &Stub) -> Value {
    let to =
        |method: &str| json!([{ "host": [stub.url()], "url_pattern": "/a", "method": method }]);
    json!({
        "version": 3,
        "endpoints": [
            { "endpoint": "/a", "backend": to("GET"), "timeout": "20s" },
            { "endpoint": "/a", "method": "POST", "backend": to("POST"), "timeout": "2s" },
        ]
    })
}

/// Raises the limit of open files for this process and its children as far as the machine allows.
fn raise_the_file_limit() {
    let pid = std::process::id().to_string();
    // If this fails, the limit is already high enough, or the test reports what is missing.
    let _ = Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=8192:"])
        .output();
}

/// The response times of a well-behaved client, sorted.
fn waits(gateway: &Gateway, count: usize) -> Vec<Duration> {
    let mut client = gateway.client();
    let mut waits: Vec<Duration> = (0..count)
        .map(|_| {
            let start = Instant::now();
            client.send(request("GET", "/a", &[])).unwrap();
            assert_eq!(client.response("GET").unwrap().status, 200);
            start.elapsed()
        })
        .collect();
    waits.sort();
    waits
}

/// The limit is for a test machine under load; a client that queues behind the slow ones would wait for seconds, each
/// time. A machine that stalls makes a few of the waits long.
fn assert_undisturbed(waits: &[Duration]) {
    let (median, long) = (waits[waits.len() / 2], waits[waits.len() * 9 / 10]);
    assert!(median < Duration::from_millis(150), "median {median:?}");
    assert!(long < Duration::from_millis(1500), "one in ten {long:?}");
}

#[test]
fn two_hundred_trickling_clients_do_not_disturb_others_and_are_closed() {
    raise_the_file_limit();
    let stub = Stub::with(ANY);
    let mut file = config(&stub);
    file["read_header_timeout"] = json!("2s");
    let gateway = Gateway::start(&file.to_string());
    let mut slow: Vec<Client> = (0..200).map(|_| gateway.client().timeout(LIMIT)).collect();
    let head = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: ";
    let body = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let done = AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                for (index, client) in slow.iter_mut().enumerate() {
                    let bytes = if index % 2 == 0 { &head[..] } else { &body[..] };
                    let byte = bytes.get(turn).copied().unwrap_or(b'a');
                    // It may have ended already.
                    let _ = client.send([byte]);
                }
                if done.load(Ordering::Relaxed) {
                    return;
                }
                pause(Duration::from_millis(5));
            }
        });
        let waits = waits(&gateway, 300);
        done.store(true, Ordering::Relaxed);
        waits
    });
    assert_undisturbed(&waits);
    for (index, client) in slow.iter_mut().enumerate() {
        match client.response("GET") {
            // On a slow machine, a body that still trickles at the deadline gets the deadline's status.
            Ok(response) if index % 2 == 1 => assert!([408, 500].contains(&response.status)),
            Ok(response) => assert_eq!(response.status, 408),
            // Bytes that cross the rejection may turn the end of the connection into a reset.
            Err(error) => assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "it still waits"
            ),
        }
    }
    assert!(stub.take_seen().iter().all(|seen| seen.method == "GET"));
}

#[test]
fn a_thousand_idle_connections_do_not_disturb_others_and_are_closed() {
    raise_the_file_limit();
    let stub = Stub::with(ANY);
    let mut file = config(&stub);
    file["idle_timeout"] = json!("5s");
    let gateway = Gateway::start(&file.to_string());
    let mut idle: Vec<Client> = (0..1000).map(|_| gateway.client().timeout(LIMIT)).collect();
    assert_undisturbed(&waits(&gateway, 300));
    for client in &mut idle {
        assert_eq!(client.rest().unwrap_or_default(), b"", "nobody had asked");
    }
    assert_eq!(gateway.get("/a").status, 200);
}

#[test]
fn one_connection_too_many_is_closed_and_counted() {
    let stub = Stub::with(ANY);
    let page = ports::free();
    let mut file = config(&stub);
    file["extra_config"] = json!({
        "portcullis/limits": { "connections": 10 },
        "portcullis/metrics": { "listen": format!("127.0.0.1:{page}") },
    });
    let gateway = Gateway::start(&file.to_string());
    let ask = |client: &mut Client| {
        client.send(request("GET", "/a", &[]))?;
        client.response("GET")
    };
    let mut open = Vec::new();
    // The connections of the start itself may still be open.
    eventually("ten connections", LIMIT, || {
        let mut client = gateway.client();
        if ask(&mut client).is_ok() {
            open.push(client);
        }
        open.len() == 10
    });
    assert!(
        ask(&mut gateway.client()).is_err(),
        "the eleventh is served"
    );
    assert!(
        open.iter_mut()
            .all(|client| ask(client).unwrap().status == 200)
    );
    open.pop();
    eventually("there is room again", LIMIT, || {
        ask(&mut gateway.client()).is_ok()
    });
    assert!(metric(page, "portcullis_connections_refused_total") >= 1.0);
}

/// The value of a metric without labels.
fn metric(port: u16, name: &str) -> f64 {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
        .parse()
        .unwrap()
}

#[test]
fn more_clients_than_descriptors_neither_spin_nor_keep_others_out() {
    let stub = Stub::with(ANY);
    let file = config(&stub).to_string();
    let gateway = Gateway::start_under("ulimit -n 96; exec \"$@\"", &file);
    let mut first = gateway.client();
    first.send(request("GET", "/__health", &[])).unwrap();
    assert_eq!(first.response("GET").unwrap().status, 200);
    let many: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", gateway.port())).unwrap())
        .collect();
    let (ticks, start) = (gateway.processor_ticks(), Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        // A client that is already connected is served.
        first.send(request("GET", "/__health", &[])).unwrap();
        assert_eq!(first.response("GET").unwrap().status, 200);
        pause(Duration::from_millis(50));
    }
    let used = gateway.processor_ticks() - ticks;
    assert!(used < 100, "{used} ticks of 200: it spins");
    let lines = gateway.output().matches("Too many open files").count();
    assert!(lines < 50, "{lines} lines about it");
    drop(many);
    eventually("it serves again", LIMIT, || {
        let mut client = gateway.client().timeout(Duration::from_secs(3));
        let _ = client.send(request("GET", "/a", &[]));
        client
            .response("GET")
            .is_ok_and(|response| response.status == 200)
    });
    assert!(gateway.ended().is_none());
}

/// A log file that reports lost lines.
fn with_metrics(stub: &Stub) -> (String, u16) {
    let page = ports::free();
    let mut file = config(stub);
    file["extra_config"] =
        json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{page}") } });
    (file.to_string(), page)
}

/// Sends `count` requests, many at a time.
fn ask_many(gateway: &Gateway, count: usize) {
    let mut client = gateway.client();
    let batch = request("GET", "/__health", &[]).repeat(50);
    for _ in 0..count / 50 {
        client.send(&batch).unwrap();
        for _ in 0..50 {
            assert_eq!(client.response("GET").unwrap().status, 200);
        }
    }
}

#[test]
fn an_unread_log_loses_lines_but_no_requests() {
    let stub = Stub::with(ANY);
    let (file, page) = with_metrics(&stub);
    let (unread, stdout) = std::io::pipe().unwrap();
    let gateway = Gateway::start_writing_to(stdout.into(), &file);
    // The pipe holds some hundred lines, the queue 8192.
    ask_many(&gateway, 10_000);
    assert!(metric(page, "portcullis_log_lines_dropped_total") > 0.0);
    assert_eq!(gateway.get("/a").status, 200);
    drop(unread);
}

#[test]
fn a_log_without_a_reader_loses_lines_but_no_requests() {
    let stub = Stub::with(ANY);
    let (file, page) = with_metrics(&stub);
    let (reader, stdout) = std::io::pipe().unwrap();
    let gateway = Gateway::start_writing_to(stdout.into(), &file);
    drop(reader);
    ask_many(&gateway, 500);
    eventually("the loss is counted", LIMIT, || {
        metric(page, "portcullis_log_lines_dropped_total") > 0.0
    });
    assert_eq!(gateway.get("/a").status, 200);
    assert!(gateway.ended().is_none());
}

#[test]
fn without_a_standard_output_requests_are_served() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start_under("exec \"$@\" >&- 2>&-", &config(&stub).to_string());
    ask_many(&gateway, 500);
    assert_eq!(gateway.get("/a").status, 200);
}

#[test]
fn a_truncated_request_is_not_a_request() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub).to_string());
    for bytes in ["G", "GET /a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\nHost: a\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        drop(stream);
    }
    assert_eq!(gateway.get("/a").status, 200);
    assert_eq!(stub.take_seen().len(), 1);
}

/// The status of a request through a trusted proxy, which appends `address` to the client's header.
fn through_the_proxy(gateway: &Gateway, sent: &[u8], address: &str, more: &str) -> u16 {
    let head = [
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-Real-IP: 198.51.100.66\r\nX-Forwarded-For: ",
        sent,
        format!("{address}\r\n{more}\r\n").as_bytes(),
    ]
    .concat();
    let mut client = gateway.client().timeout(LIMIT);
    client.send(head).unwrap();
    client.response("GET").unwrap().status
}

#[test]
fn a_client_behind_a_proxy_cannot_choose_its_address() {
    let stub = Stub::with(ANY);
    let mut file = config(&stub);
    file["extra_config"] = json!({ "router": { "trusted_proxies": ["127.0.0.1/32"] } });
    file["endpoints"][0]["extra_config"] = json!({
        "qos/ratelimit/router": { "client_max_rate": 1, "client_capacity": 1, "every": "1h", "strategy": "ip" }
    });
    let gateway = Gateway::start(&file.to_string());
    let statuses: Vec<u16> = [&b""[..], b"\xff, ", b"6.6.6.6\xe9, ", b"\x80\xff,7.7.7.7, "]
        .iter()
        .map(|sent| through_the_proxy(&gateway, sent, "203.0.113.9", ""))
        .collect();
    assert_eq!(statuses, [200, 429, 429, 429]);
    // One customer of a provider has a practically unlimited number of addresses.
    let statuses: Vec<u16> = ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1"]
        .iter()
        .map(|address| through_the_proxy(&gateway, b"", address, ""))
        .collect();
    assert_eq!(statuses, [200, 429, 200]);
    assert!(!gateway.output().contains("198.51.100.66"));
    file["extra_config"]["portcullis/limits"] = json!({ "ipv6_prefix": 128 });
    let gateway = Gateway::start(&file.to_string());
    for address in ["2001:db8:1:2::1", "2001:db8:1:2::2"] {
        assert_eq!(through_the_proxy(&gateway, b"", address, ""), 200);
    }
}

#[test]
fn ninety_wrong_logins_of_other_clients_do_not_lock_out_a_user() {
    let stub = Stub::with(ANY);
    let mut file = config(&stub);
    file["timeout"] = json!("20s");
    file["extra_config"] = json!({ "router": { "trusted_proxies": ["127.0.0.1/32"] } });
    let hash = bcrypt::hash("right", 7).unwrap();
    file["endpoints"][0]["extra_config"] = json!({ "auth/basic": { "users": { "ann": hash } } });
    let gateway = Gateway::start(&file.to_string());
    // `ann:wrong` and `ann:right`
    let wrong = "Authorization: Basic YW5uOndyb25n\r\n";
    let right = "Authorization: Basic YW5uOnJpZ2h0\r\n";
    std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..90)
            .map(|n| {
                let (gateway, address) = (&gateway, format!("203.0.113.{}", n % 9));
                scope.spawn(move || through_the_proxy(gateway, b"", &address, wrong))
            })
            .collect();
        pause(Duration::from_millis(200));
        assert_eq!(through_the_proxy(&gateway, b"", "192.0.2.1", right), 200);
        for guess in guesses {
            let status = guess.join().unwrap();
            assert!(matches!(status, 401 | 429), "{status}");
        }
    });
}
