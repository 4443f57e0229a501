//! The memory that clients and backends can occupy besides bodies: heads, and stored responses.

use std::time::Duration;

use serde_json::{Value, json};

use super::with_metrics;
use crate::support::http::request;
use crate::support::{Client, Gateway, Upstream, eventually, pause, ports};

pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The value of a metric without labels.
pub(super) fn metric(port: u16, name: &str) -> u64 {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

pub(super) fn held(port: u16) -> u64 {
    metric(port, "portcullis_buffered_bytes")
}

/// A gateway with this budget and these endpoints, and the port of its metrics.
pub(super) fn gateway(buffered: &str, endpoints: Value) -> (Gateway, u16) {
    let metrics = ports::free();
    let file = json!({ "version": 3, "timeout": "120s",
        "extra_config": { "portcullis/limits": { "buffered": buffered } },
        "endpoints": endpoints });
    let file = with_metrics(file, metrics);
    (Gateway::start(&file.to_string()), metrics)
}

pub(super) fn endpoint(path: &str, method: &str, encoding: &str, backend: &Upstream) -> Value {
    json!({ "endpoint": path, "method": method, "output_encoding": encoding,
        "backend": [{ "host": [backend.url()], "url_pattern": path, "encoding": encoding }] })
}

/// Even a short header takes an entry in several maps.
#[test]
fn many_short_headers_are_charged_by_what_they_take() {
    let backend = Upstream::start(|mut call| {
        call.body()?;
        call.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    });
    let (gateway, metrics) = gateway("300KiB", json!([endpoint("/up", "POST", "json", &backend)]));
    let names: Vec<String> = (0..240).map(|n| format!("X-{n}")).collect();
    let many = names.iter().map(|name| (&**name, "1"));
    let length = ("Content-Length", "2");
    let head = request("POST", "/up", &many.chain([length]).collect::<Vec<_>>());
    assert!(head.len() < 4096);
    let open = || {
        let mut client = gateway.client();
        client.send(format!("{head}{{")).unwrap();
        client
    };
    let mut first = open();
    eventually("the first is held", LIMIT, || held(metrics) > 100_000);
    let _second = open();
    eventually("the second is held", LIMIT, || held(metrics) > 200_000);
    assert_eq!(open().response("POST").unwrap().status, 503);
    // A request with the headers of a browser is not affected.
    let few = names.iter().take(25).map(|name| (&**name, "1"));
    let few = request("POST", "/up", &few.chain([length]).collect::<Vec<_>>());
    let mut other = gateway.client();
    other.send(format!("{few}{{}}")).unwrap();
    assert_eq!(other.response("POST").unwrap().status, 200);
    first.send("}").unwrap();
    assert_eq!(first.response("POST").unwrap().status, 200);
}

/// One request can make many calls, and each of them takes memory while its backend does not respond.
#[test]
fn calls_that_wait_are_charged() {
    let backend = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let backends = |count: usize, steps: Value| -> Vec<Value> {
        let call = |n| json!({ "host": [backend.url()], "url_pattern": format!("/{n}"), "extra_config": steps });
        (0..count).map(call).collect()
    };
    let step = json!({ "modifier/martian": { "header.Modifier":
        { "scope": ["request"], "name": "X-A", "value": "b" } } });
    let (all, plain) = (json!(["*"]), json!({}));
    let endpoints = json!([
        { "endpoint": "/one", "backend": backends(1, plain.clone()) },
        { "endpoint": "/raced", "concurrent_calls": 4, "backend": backends(1, plain.clone()) },
        { "endpoint": "/all", "input_headers": all, "backend": backends(8, plain.clone()) },
        { "endpoint": "/stepped", "input_headers": all, "backend": backends(8, step) },
    ]);
    let (gateway, metrics) = gateway("64MiB", endpoints);
    // One place is kept for the next connection.
    let taken = || metric(metrics, "portcullis_memory_charged_bytes").saturating_sub(64 * 1024);
    let names: Vec<String> = (0..200).map(|n| format!("X-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
    eventually("it is idle", LIMIT, || taken() == 0);
    // The connection of the client, each call with its headers, and the copies of the steps.
    for (path, fields, least) in [
        ("/one", 0, 64 + 16),
        ("/raced", 0, 64 + 4 * 16),
        ("/all", 0, 64 + 8 * 16),
        ("/all", 200, 64 + 100 + 8 * (16 + 50)),
        ("/stepped", 200, 64 + 100 + 8 * (16 + 50 + 80)),
    ] {
        let fields = &many[..fields];
        let mut client = gateway.client();
        client.send(request("GET", path, fields)).unwrap();
        let (least, what) = (least * 1024, format!("{path} is held: {least} KiB"));
        eventually(&what, LIMIT, || taken() >= least);
        assert!(taken() < least + 80 * 1024, "{path}: {}", taken());
        drop(client);
        eventually("it is given back", LIMIT, || taken() == 0);
    }
}

/// A head that does not end, one whose body does not come, and one with more headers than Pingora's parser accepts: each
/// with and without a body in the request, and as a stream.
#[test]
fn heads_of_backends_share_the_budget() {
    let long = |count: usize, each: usize| -> String {
        let field = |n| format!("X-{n}: {}\r\n", "a".repeat(each));
        (0..count).map(field).collect()
    };
    let start = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    // What is sent, what is charged for it at least when all of it has arrived, and how many of them fit into the budget.
    // Before that, the next request could get the rest of the budget.
    for (fields, end, charged, fits) in [
        (long(30, 8000), "", 480_000, 2),
        (long(30, 8000), "Content-Length: 2\r\n\r\n{", 488_000, 2),
        (long(600, 400), "", 263_000, 3),
        (long(600, 400), "Content-Length: 2\r\n\r\n{", 644_000, 1),
    ] {
        let head = format!("{start}{fields}{end}");
        let backend = Upstream::start(move |mut call| {
            if call.head.contains("/small") {
                return call
                    .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
            }
            call.send(&head)?;
            call.sees_hang_up(Duration::from_secs(120));
            Ok(())
        });
        let (gateway, metrics) = gateway(
            "1MiB",
            json!([
                endpoint("/get", "GET", "json", &backend),
                endpoint("/post", "POST", "json", &backend),
                endpoint("/stream", "GET", "no-op", &backend),
                endpoint("/small", "GET", "json", &backend),
            ]),
        );
        for (method, path) in [("GET", "/get"), ("POST", "/post"), ("GET", "/stream")] {
            let body = if method == "POST" { "{}" } else { "" };
            let length = body.len().to_string();
            let head = request(method, path, &[("Content-Length", &length)]);
            let open = || {
                let mut client = gateway.client();
                client.send(format!("{head}{body}")).unwrap();
                client
            };
            let mut waiting = Vec::new();
            for count in 1..=fits {
                waiting.push(open());
                let what = format!("{path} {end:?}: {count} of {fits}");
                eventually(&what, LIMIT, || held(metrics) > count * charged);
            }
            let response = open().response(method).unwrap();
            let what = format!("{path} {end:?}: {}", gateway.output());
            assert_eq!(response.status, 503, "{what}");
            assert_eq!(gateway.get("/small").status, 200);
            drop(waiting);
            eventually("it is given back", LIMIT, || held(metrics) == 0);
        }
    }
}

/// A backend that stops before the end of a few kilobytes.
#[test]
fn unfinished_small_bodies_of_backends_share_the_budget() {
    let backend = Upstream::start(|mut call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n")?;
        call.send(" ".repeat(15_900))?;
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let (gateway, metrics) = gateway("100KiB", json!([endpoint("/a", "GET", "json", &backend)]));
    let open = || {
        let mut client = gateway.client();
        client.send(request("GET", "/a", &[])).unwrap();
        client
    };
    let _first = open();
    eventually("the first is held", LIMIT, || held(metrics) >= 30_000);
}

fn cached(path: &str, backend: &Upstream) -> Value {
    let mut endpoint = endpoint(path, "GET", "no-op", backend);
    endpoint["input_query_strings"] = json!(["*"]);
    endpoint["backend"][0]["extra_config"] = json!({ "qos/http-cache": {} });
    endpoint
}

fn storable(length: usize) -> String {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nCache-Control: public, max-age=600\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Caches with limits of their own share half of the budget, and the response that was not used for the longest time
/// makes room.
#[test]
fn all_stores_together_hold_half_of_the_budget() {
    let backend = Upstream::start(|mut call| call.send(storable(50_000) + &"x".repeat(50_000)));
    let paths = ["/a", "/b", "/c", "/d"];
    let endpoints: Vec<Value> = paths.iter().map(|path| cached(path, &backend)).collect();
    let (gateway, metrics) = gateway("1MiB", json!(endpoints));
    for path in paths {
        for n in 0..8 {
            let response = gateway.get(&format!("{path}?q={n}"));
            assert_eq!((response.status, response.body.len()), (200, 50_000));
        }
        let stored = metric(metrics, "portcullis_http_cache_bytes");
        assert!((300_000..=512 * 1024).contains(&stored), "{path}: {stored}");
    }
    let calls = backend.calls();
    assert_eq!(gateway.get("/d?q=7").status, 200);
    assert_eq!(backend.calls(), calls, "the last one is not stored");
    assert_eq!(held(metrics), 0);
}

/// The encoder of a stream takes megabytes as long as its client reads slowly. Without space for it, the stream is sent
/// as it is.
#[test]
fn encoders_of_streams_share_the_budget() {
    let backend = Upstream::start(|mut call| {
        call.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        call.chunk(&"text ".repeat(1000))?;
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let metrics = ports::free();
    let file = json!({ "version": 3, "timeout": "120s",
        "extra_config": {
            "portcullis/limits": { "buffered": "8MiB" },
            "portcullis/compression": { "algorithms": ["br"] }
        },
        "endpoints": [endpoint("/s", "GET", "no-op", &backend)] });
    let gateway = Gateway::start(&with_metrics(file, metrics).to_string());
    let open = || {
        let mut client = gateway.client();
        let accepts = [("Accept-Encoding", "br")];
        client.send(request("GET", "/s", &accepts)).unwrap();
        let head = client.head().unwrap();
        assert_eq!(
            (head.status, head.header("vary")),
            (200, Some("Accept-Encoding"))
        );
        let coding = head.header("content-encoding").map(str::to_owned);
        (client, coding)
    };
    let (first, coding) = open();
    assert_eq!(coding.as_deref(), Some("br"));
    eventually("it is held", LIMIT, || held(metrics) == 3 << 20);
    let (_second, coding) = open();
    assert_eq!(coding, None);
    assert_eq!(metric(metrics, "portcullis_buffered_refused_total"), 0);
    drop(first);
    eventually("it is given back", LIMIT, || held(metrics) == 0);
    let (_third, coding) = open();
    assert_eq!(coding.as_deref(), Some("br"));
}

/// What is stored while it streams is optional, so it must not take the memory that another request needs.
#[test]
fn storing_leaves_the_budget_to_requests() {
    let backend = Upstream::start(|mut call| {
        if call.head.contains("/up") {
            call.body()?;
            return call
                .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
        }
        let length = if call.head.contains("large") {
            3 << 20
        } else {
            200_000
        };
        call.send(storable(length))?;
        call.send("x".repeat(length - 1))?;
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let endpoints = json!([
        cached("/download", &backend),
        endpoint("/up", "POST", "json", &backend)
    ]);
    let (gateway, _metrics) = gateway("2MiB", endpoints);
    let mut open = Vec::new();
    for n in 0..8 {
        let kind = if n % 2 == 0 { "large" } else { "small" };
        let mut client = gateway.client();
        let target = format!("/download?{kind}={n}");
        client.send(request("GET", &target, &[])).unwrap();
        open.push(std::thread::spawn(move || {
            let _ = client.response("GET");
        }));
    }
    eventually("all are open", LIMIT, || backend.calls() == 8);
    pause(Duration::from_millis(300));
    let body = format!("\"{}\"", "x".repeat(900_000));
    let length = body.len().to_string();
    let head = request("POST", "/up", &[("Content-Length", &length)]);
    for _ in 0..3 {
        let mut client = gateway.client();
        client.send(format!("{head}{body}")).unwrap();
        let response = client.response("POST").unwrap();
        assert_eq!(response.status, 200, "{}", gateway.output());
    }
}

/// Large bodies are decoded outside of the workers. Each thread keeps memory that nothing charges.
#[test]
fn large_bodies_that_wait_to_be_decoded_have_no_thread_each() {
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(300_000));
    let length = body.len();
    let backend = Upstream::start(move |mut call| {
        call.send(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    });
    let (gateway, _) = gateway("512MiB", json!([endpoint("/a", "GET", "json", &backend)]));
    let folder = format!("/proc/{}/task", gateway.pid());
    let threads = || std::fs::read_dir(&folder).unwrap().count();
    let before = threads();
    let clients: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = gateway.client();
            client.send(request("GET", "/a", &[])).unwrap();
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    // Threads that have nothing to do end only after ten seconds.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let more = threads() - before;
    assert!(more < 20 + 2 * processors, "{more} more threads");
}
