//! Metrics of what is there now: circuit breakers, connections, names, caches, requests in flight, the configuration.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Collector, Gateway, Stub, Upstream, eventually, pause, ports};

const LIMIT: Duration = Duration::from_secs(30);

struct Rig {
    gateway: Gateway,
    page: u16,
}

impl Rig {
    fn new(endpoints: &[Value], more: Value) -> Rig {
        let page = ports::free();
        let mut extra =
            json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{page}"), "page": true}});
        let more = more.as_object().cloned().unwrap_or_default();
        extra.as_object_mut().unwrap().extend(more);
        let file = json!({"version": 3, "extra_config": extra, "endpoints": endpoints});
        let gateway = Gateway::start(&file.to_string());
        Rig { gateway, page }
    }

    fn ask(&self, path: &str) -> String {
        let mut client = Client::connect(self.page).unwrap();
        client.send(request("GET", path, &[])).unwrap();
        client.response("GET").unwrap().text()
    }

    /// Whether the page has this line.
    fn has(&self, line: &str) -> bool {
        self.ask("/metrics").lines().any(|found| found == line)
    }

    fn wait_for(&self, line: &str) {
        let mut page = String::new();
        let end = std::time::Instant::now() + LIMIT;
        while std::time::Instant::now() < end {
            page = self.ask("/metrics");
            if page.lines().any(|found| found == line) {
                return;
            }
            pause(Duration::from_millis(50));
        }
        panic!("no line {line}\n{page}");
    }
}

#[test]
fn an_open_circuit_shows_and_so_does_a_closed_one() {
    let stub = Stub::with(&json!([{"path": "/b", "status": 500, "body": "no"}, {"headers": {"Content-Type": "application/json"}, "body": "{}"}]).to_string());
    let endpoint = |path: &str, to: &str, timeout: u8| {
        json!({"endpoint": path, "backend": [{"host": [stub.url()], "url_pattern": to, "extra_config": {
            "qos/circuit-breaker": {"interval": 60, "timeout": timeout, "max_errors": 1, "name": "cb"}}}]})
    };
    let rig = Rig::new(
        &[
            endpoint("/bad", "/b", 60),
            endpoint("/soon", "/b", 1),
            endpoint("/good", "/g", 1),
        ],
        json!({}),
    );
    let line = |route: &str, backend: &str, state: u8| {
        format!(
            "portcullis_circuit_breaker_state{{backend=\"{backend}\",name=\"cb\",route=\"{route}\"}} {state}"
        )
    };
    assert!(rig.has(&line("/bad", "/b", 0)) && rig.has(&line("/good", "/g", 0)));
    for _ in 0..3 {
        rig.gateway.get("/bad");
        rig.gateway.get("/soon");
    }
    rig.wait_for(&line("/bad", "/b", 2));
    assert!(rig.has(&line("/good", "/g", 0)));
    let people = rig.ask("/");
    assert!(
        people.contains("Circuit breakers") && people.contains(">open<"),
        "{people}"
    );
    // After its pause, the next call may try.
    rig.wait_for(&line("/soon", "/b", 1));
}

#[test]
fn connections_are_open_until_they_close_and_idle_between_calls() {
    // It answers at the first word, and closes its connection at the second.
    let (say, said) = mpsc::channel::<()>();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut client = Client::over(listener.accept().unwrap().0);
        client.request().unwrap();
        said.recv_timeout(LIMIT).unwrap();
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        client.send(head).unwrap();
        said.recv_timeout(LIMIT).unwrap();
    });
    let endpoint = json!({"endpoint": "/a", "timeout": "60s",
        "backend": [{"host": [host], "url_pattern": "/a"}]});
    let rig = Rig::new(&[endpoint], json!({}));
    let line = |kind: &str, count: usize| {
        format!("portcullis_upstream_connections_{kind}{{host=\"{host}\"}} {count}")
    };
    assert!(rig.has(&line("open", 0)));
    let mut client = rig.gateway.client();
    client.send(request("GET", "/a", &[])).unwrap();
    rig.wait_for(&line("open", 1));
    rig.wait_for("portcullis_endpoint_requests_in_flight{method=\"GET\",route=\"/a\"} 1");
    assert!(rig.has(&line("idle", 0)));
    say.send(()).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    rig.wait_for("portcullis_endpoint_requests_in_flight{method=\"GET\",route=\"/a\"} 0");
    rig.wait_for(&line("idle", 1));
    say.send(()).unwrap();
    rig.wait_for(&line("open", 0));
    rig.wait_for(&line("idle", 0));
}

#[test]
fn a_request_in_flight_ends_with_its_client() {
    let slow = Upstream::start(|_| {
        pause(Duration::from_secs(60));
        Ok(())
    });
    let endpoint = json!({"endpoint": "/a", "timeout": "60s",
        "backend": [{"host": [slow.url()], "url_pattern": "/a"}]});
    let rig = Rig::new(&[endpoint], json!({}));
    let mut client = rig.gateway.client();
    client.send(request("GET", "/a", &[])).unwrap();
    rig.wait_for("portcullis_endpoint_requests_in_flight{method=\"GET\",route=\"/a\"} 1");
    drop(client);
    rig.wait_for("portcullis_endpoint_requests_in_flight{method=\"GET\",route=\"/a\"} 0");
}

/// A backend that closes its connection when the second request has come, before it answers.
#[test]
fn a_request_that_is_sent_again_is_counted() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut client = Client::over(stream);
            while client.request().is_ok() {
                if seen.fetch_add(1, Ordering::SeqCst) == 1 {
                    break;
                }
                let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                client.send(response).unwrap();
            }
        }
    });
    let endpoint = json!({"endpoint": "/a", "backend": [{"host": [url], "url_pattern": "/b"}]});
    let rig = Rig::new(&[endpoint], json!({}));
    for _ in 0..3 {
        assert_eq!(rig.gateway.get("/a").status, 200);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    rig.wait_for(&format!(
        "portcullis_upstream_retries_total{{backend=\"/b\",host=\"{url}\",route=\"/a\"}} 1"
    ));
    stopped.store(true, Ordering::Relaxed);
}

#[test]
fn lookups_in_a_response_cache_are_counted_by_their_result() {
    let stub = Stub::with(&json!([{"headers": {"Content-Type": "application/json", "Cache-Control": "max-age=60"}, "body": "{}"}]).to_string());
    let endpoint = json!({"endpoint": "/c", "input_headers": ["Cache-Control"], "backend": [{"host": [stub.url()], "url_pattern": "/c",
        "extra_config": {"qos/http-cache": {"shared": true}}}]});
    let rig = Rig::new(&[endpoint], json!({}));
    for _ in 0..3 {
        assert_eq!(rig.gateway.get("/c").status, 200);
    }
    let line = |result: &str, count: usize| {
        format!(
            "portcullis_http_cache_lookups_total{{backend=\"/c\",result=\"{result}\",route=\"/c\"}} {count}"
        )
    };
    rig.wait_for(&line("miss", 1));
    rig.wait_for(&line("hit", 2));
    rig.wait_for("portcullis_http_cache_responses 1");
    let page = rig.ask("/metrics");
    let bytes = page
        .lines()
        .find_map(|line| line.strip_prefix("portcullis_http_cache_bytes "));
    assert!(bytes.unwrap().parse::<f64>().unwrap() > 0.0);
}

#[test]
fn the_configuration_has_a_hash_that_a_reload_changes() {
    let rig = Rig::new(&[], json!({}));
    let hash = || {
        let page = rig.ask("/metrics");
        let all = page
            .lines()
            .filter_map(|line| line.strip_prefix("portcullis_config_info{hash=\""));
        let all: Vec<String> = all.map(str::to_owned).collect();
        assert_eq!(all.len(), 1, "{page}");
        all[0].split('"').next().unwrap().to_owned()
    };
    let first = hash();
    assert_eq!(first.len(), 12);
    assert!(rig.ask("/").contains(&first));
    let before = rig.gateway.mark();
    rig.gateway.signal("HUP");
    eventually("it reloads", LIMIT, || {
        let new = rig.gateway.output_since(before);
        new.contains("Configuration reloaded")
    });
    assert_eq!(hash(), first, "the same file");
    let path = rig.gateway.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen('{', "{\"name\": \"x\",", 1)).unwrap();
    rig.gateway.signal("HUP");
    eventually("another hash", LIMIT, || hash() != first);
    let workers = rig.ask("/metrics");
    let workers = workers
        .lines()
        .find_map(|line| line.strip_prefix("portcullis_workers "));
    assert!(workers.unwrap().parse::<f64>().unwrap() >= 1.0);
}

#[test]
fn names_of_hosts_show_the_age_of_their_addresses() {
    let stub = Stub::with("[]");
    // Every machine can look up its own name, or a name that cannot be found.
    let endpoint = |path: &str, host: String| json!({"endpoint": path, "backend": [{"host": [host], "url_pattern": "/x"}]});
    let rig = Rig::new(
        &[
            endpoint("/a", stub.url()),
            endpoint("/b", "http://does-not-exist.invalid:8080".to_owned()),
        ],
        json!({}),
    );
    rig.wait_for("portcullis_dns_age_seconds{name=\"does-not-exist.invalid\"} NaN");
    assert!(rig.has("portcullis_dns_addresses{name=\"does-not-exist.invalid\"} 0"));
    let page = rig.ask("/metrics");
    assert!(
        !page.contains("name=\"127.0.0.1\""),
        "an address is not looked up"
    );
    assert!(rig.ask("/").contains("does-not-exist.invalid"));
}

#[test]
fn the_pages_never_show_passwords_of_hosts() {
    let stub = Stub::with("[]");
    let host = stub.url().replace("http://", "http://user:top-secret@");
    let endpoint = json!({"endpoint": "/a", "backend": [{"host": [host], "disable_host_sanitize": true, "url_pattern": "/x"}]});
    let log = json!({"portcullis/access-log": {"format": "json"}});
    let rig = Rig::new(&[endpoint], log);
    rig.gateway.get("/a");
    rig.wait_for(&format!(
        "portcullis_upstream_requests_total{{backend=\"/x\",host=\"{}\",route=\"/a\",status=\"4xx\"}} 1",
        stub.url().replace("http://", "http://user:***@")
    ));
    for text in [rig.ask("/metrics"), rig.ask("/")] {
        assert!(!text.contains("top-secret"), "{text}");
    }
}

/// Everything that is on the page is sent to collectors under the same name.
#[test]
fn collectors_get_the_metrics_of_the_page() {
    let collector = Collector::start();
    let stub = Stub::with(
        &json!([{"headers": {"Content-Type": "application/json"}, "body": "{}"}]).to_string(),
    );
    let endpoint = json!({"endpoint": "/a", "backend": [{"host": [stub.url()], "url_pattern": "/x", "extra_config": {
        "qos/circuit-breaker": {"interval": 60, "timeout": 60, "max_errors": 9, "name": "cb"}}}]});
    let telemetry = json!({"telemetry/opentelemetry": {"metric_reporting_period": 1, "exporters": {"otlp": [
        {"name": "c", "host": "127.0.0.1", "port": collector.grpc()}]}}});
    let rig = Rig::new(&[endpoint], telemetry);
    assert_eq!(rig.gateway.get("/a").status, 200);
    eventually("calls", LIMIT, || {
        let all = collector.metrics();
        all.iter()
            .any(|it| it.name == "portcullis_backend_calls_total" && it.value > 0.0)
            && all
                .iter()
                .any(|it| it.name == "portcullis_http_request_duration_seconds" && it.count > 0)
    });
    collector.check();
    let page = rig.ask("/metrics");
    let sent: std::collections::BTreeSet<String> =
        collector.metrics().into_iter().map(|it| it.name).collect();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        // What an exporter says of itself is on the page alone, and some families have no series yet.
        let has_series = page.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ', '_']) && !rest.ends_with("NaN"))
        });
        if name.starts_with("portcullis_otlp_") || !has_series {
            continue;
        }
        assert!(sent.contains(name), "{name} was not sent: {sent:?}");
    }
    let metrics = collector.metrics();
    let breaker = metrics
        .iter()
        .find(|it| it.name == "portcullis_circuit_breaker_state")
        .unwrap();
    assert_eq!(
        (&breaker.labels["name"], breaker.value),
        (&json!("cb"), 0.0)
    );
    assert!(sent.contains("http.server.duration"), "{sent:?}");
}

#[test]
fn without_our_page_collectors_get_only_krakends_metrics() {
    let collector = Collector::start();
    let stub = Stub::with("[]");
    let file = json!({"version": 3, "extra_config": {"telemetry/opentelemetry": {"metric_reporting_period": 1,
        "exporters": {"otlp": [{"name": "c", "host": "127.0.0.1", "port": collector.grpc()}]}}},
        "endpoints": [{"endpoint": "/a", "backend": [{"host": [stub.url()], "url_pattern": "/x"}]}]});
    let gateway = Gateway::start(&file.to_string());
    gateway.get("/a");
    let metrics = collector.wait_for_metric("http.server.duration");
    assert!(!metrics.iter().any(|it| it.name.starts_with("portcullis_")));
}
