//! The process and its resources: file descriptors, silent clients, stopping, admin listeners, memory.

mod budget;
mod descriptors;
mod footprint;
mod made;
mod memory;
mod scripts;

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

#[test]
fn before_a_stop_the_gateway_is_not_ready_and_serves_for_a_while() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["extra_config"]["portcullis/server"]["shutdown_delay"] = json!("6s");
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
    eventually("it is not ready", Duration::from_secs(30), || {
        gateway.get("/__ready").status == 503
    });
    kept.send(request("GET", "/a", &[])).unwrap();
    let response = kept.response("GET").unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
    for _ in 0..10 {
        assert_eq!(gateway.get("/a").status, 200);
    }
    let ended = gateway.wait(Duration::from_secs(30)).unwrap();
    assert!(ended.success());
    assert!(began.elapsed() >= Duration::from_secs(6));
    assert!(Client::connect(gateway.port()).is_err());
}

#[test]
fn a_second_signal_ends_the_delay() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["extra_config"]["portcullis/server"]["shutdown_delay"] = json!("60s");
    let gateway = Gateway::start(&file.to_string());
    gateway.signal("TERM");
    eventually("it is not ready", Duration::from_secs(30), || {
        gateway.get("/__ready").status == 503
    });
    let control = gateway
        .dir()
        .join(format!("portcullis-{}.sock", gateway.port()));
    assert!(control.exists());
    gateway.signal("TERM");
    assert!(gateway.wait(Duration::from_secs(30)).is_some());
    assert!(!control.exists(), "the control socket was left behind");
}

#[test]
fn admin_listeners_limit_their_connections_and_the_time_for_a_head() {
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
    eventually("most are closed", Duration::from_secs(30), || {
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
    eventually("it tells of the new file", Duration::from_secs(30), || {
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

/// As in a container, or with the files of a service manager.
#[test]
fn a_start_that_fails_is_told_once_if_both_outputs_go_to_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("f.json"), folder.path().join("out"));
    let good = json!([{ "endpoint": "/a", "backend": [{ "host": ["http://127.0.0.1:9"], "url_pattern": "/" }] }]);
    let missing = folder.path().join("missing/access.log");
    for (endpoints, access, reason) in [
        (
            json!([{ "endpoint": "/a", "backend": [] }]),
            json!({}),
            "since it has 0 backend",
        ),
        (
            good,
            json!({ "output": missing }),
            "the access log cannot be opened",
        ),
    ] {
        let file = json!({ "version": 3, "endpoints": endpoints, "extra_config": {
            "portcullis/access-log": access,
            "telemetry/logging": { "level": "ERROR", "stdout": true },
            "telemetry/logstash": { "enabled": true } } });
        std::fs::write(&path, file.to_string()).unwrap();
        let output = std::fs::File::create(&out).unwrap();
        let ended = crate::support::gateway::command()
            .args(["run", "-c"])
            .arg(&path)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .status()
            .unwrap();
        assert_eq!(ended.code(), Some(1));
        let told = std::fs::read_to_string(&out).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        let line: Value = serde_json::from_str(&told).unwrap();
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(reason), "{told}");
    }
}

/// The one that was open at the start, too.
#[test]
fn an_access_log_that_a_reload_replaces_is_closed() {
    let stub = Stub::with(OK);
    let folder = tempfile::tempdir().unwrap();
    let log = |number: usize| folder.path().join(format!("{number}.log"));
    let file = |number: usize| {
        let mut file = config(&stub.url());
        file["extra_config"]["portcullis/access-log"] = json!({ "output": log(number) });
        file.to_string()
    };
    let gateway = Gateway::start(&file(0));
    let open = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
        let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
        let mut open: Vec<_> = links
            .filter(|path| path.starts_with(folder.path()))
            .collect();
        open.sort();
        open
    };
    assert_eq!(open(), [log(0)]);
    for number in 1..3 {
        std::fs::write(gateway.config_path(), file(number)).unwrap();
        gateway.signal("HUP");
        eventually("only the new log is open", Duration::from_secs(30), || {
            open() == [log(number)]
        });
    }
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
    eventually("it takes orders", Duration::from_secs(30), || {
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
        eventually("the log tells of it", Duration::from_secs(30), || {
            gateway.output_since(before).contains("Reload rejected")
        });
        let log = gateway.output_since(before);
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("Reload rejected"))
            .collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(!log.contains("\\n"), "{log}");
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
    let closed = ports::Closed::new();
    let metrics = ports::free();
    let mut file = with_metrics(config(&stub.url()), metrics);
    file["endpoints"].as_array_mut().unwrap().extend([
        json!({ "endpoint": "/away", "backend": [
            { "host": [format!("http://127.0.0.1:{}", closed.port())], "url_pattern": "/" } ] }),
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
    eventually("all are counted", Duration::from_secs(30), || {
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
fn gateways_distinguish_their_own_failures_if_configured() {
    let stub = Stub::with(
        r#"[{"path": "/slow", "delay_ms": 60000, "headers": {"Content-Type": "application/json"}, "body": {}},
            {"status": 418, "body": {}}]"#,
    );
    let nobody = ports::Closed::new();
    let closed = format!("http://127.0.0.1:{}", nobody.port());
    let endpoint = |path: &str, host: &str, pattern: &str, encoding: &str| {
        let timeout = if pattern == "/slow" { "300ms" } else { "20s" };
        json!({
            "endpoint": format!("{path}-{encoding}"), "timeout": timeout, "output_encoding": encoding,
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
    eventually("memory goes back", Duration::from_secs(30), || {
        gateway.resident_kib() < first + first / 4
    });
}
