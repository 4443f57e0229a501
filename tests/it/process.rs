//! The process and its resources: file descriptors, silent clients, stopping, admin listeners, memory.

mod budget;
mod descriptors;

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, pause, ports};
use descriptors::silent;

const OK: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;

fn config(backend: &str) -> Value {
    json!({ "version": 3, "endpoints": [
        { "endpoint": "/a", "backend": [{ "host": [backend], "url_pattern": "/a" }] }
    ] })
}

fn with_metrics(mut file: Value, port: u16) -> Value {
    file["extra_config"]["portcullis/metrics"]["listen"] = json!(format!("127.0.0.1:{port}"));
    file
}

fn silent(port: u16, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(("127.0.0.1", port)).unwrap();
    (0..count).map(connect).collect()
}

/// Whether the other end closes within `limit`.
fn closes(mut stream: &TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).unwrap();
    matches!(stream.read(&mut [0; 1]), Ok(0))
}

#[test]
fn silent_clients_that_outnumber_the_descriptors_keep_nobody_out() {
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
            let _ = std::io::Write::write_all(&mut client, &begun);
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
fn a_client_that_never_speaks_gets_the_time_of_a_head_and_not_that_of_a_pause() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["read_header_timeout"] = json!("300ms");
    file["idle_timeout"] = json!("60s");
    let gateway = Gateway::start(&file.to_string());
    let stream = silent(gateway.port(), 1).remove(0);
    assert!(closes(&stream, Duration::from_secs(10)));
    // A client that has sent a request may pause for longer.
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(request("GET", "/a", &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
        pause(Duration::from_millis(700));
    }
}

#[test]
fn before_a_stop_the_gateway_is_not_ready_and_serves_for_a_while() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["extra_config"]["portcullis/server"]["shutdown_delay"] = json!("1500ms");
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/__ready").status, 200);
    let mut kept = gateway.client();
    kept.send(request("GET", "/a", &[])).unwrap();
    assert_eq!(
        kept.response("GET").unwrap().header("connection"),
        Some("keep-alive")
    );
    let began = Instant::now();
    gateway.signal("TERM");
    eventually("it is not ready", Duration::from_secs(5), || {
        gateway.get("/__ready").status == 503
    });
    kept.send(request("GET", "/a", &[])).unwrap();
    let response = kept.response("GET").unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
    let mut new = 0;
    while began.elapsed() < Duration::from_millis(1000) {
        assert_eq!(gateway.get("/a").status, 200);
        new += 1;
    }
    assert!(new > 0);
    let ended = gateway.wait(Duration::from_secs(20)).unwrap();
    assert!(ended.success());
    assert!(began.elapsed() >= Duration::from_millis(1500));
    assert!(Client::connect(gateway.port()).is_err());
}

#[test]
fn a_second_signal_ends_the_delay() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["extra_config"]["portcullis/server"]["shutdown_delay"] = json!("60s");
    let gateway = Gateway::start(&file.to_string());
    gateway.signal("TERM");
    eventually("it is not ready", Duration::from_secs(5), || {
        gateway.get("/__ready").status == 503
    });
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(10)).is_some());
}

#[test]
fn side_listeners_bound_their_connections_and_the_time_for_a_head() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let file = with_metrics(config(&stub.url()), metrics);
    let gateway = Gateway::start(&file.to_string());
    let before = open_files(&gateway);
    let clients = silent(metrics, 300);
    let scrape = || {
        let mut page = Client::connect(metrics).unwrap();
        for _ in 0..2 {
            page.send(request("GET", "/metrics", &[])).unwrap();
            assert_eq!(page.response("GET").unwrap().status, 200);
        }
    };
    scrape();
    eventually("most are closed", Duration::from_secs(10), || {
        open_files(&gateway) < before + 100
    });
    scrape();
    // Clients that stop within the head also make room.
    let halves = silent(metrics, 300);
    for mut half in &halves {
        let _ = std::io::Write::write_all(&mut half, b"GET /metrics HTTP/1.1\r\n");
    }
    scrape();
    drop(halves);
    // A head that trickles ends.
    let mut slow = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
    std::io::Write::write_all(&mut slow, b"GET /metrics HTTP/1.1\r\nHo").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut said = String::new();
    let _ = slow.read_to_string(&mut said);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    drop(clients);
}

fn open_files(gateway: &Gateway) -> usize {
    let folder = format!("/proc/{}/fd", gateway.pid());
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn lines_of_the_start_and_of_reloads_obey_the_settings_for_logging() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    let logging = |level: &str| json!({ "level": level, "stdout": true, "prefix": "[GW]" });
    file["extra_config"]["telemetry/logging"] = logging("WARNING");
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/a").status, 200);
    let told = gateway.output();
    assert!(!told.contains("Signer disabled"), "{told}");
    assert!(!told.contains("Listening on"), "{told}");
    file["extra_config"]["telemetry/logging"] = logging("DEBUG");
    std::fs::write(gateway.config_path(), file.to_string()).unwrap();
    let before = gateway.mark();
    gateway.signal("HUP");
    eventually("it tells of the new file", Duration::from_secs(20), || {
        gateway
            .output_since(before)
            .contains("Configuration reloaded")
    });
    let told = gateway.output_since(before);
    assert!(told.contains("Signer disabled"), "{told}");
    let ours = |line: &&str| line.contains("DEBUG") || line.contains("INFO");
    for line in told.lines().filter(ours) {
        assert!(line.contains("[GW]"), "{line}");
    }
}

#[test]
fn a_start_that_fails_is_logged_as_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    let file = json!({ "version": 3, "endpoints": [{ "endpoint": "/a", "backend": [] }],
        "extra_config": {
            "telemetry/logging": { "level": "ERROR", "stdout": true, "prefix": "[GW]" },
            "telemetry/logstash": { "enabled": true } } });
    std::fs::write(&path, file.to_string()).unwrap();
    let ended = crate::support::gateway::command()
        .args(["run", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let told = String::from_utf8(ended.stdout).unwrap();
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{told}")))
        .collect();
    assert_eq!(lines.len(), 1, "{told}");
    assert_eq!(lines[0]["level"], "ERROR");
    let message = lines[0]["message"].as_str().unwrap();
    assert!(message.contains("since it has 0 backend"), "{message}");
    // People at a terminal read the report.
    assert!(String::from_utf8_lossy(&ended.stderr).contains("since it has 0 backend"));
}

#[test]
fn a_command_that_finds_a_broken_file_is_counted_and_logged_like_a_signal() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let file = with_metrics(config(&stub.url()), metrics);
    let gateway = Gateway::start(&file.to_string());
    let page = || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text()
    };
    let last = |page: &str| -> f64 {
        let name = "portcullis_config_last_reload_success_timestamp_seconds ";
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    let control = format!("portcullis-{}.sock", gateway.port());
    eventually("it takes orders", Duration::from_secs(20), || {
        gateway.dir().join(&control).exists()
    });
    // The start is the last time that a configuration was applied.
    let started = last(&page());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs_f64() - started).abs() < 60.0, "{started}");
    let reload = || {
        crate::support::gateway::command()
            .env(crate::support::gateway::RUNTIME_FOLDER, gateway.dir())
            .args(["reload", "-c"])
            .arg(gateway.config_path())
            .output()
            .unwrap()
    };
    for broken in [
        Some("{ \"version\": 3,"),
        Some(r#"{ "version": 3, "timeout": "2 sec", "endpoints": [] }"#),
        // No file at all.
        None,
    ] {
        let before = gateway.mark();
        match broken {
            Some(text) => std::fs::write(gateway.config_path(), text).unwrap(),
            None => std::fs::remove_file(gateway.config_path()).unwrap(),
        }
        let reload = reload();
        let said = String::from_utf8_lossy(&reload.stderr).into_owned();
        assert_eq!(reload.status.code(), Some(1), "{said}");
        assert!(!said.trim().is_empty());
        eventually("the log tells of it", Duration::from_secs(20), || {
            gateway.output_since(before).contains("Reload rejected")
        });
    }
    let page = page();
    assert!(page.contains("portcullis_config_last_reload_successful 0"));
    assert!(page.contains("portcullis_config_reloads_total{result=\"refused\"} 3"));
    assert_eq!(last(&page), started);
    // The port of the command line is not in the file. The gateway is found by the name of the file.
    std::fs::write(gateway.config_path(), file.to_string()).unwrap();
    let reload = reload();
    assert!(reload.status.success(), "{reload:?}");
}

#[test]
fn labels_name_the_method_and_the_route() {
    let stub = Stub::with(OK);
    let closed = ports::free();
    let metrics = ports::free();
    let mut file = with_metrics(config(&stub.url()), metrics);
    file["endpoints"].as_array_mut().unwrap().extend([
        json!({ "endpoint": "/away", "backend": [
            { "host": [format!("http://127.0.0.1:{closed}")], "url_pattern": "/" } ] }),
        json!({ "endpoint": "/few", "backend": [{ "host": [stub.url()], "url_pattern": "/" }],
            "extra_config": { "qos/ratelimit/router": { "max_rate": 1, "capacity": 1, "every": "1h" } } }),
    ]);
    let gateway = Gateway::start(&file.to_string());
    for path in ["/away", "/few", "/few", "/nowhere"] {
        gateway.get(path);
    }
    for method in ["PUT", "FANCY", "QUERY"] {
        gateway.send(method, request(method, "/nowhere", &[]));
    }
    gateway.send("PATCH", request("PATCH", "/away", &[]));
    let ready = gateway.send("HEAD", request("HEAD", "/__ready", &[]));
    assert_eq!(ready.status, 200);
    let not_found = |method: &str| {
        format!(
            "portcullis_http_requests_total{{method=\"{method}\",route=\"\",status=\"4xx\"}} 1\n"
        )
    };
    let wanted = [
        not_found("GET"),
        not_found("PUT"),
        not_found("OTHER"),
        not_found("QUERY"),
        "portcullis_http_requests_total{method=\"PATCH\",route=\"/away\",status=\"4xx\"} 1\n"
            .to_owned(),
        "portcullis_upstream_errors_total{kind=\"connect\",route=\"/away\"} 1\n".to_owned(),
    ];
    // A request is counted after its response was sent.
    eventually("all are counted", Duration::from_secs(10), || {
        let mut page = Client::connect(metrics).unwrap();
        page.send(request("GET", "/metrics", &[])).unwrap();
        let page = page.response("GET").unwrap().text();
        let rejected = page
            .lines()
            .find(|line| line.starts_with("portcullis_requests_refused_total{"));
        wanted.iter().all(|line| page.contains(line))
            && rejected.is_some_and(|line| line.contains("route=\"/few\""))
    });
}

#[test]
fn gateways_tell_their_own_failures_apart_where_the_file_says_so() {
    let stub = Stub::with(
        r#"[{"path": "/slow", "delay_ms": 5000, "headers": {"Content-Type": "application/json"}, "body": {}},
            {"status": 418, "body": {}}]"#,
    );
    let closed = format!("http://127.0.0.1:{}", ports::free());
    let endpoint = |path: &str, host: &str, pattern: &str, encoding: &str| {
        json!({
            "endpoint": format!("{path}-{encoding}"), "timeout": "300ms", "output_encoding": encoding,
            "backend": [{ "host": [host], "url_pattern": pattern, "encoding": encoding,
                "extra_config": { "qos/circuit-breaker": { "interval": 60, "timeout": 60, "max_errors": 1 } } }]
        })
    };
    for (on, away, late, spared) in [(true, 502, 504, 503), (false, 500, 500, 500)] {
        for encoding in ["json", "no-op"] {
            let file = json!({ "version": 3,
                "extra_config": { "portcullis/compat": { "gateway_status_codes": on } },
                "endpoints": [
                    endpoint("/away", &closed, "/", encoding),
                    endpoint("/late", &stub.url(), "/slow", encoding),
                    endpoint("/spared", &closed, "/", encoding),
                ] });
            let gateway = Gateway::start(&file.to_string());
            let status = |path: &str| gateway.get(&format!("{path}-{encoding}")).status;
            assert_eq!(status("/away"), away, "{on} {encoding}");
            assert_eq!(status("/late"), late, "{on} {encoding}");
            for _ in 0..3 {
                status("/spared");
            }
            assert_eq!(status("/spared"), spared, "{on} {encoding}");
        }
    }
}

#[test]
fn bodies_in_flight_share_a_budget() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let mut file = with_metrics(config(&stub.url()), metrics);
    file["extra_config"]["portcullis/limits"] = json!({ "buffered": "2MiB" });
    file["endpoints"].as_array_mut().unwrap().push(json!({
        "endpoint": "/up", "method": "POST", "timeout": "30s",
        "backend": [{ "host": [stub.url()], "url_pattern": "/up", "method": "POST" }]
    }));
    let gateway = Gateway::start(&file.to_string());
    // Two uploads of 1.5 MiB each stop before their end.
    let head = request("POST", "/up", &[("Content-Length", "1600000")]);
    let mut first = gateway.client();
    first.send(&head).unwrap();
    first.send(vec![b'x'; 1_500_000]).unwrap();
    let page = || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text()
    };
    let held = || {
        let page = page();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix("portcullis_buffered_bytes "));
        value.unwrap().parse::<u64>().unwrap()
    };
    eventually("the first is held", Duration::from_secs(10), || {
        held() > 1_400_000
    });
    let mut second = gateway.client();
    second.send(&head).unwrap();
    let _ = second.send(vec![b'x'; 1_500_000]);
    assert_eq!(second.response("POST").unwrap().status, 503);
    // The first one continues, and small requests are not affected.
    assert_eq!(gateway.get("/a").status, 200);
    first.send(vec![b'x'; 100_000]).unwrap();
    assert_eq!(first.response("POST").unwrap().status, 200);
    eventually("it is given back", Duration::from_secs(10), || held() == 0);
    assert!(page().contains("portcullis_buffered_refused_total 1"));
    assert!(
        page().contains("reason=\"buffers_full\",route=\"/up\"} 1"),
        "{}",
        page()
    );
}

#[test]
fn trees_of_bodies_share_the_budget_too() {
    // Each object of eight bytes becomes a node of several hundred.
    let small = format!("[{}]", vec![r#"{"":1}"#; 60_000].join(","));
    let plain = format!("[\"{}\"]", "x".repeat(480_000));
    let response = |data: &str| {
        let data: Value = serde_json::from_str(data).unwrap();
        let stub =
            json!([{ "headers": {"Content-Type": "application/json"}, "body": { "a": data } }]);
        Stub::with(&stub.to_string())
    };
    let (small_response, plain_response) = (response(&small), response(&plain));
    let stub = Stub::with(OK);
    let mut endpoints = vec![
        json!({ "endpoint": "/schema", "method": "POST", "backend": [{ "host": [stub.url()], "url_pattern": "/" }],
            "extra_config": { "validation/json-schema": { "type": "array" } } }),
        json!({ "endpoint": "/graphql", "method": "POST", "backend": [{ "host": [stub.url()], "url_pattern": "/",
            "extra_config": { "backend/graphql": { "type": "mutation", "query": "mutation { a }" } } }] }),
    ];
    for (size, stub) in [("small", &small_response), ("plain", &plain_response)] {
        let backend = json!({ "host": [stub.url()], "url_pattern": "/" });
        let mut flat = backend.clone();
        flat["extra_config"] =
            json!({ "proxy": { "flatmap_filter": [{ "type": "del", "args": ["z"] }] } });
        let cel = json!({ "validation/cel": [{ "check_expr": "size(resp_data.a) > 0" }] });
        endpoints.extend([
            json!({ "endpoint": format!("/{size}/json"), "backend": [backend] }),
            json!({ "endpoint": format!("/{size}/flat"), "backend": [flat] }),
            json!({ "endpoint": format!("/{size}/yaml"), "output_encoding": "yaml", "backend": [backend] }),
            json!({ "endpoint": format!("/{size}/cel"), "backend": [backend], "extra_config": cel }),
        ]);
    }
    let file = json!({ "version": 3, "timeout": "20s", "endpoints": endpoints,
        "extra_config": { "portcullis/limits": { "buffered": "16MiB" } } });
    let gateway = Gateway::start(&file.to_string());
    let post = |path: &str, body: &str| {
        let length = body.len().to_string();
        let head = request("POST", path, &[("Content-Length", &length)]);
        gateway
            .send("POST", [head.as_bytes(), body.as_bytes()].concat())
            .status
    };
    assert_eq!(post("/schema", &small), 503, "{}", gateway.output());
    assert_eq!(post("/schema", &plain), 200, "{}", gateway.output());
    let variables = |data: &str| format!("{{\"v\":{data}}}");
    assert_eq!(
        post("/graphql", &variables(&small)),
        503,
        "{}",
        gateway.output()
    );
    assert_eq!(
        post("/graphql", &variables(&plain)),
        200,
        "{}",
        gateway.output()
    );
    // What passes as it is needs no tree.
    assert_eq!(
        gateway.get("/small/json").status,
        200,
        "{}",
        gateway.output()
    );
    for path in ["flat", "yaml", "cel"] {
        let status = |size: &str| gateway.get(&format!("/{size}/{path}")).status;
        assert_eq!(
            (status("small"), status("plain")),
            (503, 200),
            "{path}: {}",
            gateway.output()
        );
    }
}

#[test]
fn whatever_is_made_of_bodies_is_within_the_budget() {
    let metrics = ports::free();
    let response = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        let headers = json!({ "Content-Type": "application/json" });
        Stub::with(&json!([{ "headers": headers, "body": body }]).to_string())
    };
    let names: Vec<String> = (0..60_000).map(|n| format!("\"{n}\":1")).collect();
    let members = response(&format!("{{{}}}", names.join(",")));
    let list = response(&format!(r#"{{"a":[{}]}}"#, vec!["1"; 60_000].join(",")));
    let text = response(&format!(r#"{{"a":"{}"}}"#, "x".repeat(400_000)));
    let backend = |stub: &Stub| json!({ "host": [stub.url()], "url_pattern": "/" });
    let lua = |part: &str, script: &str| json!({ "modifier/lua-proxy": { part: script } });
    let calls = format!(
        "local kept = {{}} for i = 1, 40 do kept[i] = http_response.new('{}/') end",
        text.url()
    );
    let few = calls.replace("40", "2");
    let file = json!({ "version": 3, "timeout": "30s",
        "extra_config": {
            "portcullis/limits": { "buffered": "8MiB" },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") }
        },
        "endpoints": [
            { "endpoint": "/members", "backend": [backend(&members)] },
            { "endpoint": "/both", "backend": [backend(&members), backend(&members)] },
            { "endpoint": "/list", "backend": [backend(&list)] },
            { "endpoint": "/read", "backend": [backend(&list)],
              "extra_config": lua("post", "response.load():data():get('a')") },
            { "endpoint": "/calls", "backend": [backend(&list)], "extra_config": lua("pre", &calls) },
            { "endpoint": "/few", "backend": [backend(&list)], "extra_config": lua("pre", &few) },
        ] });
    let gateway = Gateway::start(&file.to_string());
    for (path, status) in [
        ("/list", 200),
        // Each member of an object takes more memory than its text.
        ("/members", 503),
        ("/both", 503),
        // So does each element of a list that a script looks into.
        ("/read", 503),
        // Responses that a script keeps.
        ("/calls", 503),
        ("/few", 200),
        ("/few", 200),
    ] {
        assert_eq!(
            gateway.get(path).status,
            status,
            "{path}: {}",
            gateway.output()
        );
    }
    eventually("it is given back", Duration::from_secs(10), || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let page = client.response("GET").unwrap().text();
        page.lines()
            .any(|line| line == "portcullis_buffered_bytes 0")
    });
}

#[test]
fn answers_in_flight_share_the_same_budget_and_streams_go_on() {
    let text = "x".repeat(3 << 20);
    let stub = Stub::with(
        &json!([{ "headers": {"Content-Type": "application/json"},
        "body": { "text": text } }])
        .to_string(),
    );
    let file = json!({ "version": 3,
        "extra_config": { "portcullis/limits": { "buffered": "4MiB" } },
        "endpoints": [
            { "endpoint": "/whole", "timeout": "20s", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] },
            { "endpoint": "/stream", "timeout": "20s", "output_encoding": "no-op",
              "backend": [{ "host": [stub.url()], "url_pattern": "/", "encoding": "no-op" }] }
        ] });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/whole").status, 503, "{}", gateway.output());
    assert!(
        gateway
            .output()
            .contains("too many bytes of bodies are buffered")
    );
    let streamed = gateway.get("/stream");
    assert_eq!(streamed.status, 200);
    assert!(streamed.body.len() > 3 << 20);
}

#[test]
fn reloads_do_not_add_up() {
    let stub = Stub::with(OK);
    let file = |round: usize| {
        let endpoint = |index: usize| {
            json!({ "endpoint": format!("/e{index}/{{id}}"),
            "backend": [{ "host": [stub.url()], "url_pattern": format!("/{index}/{{id}}") }] })
        };
        let mut endpoints: Vec<Value> = (0..1500).map(endpoint).collect();
        endpoints.push(json!({ "endpoint": format!("/round{round}"),
            "backend": [{ "host": [stub.url()], "url_pattern": "/" }] }));
        json!({ "version": 3, "endpoints": endpoints,
            "extra_config": { "telemetry/logging": { "level": "ERROR", "stdout": true } } })
        .to_string()
    };
    let gateway = Gateway::start(&file(0));
    pause(Duration::from_secs(4));
    let first = gateway.resident_kib();
    for round in 1..=10 {
        std::fs::write(gateway.config_path(), file(round)).unwrap();
        gateway.signal("HUP");
        let path = format!("/round{round}");
        eventually("the new file rules", Duration::from_secs(60), || {
            gateway.get(&path).status == 200
        });
    }
    eventually("memory goes back", Duration::from_secs(20), || {
        gateway.resident_kib() < first + first / 4
    });
}
